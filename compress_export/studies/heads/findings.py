"""From the study's rows to claims and tables."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

import numpy as np
from scipy import stats

from benchmarks.report.findings import Claim, Column, Findings, Table, Verdict, verdict_by
from compress_export.studies.grid import Row
from compress_export.studies.groups import grouped
from compress_export.studies.heads.facts import HeadFacts, area, deduction_points
from compress_export.studies.heads.figures import head_figures
from compress_export.studies.luck import where_learnt

__all__ = ["head_findings"]

_MICHEL = "Michel, Levy and Neubig 2019, arXiv 1905.10650"
_CHIANG = "Chiang and Chen 2021, arXiv 2106.07137 (its abstract; its figures are not at hand)"
_FEW = 0.2
"""Share of heads that reviews of the literature call removable at the least."""
_SURE = 0.05
_FINE = 0.98
_SAME = 0.7
_ALMOST = 0.95
_WEAK = 0.3
_POINTS = 5
_ORDER = "iterative, by layer"
_FALLS = -0.8
"""A rank correlation that is as good as a rule."""


def head_findings(facts: HeadFacts) -> Findings:
    """Claims first, then what they rest on."""
    points = deduction_points(facts)
    claims = [_removable(facts), _better_than_chance(facts), _iteration(facts)]
    if facts.masked:
        claims += [_coherent(facts), _deducible(facts, points), _moved(facts)]
    return Findings(
        study="heads",
        title="Which heads matter, and what pruning by them costs",
        facts=facts.question.facts() | _sizes(facts),
        claims=where_learnt(claims, facts.telling),
        tables=_tables(facts, points),
        figures=head_figures(facts, points),
        limits=_limits(facts),
    )


def _sizes(facts: HeadFacts) -> dict[str, str]:
    shape = facts.shape
    used = f", used {shape.depth} times" if shape.groups else ""
    heads = f"{sum(shape.n_heads)} in {shape.n_layers} layers{used}"
    own = ", ".join(f"{row['task']} {row['metric']:.4f}" for row in facts.tuned)
    return {"heads": heads} | ({"fine-tuned here": own} if own else {})


def _limits(facts: HeadFacts) -> list[str]:
    found = [
        "Importance is of one sample of examples; another sample would move ranks a little.",
        "Curves mask heads and retrain nothing. Their intervals are over examples, by paired "
        "bootstrap, and not over trainings.",
    ]
    if facts.shape.groups:
        found.append(
            "Layers are shared: a head is removed from all its uses at once, and its score is the "
            "sum over them; masks of single uses are not studied, for they remove nothing."
        )
    if len(facts.question.seeds) > 1:
        found.append(
            f"Rankings and curves are of seed {facts.question.seeds[0]}; fine-tuning what was "
            "pruned is of all seeds."
        )
    return found + facts.question.left_out(facts.whole) + facts.question.limits()


def _removable(facts: HeadFacts) -> Claim:
    """How many heads can go while what is kept is surely almost all."""
    parts, sure, lost = [], [], []
    for task in facts.telling:
        curve = facts.curve(task, _ORDER)
        fine = list(takewhile(lambda p: p["low"] >= _ALMOST, curve))
        few = min(curve, key=lambda p: abs(p["share"] - _FEW))
        sure.append(few["low"] >= _ALMOST)
        lost.append(few["high"] < 1.0)
        most = fine[-1] if fine else curve[0]
        parts.append(
            f"{task} {most['share']:.0%} ({most['retention']:.1%} kept, {most['low']:.1%} to "
            f"{most['high']:.1%}); at {few['share']:.0%}, {few['low']:.1%} to {few['high']:.1%}"
        )
    verdict: Verdict = "failed" if lost and all(lost) else "undecided"
    verdict = "held" if sure and all(sure) else verdict
    return Claim(
        source=_MICHEL,
        says="Many heads of a fine-tuned model can be removed at test time with no significant "
        "loss (reviews put it at 20 to 40 %).",
        found=f"Heads that can be masked while the 95 % interval of what is kept stays above "
        f"{_ALMOST:.0%}, scored anew at each step, by layer: {'. '.join(parts) or 'none'}.",
        verdict=verdict,
    )


def _better_than_chance(facts: HeadFacts) -> Claim:
    parts, above, below = [], [], []
    n_draws = 0
    for task in facts.telling:
        rows = [r for r in facts.curves if r["of"] == task and r["order"] == "chance"]
        draws = [area(own) for _, own in grouped(rows, "seed")]
        own = area(facts.curve(task, "one-shot, by layer"))
        n_draws = len(draws)
        above.append(own > max(draws))
        below.append(own <= float(np.median(draws)))
        parts.append(f"{task} {own:.1%} against {min(draws):.1%} to {max(draws):.1%} by chance")
    luck = (1 / (n_draws + 1)) ** len(parts)
    verdict: Verdict = "held" if above and all(above) and luck <= _SURE else "undecided"
    verdict = "failed" if below and all(below) else verdict
    return Claim(
        source=_MICHEL,
        says="The gradient of the loss with respect to a head's gate tells which heads to remove.",
        found=f"Kept on average over all shares, one-shot by layer: {'; '.join(parts)} "
        f"({n_draws} draws each; above all of them in every task by luck: p {luck:.2g}).",
        verdict=verdict,
    )


def _iteration(facts: HeadFacts) -> Claim:
    parts, gains = [], []
    noise = facts.question.noise({t: facts.whole[t] for t in facts.telling}, kept=True)
    for task in facts.telling:
        once, anew, plain = (
            area(facts.curve(task, name)) for name in ("one-shot, by layer", _ORDER, "iterative")
        )
        gains.append(anew - once)
        parts.append(f"{task} {once:.1%}, {anew:.1%}, {plain:.1%}")
    return Claim(
        source=_MICHEL,
        says="Heads should be scored anew as others go; scores are divided by their layer's norm.",
        found="Kept on average over all shares, one-shot by layer, iterative by layer, iterative "
        f"without the norm: {'; '.join(parts)}. Less than {noise:.1%} may be chance.",
        verdict=verdict_by(gains, noise),
    )


def _pair(facts: HeadFacts, first: str, second: str) -> Row:
    """Their coherence over all heads."""
    names = {first, second}
    return next(
        r for r in facts.coherences if r["layer"] == -1 and {r["first"], r["second"]} == names
    )


def _interval(row: Row) -> tuple[float, float]:
    """95 % of a rank correlation, by Fisher's z with the variance of Bonett and Wright 2000."""
    rho, n = max(min(row["spearman"], 0.999), -0.999), row["heads"]
    half = 1.96 * np.sqrt((1 + rho**2 / 2) / max(n - 3, 1))
    low, high = np.tanh(np.arctanh(rho) - half), np.tanh(np.arctanh(rho) + half)
    return float(low), float(high)


