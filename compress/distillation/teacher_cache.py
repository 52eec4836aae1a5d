"""What is kept of a teacher, on disk: written once, memory-mapped in training.

A folder of Arrow files of `SHARD` examples each and `store.json`. Values are float16, places small
unsigned integers. Knows arrays; must not know any model.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from compress.distillation.cache_spec import CacheSpec
from compress.errors import DataError

__all__ = [
    "SHARD",
    "CacheMetadata",
    "CachedExample",
    "Identity",
    "TeacherCache",
    "open_cache",
    "shard_name",
    "write_shard",
]

SHARD = 2048
FACTS = "store.json"
VERSION = 1

Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """Hashes of what a store was made from.

    Attributes:
        teacher: Hash of its weights.
        tokenizer: Hash of its vocabulary.
        data: Hash of the texts, in order, and of the length at which they are cut.
    """

    teacher: str
    tokenizer: str
    data: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CacheMetadata:
    """What `store.json` says.

    Attributes:
        identity: What the store was made from.
        spec: What was kept.
        pairs: Layers of the student, and of the teacher that they learn from; 0: embeddings.
        n_student: Layers that the pairs are for.
        n_layers, hidden_size, n_labels: Of the teacher.
        rows: Examples.
        longest: Tokens of the longest.
        labels: The teacher's label names in order; none where it has none of its own.
    """

    identity: Identity
    spec: CacheSpec
    pairs: tuple[tuple[int, int], ...]
    n_student: int
    n_layers: int
    hidden_size: int
    n_labels: int
    rows: int
    longest: int
    labels: tuple[str, ...] = ()

    @property
    def token_type(self) -> np.dtype[Any]:
        """Of positions."""
        return _smallest(self.longest)

    @property
    def index_type(self) -> np.dtype[Any]:
        """Of places of features."""
        return _smallest(self.hidden_size)

    @property
    def n_features(self) -> int:
        """Features kept of a token."""
        return self.spec.n_features(self.hidden_size)

    @property
    def has_indices(self) -> bool:
        """Whether places are stored; all of them and evenly spaced ones need not be."""
        return self.spec.features != "uniform" and self.n_features < self.hidden_size

    def n_bytes(self, lengths: Sequence[int]) -> int:
        """Bytes of examples of so many tokens each."""
        most = self.spec.max_tokens or self.longest
        tokens = int(np.minimum(np.asarray(lengths), most).sum())
        feature = 2 + (self.index_type.itemsize if self.has_indices else 0)
        token = self.token_type.itemsize + self.n_features * feature
        offsets = 8 * (2 + self.has_indices)
        return len(lengths) * (2 * self.n_labels + len(self.pairs) * offsets) + (
            len(self.pairs) * tokens * token
        )

    def save(self, folder: Path) -> None:
        """Write `store.json`: the store is whole."""
        text = json.dumps({"version": VERSION, **asdict(self)}, indent=1)
        (folder / FACTS).write_text(text, encoding="utf-8")


@dataclass(frozen=True, kw_only=True, slots=True)
class CachedExample:
    """What is kept of one pair of layers for one example.

    Attributes:
        tokens: Positions among the real ones, whatever the padding, `(n_tokens,)`.
        feature_indices: Indices of the kept features, `(n_tokens, n_features)`.
        values: The teacher's, `(n_tokens, n_features)`.
    """

    tokens: Array
    feature_indices: Array
    values: Array


def write_shard(
    path: Path, metadata: CacheMetadata, logits: Array, kept: Sequence[Sequence[CachedExample]]
) -> None:
    """Write some examples, whole or not at all.

    Args:
        path: The file.
        metadata: The store's metadata.
        logits: `(examples, n_labels)`.
        kept: Kept values, by pair of layers and by example.

    Raises:
        DataError: The disk is full.
    """
    columns = {"logits": pa.FixedSizeListArray.from_arrays(_halves(logits), metadata.n_labels)}
    for i, examples in enumerate(kept):
        columns[f"tokens_{i}"] = _lists([k.tokens for k in examples], metadata.token_type)
        columns[f"values_{i}"] = _lists([k.values for k in examples], np.dtype(np.float16))
        if metadata.has_indices:
            columns[f"indices_{i}"] = _lists(
                [k.feature_indices for k in examples], metadata.index_type
            )
    batch = pa.RecordBatch.from_pydict(columns)
    temporary = path.with_suffix(".tmp")
    try:
        with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as file:
            file.write_batch(batch)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise DataError(
            f"the store needs {batch.nbytes:,} more bytes in {path.parent}, found: "
            f"{' '.join(str(error).split())}; free some, or keep less (knowledge)"
        ) from error


def open_cache(folder: Path) -> TeacherCache:
    """Map a store into memory.

    Raises:
        DataError: There is none, or it is not whole.
    """
    if not (folder / FACTS).is_file():
        raise DataError(
            f"store must be a folder that `compress-export remember` has written, found no {FACTS} "
            f"in {str(folder)!r}; correct the path, or make one"
        )
    try:
        found = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        version = found.pop("version")
        spec, identity = CacheSpec(**found.pop("spec")), Identity(**found.pop("identity"))
        pairs = tuple((int(a), int(b)) for a, b in found.pop("pairs"))
        labels = tuple(found.pop("labels"))
        metadata = CacheMetadata(spec=spec, identity=identity, pairs=pairs, labels=labels, **found)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"{folder / FACTS} must be whole, found: {' '.join(str(error).split())}; make it again"
        ) from error
    if version != VERSION:
        raise DataError(
            f"store {str(folder)!r} must be of version {VERSION}, found {version}; make it again"
        )
    return TeacherCache(folder, metadata)


class TeacherCache:
    """A store, open.

    Args:
        folder: The folder of its files.
        metadata: Its metadata.

    Raises:
        DataError: A file is missing or broken.
    """

    def __init__(self, folder: Path, metadata: CacheMetadata) -> None:
        self.folder, self.metadata = folder, metadata
        self._shards = []
        for start in range(0, metadata.rows, SHARD):
            path = folder / shard_name(start)
            try:
                batch = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
            except (OSError, pa.ArrowInvalid) as error:
                raise DataError(
                    f"{path} must be a whole part of its store, found: "
                    f"{' '.join(str(error).split())[:160]}; make the store again"
                ) from error
            self._shards.append(batch)

    @property
    def n_bytes(self) -> int:
        """On disk."""
        return sum(p.stat().st_size for p in self.folder.iterdir())

    def check(self, **expected: str) -> None:
        """Refuse other data, another tokenizer or teacher.

        Args:
            **expected: Hashes by name, as in `Identity`.

        Raises:
            DataError: Names what differs.
        """
        for name, value in expected.items():
            found = getattr(self.metadata.identity, name)
            if found != value:
                raise DataError(
                    f"the store {str(self.folder)!r} must be of this {name}, found one of another "
                    f"({found[:12]} for {value[:12]}); make a store for it, or use its own {name}"
                )

    def stored_outputs(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """What is kept of some examples, as a batch's tensors.

        Returns:
            `teacher_logits`, `(batch, n_labels)`; for each pair of layers `i` `teacher_tokens_i`,
            `(batch, n_tokens)` among the real ones, -1 where there are fewer, and
            `teacher_indices_i` and `teacher_values_i`, `(batch, n_tokens, n_features)`.
        """
        found = {"teacher_logits": torch.from_numpy(np.stack([self._logits(r) for r in rows]))}
        for i in range(len(self.metadata.pairs)):
            kept = [self.kept(row, i) for row in rows]
            most = max(len(k.tokens) for k in kept)
            shape = (len(rows), most, self.metadata.n_features)
            tokens = np.full(shape[:2], -1, np.int64)
            feature_indices, values = np.zeros(shape, np.int64), np.zeros(shape, np.float32)
            for row, k in enumerate(kept):
                n = len(k.tokens)
                tokens[row, :n], feature_indices[row, :n], values[row, :n] = (
                    k.tokens,
                    k.feature_indices,
                    k.values,
                )
            arrays = {"tokens": tokens, "indices": feature_indices, "values": values}
            found |= {f"teacher_{n}_{i}": torch.from_numpy(a) for n, a in arrays.items()}
        return found

    def kept(self, row: int, pair: int) -> CachedExample:
        """What is kept of one example and pair of layers."""
        tokens = self._list(f"tokens_{pair}", row)
        shape = (len(tokens), self.metadata.n_features)
        if self.metadata.has_indices:
            feature_indices = self._list(f"indices_{pair}", row).reshape(shape)
        else:
            even = np.arange(shape[1]) * self.metadata.hidden_size // shape[1]
            feature_indices = np.broadcast_to(even, shape)
        values = self._list(f"values_{pair}", row).reshape(shape)
        return CachedExample(tokens=tokens, feature_indices=feature_indices, values=values)

    def _logits(self, row: int) -> Array:
        shard, place = divmod(row, SHARD)
        n, column = self.metadata.n_labels, self._shards[shard].column("logits")
        values = column.values.to_numpy(zero_copy_only=True)
        found: Array = values[place * n : (place + 1) * n].astype(np.float32)
        return found

    def _list(self, name: str, row: int) -> Array:
        shard, place = divmod(row, SHARD)
        column = self._shards[shard].column(name)
        start, stop = column.offsets[place].as_py(), column.offsets[place + 1].as_py()
        found: Array = column.values.slice(start, stop - start).to_numpy(zero_copy_only=True)
        return found


def shard_name(start: int) -> str:
    """The file that holds the examples from `start` on."""
    return f"rows-{start // SHARD:05d}.arrow"


def _smallest(count: int) -> np.dtype[Any]:
    return np.dtype(np.uint8 if count <= 256 else np.uint16)


def _halves(values: Array) -> pa.Array:
    return pa.array(np.ascontiguousarray(values, np.float16).ravel())


def _lists(parts: Sequence[Array], dtype: np.dtype[Any]) -> pa.LargeListArray:
    offsets = np.concatenate([[0], np.cumsum([part.size for part in parts])]).astype(np.int64)
    flat = np.concatenate([part.ravel() for part in parts]).astype(dtype)
    return pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(flat))
