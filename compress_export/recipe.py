"""What the user wants, as a frozen record, validated once; opens no model and no data."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Discriminator, Field, Tag, ValidationError, model_validator

from benchmarks.tasks import FileTask, Task, TextTask, glue_task
from benchmarks.tasks.glue import GLUE
from compress.errors import RecipeError, SpecError
from compress.model.pooling import Pooling
from compress.plan.cost import CostModel
from compress.plan.workload import Mix, Workload
from compress.pruner.spec import MethodName, PruneSpec
from compress.saliency.scorers import GradientScore
from compress_export.goal import Goal
from compress_export.recipe_errors import nearest, sentence
from compress_export.recipe_parts import (
    BareTexts,
    Benchmark,
    Export,
    GateSpec,
    OwnData,
    Part,
    Prune,
    Recover,
    Target,
)
from compress_export.remote import resolve
from compress_export.strict_yaml import read_yaml
from export.precision.variants import VARIANTS, Variant, variant
from export.serving.target import ServingTarget, parse_targets, variants_of

__all__ = ["BareTexts", "OwnData", "Recipe", "load_recipe", "make_recipe", "parse_recipe"]


_FIELDS = {"drop": "drop_layers"}
"""Fields of `prune` that are called otherwise than the argument of `PruneSpec`."""


def _field(argument: re.Match[str]) -> str:
    return f"prune.{_FIELDS.get(argument[1], argument[1])}"


def _kind_of_task(value: Any) -> str:
    if isinstance(value, BareTexts) or (isinstance(value, dict) and "texts" in value):
        return "BareTexts"
    return "OwnData" if isinstance(value, dict | OwnData) else "str"


class Recipe(Part):
    """A run, from a model to a report."""

    model: str = Field(
        description="A checkpoint folder, or a Hub id: org/name, or org/name@revision."
    )
    task: Annotated[
        Annotated[str, Tag("str")]
        | Annotated[OwnData, Tag("OwnData")]
        | Annotated[BareTexts, Tag("BareTexts")],
        Discriminator(_kind_of_task),
    ] = Field(description="A GLUE task's name, files of one's own, or texts without labels.")
    data: Path | None = Field(
        None, description="Folder of GLUE's TSV folders; left out, the Hub is used."
    )
    target: Target = Field(default_factory=lambda: Target(), description="Where and how small.")
    prune: Prune = Field(default_factory=lambda: Prune(), description="How to choose what goes.")
    recover: Recover = Field(default_factory=lambda: Recover(), description="Training after it.")
    export: Export = Field(default_factory=lambda: Export(), description="What to write.")
    benchmark: Benchmark = Field(
        default_factory=lambda: Benchmark(), description="What to measure."
    )
    gate: GateSpec = Field(default_factory=lambda: GateSpec(), description="Promises.")
    seed: Annotated[int, Field(ge=0)] = Field(0, description="Of sampling.")

    @model_validator(mode="after")
    def _known_task(self) -> Recipe:
        if isinstance(self.task, str) and glue_task(self.task) is None:
            raise ValueError(
                f"task must be among {', '.join(t.name for t in GLUE)}, or files of your own, "
                f"found {self.task!r}{nearest(self.task, [t.name for t in GLUE])}"
            )
        return self

    @model_validator(mode="after")
    def _gates_are_measured(self) -> Recipe:
        names = [v.name for v in self.variants()]
        looked_at = [self.reference()] if self.gate.model_dump(exclude_defaults=True) else []
        looked_at += self.candidates() if self.goal() else []
        for wanted in looked_at:
            if wanted.name not in names:
                raise ValueError(
                    f"targets and gates look at the variant {wanted.name!r}, found "
                    f"export.variants {names}; add it, or remove the gate"
                )
        return self

    @model_validator(mode="after")
    def _gates_have_one_workload(self) -> Recipe:
        gated = [name for name in ("speedup", "latency_ms") if name in self.gate.model_fields_set]
        if self.target.mix is not None and gated:
            raise ValueError(
                f"gate.{gated[0]} looks at one workload, found target.mix; leave it out, since the "
                "target is a gate itself"
            )
        return self

    @model_validator(mode="after")
    def _prune_fits(self) -> Recipe:
        try:
            self.prune_spec()
        except SpecError as error:
            own = re.sub(
                r"PruneSpec\.(\w+)", lambda m: f"prune.{_FIELDS.get(m[1], m[1])}", str(error)
            )
            raise ValueError(own) from error
        return self

    def resolve_task(self, base: Path) -> Task:
        """The task, with the paths of own files taken from `base`, the recipe's folder."""
        if isinstance(self.task, BareTexts):
            return TextTask(texts=resolve(base, self.task.texts))
        if isinstance(self.task, OwnData):
            return FileTask(
                train=resolve(base, self.task.train),
                validation=resolve(base, self.task.validation),
                text=tuple(self.task.text),
                label=self.task.label,
                regression=self.task.regression,
                encoding=self.task.encoding,
                delimiter=self.task.delimiter,
            )
        task = glue_task(self.task)
        assert task is not None  # validated
        return task

    def goal(self) -> Goal | None:
        """The promised latency, where the target is one."""
        target = self.target
        if target.speedup is None and target.latency_ms is None:
            return None
        return Goal(speedup=target.speedup, latency_ms=target.latency_ms)

    def share(self) -> float:
        """What the student may cost as a share of the teacher's encoder; half by default."""
        return self.target.parameters or self.target.macs or 0.5

    def cost(self) -> CostModel:
        """What the share is counted in."""
        unit: Literal["macs", "parameters"] = "parameters" if self.target.parameters else "macs"
        return CostModel(unit=unit, sequence=self.promised().sequence)

    def learnt(self) -> dict[str, Any]:
        """What of `recover` decides what comes out, and not where and how it is computed."""
        return self.recover.model_dump(exclude={"gradient_checkpointing", "teacher_device"})

    def prune_spec(self, pooling: Pooling | None = None) -> PruneSpec:
        """The part of the recipe that a `compress.Pruner` takes."""
        prune = self.prune
        return PruneSpec(
            score=_score(prune, self.seed),
            units=None if prune.units is None else tuple(prune.units),
            layout=prune.layout,
            round_to=prune.round_to,
            drop=prune.drop_layers,
            strategy=prune.strategy,
            steps=prune.steps,
            repair=prune.repair,
            trials=prune.trials,
            damping=prune.damping,
            pooling=pooling,
            seed=self.seed,
        )

    def mix(self) -> Mix | None:
        """The workloads of the target; `None` where they are to be read from the data."""
        points = self.target.mix
        if points == "data":
            return None
        if points is None:
            return Mix.of([(self.promised(), 1.0)])
        return Mix.of([(Workload(batch=p.batch, sequence=p.sequence), p.weight) for p in points])

    def promised(self) -> Workload:
        """The workload that single figures are about: the target's, or the heaviest of its mix."""
        target = self.target
        if isinstance(target.mix, list):
            point = max(target.mix, key=lambda p: p.weight)
            return Workload(batch=point.batch, sequence=point.sequence)
        return Workload(batch=target.batch, sequence=target.sequence)

    def promises(self) -> dict[str, Any]:
        """The gates; a target of one workload that is measured is one, and the stricter holds."""
        gates, target = self.gate.model_dump(), self.target
        limits = gates["latency_ms"]
        if target.mix is None:
            speedups = [s for s in (gates["speedup"], target.speedup) if s is not None]
            medians = [ms for ms in (limits["p50"], target.latency_ms) if ms is not None]
            gates["speedup"] = max(speedups, default=None)
            limits["p50"] = min(medians, default=None)
        return gates

    def candidates(self) -> tuple[Variant, ...]:
        """The variants that compete for a measured target."""
        names = [f"{self.target.device}-{precision}" for precision in self.target.precision]
        return tuple(v for v in VARIANTS if v.name in names)

    def variants(self) -> tuple[Variant, ...]:
        """What to export and measure."""
        wanted = self.export.variants or [
            v.name
            for v in VARIANTS
            if v.fusions in (None, self.target.device)
            and (not v.on_request or v in self.candidates())
        ]
        return tuple(v for v in VARIANTS if v.name in wanted)

    def serving(self) -> list[ServingTarget]:
        """Folders to write for serving stacks."""
        return parse_targets(self.export.serving)

    def exported(self) -> tuple[Variant, ...]:
        """What to export: beside what is measured, what serving stacks take."""
        wanted = {v.name for v in self.variants()} | set(variants_of(self.serving()))
        return tuple(v for v in VARIANTS if v.name in wanted)

    def reference(self) -> Variant:
        """The variant in which teacher and student are compared: float32, fused for the device."""
        return variant(f"{self.target.device}-fp32")


