"""Adapting by pruning (Gao, Colombo and Wang 2021, arXiv 2105.03343) on weights and on units."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure as Canvas

from benchmarks.report.drawing import STYLE, TEACHER, look, svg
from benchmarks.report.findings import (
    Claim,
    Column,
    Figure,
    Findings,
    Table,
    Verdict,
    verdict_by,
    verdict_of,
)
from benchmarks.significance import ratio
from compress_export.studies.adapt.cells import (
    PUBLISHED,
    Effort,
    Probe,
    Served,
    UnitMethod,
    Units,
    WeightMethod,
    Weights,
)
from compress_export.studies.fine_tune import FineTune
from compress_export.studies.grid import Cell, Grid, Row
from compress_export.studies.groups import grouped, spread
from compress_export.studies.luck import either_way, surely, where_learnt
from compress_export.studies.question import Question
from compress_export.studies.schools import Lessons

__all__ = ["study_adapt"]

_GAO = "Gao, Colombo and Wang 2021, arXiv 2105.03343"
_WEIGHTS, _QUICK_WEIGHTS = (0.8, 0.5, 0.1, 0.01), (0.5,)
_UNITS, _QUICK_UNITS = (0.8, 0.6, 0.4, 0.2), (0.7, 0.4)
_EFFORT, _QUICK_EFFORT = Effort(steps=1000, train=8192), Effort(steps=120, train=1536)
_WEIGHT_METHODS: tuple[WeightMethod, ...] = ("adapt", "magnitude", "importance", "random")
_UNIT_METHODS: tuple[UnitMethod, ...] = ("adapt", "magnitude", "random")
_NEAR, _EXACT, _CLOSED = 0.98, 1e-3, 1.05


def study_adapt(question: Question, grid: Grid, updates: int | None = None) -> Findings:
    """Adapt a model that was not fine-tuned to each task in every way.

    Args:
        question: Of the study.
        grid: Does its cells.
        updates: For a mask, and as many behind it; left out, what hundreds can tell.
    """
    effort = _QUICK_EFFORT if question.quick else _EFFORT
    effort = replace(effort, steps=updates or effort.steps)
    cells = [
        cell
        for task in question.tasks
        for seed in question.seeds
        for cell in _cells(question, task, seed, effort)
    ]
    rows = [_named(row) for row in grid("adapting", cells)]
    served = grid("serving from one model", [_served(question, rows, effort)])
    return _findings(question, rows, served, effort)


def _cells(question: Question, task: str, seed: int, effort: Effort) -> Iterator[Cell]:
    """Every way of one task and seed."""
    quick, out = question.quick, question.out / "work"
    base: dict[str, Any] = {
        "source": question.model,
        "lessons": _lessons(question, task, effort),
        "seed": seed,
    }
    yield FineTune(**base, out=str(out / task / f"fine-tuned-{seed}"))
    base["effort"] = effort
    yield Probe(**base)
    for share in _QUICK_WEIGHTS if quick else _WEIGHTS:
        for method in _WEIGHT_METHODS:
            yield Weights(**base, method=method, share=share, out=str(out / "masks"))
    for share in _QUICK_UNITS if quick else _UNITS:
        for way in _UNIT_METHODS:
            yield Units(**base, method=way, share=share)


def _lessons(question: Question, task: str, effort: Effort) -> Lessons:
    """The same examples for every way of adapting, and as many looks at them."""
    lessons = question.lessons(task, effort.train)
    train = lessons.train or effort.train
    return replace(lessons, train=train, epochs=question.epochs or effort.epochs)


def _named(row: Row) -> Row:
    """A fine-tuning's row as the others are."""
    return {"kind": "reference", "method": "fine-tuned", "share": 1.0} | row


def _served(question: Question, rows: Sequence[Row], effort: Effort) -> Served:
    """Each task's adapted masks at the largest share."""
    tasks = []
    for task in question.tasks:
        own = [r for r in rows if r["task"] == task and r["kind"] == "weights"]
        best = max((r for r in own if r["method"] == "adapt"), key=lambda r: r["share"])
        tasks.append((_lessons(question, task, effort), best["file"], best["metric"]))
    return Served(source=question.model, tasks=tuple(tasks))


