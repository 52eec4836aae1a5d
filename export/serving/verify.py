"""Does a stack load its folder, and give what the checkpoint gives?

A probe (`probes/`) runs in the stack's own environment, as a process that reads a request and
writes an answer; what it found is compared here.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax

from compress.errors import BundleError, VerificationError
from export.precision.variants import variant
from export.serving.environments import Environment
from export.serving.reference import Reference
from export.serving.stack import Precision
from export.serving.target import ServingTarget

__all__ = ["TOLERANCES", "Verified", "last_line", "verify_serving"]

Array: TypeAlias = NDArray[np.float32]

TOLERANCES: dict[Precision, float] = {"fp32": 1e-3, "fp16": 2e-2, "int8": 5e-2}
"""Largest accepted difference, relative to the largest reference value, of heads at least to 1.

Of float32 and float16 from the checkpoint; of int8 from the same graph in ONNX Runtime.
"""
_PROBES = Path(__file__).parent / "probes"
_SECONDS = 600


@dataclass(frozen=True, kw_only=True, slots=True)
class Verified:
    """What a stack made of one graph.

    Attributes:
        stack: Its name.
        precision: Precision of the graph.
        way: How the stack was called, if there are several ways.
        examples: Texts that were compared.
        max_abs: Largest difference from the checkpoint.
        deviation: Largest difference from what is held against it, see `TOLERANCES`.
        tolerance: The largest difference that is accepted.
        latency_ms: Median of one short text, everything included.
        versions: Versions of the packages that loaded it.
    """

    stack: str
    precision: Precision
    way: str
    examples: int
    max_abs: float
    deviation: float
    tolerance: float
    latency_ms: float
    versions: Mapping[str, str]

    @property
    def agrees(self) -> bool:
        """Whether the stack gives what it should; a NaN does not."""
        return self.deviation <= self.tolerance


def verify_serving(
    target: ServingTarget, folder: Path, reference: Reference, environment: Environment
) -> list[Verified]:
    """Load a serving folder with the real thing and compare its answers.

    Args:
        target: The serving target that the folder was written for.
        folder: `serving/<stack>`.
        reference: The checkpoint's answers.
        environment: The environment that the probe runs in.

    Raises:
        BundleError: There is no such folder.
        VerificationError: The stack does not load it.
    """
    if not folder.is_dir():
        raise BundleError(
            f"{folder} must be a serving folder, found none; export the model for {target}"
        )
    answer = _run_probe(target, folder, reference, environment)
    return [_compare(target, row, reference, answer["versions"]) for row in answer["rows"]]


def _run_probe(
    target: ServingTarget, folder: Path, reference: Reference, environment: Environment
) -> dict[str, Any]:
    files = {p: target.stack.graphs[p][0] for p in target.precisions}
    with tempfile.TemporaryDirectory(prefix="compress-export-") as temporary:
        request, answer = Path(temporary) / "request.json", Path(temporary) / "answer.json"
        request.write_text(
            json.dumps(
                {
                    "folder": str(folder.resolve()),
                    "graphs": files,
                    "texts": reference.texts,
                    "output": reference.output,
                    "reduce": reference.reduce,
                    "normalise": reference.normalise,
                    "max_length": reference.max_length,
                }
            ),
            encoding="utf-8",
        )
        command = environment.command(_PROBES / target.stack.probe, request, answer)
        status, told = _run(command, temporary, environment.variables())
        if status or not answer.is_file():
            raise VerificationError(
                f"{target.stack.name} must load {folder}, found: {last_line(told)}"
            )
        found: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
        return found


def _run(command: list[str], folder: str, variables: Mapping[str, str]) -> tuple[int, str]:
    """Exit status and stderr of a probe; one that takes too long goes with all that it started."""
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        cwd=folder, env=dict(variables), start_new_session=True,
    )  # fmt: skip
    try:
        _, told = process.communicate(timeout=_SECONDS)
    except BaseException as error:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            return -1, f"no answer within {_SECONDS} s"
        raise
    return process.returncode, told


def _compare(
    target: ServingTarget, row: Mapping[str, Any], reference: Reference, versions: Mapping[str, str]
) -> Verified:
    precision: Precision = row["precision"]
    rows = [int(i) for i in row["vectors"]]
    vectors = [row["vectors"][str(i)] for i in rows]
    expected = reference.vectors[rows]
    sizes = {len(vector) for vector in vectors}
    if sizes != {reference.features}:
        raise VerificationError(
            f"{target.stack.name} must give {reference.features} numbers a text, found "
            f"{sorted(sizes)}"
        )
    found = np.array(vectors, np.float32)
    floor = 1.0 if reference.reduce in ("none", "ramp") else 0.0
    name = target.stack.graphs[precision][1]
    held = reference.graphs[name][rows] if variant(name).int8 else expected
    if row.get("shares"):
        expected, held = (_scores(logits, reference.problem) for logits in (expected, held))
    return Verified(
        stack=target.stack.name,
        precision=precision,
        way=row.get("way", ""),
        examples=len(rows),
        max_abs=float(np.abs(found - expected).max()),
        deviation=float(np.abs(found - held).max()),
        tolerance=TOLERANCES[precision] * max(floor, float(np.abs(held).max())),
        latency_ms=float(np.median(row["latency_ms"])),
        versions=versions,
    )


def _scores(logits: Array, problem: str) -> Array:
    """What transformers' text-classification pipeline makes of logits."""
    if problem == "regression":
        return logits
    if problem == "multi_label_classification" or logits.shape[1] == 1:
        return np.asarray(expit(logits), np.float32)
    return np.asarray(softmax(logits, axis=1), np.float32)


def last_line(text: str) -> str:
    """What a probe ended with: its error, which Node prints above a trace and its own version."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if lines and lines[-1].startswith("Node.js v"):
        lines = [line for line in lines if re.match(r"(\[?\w*Error|error)\b", line)] or lines[:-1]
    return lines[-1][:300] if lines else "no word of why"
