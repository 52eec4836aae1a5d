"""Reports of made-up measurements, for tests of what reads them."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.environment import environment
from benchmarks.latency import Latency
from benchmarks.report.build import bench_report, speedups
from benchmarks.runtimes.onnxruntime import CPU
from compress.plan.workload import Workload


def made_up(
    contenders: int = 2,
    workloads: int = 2,
    *,
    slower: float = 1.0,
    kept: float = 0.98,
    seed: int = 0,
) -> dict[str, Any]:
    """A teacher and faster contenders; `slower` than usual, all but the teacher."""
    generator = np.random.default_rng(seed)
    latency, accuracy = [], []
    names = ["teacher", "student", *(f"other{i}" for i in range(contenders - 2))]
    for index in range(workloads):
        workload = Workload(batch=1 + index, sequence=64)
        rounds = generator.lognormal(0, 0.1, 120) * 0.01 * workload.batch
        for place, name in enumerate(names):
            own = rounds * generator.lognormal(0, 0.01, 120) / (1 + place)
            own *= slower if place else 1.0
            latency.append(
                Latency(
                    contender=name,
                    variant="cpu-fp32",
                    provider=CPU,
                    workload=workload,
                    seconds=tuple(own.tolist()),
                )
            )
    for place, name in enumerate(names):
        share = 1.0 if not place else kept
        accuracy.append(
            {
                "contender": name,
                "task": "sst2",
                "metric": "accuracy",
                "variant": "cpu-fp32",
                "examples": 872,
                "teacher": 0.9,
                "student": 0.9 * share,
                "retention": share,
                "low": share - 0.01,
                "high": share + 0.01,
                "mcnemar": 0.5,
            }
        )
    return bench_report(
        title="made up",
        environment=environment(),
        anchor="teacher",
        accuracy=accuracy,
        latency=latency,
        ratios=speedups(latency, "teacher"),
        load=[
            {
                "contender": "student",
                "variant": "cpu-fp32",
                "scenario": "server",
                "value": 120.0,
                "unit": "1/s",
                "what": 'queries under a "bound"',
                "valid": True,
                "most": 32,
                "bound_ms": 50.0,
            }
        ],
        remarks=["a remark"],
    )