def _findings(
    question: Question, rows: Sequence[Row], served: Sequence[Row], effort: Effort
) -> Findings:
    points = _points(rows)
    tuned = {task: _reference(points, task, "fine-tuned") for task in question.tasks}
    telling = {task: tuned[task] for task in question.telling(tuned)}
    judged = [p for p in points if p["task"] in telling]
    noise = question.noise(telling)
    claims = [
        _half(judged, question.noise(telling, kept=True), effort),
        _best(judged, noise, effort),
        _units(judged, rows, noise),
    ]
    limits = [
        f"Differences below {noise:.3f} may be chance, and decide nothing.",
        "The task head is the family's own, with its pooler, for the probe too; the paper has a "
        "perceptron on a learnt mean of all layers' first tokens.",
        _how_masks_move(effort),
        "IMP is read as |weight × gradient| (Molchanov et al. 2019), magnitude as of all layers "
        "together; weights are frozen for every method, so nothing is gained by going in steps.",
        "Masks on single weights make no runtime of ours faster.",
    ]
    updates = f"{effort.steps} updates of 32 examples for the mask, as many for the head behind it"
    lessons = _lessons(question, question.tasks[0], effort)
    return Findings(
        study="adapt",
        title="Adapting by pruning",
        facts=question.facts(lessons) | {"adapting": f"{updates}; head at {effort.rate:g}"},
        claims=[*where_learnt(claims, telling), _serves(served)],
        tables=[*_tables(points, served), Table(name="runs", title="every run", rows=rows)],
        figures=[
            Figure(
                name="adapt",
                caption="Metric against the share that is kept. Solid: masks on single weights; "
                "dashed: on heads and neurons, removed. Lines across: fine-tuning, and the frozen "
                "encoder with a trained head (probe).",
                svg=_draw(points),
            )
        ],
        limits=limits + question.left_out(tuned) + question.limits(),
    )


def _points(rows: Sequence[Row]) -> list[Row]:
    """Seeds pooled; what is kept of fine-tuning."""
    found: list[Row] = []
    for place, own in grouped(rows, "task", "kind", "method", "share"):
        values = [r["metric"] for r in own]
        found.append(place | {"metric": float(np.mean(values)), "spread": spread(values)})
        if place["kind"] == "weights":
            found[-1]["open"] = max(r["open"] for r in own)
    for point in found:
        tuned = _reference(found, point["task"], "fine-tuned")
        point["kept"] = ratio(tuned, point["metric"])
    return found


def _reference(points: Sequence[Row], task: str, method: str) -> float:
    return next(
        float(p["metric"])
        for p in points
        if (p["task"], p["kind"], p["method"]) == (task, "reference", method)
    )


def _half(points: Sequence[Row], noise: float, effort: Effort) -> Claim:
    own = [p for p in points if (p["kind"], p["method"], p["share"]) == ("weights", "adapt", 0.5)]
    told = [
        f"{p['task']} {p['metric']:.4f}, fine-tuned "
        f"{_reference(points, p['task'], 'fine-tuned'):.4f}, probe "
        f"{_reference(points, p['task'], 'probe'):.4f} "
        f"({p['kept']:.1%} of fine-tuning)"
        for p in own
    ]
    near = [surely(p["kept"], _NEAR, noise * math.sqrt(len(own))) for p in own]
    return Claim(
        source=_GAO,
        says="Half of the weights can be pruned with performance similar to fine-tuning (the "
        "abstract; its own table has 0.856 against 0.926 on SST-2, and 0.837 against 0.855 on "
        "STS-B).",
        found=f"At half of the weights: {'; '.join(told)}. Similar means {_NEAR:.0%} and more.",
        verdict=_of_paper(either_way(near, verdict_of), own, effort),
    )


def _best(points: Sequence[Row], noise: float, effort: Effort) -> Claim:
    parts, wins = [], []
    learnt = [p for p in points if (p["kind"], p["method"]) == ("weights", "adapt")]
    for p in learnt:
        others = {
            q["method"]: q["metric"]
            for q in points
            if q["kind"] == "weights"
            and q["method"] != "adapt"
            and (q["task"], q["share"]) == (p["task"], p["share"])
        }
        wins.append(p["metric"] - max(others.values()))
        told = ", ".join(f"{name} {value:.3f}" for name, value in others.items())
        parts.append(f"{p['task']} at {p['share']:.0%}: {p['metric']:.3f}; {told}")
    return Claim(
        source=_GAO,
        says="At every sparsity a learnt mask keeps more than random, importance and magnitude.",
        found=f"Learnt mask, then the others: {'. '.join(parts)}.",
        verdict=_of_paper(verdict_by(wins, noise), learnt, effort),
    )


def _how_masks_move(effort: Effort) -> str:
    units = (
        "On units the decay closes all gates in half of the updates, and the rate follows from "
        "the first gradient."
    )
    if effort.steps >= PUBLISHED:
        return (
            "Masks on weights move by the paper's update, its decay set to close all of them in "
            "half of the updates (the published one takes 50,000), in batches of 32. A failure of "
            f"masks that had not closed by the end decides nothing. {units}"
        )
    return (
        f"The paper's update is for {PUBLISHED:,} of them and more (--updates), so that a failure "
        "here is none of the paper's claims. Here masks on weights close by a linear schedule and "
        f"no gradient moves a mask far. {units}"
    )


