"""From the study's rows to claims, tables and pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from benchmarks.report.drawing import STYLE, look, svg
from benchmarks.report.findings import Claim, Column, Figure, Findings, Table, Verdict, verdict_by
from benchmarks.significance import ratio
from compress_export.studies.grid import Row
from compress_export.studies.groups import grouped, spread
from compress_export.studies.luck import either_way, surely, where_learnt
from compress_export.studies.question import Question

__all__ = ["layer_findings"]

_SAJJAD = "Sajjad, Dalvi, Durrani and Nakov 2020, arXiv 2004.03844"


def layer_findings(
    question: Question,
    whole: Sequence[Row],
    signals: Sequence[Row],
    rows: Sequence[Row],
    depths: Sequence[Row],
) -> Findings:
    """Claims first, then what they rest on."""
    points = _points(whole, rows, depths)
    base = {
        t: float(np.mean([w["metric"] for w in whole if w["task"] == t])) for t in _tasks(whole)
    }
    told = ", ".join(f"{t} {question.metric(t)} {value:.4f}" for t, value in base.items())
    telling = {t: base[t] for t in question.telling(base)}
    judged = [p for p in points if p["task"] in telling]
    shown = judged or points
    noise = question.noise(telling, kept=True)
    claims = [_top(judged, noise), _third(judged, depths, noise), *_moments(judged, noise)]
    caption = _KEPT.format(tasks=", ".join(_tasks(shown)))
    figures = [Figure(name="kept", caption=caption, svg=_draw_kept(shown))]
    if signals:
        figures.append(Figure(name="layers", caption=_LAYERS, svg=_draw_signals(signals)))
    limits = ["Time is of ONNX Runtime on this machine, all depths timed in the same rounds."]
    limits.append(
        "`leave-one-out` asks what a fine-tuned model gives, and so is not run before fine-tuning."
    )
    return Findings(
        study="layers",
        title="What dropping layers costs",
        facts=question.facts() | {"whole": told},
        claims=[*where_learnt(claims, telling), _half(depths)],
        tables=[
            _points_table(points),
            _depths_table(depths),
            Table(name="runs", title="every run", rows=rows),
            Table(name="signals", title="cosine, absence and likeness of layers", rows=signals),
        ],
        figures=figures,
        limits=limits + question.left_out(base) + question.limits(),
    )


_NEAR, _ALMOST = 0.1, 0.75

_KEPT = (
    "Kept against the share of the encoder's parameters, and of the time: one line a strategy, the "
    "mean over tasks ({tasks}); solid, dropped before fine-tuning; dashed, after it."
)
_SHARES = {
    "encoder_parameters": "% of the encoder's parameters",
    "time": "% of the whole model's time",
}
_LAYERS = (
    "Left: harm done by leaving a layer out (KL to the whole model), and its cosine between input "
    "and output. Right: linear CKA between the outputs of layers, first task."
)


def _tasks(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(r["task"] for r in rows))


def _points(whole: Sequence[Row], rows: Sequence[Row], depths: Sequence[Row]) -> list[Row]:
    """Seeds pooled; each beside the whole model of the same seed."""
    dense = {(w["task"], w["seed"]): w["metric"] for w in whole}
    sizes = {d["n_drop"]: d for d in depths}
    found: list[Row] = []
    for place, own in grouped(rows, "task", "moment", "strategy", "n_drop"):
        kept = [ratio(dense[r["task"], r["seed"]], r["metric"]) for r in own]
        size = sizes[place["n_drop"]]
        found.append(
            place
            | {
                "metric": float(np.mean([r["metric"] for r in own])),
                "kept": float(np.mean(kept)),
                "spread": spread(kept),
                "encoder_parameters": size["encoder_parameters"],
                "time": size["time"],
                "layers": " ".join(map(str, own[0]["kept"])),
            }
        )
    return found


def _means(points: Sequence[Row], moment: str) -> dict[tuple[str, int], float]:
    """What each strategy keeps at each number, over tasks."""
    own = [p for p in points if p["moment"] == moment]
    return {
        (place["strategy"], place["n_drop"]): float(np.mean([p["kept"] for p in same]))
        for place, same in grouped(own, "strategy", "n_drop")
    }


def _top(points: Sequence[Row], noise: float) -> Claim:
    """Strategies at the numbers that all of them can drop."""
    means = _means(points, "before")
    names = list(dict.fromkeys(name for name, _ in means))
    numbers = [n for n in {n for _, n in means} if all((name, n) in means for name in names)]
    average = {x: float(np.mean([means[x, n] for n in numbers])) for x in names if numbers}
    told = ", ".join(f"{name} {value:.1%}" for name, value in average.items())
    others = [value for name, value in average.items() if name != "top"]
    ahead = [average["top"] - max(others)] if "top" in average and others else []
    return Claim(
        source=_SAJJAD,
        says="Dropping the top layers is the most consistent strategy (taken here as a claim: it "
        "keeps most on average).",
        found=f"Kept over tasks, dropped before fine-tuning, at the numbers that all strategies "
        f"can drop ({', '.join(map(str, sorted(numbers)))}): {told}. Less than {noise:.1%} may be "
        "chance.",
        verdict=verdict_by(ahead, noise),
    )


def _third(points: Sequence[Row], depths: Sequence[Row], noise: float) -> Claim:
    near = min(depths, key=lambda d: abs(d["macs"] - 2 / 3))
    own = [
        p
        for p in points
        if (p["moment"], p["strategy"], p["n_drop"]) == ("before", "top", near["n_drop"])
    ]
    told = ", ".join(f"{p['task']} {p['kept']:.1%}" for p in own)
    is_third = abs(near["macs"] - 2 / 3) < _NEAR
    sure = [surely(p["kept"], 0.98, noise * math.sqrt(len(own))) for p in own if is_third]
    return Claim(
        source=_SAJJAD,
        says="A third of the layers, the top ones, can go for at most 2 % in almost all tasks.",
        found=f"Kept without the top {near['n_drop']} ({1 - near['macs']:.0%} of the encoder): "
        f"{told or 'not run'}. Almost all means three tasks of four.",
        verdict=either_way(sure, _mostly),
    )


def _mostly(found: Sequence[bool]) -> Verdict:
    """Of a claim about three tasks of four."""
    if not found:
        return "undecided"
    return "held" if sum(found) >= _ALMOST * len(found) else "failed"


def _half(depths: Sequence[Row]) -> Claim:
    near = min(depths, key=lambda d: abs(d["macs"] - 0.5))
    fits = abs(near["time"] - 0.5) < _NEAR and abs(near["parameters"] - 0.6) < _NEAR
    verdict: Verdict = "held" if fits else "failed"
    return Claim(
        source=_SAJJAD,
        says="Half of the layers are 40 % of the parameters and half of the time.",
        found=f"Without {near['n_drop']} layers: {1 - near['parameters']:.0%} fewer parameters "
        f"({1 - near['encoder_parameters']:.0%} of the encoder's) and {1 - near['time']:.0%} less "
        "time. What share embeddings have decides the first.",
        verdict=verdict if abs(near["macs"] - 0.5) < _NEAR else "undecided",
    )


def _moments(points: Sequence[Row], noise: float) -> list[Claim]:
    before, after = _means(points, "before"), _means(points, "after")
    both = [place for place in before if place in after]
    if not both:
        return []
    told = ", ".join(
        f"{name} -{n} {before[name, n]:.1%} and {after[name, n]:.1%}" for name, n in both
    )
    mean = float(np.mean([before[place] - after[place] for place in both]))
    return [
        Claim(
            source=_SAJJAD,
            says="Dropping layers before fine-tuning is at least as good as fine-tuning, dropping "
            "and fine-tuning again.",
            found=f"Kept on average over tasks, dropped before and after: {told}. Dropped after, a "
            f"model has been fine-tuned twice. Less than {noise:.1%} may be chance.",
            verdict="failed" if mean < -noise else "held" if mean > noise else "undecided",
        )
    ]


def _points_table(points: Sequence[Row]) -> Table:
    return Table(
        name="points",
        title="Every way to drop layers",
        rows=points,
        columns=[
            Column(key="task", header="task"),
            Column(key="moment", header="dropped"),
            Column(key="strategy", header="strategy"),
            Column(key="n_drop", header="layers gone"),
            Column(key="layers", header="layers left"),
            Column(key="metric", header="metric", format=".4f"),
            Column(key="kept", header="kept", format="%"),
            Column(key="spread", header="± over seeds", format="%"),
            Column(key="encoder_parameters", header="encoder parameters", format="%"),
            Column(key="time", header="measured time", format="%"),
        ],
        note="Kept: of the whole model's metric, of the same seed and training. Distilled: dropped "
        "after fine-tuning and taught by the whole model.",
    )


def _depths_table(depths: Sequence[Row]) -> Table:
    return Table(
        name="depths",
        title="What is saved",
        rows=depths,
        columns=[
            Column(key="n_drop", header="layers gone"),
            Column(key="encoder_parameters", header="encoder parameters", format="%"),
            Column(key="parameters", header="all parameters", format="%"),
            Column(key="macs", header="encoder MACs", format="%"),
            Column(key="time", header="measured time", format="%"),
        ],
        note=f"Time: cpu-fp32 graphs at {depths[0]['workload']} tokens, medians of interleaved "
        "rounds.",
    )


def _draw_kept(points: Sequence[Row]) -> str:
    with mpl.rc_context(STYLE):
        figure = Canvas(figsize=(9.4, 4.0))
        panels = figure.subplots(1, 2, sharey=True)
        for axes, (share, told) in zip(panels, _SHARES.items(), strict=True):
            _draw_means(axes, points, share)
            axes.invert_xaxis()
            axes.set_xlabel(told)
        panels[0].set_ylabel("% kept, mean over tasks")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(
            handles, labels, frameon=False, loc="outside lower center", ncols=4, fontsize=9
        )
        figure.set_layout_engine("constrained")
        return svg(figure)


def _draw_means(axes: Axes, points: Sequence[Row], share: str) -> None:
    names = list(dict.fromkeys(p["strategy"] for p in points))
    sizes = {p["n_drop"]: p[share] for p in points}
    for moment, dashes in (("before", "-"), ("after", "--"), ("distilled", ":")):
        means = _means(points, moment)
        for index, name in enumerate(names, start=1):
            own = sorted((n, v) for (s, n), v in means.items() if s == name)
            if own:
                x, y = [100 * sizes[n] for n, _ in own], [100 * v for _, v in own]
                label = name if moment == "before" else f"{name}, {moment}"
                style = look(index) | {"linestyle": dashes}
                axes.plot(x, y, **style, markersize=5, linewidth=1.5, label=label)


def _draw_signals(signals: Sequence[Row]) -> str:
    with mpl.rc_context(STYLE):
        figure = Canvas(figsize=(9.4, 3.4))
        loss_increase, cosine, alike = figure.subplots(1, 3)
        for index, task in enumerate(_tasks(signals), start=1):
            own = [r for r in signals if r["task"] == task]
            layers = [r["layer"] for r in own]
            absent = [np.nan if r["left_out"] is None else r["left_out"] for r in own]
            loss_increase.plot(layers, absent, **look(index), markersize=4, label=task)
            cosine.plot(layers, [r["cosine"] for r in own], **look(index), markersize=4)
        for axes, title in (
            (loss_increase, "left out: KL, nats"),
            (cosine, "cosine of input and output"),
        ):
            axes.set_title(title, fontsize=10.5, loc="left")
            axes.set_xlabel("layer")
        first = [r["like"] for r in signals if r["task"] == _tasks(signals)[0]]
        picture = alike.imshow(first, origin="lower", cmap="Blues", vmin=0, vmax=1)
        alike.set_title("likeness (CKA)", fontsize=10.5, loc="left")
        figure.colorbar(picture, ax=alike, shrink=0.8)
        figure.legend(frameon=False, loc="outside lower center", ncols=4)
        figure.set_layout_engine("constrained")
        return svg(figure)
