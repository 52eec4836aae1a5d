"""Load a saved checkpoint in each way that is promised, and compare weights and outputs."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from compress.errors import VerificationError
from compress.model.task_head import head_of, init_arguments, named_outputs

__all__ = ["MODELING", "TOLERANCE", "compare_models", "compare_outputs", "verify_stock"]

MODELING = "modeling_compressed"
TOLERANCE = 1e-5


def verify_stock(folder: Path, model: PreTrainedModel) -> None:
    """Load the checkpoint without this package's loader: by its own modelling file if it has one.

    Args:
        folder: The checkpoint.
        model: The saved model, in evaluation mode.

    Raises:
        VerificationError: It does not load, or gives other outputs.
    """
    own = (folder / f"{MODELING}.py").is_file()
    loader = _remote_class(folder) if own else type(model)
    arguments = {} if own else init_arguments(model)
    try:
        loaded = loader.from_pretrained(str(folder), dtype=torch.float32, **arguments)
    except (OSError, ValueError, RuntimeError) as error:
        raise VerificationError(
            f"the checkpoint must load with {loader.__name__}.from_pretrained, found: "
            f"{' '.join(str(error).split())[:200]}"
        ) from error
    compare_models(loader.__name__, loaded, model)


def compare_models(loader: str, loaded: PreTrainedModel, model: PreTrainedModel) -> None:
    """Hold a loaded model against the one that was saved.

    Weights must be equal to the bit. Outputs on random tokens with padding may differ by rounding:
    2.4e-7 was seen once, on a pruned STS-B regressor, and its cause is not established.

    Raises:
        VerificationError: A weight differs in any bit, or an output by more than rounding.
    """
    expected, found = model.state_dict(), loaded.state_dict()
    for name in expected.keys() | found.keys():
        pair = expected.get(name), found.get(name)
        if pair[0] is None or pair[1] is None or not torch.equal(pair[0].cpu(), pair[1].cpu()):
            raise VerificationError(
                f"the checkpoint loaded with {loader} must give equal weights, "
                f"found another {name!r}"
            )
    compare_outputs(loader, loaded, model)


def compare_outputs(loader: str, loaded: PreTrainedModel, model: PreTrainedModel) -> None:
    """Hold a loaded model's outputs on random tokens with padding against those of `model`.

    Raises:
        VerificationError: One differs by more than rounding.
    """
    found, expected = _outputs(loaded), _outputs(model)
    for name, output in expected.items():
        largest = float((found[name] - output).abs().max())
        bound = TOLERANCE * max(1.0, float(output.abs().max()))
        if not largest <= bound:
            raise VerificationError(
                f"the checkpoint loaded with {loader} must give equal {name}, "
                f"found a difference of {largest:.1e}"
            )


def _outputs(model: PreTrainedModel) -> dict[str, Tensor]:
    """What the model gives on random tokens with padding, by name."""
    shape = (2, 2, 9) if head_of(model).choices else (2, 9)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, model.config.vocab_size, shape, generator=generator)
    mask = torch.ones_like(ids)
    mask[1, ..., 5:] = 0
    training = model.training
    model.eval()
    inputs = {"input_ids": ids.to(model.device), "attention_mask": mask.to(model.device)}
    with torch.no_grad():
        outputs = named_outputs(model, inputs)
    model.train(training)
    return {name: value.float().cpu() for name, value in outputs.items()}


def _remote_class(folder: Path) -> Any:
    """The class in the checkpoint's modelling file, see `compress.checkpoint.remote_code`."""
    spec = importlib.util.spec_from_file_location(MODELING, folder / f"{MODELING}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[MODELING] = module
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[MODELING]
    return module.CompressedModel