def _of_paper(verdict: Verdict, learnt: Sequence[Row], effort: Effort) -> Verdict:
    """What fails in fewer updates than the paper's, or unclosed, says nothing against it."""
    closed = all(p["open"] <= _CLOSED * p["share"] for p in learnt)
    fair = closed and effort.steps >= PUBLISHED
    return "undecided" if verdict == "failed" and not fair else verdict


def _serves(served: Sequence[Row]) -> Claim:
    parts = [
        f"{r['task']} {r['metric']:.4f} ({r['alone']:.4f} alone), {r['bytes'] / 2**20:.2f} MiB, "
        f"{r['share_of_backbone']:.1%} of the backbone"
        for r in served
    ]
    same = all(abs(r["metric"] - r["alone"]) < 1e-9 and r["unchanged"] for r in served)
    return Claim(
        source=_GAO,
        says="Tasks share one unchanged model and need a mask and a head each.",
        found=f"Served in one process from one backbone, which was the same to the bit after each: "
        f"{'; '.join(parts)}.",
        verdict="held" if same else "failed",
    )


def _units(points: Sequence[Row], rows: Sequence[Row], noise: float) -> Claim:
    parts, above = [], []
    for p in points:
        if (p["kind"], p["method"]) == ("units", "adapt"):
            probe = _reference(points, p["task"], "probe")
            above.append(p["metric"] - probe)
            parts.append(
                f"{p['task']} at {p['share']:.0%} of MACs {p['metric']:.4f}, probe {probe:.4f}"
            )
    gap = max(r["gap"] for r in rows if r["kind"] == "units")
    return Claim(
        source="compress-export, beyond the paper",
        says="On heads and neurons, which can be removed, adapting by pruning does better than the "
        "whole frozen encoder with a trained head.",
        found=f"{'; '.join(parts)}. Logits of the removed and of the masked model differ by "
        f"{gap:.1e} at most.",
        verdict=verdict_by(above, noise) if gap < _EXACT else "failed",
    )


def _tables(points: Sequence[Row], served: Sequence[Row]) -> list[Table]:
    return [
        Table(
            name="points",
            title="Every way at every share",
            rows=points,
            columns=[
                Column(key="task", header="task"),
                Column(key="kind", header="masks on"),
                Column(key="method", header="method"),
                Column(key="share", header="kept share", format=".0%"),
                Column(key="metric", header="metric", format=".4f"),
                Column(key="spread", header="± over seeds", format=".4f"),
                Column(key="kept", header="of fine-tuning", format="%"),
            ],
        ),
        Table(
            name="served",
            title="Several tasks on one backbone",
            rows=served,
            columns=[
                Column(key="task", header="task"),
                Column(key="metric", header="metric", format=".4f"),
                Column(key="bytes", header="bytes of the task", format=","),
                Column(key="backbone_bytes", header="bytes of the backbone", format=","),
            ],
        ),
    ]


def _draw(points: Sequence[Row]) -> str:
    tasks = list(dict.fromkeys(p["task"] for p in points))
    methods = list(dict.fromkeys(p["method"] for p in points if p["kind"] != "reference"))
    with mpl.rc_context(STYLE):
        figure = Canvas(figsize=(4.6 * len(tasks), 4.0))
        panels = figure.subplots(1, len(tasks), squeeze=False)[0]
        for axes, task in zip(panels, tasks, strict=True):
            for kind, dashes in (("weights", "-"), ("units", "--")):
                for index, method in enumerate(methods, start=1):
                    own = [
                        p
                        for p in points
                        if (p["task"], p["kind"], p["method"]) == (task, kind, method)
                    ]
                    own.sort(key=lambda p: p["share"])
                    label = method if kind == "weights" else None
                    style = look(index) | {"linestyle": dashes}
                    x, y = [p["share"] for p in own], [p["metric"] for p in own]
                    axes.plot(x, y, **style, markersize=5, linewidth=1.5, label=label)
            for method in ("fine-tuned", "probe"):
                value = _reference(points, task, method)
                axes.axhline(value, color=TEACHER, linewidth=1)
                axes.annotate(method, (0, value), fontsize=9, va="bottom")
            axes.set_title(task, fontsize=10.5, loc="left", pad=14)
            axes.set_xlabel("share kept: weights, or MACs")
            axes.set_xlim(left=0)
        panels[0].set_ylabel("metric")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, frameon=False, loc="outside lower center", ncols=4)
        figure.set_layout_engine("constrained")
        return svg(figure)
