"""A model whose weights are views of its files, and whose pages are given back layer by layer.

Nothing is read before it is used. What was read counts as this process's memory until it is given
back; it is not copied, so giving it back costs nothing but reading it again.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import PreTrainedModel

from compress.checkpoint.checkpoint import INDEX, WEIGHTS, load_config
from compress.checkpoint.stored_plan import skeleton
from compress.errors import CheckpointError
from compress.model.binding import bind
from compress.model.layout import Layout

__all__ = [
    "Resident",
    "empty_model",
    "forget",
    "is_mapped",
    "layer_views",
    "load_mapped",
    "paged",
]


def load_mapped(folder: Path) -> PreTrainedModel:
    """A stock or pruned encoder whose weights are views of its safetensors files.

    Args:
        folder: A checkpoint with float32 weights, named as the model's class names them.

    Returns:
        The model in evaluation mode. Changing a weight changes this process's copy alone.

    Raises:
        CheckpointError: The folder is unreadable, of another precision, or names weights otherwise.
    """
    state = _mapped_weights(folder)
    _check_precision(state, folder)
    model = empty_model(folder)
    lacking, unexpected = _assigned(model, state, folder)
    if lacking and all(name.startswith("pooler.") for name in lacking):
        model = empty_model(folder, add_pooling_layer=False)
        lacking, unexpected = _assigned(model, state, folder)
    if lacking or unexpected:
        raise CheckpointError(
            f"{str(folder)!r} must hold the weights of {type(model).__name__} by their names, "
            f"found {lacking[:2]} missing and {unexpected[:2]} unexpected; load it and save it "
            "once with this version of transformers"
        )
    _align_(model)
    whole: PreTrainedModel = model.eval()
    return whole


def empty_model(folder: Path, **arguments: Any) -> PreTrainedModel:
    """The model of a folder's config and plan, its weights without values."""
    with init_empty_weights(include_buffers=False):
        model: PreTrainedModel = skeleton(load_config(folder), **arguments)
    return model


class Resident:
    """Copies of weights that are in memory now, and the views of files that they are of."""

    def __init__(self) -> None:
        self._views: dict[nn.Parameter, Tensor] = {}
        self._of: dict[int, Tensor] = {}

    def enter(self, module: nn.Module) -> None:
        """Copy a module's weights into memory of their own, and give their pages back.

        A product's rounding depends on where in memory its factors begin, and in a file they begin
        anywhere: so a layer computes here what it computes in a model that was loaded whole.
        """
        for parameter in module.parameters():
            view = parameter.data
            parameter.data = view.clone()
            self._views[parameter] = view
            self._of[parameter.untyped_storage().data_ptr()] = view
            forget([view])

    def leave(self, module: nn.Module) -> None:
        """Put the views back; a copy goes when nothing holds it any more."""
        for parameter in module.parameters():
            self._of.pop(parameter.untyped_storage().data_ptr(), None)
            parameter.data = self._views.pop(parameter)

    @contextmanager
    def held(self, module: nn.Module) -> Iterator[None]:
        """Within the block, a module's weights are in memory."""
        self.enter(module)
        try:
            yield
        finally:
            self.leave(module)

    def view_of(self, tensor: Tensor) -> Tensor | None:
        """The view whose copy a tensor is, or is a part of; none for what is no weight."""
        return self._of.get(tensor.untyped_storage().data_ptr())


@contextmanager
def paged(layout: Layout) -> Iterator[Resident]:
    """Within the block, a layer's weights are in memory while it is passed, and no longer.

    Yields:
        What is in memory; a backward pass needs `spilled` with it, or holds all copies.
    """
    resident = Resident()

    def enter(module: nn.Module, _: Any) -> None:
        resident.enter(module)

    def leave(module: nn.Module, _: Any, __: Any) -> None:
        resident.leave(module)

    with ExitStack() as stack:
        for layer in layout.layers:
            stack.callback(layer.module.register_forward_pre_hook(enter).remove)
            stack.callback(layer.module.register_forward_hook(leave, always_call=True).remove)
        yield resident


def layer_views(module: nn.Module) -> list[Tensor]:
    """A mapped layer's weights as views of the file; to be held while `forget` is told of them."""
    return [parameter.data for parameter in module.parameters()]


def forget(views: Iterable[Tensor]) -> None:
    """Give back the memory of views of files; they are read again when they are used.

    Nothing else may be among them: what was changed would be as in the file again, and ordinary
    memory would be zeros. The views keep their files mapped for as long as this takes.
    """
    if _LIBC is None:
        return
    for view in views:
        first = -(-view.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
        end = (view.data_ptr() + view.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
        if end > first:
            _LIBC.madvise(ctypes.c_void_p(first), ctypes.c_size_t(end - first), mmap.MADV_DONTNEED)


def is_mapped(view: Tensor, file: Path) -> bool:
    """Whether a tensor lies in a mapping of the file, as far as the system tells."""
    maps = Path("/proc/self/maps")
    if not maps.is_file():
        return True
    for line in maps.read_text(encoding="utf-8", errors="replace").splitlines():
        place, *_ = line.split(maxsplit=1)
        start, end = (int(edge, 16) for edge in place.split("-"))
        if start <= view.data_ptr() and view.data_ptr() + view.nbytes <= end:
            return line.endswith(str(file.resolve()))
    return False


_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform.startswith("linux") else None


def _assigned(
    model: PreTrainedModel, state: dict[str, Tensor], folder: Path
) -> tuple[list[str], list[str]]:
    """Put weights into a model; names that it lacks, and those that it does not know."""
    try:
        missing, unexpected = model.load_state_dict(state, strict=False, assign=True)
    except RuntimeError as error:
        raise CheckpointError(
            f"the weights of {str(folder)!r} must fit its config, found: "
            f"{' '.join(str(error).split())[:200]}"
        ) from error
    model.tie_weights()
    return [name for name in missing if _parameter(model, name).is_meta], list(unexpected)


def _align_(model: PreTrainedModel) -> None:
    """Copy what is no layer's, but for the words' table, which is large and only looked up."""
    layers = [parameter for c in bind(model).containers for parameter in c.parameters()]
    left = {*layers, *model.get_input_embeddings().parameters()}
    for parameter in set(model.parameters()) - left:
        parameter.data = parameter.data.clone()


def _check_precision(state: dict[str, Tensor], folder: Path) -> None:
    for name, tensor in state.items():
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            raise CheckpointError(
                f"tensor {name!r} of {str(folder)!r} must be float32 to be read in place, found "
                f"{str(tensor.dtype).removeprefix('torch.')}; save the model in float32"
            )


def _mapped_weights(folder: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    try:
        for file in _files(folder):
            with safe_open(folder / file, framework="pt") as opened:
                views = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            if views and not is_mapped(next(iter(views.values())), folder / file):
                raise CheckpointError(
                    f"{folder / file} must be mapped into memory, found that this version of "
                    "safetensors copies it; prune without streaming"
                )
            found |= views
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(
            f"the weights of {str(folder)!r} must be readable safetensors, found: {error}"
        ) from error
    return found


def _files(folder: Path) -> Iterable[str]:
    if (folder / WEIGHTS).is_file():
        return [WEIGHTS]
    index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    return sorted(set(index["weight_map"].values()))


def _parameter(model: nn.Module, name: str) -> Tensor:
    owner, _, last = name.rpartition(".")
    found = getattr(model.get_submodule(owner), last)
    assert isinstance(found, Tensor)  # the name is of the model's state
    return found
