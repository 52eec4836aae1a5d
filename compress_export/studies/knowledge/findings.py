"""From the study's rows to claims, tables and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure as Canvas

from benchmarks.report.drawing import INK, STYLE, TEACHER, look, svg
from benchmarks.report.findings import Claim, Column, Figure, Findings, Table, Verdict, verdict_of
from benchmarks.significance import ratio
from compress_export.studies.grid import Row
from compress_export.studies.groups import grouped, spread
from compress_export.studies.question import Question
from compress_export.studies.schools import Lessons

__all__ = ["knowledge_findings"]

_LIU = "Liu, Meng, Lin, Wang and Zhou 2021, arXiv 2106.05691"
_ROOM = 0.01
_LEARNT = 0.02
_FASTER = 2.7
_DIMENSIONS = ("depth", "length", "width")


def knowledge_findings(
    question: Question,
    learn: Lessons,
    whole: Sequence[Row],
    students: Sequence[Row],
    rows: Sequence[Row],
    paces: Sequence[Row],
) -> Findings:
    """Claims first, then what they rest on.

    Args:
        question: What was asked.
        learn: What students were taught from, and how long.
        whole: Of the teachers.
        students: Of their sizes.
        rows: One a student, share and seed.
        paces: Of epochs, online and offline.
    """
    points = _points(whole, rows)
    taught = f"{learn.train or 'all'} examples, {learn.epochs} epochs, batch {learn.batch_size}"
    limits = [
        "Fresh students are of random weights; the paper's TinyBERT was distilled on running text "
        "first.",
        "What is left out of the hidden states does not count here; in the paper's code it pulls "
        "the student to 0.",
        "Hidden states and logits are learnt together; the paper learns them one after the other.",
    ]
    limits += [
        f"No {s['kind']} student of {s['task']}: {s['problem']}" for s in students if s["problem"]
    ]
    told = ", ".join(f"{w['task']} {question.metric(w['task'])} {w['metric']:.4f}" for w in whole)
    sizes = ", ".join(
        f"{s['task']} {s['kind']}: {s['layers']} layers, {s['macs']:.0%} of the MACs"
        for s in students
        if s["macs"] is not None
    )
    return Findings(
        study="knowledge",
        title="What each share of a teacher's knowledge is worth",
        facts=question.facts()
        | {"teachers": told, "students": sizes}
        | {"students learn": f"{taught}, learning rate {learn.learning_rate:g}"},
        claims=[_diminishes(points), _dimensions(points), *_offline(paces)],
        tables=[
            _table(points),
            Table(name="runs", title="every run", rows=rows),
            Table(name="paces", title="seconds of an epoch, online and offline", rows=paces),
            Table(name="students", title="the students", rows=students),
        ],
        figures=[Figure(name="utility", caption=_CAPTION, svg=_draw(points, whole))],
        limits=limits + question.limits(),
    )


_CAPTION = (
    "Metric against the share of hidden states that is kept, a line for each dimension that is cut "
    "alone; the cross is all three cut at once, the dashed line logits alone."
)


def _points(whole: Sequence[Row], rows: Sequence[Row]) -> list[Row]:
    """Seeds pooled."""
    teacher = {w["task"]: w["metric"] for w in whole}
    chance = {w["task"]: w["chance"] for w in whole}
    found: list[Row] = []
    for place, own in grouped(rows, "task", "kind", "dimension", "depth", "length", "width"):
        values = [r["metric"] for r in own]
        metric, base = float(np.mean(values)), teacher[place["task"]]
        sizes = {name: own[0][name] for name in ("share", "bytes_per_example")}
        facts = {"metric": metric, "spread": spread(values), "kept": ratio(base, metric)}
        found.append(place | sizes | facts | {"chance": chance[place["task"]]})
    return found


def _by_student(points: Sequence[Row]) -> dict[tuple[str, str], list[Row]]:
    return {(place["task"], place["kind"]): own for place, own in grouped(points, "task", "kind")}


def _one(points: Sequence[Row], dimension: str) -> Row:
    return next(p for p in points if p["dimension"] == dimension)


def _learnt(points: Sequence[Row]) -> dict[tuple[str, str], list[Row]]:
    """Students that are better than chance with all hidden states, or with none.

    Others tell nothing of what hidden states are worth.
    """
    return {
        student: own
        for student, own in _by_student(points).items()
        if max(_one(own, d)["metric"] for d in ("all", "none")) > own[0]["chance"] + _LEARNT
    }


def _worth(points: Sequence[Row]) -> float:
    """What all hidden states add to logits alone, on average over students that learnt."""
    gains = [_one(s, "all")["kept"] - _one(s, "none")["kept"] for s in _learnt(points).values()]
    return float(np.mean(gains)) if gains else 0.0


def _as_good(losses: Sequence[float], worth: float) -> Verdict:
    """Whether a part does as well as all; undecided where all is worth nothing either."""
    if worth <= _ROOM:
        return "undecided"
    return "held" if float(np.mean(losses)) >= -_ROOM else "failed"


def _diminishes(points: Sequence[Row]) -> Claim:
    parts, losses = [], []
    for (task, kind), own in _learnt(points).items():
        every, joint, none = (_one(own, name) for name in ("all", "joint", "none"))
        losses.append(joint["kept"] - every["kept"])
        parts.append(
            f"{task} {kind} {every['metric']:.4f} with all, {joint['metric']:.4f} with "
            f"{joint['share']:.2%}, {none['metric']:.4f} with none"
        )
    says = (
        "The marginal utility of hidden states diminishes: a small part of them does as well as "
        "all."
    )
    left = [f"{task} {kind}" for task, kind in _by_student(points) if (task, kind) not in
            _learnt(points)]  # fmt: skip
    told = f" No better than chance, and left aside: {', '.join(left)}." if left else ""
    if not losses:
        return Claim(source=_LIU, says=says, found=told.strip(), verdict="undecided")
    worth = _worth(points)
    return Claim(
        source=_LIU,
        says=says,
        found=f"{'; '.join(parts)}. In points of the teacher's metric, all are worth "
        f"{100 * worth:+.1f} over none, and the small part is {100 * float(np.mean(losses)):+.1f} "
        f"from all; less than a point is taken for none.{told}",
        verdict=_as_good(losses, worth),
    )


def _dimensions(points: Sequence[Row]) -> Claim:
    parts, found = [], []
    for name in _DIMENSIONS:
        losses = []
        for own in _learnt(points).values():
            every = _one(own, "all")
            losses += [p["kept"] - every["kept"] for p in own if p["dimension"] == name]
        if not losses:
            continue
        found.append(_as_good(losses, _worth(points)))
        parts.append(f"{name} {100 * float(np.mean(losses)):+.1f}")
    parts = parts or ["no student is better than chance"]
    return Claim(
        source=_LIU,
        says="It holds of each dimension alone: fewer layers, fewer tokens, fewer features.",
        found=f"Points of the teacher's metric against all of it, on average: {', '.join(parts)}.",
        verdict=found[0] if len(set(found)) == 1 else "undecided",
    )


def _offline(paces: Sequence[Row]) -> list[Claim]:
    if not paces:
        return []
    parts, ratios = [], []
    for (task, kind), own in _by_student(paces).items():
        ratio = float(np.median([p["ratio"] for p in own]))
        spread = [p["ratio"] for p in own]
        ratios += spread
        parts.append(
            f"{task} {kind} {ratio:.2f}× ({min(spread):.2f} to {max(spread):.2f}); the store took "
            f"{own[0]['store_seconds'] / own[0]['online']:.1f} online epochs to make"
        )
    return [
        Claim(
            source=_LIU,
            says="Without the teacher in training, training is 2.7 to 3.4 times as fast.",
            found="An epoch in its stride, online over from a store, medians of rounds: "
            f"{'; '.join(parts)}.",
            verdict=verdict_of([ratio >= _FASTER for ratio in ratios]),
        )
    ]


def _table(points: Sequence[Row]) -> Table:
    return Table(
        name="points",
        title="Every share",
        rows=points,
        columns=[
            Column(key="task", header="task"),
            Column(key="kind", header="student"),
            Column(key="dimension", header="cut"),
            Column(key="depth", header="layers"),
            Column(key="length", header="tokens"),
            Column(key="width", header="features", format=".0%"),
            Column(key="share", header="hidden states", format=".2%"),
            Column(key="bytes_per_example", header="bytes an example", format=",.0f"),
            Column(key="metric", header="metric", format=".4f"),
            Column(key="spread", header="± over seeds", format=".4f"),
            Column(key="kept", header="of the teacher", format="%"),
        ],
        note="A dash: all of them.",
    )


def _draw(points: Sequence[Row], whole: Sequence[Row]) -> str:
    groups = _by_student(points)
    tasks = list(dict.fromkeys(task for task, _ in groups))
    kinds = list(dict.fromkeys(kind for _, kind in groups))
    with mpl.rc_context(STYLE):
        figure = Canvas(figsize=(3.6 * len(tasks), 2.6 * len(kinds) + 0.6))
        grid = figure.subplots(len(kinds), len(tasks), squeeze=False)
        for (task, kind), own in groups.items():
            axes = grid[kinds.index(kind)][tasks.index(task)]
            teacher = next(w["metric"] for w in whole if w["task"] == task)
            _draw_panel(axes, own, teacher)
            axes.set_title(f"{task}, {kind} student", fontsize=10.5, loc="left")
        handles, labels = grid[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, frameon=False, loc="outside lower center", ncols=5)
        figure.supxlabel("share of the teacher's hidden states", fontsize=10.5)
        figure.set_layout_engine("constrained")
        return svg(figure)


def _draw_panel(axes: Any, own: Sequence[Row], teacher: float) -> None:
    every, none, joint = (_one(own, name) for name in ("all", "none", "joint"))
    for index, name in enumerate(_DIMENSIONS, start=1):
        line = sorted(
            [every, *(p for p in own if p["dimension"] == name)], key=lambda p: p["share"]
        )
        x, y = [p["share"] for p in line], [p["metric"] for p in line]
        axes.plot(x, y, **look(index), markersize=5, linewidth=1.5, label=name)
    place = [joint["share"]], [joint["metric"]]
    axes.plot(*place, "X", markersize=8, color=INK, label="joint")
    axes.axhline(none["metric"], color=TEACHER, linewidth=1, linestyle="--", label="logits alone")
    axes.axhline(teacher, color=TEACHER, linewidth=1, label="teacher")
    axes.set_xscale("log")
