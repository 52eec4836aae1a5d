"""A contender in a process of its own: what it leaves in caches and pools is its own too.

Run as a module it is the worker: one JSON line on standard input, one JSON line back. The clock
is the worker's, so that the pipe is not part of the time.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.rounds import Call
from benchmarks.runtimes.spec import Runtime, Spec, open_runtime
from compress.errors import BundleError, ToolchainError

__all__ = ["Isolated"]

Inputs = Mapping[str, NDArray[np.int64]]


class Isolated:
    """A runtime behind a pipe; close it, or use it as a context.

    Args:
        spec: What the process is to open.

    Raises:
        BundleError: It cannot, with the reason that it gives.
    """

    def __init__(self, spec: Spec) -> None:
        # -P: never import from the folder that the user happens to stand in.
        command = [sys.executable, "-P", "-m", "benchmarks.runtimes.isolated"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._spec = spec
        self._ask({"open": spec.to_dict()})

    def __enter__(self) -> Isolated:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __call__(self, inputs: Inputs) -> NDArray[np.float32]:
        """The model's first output."""
        self._ask({"prepare": _pack(inputs)})
        found: NDArray[np.float32] = _unpack(self._ask({"outputs": True})).astype(np.float32)
        return found

    def prepare(self, inputs: Inputs) -> Call:
        """A call that tells the seconds by the worker's clock."""
        self._ask({"prepare": _pack(inputs)})
        return lambda: float(self._ask({"call": True}))

    def close(self) -> None:
        """End the process."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _ask(self, request: Mapping[str, Any]) -> Any:
        to, back = self._process.stdin, self._process.stdout
        assert to is not None
        assert back is not None  # both are pipes
        try:
            to.write(json.dumps(request) + "\n")
            to.flush()
            answer = json.loads(back.readline())
        except (OSError, ValueError) as error:
            raise BundleError(
                f"the process of {self._spec.path} must answer, found it gone with status "
                f"{self._process.poll()}; is there memory enough for all contenders at once?"
            ) from error
        if "error" in answer:
            self.close()
            raise BundleError(str(answer["error"]))
        return answer["result"]


class _Worker:
    """What answers at the other end."""

    def __init__(self) -> None:
        self._runtime: Runtime | None = None
        self._inputs: Inputs = {}
        self._call: Call | None = None

    def answer(self, request: Mapping[str, Any]) -> Any:
        """Do what is asked, and what is to be told of it."""
        if "open" in request:
            self._runtime = open_runtime(Spec.from_dict(request["open"]))
            return None
        assert self._runtime is not None  # opened first
        if "prepare" in request:
            self._inputs = {name: _unpack(array) for name, array in request["prepare"].items()}
            self._call = self._runtime.prepare(self._inputs)
            return None
        if "outputs" in request:
            return _pack({"outputs": self._runtime(self._inputs)})["outputs"]
        assert self._call is not None  # prepared first
        return self._call()


def _pack(arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    return {
        name: [str(a.dtype), list(a.shape), base64.b64encode(a.tobytes()).decode()]
        for name, a in arrays.items()
    }


def _unpack(packed: Any) -> NDArray[Any]:
    kind, shape, data = packed
    # copied: torch wants arrays that it may write to
    return np.frombuffer(base64.b64decode(data), kind).reshape(shape).copy()


def _serve(requests: IO[str], answers: IO[str]) -> None:
    worker = _Worker()
    for line in requests:
        try:
            answer: dict[str, Any] = {"result": worker.answer(json.loads(line))}
        except ToolchainError as error:
            answer = {"error": str(error)}
        except Exception as error:  # the other process is to tell, and not to guess
            answer = {"error": f"{type(error).__name__} in a contender's process: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    # Libraries may print: the pipe is kept for answers, and what they say goes to stderr.
    pipe = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    _serve(sys.stdin, pipe)
