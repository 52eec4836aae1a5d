"""A folder with all that a small sweep needs."""

from __future__ import annotations

from pathlib import Path

from tests.app.test_pipeline import cli, write_csv
from tests.families import tiny
from tests.tokenizer import tiny_tokenizer

SWEEP = """\
recipe:
  task: {train: train.csv, validation: validation.csv, text: [sentence], label: label}
  prune: {steps: 1, round_to: 4, calibration_examples: 16, score: magnitude}
  target: {batch: 1, sequence: 8}
  export: {variants: [cpu-fp32]}
  benchmark: {batches: [1], sequences: [8], rounds: 2, seconds: 0.05, max_length: 16}
axes:
  model: [bert]
  target.macs: [0.5, 0.7]
"""


def write_project(folder: Path) -> Path:
    tiny("bert", seed=1).save_pretrained(folder / "bert")
    tiny_tokenizer().save_pretrained(folder / "bert")
    write_csv(folder / "train.csv", 40)
    write_csv(folder / "validation.csv", 30)
    (folder / "sweep.yaml").write_text(SWEEP)
    return folder


def sweep(project: Path, *more: str) -> int:
    return cli(["sweep", "run", str(project / "sweep.yaml"), "-o", str(project / "out"), *more])
