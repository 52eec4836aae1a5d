"""Texts and what the checkpoint makes of them: what every serving stack is held against.

Written once beside a bundle, so that a stack can be verified without the checkpoint. Knows no
stack.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from compress.errors import BundleError
from compress.model.pooling import Pooling
from compress.model.task_head import head_of, named_outputs
from export.graph.attention import eager_attention
from export.graph.session import open_session
from export.serving.subject import Subject

__all__ = ["REFERENCE", "Reference", "make_reference"]

Array: TypeAlias = NDArray[np.float32]

REFERENCE = "reference.json"
TEXTS: tuple[tuple[str, ...], ...] = (
    ("The film was a quiet triumph, and I would gladly see it again.",),
    ("Two hours of my life that nobody will give back.",),
    ("ok",),
    ("Prices rose by 3.5% in Q2 (from $1,200 to $1,242), analysts said on Tuesday.",),
    ("Ein Café in Zürich, naïve façade — “voilà”: 東京 и Москва 🙂",),
    ("A sentence   with  odd\tspacing\nand a second line.",),
    ("one two three four five six seven eight nine ten " * 6,),
    ("first " + "and then one more thing happened, " * 160 + "last",),
    ("Bells\u0007 ring, zero\u200bwidth, soft\u00adhyphen, no\u00a0break, e\u0301 and \ufb01.",),
    ("",),
    ("A man is playing a guitar.", "Someone plays an instrument."),
    ("The cat sat on the mat.", "Shares fell sharply after the announcement."),
    ("Where is the library?", "The library is next to the town hall, open from nine to five."),
)
_LARGEST = 1e30
_MOST_ADDED = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """One vector a text.

    Attributes:
        texts: Each one text, or a pair.
        ids: Their tokens, without padding.
        types: Their token types, empty where the graph takes none.
        output: The graph's output that vectors are taken from.
        reduce: `none` where the output is one vector a text; else how tokens become one: `mean`,
            `cls` or `max` over real tokens; `ramp`, of heads with an answer a token, is their mean
            weighted by place, 1 for the first, 2 for the second and so on.
        normalise: Whether vectors are scaled to length 1 then.
        problem: The config's `problem_type`.
        max_length: Tokens at which texts are cut.
        vectors: The checkpoint's, `(texts, features)`.
        graphs: By int8 variant, the same from the graph in ONNX Runtime where it was exported: an
            int8 graph is another function than the checkpoint, and is to be the same everywhere.
    """

    texts: tuple[tuple[str, ...], ...]
    ids: tuple[tuple[int, ...], ...]
    types: tuple[tuple[int, ...], ...]
    output: str
    reduce: str
    normalise: bool
    problem: str
    max_length: int
    vectors: Array
    graphs: Mapping[str, Array] = field(default_factory=dict)

    @property
    def features(self) -> int:
        """Length of each vector."""
        return int(self.vectors.shape[1])

    @property
    def closing(self) -> list[int]:
        """Tokens that the tokenizer puts after every text, such as `[SEP]`."""
        rows = [ids for text, ids in zip(self.texts, self.ids, strict=True) if len(text) == 1]
        shortest = min(rows, key=len)
        ends = range(1, len(shortest) + 1)
        shared = [n for n in ends if all(row[-n:] == shortest[-n:] for row in rows)]
        return list(shortest[-max(shared) :]) if shared else []

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        plain = {
            "texts": [list(text) for text in self.texts],
            "ids": [list(row) for row in self.ids],
            "types": [list(row) for row in self.types],
            "output": self.output,
            "reduce": self.reduce,
            "normalise": self.normalise,
            "problem": self.problem,
            "max_length": self.max_length,
            "vectors": _rounded(self.vectors),
            "graphs": {name: _rounded(vectors) for name, vectors in self.graphs.items()},
        }
        path.write_text(json.dumps(plain, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Reference:
        """Read what `save` wrote.

        Raises:
            BundleError: It is missing or not such a file.
        """
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            return cls(
                texts=tuple(tuple(text) for text in data["texts"]),
                ids=tuple(tuple(row) for row in data["ids"]),
                types=tuple(tuple(row) for row in data["types"]),
                output=str(data["output"]),
                reduce=str(data["reduce"]),
                normalise=bool(data["normalise"]),
                problem=str(data.get("problem", "")),
                max_length=int(data["max_length"]),
                vectors=_matrix(data["vectors"], len(data["texts"])),
                graphs={k: _matrix(v, len(data["texts"])) for k, v in data["graphs"].items()},
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
            raise BundleError(
                f"{path} must hold reference outputs, found {type(error).__name__}: "
                f"{error}; export the bundle for serving again"
            ) from error


def make_reference(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    names: Sequence[str],
    subject: Subject,
    int8: Mapping[str, Path],
) -> Reference:
    """Run the checkpoint on each text alone, in float32 with plain operators.

    Args:
        model: A model in evaluation mode.
        tokenizer: The model's tokenizer.
        names: The graph's inputs.
        subject: The model that is served.
        int8: Graphs of int8 variants, to be run beside.
    """
    head, max_length = head_of(model), subject.max_length
    texts = (*TEXTS, *_with_added_tokens(tokenizer))
    lowers = subject.pooling is not None and subject.pooling.lowers
    written = [tuple(part.lower() for part in text) if lowers else text for text in texts]
    rows = [_encode(tokenizer, text, max_length, names) for text in written]
    found = [_named(model, row) for row in rows]
    output = next(iter(found[0]))
    by_token = found[0][output].ndim == 3 or head.outputs[0] == "start_logits"
    reduce = subject.pools.mode if head.embeds else "ramp" if by_token else "none"
    normalise = head.embeds and subject.pools.normalise
    vectors = [_vector(values[output], reduce, normalise) for values in found]
    sessions = {name: open_session(path) for name, path in int8.items()}
    graphs = {
        name: [
            _vector(_ran(session, output, row), reduce, normalise)
            for row in rows
        ]
        for name, session in sessions.items()
    }  # fmt: skip
    return Reference(
        texts=texts,
        ids=tuple(tuple(row["input_ids"][0].tolist()) for row in rows),
        types=tuple(tuple(row["token_type_ids"][0].tolist()) for row in rows if len(row) > 2),
        output=output,
        reduce=reduce,
        normalise=normalise,
        problem=subject.problem,
        max_length=max_length,
        vectors=np.stack(vectors),
        graphs={name: np.stack(values) for name, values in graphs.items()},
    )


def _with_added_tokens(tokenizer: PreTrainedTokenizerBase) -> list[tuple[str]]:
    """A text around each of the first tokens that somebody added to the vocabulary.

    They are cut out of a text before it is normalised and split, which other implementations of a
    tokenizer leave out. Special tokens are not in it: a text of a user is not to hold them.
    """
    added = [t.content for t in tokenizer.added_tokens_decoder.values() if not t.special]
    return [
        (f"A text with {token} in it, and glued{token}to a word.",) for token in added[:_MOST_ADDED]
    ]


def _encode(
    tokenizer: PreTrainedTokenizerBase, text: tuple[str, ...], longest: int, names: Sequence[str]
) -> dict[str, Any]:
    encoded = tokenizer(*text, truncation=True, max_length=longest, return_tensors="np")
    kept = ("input_ids", "attention_mask", "token_type_ids")
    return {name: encoded[name].astype(np.int64) for name in kept if name in names}


def _named(model: PreTrainedModel, row: Mapping[str, Any]) -> dict[str, Array]:
    with torch.inference_mode(), eager_attention(model):
        outputs = named_outputs(model, {k: torch.from_numpy(v) for k, v in row.items()})
    return {name: value.float().numpy() for name, value in outputs.items()}


def _ran(session: Any, output: str, row: Mapping[str, Any]) -> Array:
    values: Array = session.run([output], dict(row))[0]
    return values


def _vector(values: Array, reduce: str, normalise: bool) -> Array:
    """One text's output, without padding, as one vector."""
    if reduce == "none":
        first: Array = values[0].astype(np.float32)
        return first
    hidden = torch.from_numpy(values.astype(np.float32))
    hidden = hidden[..., None] if hidden.ndim == 2 else hidden
    if reduce == "ramp":
        places = torch.arange(1, hidden.shape[1] + 1, dtype=torch.float32)
        weighted: Array = torch.einsum("t,tf->f", places / places.sum(), hidden[0]).numpy()
        return weighted
    pooling = Pooling(mode=reduce, normalise=normalise)  # type: ignore[arg-type]
    pooled: Array = pooling(hidden, torch.ones(hidden.shape[:2]))[0].numpy()
    return pooled


def _matrix(rows: Any, count: int) -> Array:
    """Finite numbers, a row a text."""
    values = np.array(rows, float)
    if values.ndim != 2 or len(values) != count or not (np.abs(values) < _LARGEST).all():
        raise ValueError(f"must hold {count} vectors of finite numbers")
    return values.astype(np.float32)


def _rounded(values: Array) -> list[list[float]]:
    return [[float(f"{v:.8g}") for v in row] for row in values]
