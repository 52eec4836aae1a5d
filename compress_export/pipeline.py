"""From a recipe to a folder with a student, its ONNX and a report: the sentence of the design.

`recipe → teacher → scores → plan → student → bundle → measurement → report`, in stages that
resume. All work is done in `<out>.partial`, which is renamed when it is complete.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from benchmarks.accuracy import compare, predict, save_predictions
from benchmarks.environment import environment
from benchmarks.latency import Contender, Latency, Sampling, Workload, measure, workload_inputs
from benchmarks.memory import measure_memory
from benchmarks.report.build import build_report
from benchmarks.report.write import write_report
from benchmarks.runtimes.onnxruntime import CPU, OrtModel, cuda_available
from benchmarks.tasks import Dataset, Task, encode_labels
from compress.batches import Progress
from compress.checkpoint import load, save
from compress.cost import encoder_macs, encoder_parameters
from compress.errors import BundleError, DataError
from compress.folder import check_target, read_manifest, replace_folder, write_manifest
from compress.layout import bind
from compress.plan import Plan
from compress.prune import check_budget, prune
from compress_export.loading import calibration_batches, label2id, load_tokenizer
from compress_export.recipe import Recipe
from compress_export.stages import Stages, content_key, file_hashes
from compress_export.verify import verify_reload
from export.bundle import Exported, export_bundle, export_variant

__all__ = ["Outcome", "Run", "model_facts"]

VALIDATION_SPLIT = "validation"


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """A finished run."""

    folder: Path
    report: dict[str, Any]


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
        check_target(out)
        self.recipe, self.text, self.base, self.out = recipe, text, base, out
        self.progress = progress
        self.task: Task = recipe.resolve_task(base)
        self.work = out.with_name(f"{out.name}.partial")

    def __call__(self) -> Outcome:
        """Do all that is not yet done, and write the report."""
        self.check()
        self._open_work()
        self._student()
        self._bundle()
        accuracy, latency = self._accuracy(), self._latency()
        report = self._report(accuracy, latency)
        self._close_work(report)
        return Outcome(folder=self.out, report=report)

    def check(self) -> None:
        """Find what is wrong with model, data and target before any work is done."""
        check_budget(bind(self.teacher), self.recipe.prune_spec())
        for split in ("train", VALIDATION_SPLIT):
            encode_labels(self._dataset(split), label2id(self.teacher))
        if self.recipe.target.device == "cuda" and not cuda_available():
            raise DataError(
                "target.device is 'cuda', found no CUDA device that ONNX Runtime can use; "
                "run `compress-export doctor`, or set target.device to cpu"
            )

    # What the stages share.

    @cached_property
    def stages(self) -> Stages:
        """The records of the stages in the working folder."""
        return Stages(self.work)

    @cached_property
    def model_source(self) -> str:
        """The teacher's folder, or its Hub id."""
        local = self.base / self.recipe.model
        return str(local) if local.exists() else self.recipe.model

    @cached_property
    def teacher(self) -> PreTrainedModel:
        """The user's model."""
        return load(self.model_source)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The teacher's."""
        return load_tokenizer(self.model_source)

    @cached_property
    def student(self) -> PreTrainedModel:
        """The pruned model, loaded as a user would load it."""
        return load(self.work / "checkpoint")

    def _dataset(self, split: str) -> Dataset:
        data = self.recipe.data
        where = None if data is None else data if data.is_absolute() else self.base / data
        return self.task.load(split, where)  # type: ignore[arg-type]

    @cached_property
    def _keys(self) -> dict[str, str]:
        """What each stage reads, as one hash a stage."""
        recipe = self.recipe
        folder = Path(self.model_source)
        model = file_hashes([folder], folder) if folder.is_dir() else self.model_source
        train, validation = self._dataset("train"), self._dataset(VALIDATION_SPLIT)
        prune_key = content_key(
            {
                "model": model,
                "data": content_key({"texts": train.texts, "labels": train.labels}),
                "spec": recipe.prune_spec(),
                "examples": recipe.prune.calibration_examples,
                "max_length": recipe.benchmark.max_length,
            }
        )
        names = [v.name for v in recipe.variants()]
        bundle = content_key({"student": prune_key, "variants": names})
        teacher = content_key({"model": model, "variant": recipe.reference().name})
        graphs = {"bundle": bundle, "teacher": teacher}
        data = content_key({"texts": validation.texts, "labels": validation.labels})
        measured = {"benchmark": recipe.benchmark, "target": recipe.target}
        return {
            "prune": prune_key,
            "bundle": bundle,
            "teacher": teacher,
            "accuracy": content_key(graphs | {"data": data, "cut": recipe.benchmark.max_length}),
            "latency": content_key(graphs | measured),
        }

    # The stages.

    def _student(self) -> dict[str, Any]:
        def work() -> dict[str, Any]:
            recipe = self.recipe
            sample = self._dataset("train").sample(recipe.prune.calibration_examples, recipe.seed)
            labels = encode_labels(sample, label2id(self.teacher))
            batches = calibration_batches(
                sample, labels, self.tokenizer, recipe.benchmark.max_length, recipe.seed
            )
            pruned = prune(self.teacher, batches, recipe.prune_spec(), self.progress)
            save(pruned.model, pruned.plan, self.work / "checkpoint", self.tokenizer)
            verify_reload(self.work / "checkpoint", pruned.model, batches[0])
            pruned.plan.save(self.work / "plan.json")
            return {
                "teacher": model_facts(self.teacher, recipe.target.sequence),
                "student": model_facts(pruned.model, recipe.target.sequence),
            }

        outputs = ("checkpoint", "plan.json")
        return self.stages.run("prune", self._keys["prune"], outputs, work)

    def _bundle(self) -> dict[str, Any]:
        def work() -> dict[str, Any]:
            exported = export_bundle(
                self.student,
                self.tokenizer,
                self.recipe.variants(),
                self.work / "onnx",
                self.progress,
            )
            return {"exported": [e.to_dict() for e in exported]}

        return self.stages.run("bundle", self._keys["bundle"], ("onnx",), work)

    def _teacher_graph(self) -> Path:
        """The dense teacher's graph, made when a measurement needs it and dropped at the end."""
        reference = self.recipe.reference()
        folder = self.work / "teacher" / reference.name

        def work() -> dict[str, Any]:
            self.progress("export teacher", 0, 1)
            exported: Exported = export_variant(self.teacher, self.tokenizer, reference, folder)
            self.progress("export teacher", 1, 1)
            return exported.to_dict()

        self.stages.run("teacher", self._keys["teacher"], ("teacher",), work)
        return folder

    def _accuracy(self) -> dict[str, Any]:
        def work() -> dict[str, Any]:
            dataset = self._dataset(VALIDATION_SPLIT)
            labels = encode_labels(dataset, label2id(self.teacher))
            logits = {
                name: predict(
                    OrtModel(folder, provider),
                    self.tokenizer,
                    dataset,
                    max_length=self.recipe.benchmark.max_length,
                    label=f"accuracy ({name})",
                    progress=self.progress,
                )
                for name, folder, provider in self._runnable()
            }
            save_predictions(self.work / "predictions.npz", labels, logits)
            teacher = logits.pop("teacher")
            rows = [
                row.to_dict()
                for name, student in logits.items()
                for row in compare(
                    dataset, labels, teacher, student, metrics=self.task.metrics, variant=name
                )
            ]
            return {"accuracy": rows}

        return self.stages.run("accuracy", self._keys["accuracy"], ("predictions.npz",), work)

    def _latency(self) -> dict[str, Any]:
        def work() -> dict[str, Any]:
            settings, target = self.recipe.benchmark, self.recipe.target
            promised = Workload(batch=target.batch, sequence=target.sequence)
            grid = {
                Workload(batch=b, sequence=s) for b in settings.batches for s in settings.sequences
            }
            workloads = sorted(grid | {promised})
            runnable = self._runnable()
            contenders = [self._contender(*entry) for entry in runnable]
            vocabulary = int(self.teacher.config.vocab_size)
            measured = measure(
                contenders,
                workloads,
                {w: workload_inputs(w, vocabulary) for w in workloads},
                Sampling(rounds=settings.rounds, seconds=settings.seconds),
                self.progress,
            )
            memory = []
            self.progress("memory", 0, len(runnable))
            for done, (name, folder, provider) in enumerate(runnable, start=1):
                label = "teacher" if name == "teacher" else "student"
                memory.append(
                    measure_memory(label, folder.name, folder, provider, promised, vocabulary)
                )
                self.progress("memory", done, len(runnable))
            return {
                "samples": [_sampled(latency) for latency in measured],
                "memory": [m.to_dict() for m in memory],
                "environment": environment(),
            }

        return self.stages.run("latency", self._keys["latency"], (), work)

    def _report(self, accuracy: dict[str, Any], latency: dict[str, Any]) -> dict[str, Any]:
        report = build_report(
            recipe=self.recipe.model_dump(mode="json"),
            environment=latency["environment"],
            models=self._student(),
            plan=Plan.load(self.work / "plan.json"),
            exported=self._bundle()["exported"],
            accuracy=accuracy["accuracy"],
            latency=tuple(_from_sampled(sample) for sample in latency["samples"]),
            memory=latency["memory"],
            reference=self.recipe.reference().name,
            promised=Workload(batch=self.recipe.target.batch, sequence=self.recipe.target.sequence),
            gates=self.recipe.gate.model_dump(),
        )
        write_report(report, self.text, self.work)
        return report

    # Which graphs can be run here.

    def _runnable(self) -> list[tuple[str, Path, str]]:
        """Teacher first, then each variant of the student that a provider here can run."""
        reference = self.recipe.reference()
        entries = [("teacher", self._teacher_graph(), reference.provider)]
        entries += [
            (variant.name, self.work / "onnx" / variant.name, variant.provider)
            for variant in self.recipe.variants()
            if variant.provider == CPU or cuda_available()
        ]
        return entries

    def _contender(self, name: str, folder: Path, provider: str) -> Contender:
        model = OrtModel(folder, provider)
        label = "teacher" if name == "teacher" else "student"
        return Contender(name=label, variant=folder.name, provider=provider, run=model)

    # The working folder.

    def _open_work(self) -> None:
        if self.work.exists() and not (self.work / "stages").is_dir():
            raise BundleError(
                f"{self.work} must be the working folder of an earlier run, found other files; "
                "move them away"
            )
        if not self.work.exists() and self.out.is_dir() and any(self.out.iterdir()):
            shutil.copytree(self.out, self.work)
        self.stages.folder.mkdir(parents=True, exist_ok=True)
        (self.work / "recipe.yaml").write_text(self.text, encoding="utf-8")

    def _close_work(self, report: dict[str, Any]) -> None:
        shutil.rmtree(self.work / "teacher", ignore_errors=True)
        write_manifest(
            self.work, "run", verdict=report["verdict"], exported=self._bundle()["exported"]
        )
        read_manifest(self.work)
        replace_folder(self.work, self.out)


def model_facts(model: PreTrainedModel, sequence: int) -> dict[str, int]:
    """What a model weighs: parameters, encoder parameters, encoder MACs, bytes in float32."""
    shape = bind(model).shape
    parameters = sum(p.numel() for p in model.parameters())
    return {
        "parameters": parameters,
        "encoder_parameters": encoder_parameters(shape),
        "encoder_macs": encoder_macs(shape, sequence),
        "size_bytes": sum(p.numel() * p.element_size() for p in model.parameters()),
    }


def _sampled(latency: Latency) -> dict[str, Any]:
    return {
        "contender": latency.contender,
        "variant": latency.variant,
        "provider": latency.provider,
        "batch": latency.workload.batch,
        "sequence": latency.workload.sequence,
        "seconds": [float(f"{s:.7g}") for s in latency.seconds],
    }


def _from_sampled(data: dict[str, Any]) -> Latency:
    return Latency(
        contender=data["contender"],
        variant=data["variant"],
        provider=data["provider"],
        workload=Workload(batch=data["batch"], sequence=data["sequence"]),
        seconds=tuple(data["seconds"]),
    )
