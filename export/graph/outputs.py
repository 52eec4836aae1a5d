"""Run a graph on inputs, and how far its outputs at real tokens are from another's.

Knows masks and padding; must not know how a graph was made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from export.graph.session import open_session

__all__ = [
    "Feed",
    "Feeds",
    "Outputs",
    "PaddingRule",
    "alone",
    "graph_outputs",
    "padded",
    "relative_squared_error",
    "run_graph",
]

Feed: TypeAlias = Mapping[str, NDArray[np.int64]]
"""A graph's inputs by name, each `(batch, sequence)`, or `(batch, choices, sequence)`."""
Feeds: TypeAlias = Sequence[Feed]
Outputs: TypeAlias = list[NDArray[np.float32]]
"""What a graph gives for one text, output by output: `(1 or real tokens, features)` each."""

_SEQUENCE = "sequence"
_RESOLUTION = 1e-9
"""Share of the squared outputs below which float32 rounding decides how they vary."""


def graph_outputs(graph: Path, feeds: Feeds) -> list[Outputs]:
    """Outputs of every text of every feed, in order."""
    session = open_session(graph)
    return [outputs for feed in feeds for outputs in run_graph(session, feed)]


def run_graph(session: onnxruntime.InferenceSession, feed: Feed) -> list[Outputs]:
    """Outputs of every text of one feed; those at padding positions are left out."""
    arrays = session.run(None, {i.name: feed[i.name] for i in session.get_inputs()})
    by_token = [_SEQUENCE in output.shape for output in session.get_outputs()]
    real = feed["attention_mask"].astype(bool)
    return [
        [
            _at_real(array[row], real[row]) if tokens else array[row][None]
            for array, tokens in zip(arrays, by_token, strict=True)
        ]
        for row in range(len(real))
    ]


def alone(feed: Feed) -> list[dict[str, NDArray[np.int64]]]:
    """Every text of a feed by itself, without padding: each `(1, sequence)`."""
    mask = feed["attention_mask"]
    rows = []
    for row in range(len(mask)):
        used = np.flatnonzero(mask[row].reshape(-1, mask.shape[-1]).any(0))
        cut = slice(used[0], used[-1] + 1) if len(used) else slice(0, 1)
        rows.append({name: values[row : row + 1, ..., cut] for name, values in feed.items()})
    return rows


@dataclass(frozen=True, kw_only=True, slots=True)
class PaddingRule:
    """How a model's texts are padded.

    Attributes:
        token_id: Token id of padding.
        left: Pad on the left, for a head that reads the last position.
        longest: Tokens of the longest sequence that the model takes; `None` if any length will do.
    """

    token_id: int = 0
    left: bool = False
    longest: int | None = None


def padded(feed: Feed, length: int, rule: PaddingRule) -> dict[str, NDArray[np.int64]]:
    """A feed with padding up to `length` tokens; what is longer stays as it is."""
    present = feed["attention_mask"].shape[-1]
    short = max(min(length, rule.longest or length) - present, 0)
    width = (short, 0) if rule.left else (0, short)
    fills = {"input_ids": rule.token_id}
    return {
        name: np.pad(
            values, [*([(0, 0)] * (values.ndim - 1)), width], constant_values=fills.get(name, 0)
        )
        for name, values in feed.items()
    }


def relative_squared_error(found: Sequence[Outputs], expected: Sequence[Outputs]) -> float:
    """The largest ``‖found − expected‖² / ‖expected − mean‖²`` of any output.

    The mean is over texts and tokens, so that a graph that gives the same for every text is near 1,
    however close to the mean it is. Infinite where an output is not finite.

    Args:
        found: Outputs by text and output, see `run_graph`.
        expected: The same of the graph to compare with.
    """
    errors = []
    for here, there in zip(zip(*found, strict=True), zip(*expected, strict=True), strict=True):
        mine, theirs = (np.concatenate(values).astype(np.float64) for values in (here, there))
        if not np.isfinite(mine).all():
            return float("inf")
        varying = float(np.square(theirs - theirs.mean(0)).sum())
        scale = max(varying, _RESOLUTION * float(np.square(theirs).sum()), 1e-30)
        errors.append(float(np.square(mine - theirs).sum()) / scale)
    return max(errors)


def _at_real(values: NDArray[np.float32], real: NDArray[np.bool_]) -> NDArray[np.float32]:
    """One text's values at its real tokens, `(tokens, features)`; a span's have one feature."""
    picked = values[real]
    return picked if picked.ndim == 2 else picked[:, None]
