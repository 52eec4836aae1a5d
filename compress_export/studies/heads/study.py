"""The phases of the study, each on what the ones before found.

Michel et al. 2019 (arXiv 1905.10650); Chiang and Chen 2021 (arXiv 2106.07137).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.coherence import coherence
from benchmarks.report.findings import Findings
from compress.checkpoint.checkpoint import load, load_config
from compress.errors import RecipeError
from compress.model.binding import bind
from compress.saliency.scores import Array
from compress_export.studies.fine_tune import fine_tunings
from compress_export.studies.grid import Grid, Row
from compress_export.studies.heads.cells import Curve, Deduction, Importance
from compress_export.studies.heads.facts import HeadFacts
from compress_export.studies.heads.findings import head_findings
from compress_export.studies.heads.ranking import LossKind, by_layer, order_of, scores_of
from compress_export.studies.heads.sights import Sight, Text
from compress_export.studies.language import has_masked_head
from compress_export.studies.question import Question

__all__ = ["study_heads"]

_SHARES = tuple(round(0.1 * i, 1) for i in range(10))
_QUICK_SHARES = (0.0, 0.2, 0.4, 0.6, 0.8)
_DEDUCTIONS, _QUICK_DEDUCTIONS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9), (0.0, 0.3, 0.6, 0.9)
_TOP = (0.2, 0.5)
_BLOCK = 128


@dataclass(frozen=True, kw_only=True, slots=True)
class _Amounts:
    """How much of everything."""

    shares: tuple[float, ...]
    deductions: tuple[float, ...]
    examples: int
    blocks: int
    chances: int


def study_heads(question: Question, texts: str | None, grid: Grid) -> Findings:
    """All five parts of the study.

    Args:
        question: Model, tasks and amounts.
        texts: Running text for the loss of masked tokens; none where the family has no such head.
        grid: Works the cells.

    Raises:
        RecipeError: There is text and no head for it, or the other way round.
    """
    _check_texts(question.model, texts)
    return _HeadStudy(question, texts, grid).findings()


def _check_texts(model: str, texts: str | None) -> None:
    config = load_config(model)
    head = (config.architectures or [""])[0]
    masked = head.endswith("ForMaskedLM")
    if texts is not None and not masked and has_masked_head(config.model_type):
        raise RecipeError(
            f"--texts needs a model with a head for masked tokens, found {head or 'none'} in "
            f"{model!r}; train one with `compress-export study mlm-head --model {model} --texts "
            f"{texts} --out mlm` and name mlm/checkpoint"
        )
    if texts is not None and not masked:
        raise RecipeError(
            f"--texts asks for the loss of masked tokens, which {config.model_type} was not "
            "pre-trained by; leave it out: heads are then studied by tasks"
        )
    if texts is None and masked:
        raise RecipeError(
            f"--texts must name running text for the masked-language head of {model!r}, found "
            "none; name a text file or a folder of them"
        )


class _HeadStudy:
    """The phases, one after the other, each on what the ones before found."""

    def __init__(self, question: Question, texts: str | None, grid: Grid) -> None:
        self.question, self.grid = question, grid
        quick = question.quick
        self.amounts = _Amounts(
            shares=_QUICK_SHARES if quick else _SHARES,
            deductions=_QUICK_DEDUCTIONS if quick else _DEDUCTIONS,
            examples=128 if quick else 1024,
            blocks=24 if quick else 256,
            chances=4 if quick else 9,
        )
        self.shape = bind(load(question.model)).shape
        length = min(_BLOCK, question.max_length)
        blocks = self.amounts.blocks
        self.text = None if texts is None else Text(path=texts, length=length, count=blocks)
        self.seed = question.seeds[0]

    def findings(self) -> Findings:
        """Work all phases."""
        tuned = self._fine_tuned()
        importances = self.grid("head importance", self._importances())
        curves = self.grid("prunability", self._curves(importances))
        deductions = self.grid("fine-tuning what was pruned", self._deductions(importances))
        facts = HeadFacts(
            question=self.question,
            shape=self.shape,
            importances=importances,
            coherences=self._coherences(importances),
            curves=curves,
            deductions=deductions,
            tuned=tuned,
        )
        return head_findings(facts)

    def _fine_tuned(self) -> list[Row]:
        lessons = {task: self.question.lessons(task) for task in self.question.tasks}
        out = {task: self._teacher(task) for task in self.question.tasks}
        return self.grid("fine-tuning", fine_tunings(self.question, lessons, out))

    def _teacher(self, task: str) -> str:
        own = self.question.out / "work" / task / "whole"
        return self.question.teachers.get(task, str(own))

    def _sights(self) -> dict[str, tuple[Sight, LossKind]]:
        """Every model under every loss, by what it is called."""
        found: dict[str, tuple[Sight, LossKind]] = {}
        if self.text is not None:
            before = Sight(source=self.question.model, text=self.text)
            found |= {"mlm": (before, "mlm"), "mlm-self": (before, "self")}
            found["mlm-again"] = (before, "mlm")
        for task in self.question.tasks:
            tuned = Sight(source=self._teacher(task), lessons=self.question.lessons(task))
            found |= {task: (tuned, "task"), f"{task}-self": (tuned, "self")}
            if self.text is not None:
                after = Sight(
                    source=self.question.model, text=self.text, encoder=self._teacher(task)
                )
                found[f"{task}-mlm"] = (after, "mlm")
        return found

    def _importances(self) -> list[Importance]:
        examples = self.amounts.examples
        return [
            Importance(of=of, sight=sight, kind=kind, count=examples, seed=self.seed + again)
            for of, (sight, kind) in self._sights().items()
            for again in (int(of == "mlm-again"),)
        ]

    def _curves(self, importances: Sequence[Row]) -> list[Curve]:
        cells: list[Curve] = []
        judged = [*self.question.tasks, *(["mlm"] if self.text else [])]
        for place, of in enumerate(judged):
            sight, kind = self._sights()[of]
            cells += self._own_curves(of, sight, kind, scores_of(importances, of, self.shape))
            if of != "mlm" and self.text is not None:
                order = order_of(scores_of(importances, "mlm", self.shape))
                cells.append(self._curve(of, "by pre-training", sight, order))
            draws = range(place * self.amounts.chances, (place + 1) * self.amounts.chances)
            cells += [
                self._curve(of, "chance", sight, self._by_chance(draw), seed=draw) for draw in draws
            ]
        return cells

    def _own_curves(
        self, of: str, sight: Sight, kind: LossKind, heads: tuple[Array, ...]
    ) -> list[Curve]:
        """One-shot and iterative, each normalised by layer or not."""
        once = self._curve(of, "one-shot", sight, order_of(heads))
        once_normal = self._curve(of, "one-shot, by layer", sight, order_of(by_layer(heads)))
        anew = [
            Curve(
                of=of,
                order_name="iterative, by layer" if normalised else "iterative",
                sight=sight,
                order=None,
                shares=self.amounts.shares,
                kind=kind,
                normalised=normalised,
                count=self.amounts.examples,
                seed=self.seed,
            )
            for normalised in (False, True)
        ]
        return [once, once_normal, *anew]

    def _curve(
        self, of: str, name: str, sight: Sight, order: tuple[int, ...], seed: int | None = None
    ) -> Curve:
        return Curve(
            of=of,
            order_name=name,
            sight=sight,
            order=order,
            shares=self._shares(of, name),
            seed=self.seed if seed is None else seed,
        )

    def _shares(self, of: str, name: str) -> tuple[float, ...]:
        """Of a curve; that by which deductions are told also has their shares."""
        shares = self.amounts.shares
        if (of, name) == ("mlm", "one-shot"):
            return tuple(sorted({*shares, *self.amounts.deductions}))
        return shares

    def _by_chance(self, seed: int) -> tuple[int, ...]:
        count = sum(self.shape.n_heads)
        return tuple(np.random.default_rng(seed).permutation(count).tolist())

    def _deductions(self, importances: Sequence[Row]) -> list[Deduction]:
        if self.text is None:
            return []
        order = order_of(scores_of(importances, "mlm", self.shape))
        work = self.question.out / "work"
        return [
            Deduction(
                source=self.question.model,
                lessons=self.question.lessons(task),
                order=order,
                share=share,
                seed=seed,
                out=str(work / task / f"pruned-{share:g}-{seed}"),
            )
            for task in self.question.tasks
            for share in self.amounts.deductions
            for seed in self.question.seeds
        ]

    def _coherences(self, importances: Sequence[Row]) -> list[Row]:
        """Each pair of losses of interest: over all heads, and within each layer."""
        names = list(self._sights())
        pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
        layers = [i for i, n in enumerate(self.shape.n_heads) for _ in range(n)]
        rows: list[Row] = []
        for first, second in pairs:
            one, two = (scores_of(importances, n, self.shape) for n in (first, second))
            place = {"first": first, "second": second}
            whole = np.concatenate(one), np.concatenate(two)
            within = coherence(*whole, 1, groups=layers).p_spearman
            rows.append(place | {"layer": -1, "p_within": within} | _agreement(*whole))
            rows += [
                place | {"layer": i} | _agreement(a, b)
                for i, (a, b) in enumerate(zip(one, two, strict=True))
                if len(a) > 2
            ]
        return rows


def _agreement(one: Array, two: Array) -> Row:
    found: Row = {"heads": len(one)}
    for share in _TOP:
        agreed = coherence(one, two, max(1, round(share * len(one))))
        found |= {"spearman": agreed.spearman, "p": agreed.p_spearman}
        found |= {f"top_{share:g}": agreed.overlap, f"p_top_{share:g}": agreed.p_overlap}
    return found
