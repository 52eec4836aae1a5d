"""What `run --dry-run` foretells beside what the run then takes, in time and memory.

python benchmarks/results/forecasts.py OUT RECIPE…

Writes `OUT/forecasts.json`, a row a recipe: seconds by step and in all, memory of the whole tree of
processes at its peak, foretold and found. Caches of latency tables are left aside.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil

STEP_OF = {
    "prune": "prune",
    "recover": "recover",
    "bundle": "export",
    "teacher": "export",
    "accuracy": "evaluate",
    "importance": "evaluate",
    "latency": "bench",
}
"""The steps that a run's stages belong to."""


def main(out: str, *recipes: str) -> None:
    """Foretell and run each recipe."""
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for recipe in map(Path, recipes):
        told, found = foretold(recipe), run(recipe, folder)
        row = {
            "recipe": recipe.stem,
            "foretold": told,
            "found": found,
            "time": round(found["total_seconds"] / told["total_seconds"], 2),
            "memory": round(found["peak_bytes"] / told["peak_bytes"], 2),
        }
        sys.stdout.write(f"{json.dumps(row)}\n")
        sys.stdout.flush()
        rows.append(row)
        (folder / "forecasts.json").write_text(json.dumps(rows, indent=1))


def foretold(recipe: Path) -> dict[str, Any]:
    """What the dry run says."""
    command = [*CLI, "run", str(recipe), "--dry-run", "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)["forecast"]
    return found


def run(recipe: Path, folder: Path) -> dict[str, Any]:
    """Run it, watched from outside."""
    out = folder / recipe.stem
    shutil.rmtree(out, ignore_errors=True)
    settings = os.environ | {"XDG_CACHE_HOME": str(folder / "cache")}
    shutil.rmtree(folder / "cache", ignore_errors=True)
    command = [*CLI, "run", str(recipe), "--out", str(out)]
    process = subprocess.Popen(command, env=settings)
    peaks: list[int] = [0]
    watching = threading.Thread(target=watch, args=(process, peaks))
    watching.start()
    process.wait()
    watching.join()
    seconds: Counter[str] = Counter()
    for file in (out / "stages").glob("*.json"):
        stage = json.loads(file.read_text())
        seconds[STEP_OF[stage["stage"]]] += stage["seconds"]
    return {
        "seconds": {step: round(s, 1) for step, s in seconds.items()},
        "total_seconds": round(sum(seconds.values()), 1),
        "peak_bytes": max(peaks),
    }


def watch(process: subprocess.Popen[bytes], peaks: list[int]) -> None:
    """Note the resident memory of a process and its children until it ends."""
    root = psutil.Process(process.pid)
    while process.poll() is None:
        total = 0
        try:
            for one in [root, *root.children(recursive=True)]:
                total += one.memory_info().rss
        except psutil.Error:  # it ended meanwhile
            pass
        peaks.append(total)
        time.sleep(0.05)


CLI = [sys.executable, "-m", "compress_export"]

if __name__ == "__main__":
    main(*sys.argv[1:])
