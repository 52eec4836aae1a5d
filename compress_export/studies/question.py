"""What every study is asked: which model, which tasks, how much of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from compress.checkpoint.checkpoint import load
from compress.errors import RecipeError
from compress.model.binding import bind
from compress.model.task_head import head_of
from compress_export.loading import check_length, label2id
from compress_export.studies.luck import Look, noise_of
from compress_export.studies.schools import Lessons, TaskData

__all__ = ["Question", "tasks_of", "teachers_of"]

_QUICK_TRAIN, _QUICK_JUDGE = 512, 256
_POINT, _WEAK = 0.01, 0.25
_TAKEN = ("mlm", "chance")


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """A model, tasks, and how much is done about them.

    Attributes:
        model: Checkpoint that has not been fine-tuned.
        tasks: What they are called.
        given: By that name, a GLUE task's own or a YAML file.
        data: Folder of GLUE's TSV folders; none for the Hub.
        out: Folder of the study.
        seeds: One training each.
        quick: A part of everything.
        max_length: Tokens at which texts are cut.
        epochs: Of a fine-tuning; the study's own choice if left out.
        train: Training examples, at most; all if left out.
        teachers: Checkpoints that are fine-tuned already, by task.
    """

    model: str
    tasks: tuple[str, ...]
    given: Mapping[str, str]
    data: Path | None
    out: Path
    seeds: tuple[int, ...] = (0,)
    quick: bool = False
    max_length: int = 128
    epochs: int | None = None
    train: int | None = None
    teachers: Mapping[str, str] = field(default_factory=dict)

    def lessons(
        self, task: str, quick_train: int = _QUICK_TRAIN, quick_judge: int = _QUICK_JUDGE
    ) -> Lessons:
        """One task, as much of it as this question is about.

        Args:
            task: Its name.
            quick_train: Training examples, at most, where `quick` is asked for.
            quick_judge: Validation examples, at most, where it is.
        """
        return Lessons(
            task=task,
            given=self.given[task],
            data=None if self.data is None else str(self.data),
            max_length=self.max_length,
            train=self.train or (quick_train if self.quick else None),
            judge=quick_judge if self.quick else None,
            epochs=self.epochs or (2 if self.quick else 3),
            learning_rate=1e-4 if self.quick else 5e-5,
            batch_size=16 if self.quick else 32,
        )

    def check(self) -> None:
        """Find what is wrong before any work is done.

        Raises:
            ToolchainError: Of the kind that fits.
        """
        check_length(load(self.model), "--max-length", self.max_length)
        for task in self.tasks:
            TaskData(self.lessons(task)).check()
        for task, teacher in self.teachers.items():
            self._check_teacher(task, teacher)

    def _check_teacher(self, task: str, teacher: str) -> None:
        model = load(teacher)
        if head_of(model).suffix != "ForSequenceClassification":
            raise RecipeError(
                f"--teacher {task} must be a sequence classifier or regressor, found "
                f"{type(model).__name__} in {teacher!r}; fine-tune it first (`finetune`), or leave "
                "it out and one is trained"
            )
        if bind(model).shape != bind(load(self.model)).shape:
            raise RecipeError(
                f"--teacher {task} must be --model fine-tuned, found an encoder of another shape "
                f"in {teacher!r}; name another, or leave it out and one is trained"
            )
        rows, wanted = (m.get_input_embeddings().num_embeddings for m in (model, load(self.model)))
        if rows != wanted:
            raise RecipeError(
                f"--teacher {task} must have the vocabulary of --model, {wanted} tokens, found "
                f"{rows} in {teacher!r}; name another, or leave it out and one is trained"
            )
        data = TaskData(self.lessons(task)).train
        n_labels = 1 if data.regression else len(data.label_names or set(data.labels))
        if len(label2id(model)) != n_labels:
            raise RecipeError(
                f"--teacher {task} must have {n_labels} label(s), found {len(label2id(model))} in "
                f"{teacher!r}; name another"
            )

    def metric(self, task: str) -> str:
        """The name of a task's first metric."""
        return TaskData(self.lessons(task)).metric

    def telling(self, whole: Mapping[str, float]) -> list[str]:
        """Tasks whose whole model has learnt enough, so that it has what to lose.

        Its metric is above the floor, and chance alone moves what is kept of it by less than a
        quarter.

        Args:
            whole: Its metric, by task.
        """
        return [
            task
            for task, found in whole.items()
            if found > TaskData(self.lessons(task)).floor
            and self.noise({task: found}, kept=True) < _WEAK
        ]

    def left_out(self, whole: Mapping[str, float]) -> list[str]:
        """One line for the limits where tasks tell nothing, see `telling`."""
        told = self.telling(whole)
        left = [f"{t} ({found:.3f})" for t, found in whole.items() if t not in told]
        if not left:
            return []
        return [
            "Hardly better than one answer for all examples, and left out of the verdicts: the "
            f"whole model of {', '.join(left)}."
        ]

    def noise(self, whole: Mapping[str, float], *, kept: bool = False) -> float:
        """Differences below it may be chance, see `luck.noise_of`; a hundredth at least.

        Args:
            whole: The metric of the whole model, by the tasks that are looked at.
            kept: The differences are of shares of it.
        """
        looks = [
            Look(
                metric=self.metric(task),
                value=value,
                examples=len(TaskData(self.lessons(task)).validation),
            )
            for task, value in whole.items()
        ]
        return max(noise_of(looks, kept=kept), _POINT)

    def facts(self, lessons: Lessons | None = None) -> dict[str, str]:
        """For the report.

        Args:
            lessons: Of a task as the study took it; by default as `lessons` gives it.
        """
        lessons = lessons or self.lessons(self.tasks[0])
        train = f"{lessons.train} at most" if lessons.train else "all"
        judge = f"{lessons.judge} at most" if lessons.judge else "all"
        tuning = f"{lessons.epochs} epochs, batch {lessons.batch_size}, learning rate "
        return {
            "model": self.model,
            "tasks": ", ".join(f"{task} ({self.metric(task)})" for task in self.tasks),
            "fine-tuned already": ", ".join(map(": ".join, self.teachers.items())) or "none",
            "data": f"training examples: {train}; validation examples: {judge}; texts cut at "
            f"{self.max_length} tokens",
            "fine-tuning": f"{tuning}{lessons.learning_rate:g}",
            "seeds": ", ".join(map(str, self.seeds)),
        }

    def limits(self) -> list[str]:
        """What the amounts that were asked for do not say."""
        found = []
        if len(self.seeds) == 1:
            found.append("One seed: how trainings differ by chance is not in the figures.")
        if self.quick:
            found.append("Made with --quick: parts of data and grid, short trainings.")
        return found