def _coherent(facts: HeadFacts) -> Claim:
    parts, agreed, weak = [], [], []
    for task in facts.telling:
        row = _pair(facts, "mlm", task)
        low, high = _interval(row)
        agreed.append(row["spearman"] > 0 and max(row["p"], row["p_within"]) < _SURE)
        weak.append(high < _WEAK)
        parts.append(
            f"{task} {row['spearman']:+.2f} ({low:+.2f} to {high:+.2f}; p {row['p']:.2g}, heads "
            f"exchanged within layers alone {row['p_within']:.2g}), top fifth shared "
            f"{row['top_0.2']:.0%} (p {row['p_top_0.2']:.2g})"
        )
    return Claim(
        source=_CHIANG,
        says="Heads that matter in pre-training matter in downstream tasks (the paper asks; taken "
        "here as a claim: rank correlation above 0 in every task, p under 0.05, within layers "
        "too).",
        found="Spearman between importance under the loss of masked tokens, before fine-tuning, "
        f"and under the task's, after it: {'; '.join(parts)}. Failed means surely below {_WEAK}.",
        verdict=_all_or(agreed, weak),
    )


def _deducible(facts: HeadFacts, points: Sequence[Row]) -> Claim:
    parts, falls = [], []
    for task in facts.telling:
        own = [p for p in points if p["task"] == task]
        own.sort(key=lambda p: p["rise"])
        knee = next((p for p in own if p["knee"]), None)
        bends = "" if knee is None else f", knee at +{knee['rise']:.2f} nats ({knee['share']:.0%})"
        fine = max((p["rise"] for p in takewhile(lambda p: p["kept"] >= _FINE, own)), default=0.0)
        rho = _correlation(own)
        told = "nothing, it is the same at every share" if rho is None else f"{rho:+.2f}{bends}"
        parts.append(f"{task} {told}, {_FINE:.0%} kept up to +{fine:.2f} nats")
        falls += [] if rho is None else [rho]
    few = len(points) < _POINTS * len(facts.tasks)
    verdict: Verdict = "failed" if falls and min(falls) > _FALLS and not few else "undecided"
    return Claim(
        source=_CHIANG,
        says="The acceptable deduction on the pre-training task, when a model is made smaller, can "
        "be derived from how the pruned model does once it is fine-tuned.",
        found="Spearman between the rise of the loss of masked tokens and what the fine-tuned "
        f"pruned model keeps: {'; '.join(parts)}. Both follow the share that is pruned, and one "
        f"order of pruning was tried; fewer than {_POINTS} shares a task decide nothing.",
        verdict="held" if falls and max(falls) <= _FALLS and not few else verdict,
    )


