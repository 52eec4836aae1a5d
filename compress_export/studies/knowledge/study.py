"""Liu, Meng, Lin, Wang and Zhou 2021 (arXiv 2106.05691) on one's own teacher."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from benchmarks.report.findings import Findings
from compress.binding import bind
from compress.checkpoint import load
from compress.distill.knowledge import Knowledge
from compress.distill.layer_map import layer_pairs
from compress_export.studies.fine_tune import FineTune
from compress_export.studies.grid import Grid, Row
from compress_export.studies.knowledge.cells import Kind, Paces, Pupilled, Taught, Teacher
from compress_export.studies.knowledge.findings import knowledge_findings
from compress_export.studies.question import Question

__all__ = ["KnowledgeGrid", "study_knowledge"]

_KINDS: tuple[Kind, ...] = ("cut", "fresh")
_WHOLE = Knowledge(depth=None, length=None, width=1.0)
_PACED = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class KnowledgeGrid:
    """Which shares to try, one dimension at a time, the others whole; and all three at once.

    Attributes:
        depths, lengths, widths: The study's own choice where left out.
        student: A checkpoint in place of the study's two students.
    """

    depths: tuple[int, ...] = ()
    lengths: tuple[int, ...] = ()
    widths: tuple[float, ...] = ()
    student: str | None = None

    def points(self, *, quick: bool) -> Iterator[tuple[str, Knowledge]]:
        """All hidden knowledge, logits alone, then each cut."""
        usual = ((1,), (5,), (0.1,)) if quick else ((1, 2), (2, 5, 10), (0.01, 0.1, 0.3))
        yield "all", _WHOLE
        yield "none", Knowledge(depth=0)
        for depth in self.depths or usual[0]:
            yield "depth", replace(_WHOLE, depth=depth)
        for length in self.lengths or usual[1]:
            yield "length", replace(_WHOLE, length=length)
        for width in self.widths or usual[2]:
            yield "width", replace(_WHOLE, width=width)
        yield "joint", Knowledge()


def study_knowledge(question: Question, wanted: KnowledgeGrid, grid: Grid) -> Findings:
    """Make the students, teach each at every share, and time both ways to teach."""
    points = list(wanted.points(quick=question.quick))
    lessons = {task: question.lessons(task) for task in question.tasks}
    work = question.out / "work"
    teachers = {t: question.teachers.get(t, str(work / t / "teacher")) for t in question.tasks}
    _check(wanted, points, question)
    missing = [task for task in question.tasks if task not in question.teachers]
    seed = question.seeds[0]
    grid(
        "fine-tuning",
        [
            FineTune(source=question.model, lessons=lessons[t], seed=seed, out=teachers[t])
            for t in missing
        ],
    )
    whole = grid("teachers", [Teacher(teacher=teachers[t], lessons=lessons[t]) for t in lessons])
    students = _students(question, wanted, teachers, grid)
    usable = [s for s in students if s["problem"] is None]
    cells = [
        Taught(
            teacher=teachers[student["task"]],
            student=student["folder"],
            kind=student["kind"],
            lessons=lessons[student["task"]],
            dimension=dimension,
            depth=knowledge.depth,
            length=knowledge.length,
            width=knowledge.width,
            seed=number,
            out=str(work / student["task"]),
        )
        for student in usable
        for dimension, knowledge in points
        for number in question.seeds
    ]
    rows = grid("teaching", cells)
    paces: list[Row] = []
    for student in usable[: len(_KINDS)]:  # alone on the machine, one after the other
        cell = Paces(
            teacher=teachers[student["task"]],
            student=student["folder"],
            kind=student["kind"],
            lessons=lessons[student["task"]],
            examples=_PACED,
            out=str(work / student["task"]),
        )
        paces += grid("timing", [cell])
    return knowledge_findings(question, whole, students, rows, paces)


def _students(
    question: Question, wanted: KnowledgeGrid, teachers: dict[str, str], grid: Grid
) -> list[Row]:
    if wanted.student is not None:
        return [
            {"task": t, "kind": "given", "folder": wanted.student, "problem": None, "macs": None}
            for t in question.tasks
        ]
    cells = [
        Pupilled(
            teacher=teachers[task],
            kind=kind,
            task=task,
            out=str(question.out / "work" / task / f"student-{kind}"),
        )
        for task in question.tasks
        for kind in _KINDS
    ]
    return grid("students", cells)


def _check(
    wanted: KnowledgeGrid, points: Sequence[tuple[str, Knowledge]], question: Question
) -> None:
    """Refuse knowledge that is not there, before any work."""
    n_teacher = bind(load(question.model)).shape.depth
    n_student = max(1, n_teacher // 3)
    if wanted.student is not None:
        n_student = bind(load(wanted.student)).shape.depth
    pairs = layer_pairs("uniform", n_student, n_teacher)
    for _, knowledge in points:
        knowledge.pairs(pairs)