def load_recipe(path: Path) -> Recipe:
    """Read and validate a recipe file.

    Raises:
        RecipeError: The file cannot be read, or a field is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = "no text" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise RecipeError(
            f"recipe must be a readable YAML file, found {path} ({why}); name another"
        ) from error
    return parse_recipe(text)


def parse_recipe(text: str) -> Recipe:
    """Validate a recipe's YAML text.

    Raises:
        RecipeError: Names the field, the value and the remedy.
    """
    try:
        data = read_yaml(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"recipe must be YAML, found: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise RecipeError(f"recipe must be a mapping with model and task, found {data!r}")
    return make_recipe(data)


def make_recipe(data: dict[str, Any]) -> Recipe:
    """Validate a recipe given as plain data; see `parse_recipe`."""
    if isinstance(data.get("task"), dict) and isinstance(data["task"].get("text"), str):
        data = data | {"task": data["task"] | {"text": [data["task"]["text"]]}}
    target = data.get("target")
    if isinstance(target, dict) and isinstance(target.get("precision"), str):
        data = data | {"target": target | {"precision": [target["precision"]]}}
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        raise RecipeError(sentence(error, Recipe.model_fields)) from error


def _score(prune: Prune, seed: int) -> MethodName | GradientScore:
    options = {k: getattr(prune, k) for k in ("labels", "reduction", "power", "layer_norm")}
    given = {name: value for name, value in options.items() if value is not None}
    if not given:
        return prune.method
    fisher = GradientScore(seed=seed)
    michel = GradientScore(name="michel", reduction="token", power=1, labels="given", seed=seed)
    base = fisher if prune.method == "fisher" else replace(michel, layer_norm=True)
    return replace(base, **given)
