"""From measurements to the report: one dictionary of schema 1, with gates and a verdict.

The names of the schema are listed in `benchmarks/report/SCHEMA.md`; other tools read them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.gate import evaluate_gates, overall, promise_gate
from benchmarks.latency import Latency, Workload, speedup
from compress.plan import Plan

__all__ = ["SCHEMA", "build_report"]

SCHEMA = 1


def build_report(
    *,
    recipe: Mapping[str, Any],
    environment: Mapping[str, Any],
    models: Mapping[str, Any],
    promise: Mapping[str, Any] | None,
    training: Mapping[str, Any] | None,
    plan: Plan,
    exported: Sequence[Mapping[str, Any]],
    accuracy: Sequence[Mapping[str, Any]],
    latency: Sequence[Latency],
    memory: Sequence[Mapping[str, Any]],
    reference: str,
    promised: Workload,
    gates: Mapping[str, Any],
) -> dict[str, Any]:
    """Put all measurements of one run side by side.

    Args:
        recipe: As plain data.
        environment: Of the latency measurement.
        models: Facts of `teacher` and `student`.
        promise: The promised latency and the attempts to meet it, where there is one.
        training: What the student was trained on after pruning, and its curve, if it was.
        plan: What survived.
        exported: One record a variant: fusion and parity.
        accuracy: One record a variant and metric.
        latency: Samples of all contenders.
        memory: One record a contender and variant.
        reference: The variant that gates look at.
        promised: The workload that gates look at.
        gates: The recipe's promises.
    """
    evaluated = evaluate_gates(gates, accuracy, latency, reference, promised)
    if promise is not None and recipe["target"]["mix"] is not None:
        evaluated.append(promise_gate(promise))
    where = {"variant": reference, "batch": promised.batch, "sequence": promised.sequence}
    return {
        "schema": SCHEMA,
        "verdict": overall(evaluated),
        "recipe": dict(recipe),
        "environment": {k: v for k, v in environment.items() if k != "versions"},
        "versions": environment["versions"],
        "models": dict(models),
        "promise": None if promise is None else dict(promise),
        "training": None if training is None else dict(training),
        "kept": _kept(plan),
        "accuracy": list(accuracy),
        "latency": [sample.to_dict() for sample in latency],
        "speedups": _speedups(latency),
        "memory": list(memory),
        "parity": [row for variant in exported for row in variant["parity"]],
        "fusion": {
            variant["variant"]: {k: variant["fusion"][k] for k in ("ops", "fused", "num_heads")}
            for variant in exported
        },
        "size_bytes": {variant["variant"]: variant["size_bytes"] for variant in exported},
        "reference": where,
        "gates": [gate.to_dict() for gate in evaluated],
    }


def _kept(plan: Plan) -> list[dict[str, Any]]:
    """Per layer of the teacher: which heads and how many neurons are left; none if it is gone."""
    survivors = {layer.source: layer for layer in plan.layers}
    rows = []
    for index in range(plan.shape.n_layers):
        layer = survivors.get(index)
        rows.append(
            {
                "layer": index,
                "heads": list(layer.heads) if layer else [],
                "n_heads": plan.shape.n_heads[index],
                "neurons": len(layer.neurons) if layer else 0,
                "ffn_width": plan.shape.ffn_widths[index],
                "dropped": layer is None,
            }
        )
    return rows


def _speedups(latency: Sequence[Latency]) -> list[dict[str, Any]]:
    teachers = {s.workload: s for s in latency if s.contender == "teacher"}
    rows = []
    for sample in latency:
        if sample.contender == "teacher" or sample.workload not in teachers:
            continue
        ratio, low, high = speedup(teachers[sample.workload], sample)
        rows.append(
            {
                "variant": sample.variant,
                "batch": sample.workload.batch,
                "sequence": sample.workload.sequence,
                "ratio": ratio,
                "low": low,
                "high": high,
            }
        )
    return rows