def tasks_of(given: Sequence[str]) -> dict[str, str]:
    """Tasks by name: GLUE's own, or the name of a YAML file.

    Raises:
        RecipeError: Two have one name.
    """
    found: dict[str, str] = {}
    for entry in given:
        name = Path(entry).stem if entry.endswith((".yaml", ".yml")) else entry
        if name in _TAKEN:
            raise RecipeError(
                f"--task must not be called {name!r}, which is the study's own word; rename the "
                "file"
            )
        if name in found:
            raise RecipeError(
                f"--task must name each task once, found {name!r} twice; rename a file, or leave "
                "one out"
            )
        found[name] = entry
    return found


def teachers_of(given: Sequence[str] | None, tasks: Collection[str]) -> dict[str, str]:
    """Checkpoints by task from TASK=CHECKPOINT, of these tasks.

    Raises:
        RecipeError: An entry is something else.
    """
    found = {}
    for entry in given or []:
        task, separator, path = entry.partition("=")
        if not separator or not path:
            raise RecipeError(
                f"--teacher must be TASK=CHECKPOINT, found {entry!r}; for example "
                "--teacher sst2=./my-sst2"
            )
        if task not in tasks:
            raise RecipeError(
                f"--teacher must be of one of the tasks {', '.join(tasks)}, found {task!r}; "
                "correct it"
            )
        found[task] = path
    return found
