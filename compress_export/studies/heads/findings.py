"""From the study's rows to claims and tables."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from scipy import stats

from benchmarks.report.findings import Claim, Column, Findings, Table, Verdict, verdict_of
from compress_export.studies.grid import Row
from compress_export.studies.heads.facts import HeadFacts, area, deduction_points
from compress_export.studies.heads.figures import head_figures

__all__ = ["head_findings"]

_MICHEL = "Michel, Levy and Neubig 2019, arXiv 1905.10650"
_CHIANG = "Chiang and Chen 2021, arXiv 2106.07137 (its abstract; its figures are not at hand)"
_FEW = 0.2
"""Share of heads that reviews of the literature call removable at the least."""
_SURE = 0.05
_FINE = 0.98
_SAME = 0.7
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
        claims=claims,
        tables=_tables(facts, points),
        figures=head_figures(facts, points),
        limits=_limits(facts),
    )


def _sizes(facts: HeadFacts) -> dict[str, str]:
    shape = facts.shape
    used = f", used {shape.depth} times" if shape.groups else ""
    heads = f"{sum(shape.n_heads)} in {shape.n_layers} layers{used}"
    teachers = facts.question.teachers
    own = [f"{row['task']} {row['metric']:.4f}" for row in facts.tuned]
    tuned = ", ".join([*(f"{t}: {p}" for t, p in teachers.items()), *own])
    return {"heads": heads, "fine-tuned models": tuned}


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
    if len(facts.question.seeds) == 1 and facts.masked:
        found.append("Fine-tunings of pruned models are of one seed.")
    if facts.question.quick:
        found.append("Made with --quick: parts of data, grid and seeds.")
    return found


def _removable(facts: HeadFacts) -> Claim:
    """How many heads can go without a loss that examples can tell from none."""
    free = {}
    for task in facts.tasks:
        curve = facts.curve(task, "iterative, by layer")
        fine = takewhile(lambda p: p["high"] >= 1.0, curve)
        free[task] = max(p["share"] for p in fine)
    told = ", ".join(
        f"{task} {share:.0%} ({_kept_at(facts, task, share)})" for task, share in free.items()
    )
    worst = min(free.values())
    return Claim(
        source=_MICHEL,
        says="Many heads of a fine-tuned model can be removed at test time with no significant "
        "loss (reviews put it at 20 to 40 %).",
        found="Heads that can be masked with what is kept still within its 95 % interval of all, "
        f"scored anew at each step, by layer: {told}.",
        verdict="held" if worst >= _FEW else "failed",
    )


def _kept_at(facts: HeadFacts, task: str, share: float) -> str:
    curve = facts.curve(task, "iterative, by layer")
    point = next(p for p in curve if p["share"] == share)
    return f"{point['retention']:.1%} kept, {point['low']:.1%} to {point['high']:.1%}"


def _better_than_chance(facts: HeadFacts) -> Claim:
    parts, better = [], []
    for task in facts.tasks:
        rows = [r for r in facts.curves if r["of"] == task and r["order"] == "chance"]
        seeds = sorted({r["seed"] for r in rows})
        draws = [area([r for r in rows if r["seed"] == s]) for s in seeds]
        own = area(facts.curve(task, "one-shot, by layer"))
        better.append(own > max(draws))
        parts.append(f"{task} {own:.1%} against {min(draws):.1%} to {max(draws):.1%} by chance")
    return Claim(
        source=_MICHEL,
        says="The gradient of the loss with respect to a head's gate tells which heads to remove.",
        found=f"Kept on average over all shares, one-shot by layer: {'; '.join(parts)}.",
        verdict=verdict_of(better),
    )


def _iteration(facts: HeadFacts) -> Claim:
    parts, gains = [], []
    for task in facts.tasks:
        once, anew = (
            area(facts.curve(task, name)) for name in ("one-shot, by layer", "iterative, by layer")
        )
        plain = area(facts.curve(task, "iterative"))
        gains.append(anew - once)
        parts.append(f"{task} {once:.1%}, {anew:.1%}, {plain:.1%}")
    return Claim(
        source=_MICHEL,
        says="Heads should be scored anew as others go; scores are divided by their layer's norm.",
        found="Kept on average over all shares, one-shot by layer, iterative by layer, iterative "
        f"without the norm: {'; '.join(parts)}.",
        verdict=verdict_of([gain > 0 for gain in gains]),
    )


def _pair(facts: HeadFacts, first: str, second: str) -> Row:
    """Their coherence over all heads."""
    names = {first, second}
    return next(
        r for r in facts.coherences if r["layer"] == -1 and {r["first"], r["second"]} == names
    )


def _coherent(facts: HeadFacts) -> Claim:
    rows = {task: _pair(facts, "mlm", task) for task in facts.tasks}
    agreed = [r["spearman"] > 0 and r["p"] < _SURE for r in rows.values()]
    parts = [
        f"{t} {r['spearman']:+.2f} (p {r['p']:.3g}), top fifth shared {r['top_0.2']:.0%} "
        f"(p {r['p_top_0.2']:.2g})"
        for t, r in rows.items()
    ]
    return Claim(
        source=_CHIANG,
        says="Heads that matter in pre-training matter in downstream tasks (the paper asks; taken "
        "here as a claim: rank correlation above 0, p under 0.05, in every task).",
        found="Spearman between importance under the loss of masked tokens, before fine-tuning, "
        f"and under the task's, after it: {'; '.join(parts)}.",
        verdict=verdict_of(agreed),
    )


def _deducible(facts: HeadFacts, points: Sequence[Row]) -> Claim:
    parts, falls = [], []
    for task in facts.tasks:
        own = [p for p in points if p["task"] == task]
        knee = next((p for p in own if p["knee"]), None)
        bends = "" if knee is None else f", knee at +{knee['rise']:.2f} nats ({knee['share']:.0%})"
        fine = max((p["rise"] for p in own if p["kept"] >= _FINE), default=0.0)
        rho = _correlation(own)
        told = "nothing, it is the same at every share" if rho is None else f"{rho:+.2f}{bends}"
        parts.append(f"{task} {told}, {_FINE:.0%} kept up to +{fine:.2f} nats")
        falls += [] if rho is None else [rho]
    verdict: Verdict = "failed" if falls and min(falls) > _FALLS else "undecided"
    return Claim(
        source=_CHIANG,
        says="The acceptable deduction on the pre-training task, when a model is made smaller, can "
        "be derived from how the pruned model does once it is fine-tuned.",
        found="Spearman between the rise of the loss of masked tokens and what the fine-tuned "
        f"pruned model keeps: {'; '.join(parts)}.",
        verdict="held" if falls and max(falls) <= _FALLS else verdict,
    )


def _correlation(points: Sequence[Row]) -> float | None:
    """Of rise and kept; none where what is kept is always the same."""
    kept = [p["kept"] for p in points]
    if len(set(kept)) == 1:
        return None
    return float(stats.spearmanr([p["rise"] for p in points], kept).statistic)


def _moved(facts: HeadFacts) -> Claim:
    parts, near = [], []
    for task in facts.tasks:
        same = _pair(facts, "mlm", f"{task}-mlm")
        own = _pair(facts, f"{task}-mlm", task)
        near.append(same["spearman"])
        parts.append(
            f"{task}: {same['spearman']:+.2f} with itself before; {own['spearman']:+.2f} with the "
            "task's own importance"
        )
    return Claim(
        source=_CHIANG,
        says="Fine-tuning leaves the ranking by the pre-training loss as it was (the paper asks; "
        "taken here as a claim: Spearman 0.7 and more in every task).",
        found=f"Ranking by masked tokens after fine-tuning: {'; '.join(parts)}.",
        verdict=verdict_of([rho >= _SAME for rho in near]),
    )


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
                Column(key="top_0.2", header="top fifth shared", format="%"),
                Column(key="p_top_0.2", header="p", format=".2g"),
                Column(key="top_0.5", header="upper half shared", format="%"),
                Column(key="p_top_0.5", header="p", format=".2g"),
            ],
            note="A task's name alone: the fine-tuned model under the task's loss; `-self`: under "
            "KL to itself; `-mlm`: its encoder under the masked-language head of before. Shares "
            "are Jaccard's. p by 10,000 permutations. Per layer: in the data.",
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
