"""One vector a text: how an embedding model pools its tokens, as its own folder says.

sentence-transformers keeps that in `modules.json` and `1_Pooling/config.json`. Knows tensors and
those two files.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from compress.errors import CheckpointError
from compress.validation import validate

__all__ = ["LIMITS", "Pooling", "PoolingMode", "read_pooling", "write_pooling"]

_KINDS = ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
LIMITS = tuple(f"sentence_{kind}_config.json" for kind in _KINDS)
"""Files in which sentence-transformers keeps the longest text, by age and family of the folder."""
_SETTINGS = (*LIMITS, "config_sentence_transformers.json")

PoolingMode = Literal["cls", "mean", "max"]

_KEYS: dict[str, PoolingMode] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Pooling:
    """How token states become one vector.

    Attributes:
        mode: `cls` (the first token), `mean` or `max` over real tokens.
        normalise: Scale vectors to length 1.
        settings: The folder's other files of settings, name and text, carried as they are: prompts,
            lengths, similarity.
    """

    mode: PoolingMode = "mean"
    normalise: bool = True
    settings: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        validate(self)

    @property
    def max_length(self) -> int | None:
        """Tokens at which the folder cuts a text, special ones included; `None` if it says none."""
        found = self._setting("max_seq_length")
        return None if found is None else int(found)

    @property
    def unserved(self) -> str | None:
        """What the folder asks for that happens before or after the encoder, if it does.

        sentence-transformers does it; a stack that does not would give other vectors.
        """
        if self.lowers:
            return "lower-casing (do_lower_case)"
        if self._setting("default_prompt_name"):
            return f"the prompt {self._setting('default_prompt_name')!r} before each text"
        if self._setting("truncate_dim"):
            return f"vectors cut to {self._setting('truncate_dim')} features (truncate_dim)"
        return None

    @property
    def lowers(self) -> bool:
        """Whether texts are put into lower case first."""
        return bool(self._setting("do_lower_case"))

    def _setting(self, name: str) -> Any:
        for _, text in self.settings:
            found = json.loads(text).get(name)
            if found:
                return found
        return None

    def __call__(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Pool `(batch, sequence, hidden_size)` with `mask: (batch, sequence)`.

        Returns:
            `(batch, hidden_size)`.
        """
        real = mask.bool().to(hidden.device)[..., None]
        match self.mode:
            case "cls":
                first = real.squeeze(-1).int().argmax(1)
                pooled = hidden[torch.arange(len(hidden)), first]
            case "mean":
                pooled = (hidden * real).sum(1) / real.sum(1).clamp_min(1)
            case "max":
                pooled = hidden.masked_fill(~real, torch.finfo(hidden.dtype).min).amax(1)
        return torch.nn.functional.normalize(pooled, dim=-1) if self.normalise else pooled


def read_pooling(folder: Path) -> Pooling | None:
    """What a sentence-transformers folder says; `None` where it is no such folder.

    Raises:
        CheckpointError: The folder names a way of pooling that is not known here.
    """
    if not (folder / "modules.json").is_file():
        return None
    modules = _read(folder / "modules.json")
    settings = tuple(
        (name, (folder / name).read_text(encoding="utf-8"))
        for name in _SETTINGS
        if isinstance(_read(folder / name) if (folder / name).is_file() else None, dict)
    )
    try:
        kinds = {str(m["type"]).rpartition(".")[2]: folder / str(m["path"]) for m in modules}
    except (TypeError, KeyError) as error:
        raise CheckpointError(
            f"{folder / 'modules.json'} must list modules with type and path, found {error!r}; "
            "download the model again"
        ) from error
    if "Pooling" not in kinds:
        return None
    others = set(kinds) - {"Transformer", "Pooling", "Normalize"}
    if others:
        raise CheckpointError(
            f"{folder / 'modules.json'} names {', '.join(sorted(others))}, which changes the "
            "vectors and is not supported; a model without it would give other vectors"
        )
    config = _read(kinds["Pooling"] / "config.json")
    if not isinstance(config, dict):
        raise CheckpointError(
            f"{kinds['Pooling'] / 'config.json'} must be an object, found {config!r:.60}; download "
            "the model again"
        )
    named = config.get("pooling_mode")
    wanted: list[Any] = [mode for key, mode in _KEYS.items() if config.get(key)] or [named]
    on = [key for key, value in config.items() if key.startswith("pooling_mode_") and value is True]
    if len(wanted) != 1 or wanted[0] not in get_args(PoolingMode) or len(on) > 1:
        raise CheckpointError(
            f"{kinds['Pooling'] / 'config.json'} must pool by one of "
            f"{', '.join(get_args(PoolingMode))}, found {on or named!r}, which is not supported"
        )
    return Pooling(mode=wanted[0], normalise="Normalize" in kinds, settings=settings)


def write_pooling(pooling: Pooling, hidden_size: int, folder: Path) -> None:
    """Write what `read_pooling` reads, as sentence-transformers does: modules and pooling."""
    kinds = ["Transformer", "Pooling", *(["Normalize"] if pooling.normalise else [])]
    modules = [
        {
            "idx": i,
            "name": str(i),
            "path": f"{i}_{kind}" if i else "",
            "type": f"sentence_transformers.models.{kind}",
        }
        for i, kind in enumerate(kinds)
    ]
    modes = {key: pooling.mode == mode for key, mode in _KEYS.items()}
    (folder / "1_Pooling").mkdir()
    for name, value in (
        ("modules.json", modules),
        ("1_Pooling/config.json", {"word_embedding_dimension": hidden_size} | modes),
    ):
        (folder / name).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    for name, text in pooling.settings:
        (folder / name).write_text(text, encoding="utf-8")


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} must be readable JSON, found: {error}; download the model again"
        ) from error
