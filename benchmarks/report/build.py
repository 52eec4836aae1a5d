"""From measurements to the report: one dictionary of schema 1, with gates and a verdict.

The names of the schema are listed in `benchmarks/report/SCHEMA.md`; other tools read them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.gate import Gate, evaluate_gates, overall, promise_gate, undecided
from benchmarks.latency import Latency, rounded, speedup
from compress.plan.plan import Plan
from compress.plan.workload import Workload

__all__ = [
    "ANCHOR",
    "SCHEMA",
    "Found",
    "Made",
    "bench_report",
    "build_report",
    "complete",
    "speedups",
]

SCHEMA = 1
ANCHOR = "teacher"

_EMPTY: dict[str, Any] = {
    "schema": SCHEMA,
    "recipe": None,
    "identity": {},
    "models": None,
    "promise": None,
    "training": None,
    "kept": [],
    "importance": None,
    "accuracy": [],
    "disagreements": [],
    "latency": [],
    "speedups": [],
    "load": [],
    "memory": [],
    "parity": [],
    "fusion": {},
    "size_bytes": {},
    "reference": None,
    "remarks": [],
    "gates": [],
}
"""Every report has every field; what was not done is empty."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """What a run made.

    Attributes:
        models: Facts of `teacher` and `student`.
        plan: What survived.
        promise: The promised latency and the attempts to meet it, where there is one.
        training: What the student was trained on after pruning, and its curve, if it was.
        exported: One record a variant: fusion and parity.
    """

    models: Mapping[str, Any]
    plan: Plan
    promise: Mapping[str, Any] | None
    training: Mapping[str, Any] | None
    exported: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """What a run measured.

    Attributes:
        environment: Of the latency measurement.
        identity: Hashes of the teacher's weights (`anchor`) and of the validation data (`data`).
        importance: Of the teacher's heads.
        accuracy: One record a variant and metric.
        disagreements: Examples that student and teacher answer differently.
        doubt: Why accuracy kept says nothing, if so, see `benchmarks.accuracy.doubt`.
        latency: Samples of all contenders.
        floors: The least time of each, see `benchmarks.floor`.
        memory: One record a contender and variant.
    """

    environment: Mapping[str, Any]
    identity: Mapping[str, str]
    importance: Mapping[str, Any] | None
    accuracy: Sequence[Mapping[str, Any]]
    disagreements: Sequence[Mapping[str, Any]]
    doubt: str | None
    latency: Sequence[Latency]
    floors: Sequence[Mapping[str, Any]]
    memory: Sequence[Mapping[str, Any]]


def build_report(
    recipe: Mapping[str, Any],
    made: Made,
    found: Found,
    *,
    reference: str,
    promised: Workload,
    gates: Mapping[str, Any],
) -> dict[str, Any]:
    """Put all measurements of one run side by side.

    Args:
        recipe: As plain data.
        made: Student and bundle.
        found: Their measurements, and the teacher's.
        reference: The variant that gates look at.
        promised: The workload that gates look at.
        gates: The recipe's promises.
    """
    evaluated = evaluate_gates(gates, found.accuracy, found.latency, reference, promised)
    if made.promise is not None and recipe["target"]["mix"] is not None:
        evaluated.append(promise_gate(made.promise))
    if found.doubt is not None:
        evaluated = [undecided(g) if g.verdict == "pass" else g for g in evaluated]
    where = {"variant": reference, "batch": promised.batch, "sequence": promised.sequence}
    return _head(recipe["model"], ANCHOR, found.environment, evaluated) | {
        "recipe": dict(recipe),
        "identity": dict(found.identity),
        "models": dict(made.models),
        "promise": None if made.promise is None else dict(made.promise),
        "training": None if made.training is None else dict(made.training),
        "kept": _kept(made.plan),
        "importance": None if found.importance is None else dict(found.importance),
        "accuracy": [{"contender": "student", **row} for row in found.accuracy],
        "disagreements": list(found.disagreements),
        "remarks": [] if found.doubt is None else [found.doubt],
        "latency": _rows(found.latency, found.floors),
        "speedups": speedups(found.latency, ANCHOR),
        "memory": list(found.memory),
        "parity": [row for variant in made.exported for row in variant["parity"]],
        "fusion": {
            variant["variant"]: {k: variant["fusion"][k] for k in ("ops", "fused", "num_heads")}
            for variant in made.exported
        },
        "size_bytes": {variant["variant"]: variant["size_bytes"] for variant in made.exported},
        "reference": where,
    }


def bench_report(
    *,
    title: str,
    environment: Mapping[str, Any],
    anchor: str,
    identity: Mapping[str, str] | None = None,
    accuracy: Sequence[Mapping[str, Any]] = (),
    latency: Sequence[Latency] = (),
    ratios: Sequence[Mapping[str, Any]] = (),
    floors: Sequence[Mapping[str, Any]] = (),
    load: Sequence[Mapping[str, Any]] = (),
    remarks: Sequence[str] = (),
    gates: Sequence[Gate] = (),
) -> dict[str, Any]:
    """A report of contenders alone: nothing was pruned or exported on the way.

    Args:
        title: What was compared.
        environment: Of the measurement.
        anchor: The contender that ratios are to.
        identity: Hashes of what another report must share to be compared.
        accuracy: One record a contender and metric.
        latency: Samples of all contenders.
        ratios: Of them, see `speedups`.
        floors: The least time of each, see `benchmarks.floor`.
        load: One record a contender and scenario.
        remarks: What a reader should know first.
        gates: Judged ones.
    """
    return _head(title, anchor, environment, gates) | {
        "identity": dict(identity or {}),
        "accuracy": list(accuracy),
        "latency": _rows(latency, floors),
        "speedups": list(ratios),
        "load": list(load),
        "remarks": list(remarks),
    }


def _head(
    title: str, anchor: str, environment: Mapping[str, Any], gates: Sequence[Gate]
) -> dict[str, Any]:
    """An empty report with its title, verdict and gates, and where it was measured."""
    return _EMPTY | {
        "title": title,
        "verdict": overall(gates),
        "environment": {k: v for k, v in environment.items() if k != "versions"},
        "versions": environment["versions"],
        "anchor": anchor,
        "gates": [gate.to_dict() for gate in gates],
    }


def _rows(latency: Sequence[Latency], floors: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Statistics of all samples, with the share of the machine's limit that each reaches."""
    keys = ("contender", "variant", "batch", "sequence")
    least = {tuple(row[key] for key in keys): row["floor_ms"] for row in floors}
    rows = [sample.to_dict() for sample in latency]
    return [row | {"floor_ms": least.get(tuple(row[key] for key in keys))} for row in rows]


