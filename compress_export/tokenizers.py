"""The tokenizer beside a model, as its files say, and checked against the model.

Knows tokenizers and a model's config; must not load weights.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from compress.errors import CheckpointError
from compress.files.hub import snapshot, split_revision
from compress_export.console import note
from export.graph.reference_texts import PROBES

__all__ = ["load_tokenizer", "local_folder"]

_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model")


def load_tokenizer(source: str | Path) -> PreTrainedTokenizerBase:
    """The tokenizer beside a model, ready to be used with it.

    transformers rebuilds some tokenizers by the name of their class and drops what `tokenizer.json`
    says of normalisation; the file is the truth, and is used as it is where the two differ. Token
    types are left out where the model has one type, and a padding token is chosen where there is
    none.

    Raises:
        CheckpointError: There is none, it cannot be read, or it gives token ids that the model's
            embeddings do not hold.
    """
    tokenizer = _read(source)
    folder = local_folder(str(source))
    if folder.is_dir() and not any((folder / name).is_file() for name in _FILES):
        raise CheckpointError(
            f"a tokenizer must be beside the model in {str(source)!r}, found no tokenizer file; "
            "save it there with save_pretrained"
        )
    if (folder / "tokenizer.json").is_file():
        tokenizer = _as_filed(tokenizer, folder)
    config = _config(folder)
    _check_ids(tokenizer, config, source)
    if int(config.get("type_vocab_size") or 0) == 1:
        names = [name for name in tokenizer.model_input_names if name != "token_type_ids"]
        tokenizer.model_input_names = names
    if tokenizer.pad_token is None:
        _choose_padding(tokenizer, config)
    return tokenizer


def local_folder(source: str) -> Path:
    """Where a checkpoint's files lie: the folder itself, or the Hub's cache of it."""
    try:
        return snapshot(source, ["*.json", "*.safetensors", "*.txt", "*.model", "README.md"])
    except OSError:  # offline, and not in the cache
        return Path(source)


def _read(source: str | Path) -> PreTrainedTokenizerBase:
    repository, revision = split_revision(str(source))
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            repository, revision=revision, trust_remote_code=False
        )
    except Exception as error:  # tokenizers raises bare Exceptions of its own
        raise CheckpointError(
            f"a tokenizer must be beside the model in {str(source)!r}, found: "
            f"{' '.join(str(error).split())[:200]}; save it there with save_pretrained"
        ) from error
    return tokenizer


def _as_filed(tokenizer: PreTrainedTokenizerBase, folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer, or one that takes `tokenizer.json` as it is where the two differ."""
    file = folder / "tokenizer.json"
    try:
        filed = Tokenizer.from_file(str(file))
    except Exception as error:  # a bare Exception
        raise CheckpointError(f"{file} cannot be read: {str(error)[:200]}") from error
    if _agree(tokenizer, filed):
        return tokenizer
    plain: PreTrainedTokenizerBase = PreTrainedTokenizerFast.from_pretrained(str(folder))
    plain.model_input_names = tokenizer.model_input_names
    if not _agree(plain, filed):
        raise CheckpointError(
            f"transformers gives other tokens than {file} says; save the tokenizer again with "
            "save_pretrained, and compare what both give"
        )
    note(f"{type(tokenizer).__name__} gives other tokens than {file} says; the file is used")
    return plain


def _agree(tokenizer: PreTrainedTokenizerBase, filed: Tokenizer) -> bool:
    """Whether both give the same tokens for texts that make most tokenizers differ."""
    filed.no_truncation()
    filed.no_padding()
    special = filed.post_processor is not None  # some classes add what the file leaves out
    given = tokenizer(list(PROBES), add_special_tokens=special)["input_ids"]
    own = filed.encode_batch(list(PROBES), add_special_tokens=special)
    return [list(ids) for ids in given] == [encoding.ids for encoding in own]


def _config(folder: Path) -> Mapping[str, Any]:
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _check_ids(
    tokenizer: PreTrainedTokenizerBase, config: Mapping[str, Any], source: str | Path
) -> None:
    rows = config.get("vocab_size")
    if not isinstance(rows, int):
        return
    token, highest = max(tokenizer.get_vocab().items(), key=lambda item: item[1])
    if highest >= rows:
        raise CheckpointError(
            f"the tokenizer of {str(source)!r} has the token {token!r} with id {highest}, and the "
            f"model's embeddings have {rows} rows; call resize_token_embeddings and train the new "
            "rows, or save the model's own tokenizer beside it"
        )


def _choose_padding(tokenizer: PreTrainedTokenizerBase, config: Mapping[str, Any]) -> None:
    """Pad with the token that the model's config names, else with one that every text has."""
    known = config.get("pad_token_id")
    token = None if known is None else tokenizer.convert_ids_to_tokens(int(known))
    chosen = token or tokenizer.eos_token or tokenizer.sep_token or tokenizer.unk_token
    if chosen is None:
        raise CheckpointError(
            "the tokenizer has no padding token and none that could serve as one; set pad_token in "
            "its tokenizer_config.json"
        )
    tokenizer.pad_token = chosen
    note(f"the tokenizer has no padding token; {chosen!r} is used")