def _correlation(points: Sequence[Row]) -> float | None:
    """Of rise and kept; none where what is kept is always the same."""
    kept = [p["kept"] for p in points]
    if len(set(kept)) == 1:
        return None
    return float(stats.spearmanr([p["rise"] for p in points], kept).statistic)


def _moved(facts: HeadFacts) -> Claim:
    again = _pair(facts, "mlm", "mlm-again")["spearman"]
    parts, near, far = [], [], []
    for task in facts.telling:
        same = _pair(facts, "mlm", f"{task}-mlm")
        own = _pair(facts, f"{task}-mlm", task)
        low, high = _interval(same)
        near.append(low >= _SAME)
        far.append(high < _SAME)
        parts.append(
            f"{task}: {same['spearman']:+.2f} ({low:+.2f} to {high:+.2f}) with itself before; "
            f"{own['spearman']:+.2f} with the task's own importance"
        )
    return Claim(
        source=_CHIANG,
        says="Fine-tuning leaves the ranking by the pre-training loss as it was (the paper asks; "
        f"taken here as a claim: Spearman surely above {_SAME} in every task).",
        found=f"Ranking by masked tokens after fine-tuning: {'; '.join(parts)}. Before it, two "
        f"samples of text agree by {again:+.2f}. Failed means surely below {_SAME}.",
        verdict=_all_or(near, far),
    )


def _all_or(held: Sequence[bool], failed: Sequence[bool]) -> Verdict:
    """Held in all tasks, failed in all, or neither."""
    if held and all(held):
        return "held"
    return "failed" if failed and all(failed) else "undecided"


def _tables(facts: HeadFacts, points: Sequence[Row]) -> list[Table]:
    over_all = [r for r in facts.coherences if r["layer"] == -1]
    shown = [r for r in facts.curves if r["order"] != "chance" and r["of"] != "mlm"]
    tables = [
        Table(
            name="coherence",
            title="Coherence of rankings over all heads",
            rows=facts.coherences,
            shown=over_all,
            columns=[
                Column(key="first", header="importance under"),
                Column(key="second", header="and under"),
                Column(key="spearman", header="Spearman", format="+.2f"),
                Column(key="p", header="p", format=".2g"),
                Column(key="p_within", header="p within layers", format=".2g"),
                Column(key="top_0.2", header="top fifth shared", format="%"),
                Column(key="p_top_0.2", header="p", format=".2g"),
                Column(key="top_0.5", header="upper half shared", format="%"),
                Column(key="p_top_0.5", header="p", format=".2g"),
            ],
            note="A task's name alone: the fine-tuned model under the task's loss; `-self`: under "
            "KL to itself; `-mlm`: its encoder, and its embeddings with it, under the head of "
            "before; `mlm-again`: other text and masks. Shares are Jaccard's. p by 10,000 "
            "permutations. Per layer: in the data.",
        ),
        Table(
            name="curves",
            title="Prunability, nothing retrained",
            rows=facts.curves,
            shown=shown,
            columns=[
                Column(key="of", header="task"),
                Column(key="order", header="order"),
                Column(key="share", header="heads masked", format=".0%"),
                Column(key="metric", header="metric", format=".4f"),
                Column(key="retention", header="kept", format="%"),
                Column(key="low", header="from", format="%"),
                Column(key="high", header="to", format="%"),
            ],
        ),
        Table(name="importance", title="importance of every head", rows=facts.importances),
    ]
    if points:
        tables.insert(1, _deduction_table(facts, points))
    return tables


def _deduction_table(facts: HeadFacts, points: Sequence[Row]) -> Table:
    metrics = ", ".join(f"{task}: {facts.question.metric(task)}" for task in facts.tasks)
    return Table(
        name="deduction",
        title="Acceptable deduction",
        rows=points,
        columns=[
            Column(key="task", header="task"),
            Column(key="share", header="heads removed", format=".0%"),
            Column(key="rise", header="masked-token loss, nats more", format="+.3f"),
            Column(key="metric", header="fine-tuned", format=".4f"),
            Column(key="spread", header="± over seeds", format=".4f"),
            Column(key="kept", header="kept", format="%"),
            Column(key="knee", header="knee"),
        ],
        note="Heads removed by importance in pre-training, one-shot, before fine-tuning. "
        f"{metrics}.",
    )
