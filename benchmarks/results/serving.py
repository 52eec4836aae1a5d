"""Which stack loads which plan in which precision: every cell loaded with the real thing.

python benchmarks/results/serving.py CLASSIFIER ENCODER TEXTS OUT

Makes a dense, a uniform and a free plan of a fine-tuned classifier and of an encoder, exports
each for every stack and precision, verifies all (what is missing is installed into the cache), and
writes `OUT/serving.json` and `OUT/serving.md`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from export.serving.stacks import STACKS

PLANS = ("dense", "uniform", "free")
PRECISIONS = ("fp32", "fp16", "int8")
EMBEDS = "sentence-transformers"


def main(classifier: str, encoder: str, texts: str, out: str) -> None:
    """Make all, verify all, write both files."""
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for name, model in (("classifier", classifier), ("encoder", encoder)):
        stacks = [s for s in STACKS if (s.name == EMBEDS) == (name == "encoder")]
        orders = [f"{s.name}@{p}" for s in stacks for p in s.graphs]
        for plan in PLANS:
            checkpoint = planned(model, plan, texts, folder / f"{name}-{plan}")
            bundle = folder / f"{name}-{plan}-onnx"
            refused = exported(checkpoint, bundle, orders)
            rows += [
                {"stack": order.split("@")[0], "precision": precision, "refused": True}
                | {"model": name, "plan": plan}
                for precision in refused
                for order in orders
                if order.endswith(f"@{precision}")
            ]
            found = json.loads(call("verify", bundle, "--install", "--json", accept=(0, 1)))
            rows += [row | {"model": name, "plan": plan} for row in found["verified"]]
            for line in found["failures"]:
                sys.stderr.write(f"{name} {plan}: {line}\n")
    record: dict[str, Any] = {
        "what": "serving folders, each loaded with the real thing and compared",
        "command": "make serving",
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "real": {stack.name: stack.real for stack in STACKS},
        "rows": rows,
    }
    (folder / "serving.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    (folder / "serving.md").write_text(table(rows), encoding="utf-8")


def exported(checkpoint: str, bundle: Path, orders: list[str]) -> tuple[str, ...]:
    """Export what can be exported; the precisions that are refused, as they lose too much."""
    for refused in ((), ("fp16",), ("int8",), ("fp16", "int8")):
        whole = [order for order in orders if not order.endswith(refused)]
        if call("export", checkpoint, "--out", bundle, *served(whole), accept=(0, 1)):
            return refused
    raise SystemExit(f"{checkpoint} cannot be exported in any precision")


def served(orders: list[str]) -> list[str]:
    """Options of `export`."""
    return [part for order in orders for part in ("--serve", order)]


def planned(model: str, plan: str, texts: str, folder: Path) -> str:
    """A checkpoint of that plan."""
    if plan == "dense":
        return model
    if plan == "uniform":
        call("student", model, "--heads", 6, "--neurons", 512, "--out", folder)
    else:
        call("prune", model, "--texts", texts, "--macs", 0.5, "--score", "fisher", "--steps", 1,
             "--calibration-examples", 256, "--out", folder)  # fmt: skip
    return str(folder)


def call(*arguments: object, accept: tuple[int, ...] = (0,)) -> str:
    """What a command prints."""
    command = [sys.executable, "-m", "compress_export", *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in accept:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}")
    return done.stdout


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: a row a stack, a column a plan and precision; largest differences in the cells."""
    columns = [(plan, precision) for precision in PRECISIONS for plan in PLANS]
    lines = [
        "| stack | " + " | ".join(f"{plan}, {precision}" for plan, precision in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for stack in STACKS:
        cells = [cell(rows, stack.name, plan, precision) for plan, precision in columns]
        lines.append(f"| {stack.title} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def cell(rows: list[dict[str, Any]], stack: str, plan: str, precision: str) -> str:
    """Largest difference by any way, marked where it is too large, or by layout alone."""
    own = [r for r in rows if (r["stack"], r["plan"], r["precision"]) == (stack, plan, precision)]
    if not own:
        return "–"
    if any(r.get("refused") for r in own):
        return "refused"
    worst = max(own, key=lambda row: float(row["deviation"]))
    mark = "" if all(row["agrees"] for row in own) else " ✗"
    layout = " (layout)" if any(row["way"] == "layout" for row in own) else ""
    return f"{worst['deviation']:.0e}{layout}{mark}"


if __name__ == "__main__":
    main(*sys.argv[1:])
