"""What the probes share: a request in, an answer out. Needs numpy, and tokenizers where used."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

ROUNDS = 15


class Request:
    """What to load and to ask: see `export.serving.verify`."""

    def __init__(self) -> None:
        given = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
        self.folder = Path(given["folder"])
        self.graphs: dict[str, str] = given["graphs"]
        self.texts = [tuple(text) for text in given["texts"]]
        self.output: str = given["output"]
        self.reduce: str = given["reduce"]
        self.normalise: bool = given["normalise"]
        self.max_length: int = given["max_length"]
        self.rows: list[dict[str, Any]] = []

    def ask(
        self,
        precision: str,
        run: Callable[..., Any],
        way: str = "",
        takes: Callable[[tuple[str, ...]], bool] = lambda _: True,
        shares: bool = False,
    ) -> None:
        """Run every text that is taken, then time the first: `run(text, [pair])` gives a vector.

        `shares` says that the vectors are probabilities, of a stack that gives no logits.
        """
        vectors = {i: run(*text) for i, text in enumerate(self.texts) if takes(text)}
        first = self.texts[next(iter(vectors))]
        seconds = []
        for _ in range(ROUNDS):
            start = time.perf_counter()
            run(*first)
            seconds.append(time.perf_counter() - start)
        self.rows.append(
            {
                "precision": precision,
                "way": way,
                "shares": shares,
                "vectors": {i: np.asarray(v, float).tolist() for i, v in vectors.items()},
                "latency_ms": [1e3 * s for s in seconds],
            }
        )

    def tokenizer(self, folder: Path) -> Any:
        """The folder's tokenizer, cut to the longest and without padding."""
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.no_padding()
        tokenizer.enable_truncation(self.max_length)
        return tokenizer

    def feed(self, tokenizer: Any, names: list[str], *text: str) -> dict[str, Any]:
        """One text as a graph's inputs, `(1, tokens)` each."""
        found = tokenizer.encode(*text)
        rows = {
            "input_ids": found.ids,
            "attention_mask": found.attention_mask,
            "token_type_ids": found.type_ids,
        }
        return {name: np.array([rows[name]], np.int64) for name in names}

    def vector(self, values: Any) -> Any:
        """One text's output as one vector, by the request's way to pool; no padding in it."""
        values = np.asarray(values, np.float32)
        if self.reduce == "none":
            return values.reshape(-1)
        values = values[0] if values.ndim == 3 else values.reshape(-1, 1)
        if self.reduce == "ramp":
            places = np.arange(1, len(values) + 1)
            return places @ values / places.sum()
        pooled = {"mean": values.mean(0), "max": values.max(0), "cls": values[0]}[self.reduce]
        return pooled / np.linalg.norm(pooled) if self.normalise else pooled

    def answer(self, *packages: str) -> None:
        """Write what was found, with the versions of what found it."""
        versions = {name: found for name in packages if (found := _version(name))}
        answer = {"rows": self.rows, "versions": versions}
        Path(sys.argv[2]).write_text(json.dumps(answer), encoding="utf-8")


def _version(package: str) -> str:
    """Of a package, or of its build for other devices; nothing where it is not installed."""
    for name in (package, f"{package}-gpu"):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return ""


def single(text: tuple[str, ...]) -> bool:
    """Whether a text stands alone, for what takes no pairs."""
    return len(text) == 1