def complete(report: Mapping[str, Any]) -> dict[str, Any]:
    """A report of this schema that an earlier version wrote, with the fields that it lacks."""
    found = _EMPTY | {"title": (report.get("recipe") or {}).get("model", "report")}
    found |= {"anchor": ANCHOR} | dict(report)
    for name in ("accuracy", "speedups"):
        found[name] = [{"contender": "student", **row} for row in found[name]]
    lacking: dict[str, Any] = {"p99_9_ms": None, "floor_ms": None, "quantiles_ms": [], "drift": 0.0}
    found["latency"] = [lacking | row for row in found["latency"]]
    providers = {row["variant"]: row["provider"] for row in found["latency"]}
    found["speedups"] = [
        {"provider": providers.get(row["variant"], "")} | row for row in found["speedups"]
    ]
    found["accuracy"] = [{"mcnemar": None} | row for row in found["accuracy"]]
    found["parity"] = [{"difference": row.get("max_abs")} | dict(row) for row in found["parity"]]
    return found


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


def speedups(
    latency: Sequence[Latency], anchor: str, variant: str | None = None
) -> list[dict[str, Any]]:
    """Every contender against the anchor, under each workload that both were given.

    Args:
        latency: Of all contenders.
        anchor: The contender that others are measured by.
        variant: Of the anchor, where it has several.
    """
    anchors = {
        s.workload: s for s in latency if s.contender == anchor and variant in (None, s.variant)
    }
    rows = []
    for sample in latency:
        if sample.workload not in anchors or sample is anchors[sample.workload]:
            continue
        ratio, low, high = speedup(anchors[sample.workload], sample)
        rows.append(
            {
                "contender": sample.contender,
                "variant": sample.variant,
                "provider": sample.provider,
                "batch": sample.workload.batch,
                "sequence": sample.workload.sequence,
                "ratio": ratio,
                "low": low,
                "high": high,
                "others": rounded(sample.others),
            }
        )
    return rows
