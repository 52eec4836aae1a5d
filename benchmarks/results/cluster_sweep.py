"""24 tiny runs on a Ray cluster of three nodes of this machine, one killed midway.

python benchmarks/results/cluster_sweep.py OUT

Then the same sweep by the local executor, whose results must be the same files, and the first call
again, which must compute nothing. Prints one JSON line. Needs the extra `ray`.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import ray.cluster_utils

from compress.files.folder import sha256
from export.graph.session import usable_cores

KILLED_AFTER = 6
"""Runs that are through when the node is killed."""

AXES = """\
  target.macs: [0.4, 0.5, 0.6, 0.7]
  prune.score: [magnitude, michel, random]
  seed: [0, 1]
"""


def main(out: str) -> None:
    """Do it all, and print what came of it."""
    project = Path(out)
    project.mkdir(parents=True)
    tiny: Any = importlib.import_module("tests.app.sweep.project")
    tiny.write_project(project)
    text = tiny.SWEEP.replace("  target.macs: [0.5, 0.7]\n", AXES)
    (project / "sweep.yaml").write_text(text, encoding="utf-8")
    cluster: Any = ray.cluster_utils.Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    on_ray = [*command(project, "ray"), "--jobs", "1", "--executor", "ray"]
    on_ray += ["--address", cluster.address]
    start = time.monotonic()
    with (project / "log").open("w") as log:
        work = subprocess.Popen(on_ray, stderr=log)
        while len(list((project / "ray" / "runs").glob("*/report.json"))) < KILLED_AFTER:
            if work.poll() is not None:
                raise SystemExit(f"the sweep ended before a node was killed, see {project / 'log'}")
            time.sleep(0.2)
        cluster.remove_node(nodes[0], allow_graceful=False)
        work.wait()
    told = (project / "log").read_text(encoding="utf-8")
    found: dict[str, Any] = {"status": work.returncode, "seconds": round(time.monotonic() - start)}
    found["begun again"] = told.count("begun again from there")
    start = time.monotonic()
    again = subprocess.run(on_ray, capture_output=True, check=False)
    found["again"] = {"status": again.returncode, "seconds": round(time.monotonic() - start, 1)}
    cluster.shutdown()
    local = [*command(project, "local"), "--jobs", str(usable_cores())]
    found["local status"] = subprocess.run(local, capture_output=True, check=False).returncode
    rows = pq.read_table(project / "ray" / "data" / "runs.parquet").to_pylist()
    runs = sorted({row["run"] for row in rows})
    found["runs"] = len(runs)
    found["states"] = sorted({row["state"] for row in rows})
    found["equal to local"] = sum(
        results(project / "ray" / "runs" / run) == results(project / "local" / "runs" / run)
        for run in runs
    )
    sys.stdout.write(f"{json.dumps(found)}\n")


def command(project: Path, out: str) -> list[str]:
    """A call of `sweep run`."""
    words = ["sweep", "run", str(project / "sweep.yaml"), "-o", str(project / out)]
    return [sys.executable, "-m", "compress_export", *words]


def results(folder: Path) -> dict[str, str]:
    """Hashes of checkpoint, graphs and plan: threads decide rounding, so a step has one core."""
    files = [folder / "plan.json"]
    files += [p for part in ("checkpoint", "onnx") for p in (folder / part).rglob("*")]
    return {str(p.relative_to(folder)): sha256(p) for p in files if p.is_file()}


if __name__ == "__main__":
    main(*sys.argv[1:])
