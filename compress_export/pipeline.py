"""From a recipe to a folder with a student, its ONNX and a report: the sentence of the design.

`recipe → teacher → scores → plan → student → bundle → measurement → report`, in stages that
resume. All work is done in `<out>.partial`, which is renamed when it is complete.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from benchmarks.latency import Latency
from benchmarks.report.build import ANCHOR, Found, Made, build_report
from benchmarks.report.card import Card, read_base, write_card
from benchmarks.report.write import write_report
from benchmarks.runtimes.onnxruntime import CPU, cuda_available
from compress.checkpoint.checkpoint import load
from compress.errors import BundleError
from compress.files.folder import check_target, replace_folder, write_manifest
from compress.files.places import locked, work_folder
from compress.model.batches import Progress
from compress.model.task_head import stock_class
from compress.plan.plan import Plan
from compress_export.context import Context
from compress_export.earlier import copy_earlier, identity_of, promise_facts
from compress_export.facts import model_facts
from compress_export.loading import local_folder, pooling_mode
from compress_export.measuring import Graph, head_importance, measure_accuracy, measure_latency
from compress_export.reach import reach
from compress_export.recipe import Recipe
from compress_export.recovery import recover
from compress_export.stages import STEPS, Stages, Step, content_key
from export.bundle import Exported, export_bundle, export_variant
from export.serving.target import served
from export.serving.write import SERVING, check_served, describe, make_source, write_serving

__all__ = ["Outcome", "Run"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """A finished run."""

    folder: Path
    report: dict[str, Any]


VARIES = ["README.md", "report.*", "stages/*", "training.tensorboard/*"]
"""What measures or dates a run, and so differs from one to the next; all else is the same bytes."""


class Run:
    """One recipe, run into one folder.

    Args:
        recipe: What to do.
        text: The recipe as the user wrote it, copied verbatim into the output.
        base: The folder that the recipe's relative data files are taken from.
        out: The output folder; new, empty, or of an earlier run.
        progress: Told how far each step is.

    Raises:
        BundleError: `out` holds something that is not ours.
    """

    def __init__(
        self, recipe: Recipe, text: str, base: Path, out: Path, progress: Progress
    ) -> None:
        out = out.resolve()
        check_target(out, "run")
        self.recipe, self.text, self.out = recipe, text, out
        self.context = Context(recipe, base)
        self.progress = progress
        self.work = work_folder(out)

    def __call__(self) -> Outcome:
        """Do all that is not yet done, and write the report."""
        self.check()
        with locked(self.out):
            for step in STEPS:
                self.do(step)
        report = json.loads((self.out / "report.json").read_text(encoding="utf-8"))
        return Outcome(folder=self.out, report=report)

    def do(self, step: Step) -> None:
        """Do one step, and what it needs of those before it; what is done is not done again."""
        with locked(self.out):
            self._do(step)

    def _do(self, step: Step) -> None:
        self._open_work()
        match step:
            case "prune":
                self._student()
            case "recover":
                self._recover()
            case "export":
                self._bundle()
                self._serving()
                if not self._is_measured():
                    self._teacher_graph()
            case "evaluate":
                self._accuracy()
                self._importance()
            case "bench":
                self._close_work(self._report(self._accuracy(), self._latency()))

    def accuracy(self) -> list[dict[str, Any]]:
        """The report's rows of the variant that gates look at, measured if they are not yet."""
        variant = self._student()["reached"]["variant"]
        return [row for row in self._accuracy()["accuracy"] if row["variant"] == variant]

    def check(self) -> None:
        """Find what is wrong with model, data, target or serving stacks before any work is done."""
        self.context.check()
        if orders := self.recipe.serving():
            context = self.context
            folder = local_folder(context.model_source)
            check_served(orders, describe(context.teacher, context.tokenizer, folder))

    @cached_property
    def stages(self) -> Stages:
        """The records of the stages in the working folder."""
        return Stages(self.work)

    @cached_property
    def student(self) -> PreTrainedModel:
        """The pruned model, loaded as a user would load it."""
        return load(self.work / "checkpoint")

    # The stages.

    def _student(self) -> dict[str, Any]:
        folder = "pruned" if self.recipe.recover.epochs else "checkpoint"

        def work() -> dict[str, Any]:
            reached = reach(self.context, self.progress)
            self.context.save(reached.model, reached.plan, self.work / folder)
            reached.plan.save(self.work / "plan.json")
            if reached.scores is not None:
                reached.scores.save(self.work / "scores.npz")
            sequence = self.recipe.promised().sequence
            return {
                "teacher": model_facts(self.context.teacher, sequence),
                "student": model_facts(reached.model, sequence),
                "reached": reached.facts(),
            }

        outputs = (folder, "plan.json", "scores.npz")
        return self.stages.run("prune", self.context.keys["prune"], outputs, work)

    def _recover(self) -> dict[str, Any] | None:
        if not self.recipe.recover.epochs:
            return None

        def work() -> dict[str, Any]:
            return recover(
                self.context,
                self.work / "pruned",
                self.work / "checkpoint",
                self.work / "training",
                self.progress,
            )

        key = self._key("recover", "prune")
        return self.stages.run("recover", key, ("checkpoint",), work)

    def _bundle(self) -> dict[str, Any]:
        def work() -> dict[str, Any]:
            exported = export_bundle(
                self.student,
                self.context.tokenizer,
                self.recipe.exported(),
                self.work / "onnx",
                self.progress,
                self.context.feeds_for(self.recipe.exported()),
            )
            return {"exported": [e.to_dict() for e in exported]}

        return self.stages.run("bundle", self._key("bundle", self._last), ("onnx",), work)

    @property
    def _last(self) -> str:
        """The stage that made the student."""
        return "recover" if self.recipe.recover.epochs else "prune"

    def _serving(self) -> None:
        def work() -> dict[str, Any]:
            source = make_source(
                self.student,
                self.context.tokenizer,
                self.work / "checkpoint",
                self.work / "onnx",
                self.out.name,
            )
            write_serving(source, self.recipe.serving(), self.work / SERVING, self.progress)
            return {}

        if self.recipe.export.serving:
            key = content_key({"own": self.recipe.export.serving, "name": self.out.name,
                               "upstream": self._key("bundle", self._last)})  # fmt: skip
            self.stages.run("serving", key, (SERVING,), work)

    def _teacher_graph(self) -> Path:
        """The dense teacher's graph, made when a measurement needs it and dropped at the end."""
        reference = self.recipe.reference()
        folder = self.work / "teacher" / reference.name

        def work() -> dict[str, Any]:
            self.progress("export teacher", 0, 1)
            exported: Exported = export_variant(
                self.context.teacher, self.context.tokenizer, reference, folder
            )
            self.progress("export teacher", 1, 1)
            return exported.to_dict()

        self.stages.run("teacher", self.context.keys["teacher"], ("teacher",), work)
        return folder

    def _accuracy(self) -> dict[str, Any]:
        def work() -> dict[str, Any]:
            predicted = self.work / "predictions.npz"
            reference = self._student()["reached"]["variant"]
            return measure_accuracy(
                self.context, self._runnable(), reference, predicted, self.progress
            )

        return self.stages.run(
            "accuracy", self._key("accuracy", "bundle"), ("predictions.npz",), work
        )

    def _latency(self) -> dict[str, Any]:
        def work() -> dict[str, Any]:
            reference = self._student()["reached"]["variant"]
            return measure_latency(self.context, self._runnable(), reference, self.progress)

        return self.stages.run("latency", self._key("latency", "bundle"), (), work)

    def _is_measured(self) -> bool:
        keys = {stage: self._key(stage, "bundle") for stage in ("accuracy", "latency")}
        return all(self.stages.is_done(stage, key) for stage, key in keys.items())

    def _importance(self) -> dict[str, Any]:
        def work() -> dict[str, Any]:
            return head_importance(self.context, self.progress)

        return self.stages.run("importance", self.context.keys["prune"], (), work)

    def _report(self, accuracy: dict[str, Any], latency: dict[str, Any]) -> dict[str, Any]:
        student = self._student()
        made = Made(
            models={k: v for k, v in student.items() if k != "reached"},
            plan=Plan.load(self.work / "plan.json"),
            promise=self._promise(student["reached"] | {"proof": latency.get("proof")}),
            training=self._recover(),
            exported=self._bundle()["exported"],
        )
        found = Found(
            environment=latency["environment"],
            identity=identity_of(self.context),
            importance=self._importance(),
            accuracy=accuracy["accuracy"],
            disagreements=accuracy["disagreements"],
            doubt=accuracy.get("doubt"),
            latency=tuple(Latency.from_samples(sample) for sample in latency["samples"]),
            floors=latency["floors"],
            memory=latency["memory"],
        )
        report = build_report(
            self.recipe.model_dump(mode="json"),
            made,
            found,
            reference=student["reached"]["variant"],
            promised=self.recipe.promised(),
            gates=self.recipe.promises(),
        )
        write_report(report, self.text, self.work)
        return report

    def _promise(self, reached: dict[str, Any]) -> dict[str, Any] | None:
        goal = self.recipe.goal()
        return None if goal is None else promise_facts(goal, self.context.mix, reached)

    def _key(self, stage: str, upstream: str) -> str:
        """What the stage depends on: the recipe's part, and what the stage before it wrote."""
        outputs = self.stages.outputs(upstream)
        return content_key({"own": self.context.keys[stage], "upstream": outputs})

    # Which graphs can be run here.

    def _runnable(self) -> list[Graph]:
        """Teacher first, then each variant of the student that a provider here can run."""
        provider = self.recipe.reference().provider
        graphs = [Graph(contender=ANCHOR, folder=self._teacher_graph(), provider=provider)]
        graphs += [
            Graph(
                contender="student",
                folder=self.work / "onnx" / variant.name,
                provider=variant.provider,
            )
            for variant in self.recipe.variants()
            if variant.provider == CPU or cuda_available()
        ]
        return graphs

    # The working folder.

    def _open_work(self) -> None:
        if self.work.exists() and not (self.work / "stages").is_dir():
            raise BundleError(
                f"{self.work} must be the working folder of an earlier run, found other files; "
                "move them away"
            )
        if not self.work.exists() and self.out.is_dir() and any(self.out.iterdir()):
            copy_earlier(self.out, self.work)
        self.stages.folder.mkdir(parents=True, exist_ok=True)
        (self.work / "recipe.yaml").write_text(self.text, encoding="utf-8")

    def _close_work(self, report: dict[str, Any]) -> None:
        for folder in ("teacher", "training"):
            shutil.rmtree(self.work / folder, ignore_errors=True)
        write_card(
            Card(
                name=self.out.name,
                architecture=stock_class(self.student).__name__,
                base=read_base(self.context.model_source, local_folder(self.context.model_source)),
                exported=self._bundle()["exported"],
                serving=served(self.recipe.serving()),
                report=report,
                pooling=pooling_mode(self.student, self.work / "checkpoint"),
            ),
            self.work,
        )
        self.stages.check_unchanged()
        write_manifest(
            self.work,
            "run",
            verdict=report["verdict"],
            exported=self._bundle()["exported"],
            varies=VARIES,
        )
        replace_folder(self.work, self.out)
