"""What the user wants, as a frozen record: validated once, never rewritten.

Knows names and ranges; opens no model and no data.
"""

from __future__ import annotations

import difflib
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)

from benchmarks.tasks import FileTask, Task, TextTask, glue_task
from benchmarks.tasks.glue import GLUE
from compress.allocate import Unit
from compress.cost import CostModel
from compress.depth import DepthStrategy
from compress.errors import RecipeError
from compress.importance import GradientScore, ScoreName
from compress.prune import PlanLayout, PruneSpec
from export.precision import VARIANTS, Variant, VariantName, variant

__all__ = ["BareTexts", "OwnData", "Recipe", "load_recipe", "make_recipe", "parse_recipe"]

_TAGS = ("OwnData", "BareTexts", "str")

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(gt=0, le=1)]


class _Part(BaseModel):
    """A part of a recipe: frozen, and every key known."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class OwnData(_Part):
    """A task of the user's own: CSV, TSV, JSONL or Parquet files, by column names."""

    train: Path = Field(description="File to calibrate on.")
    validation: Path = Field(description="File to measure accuracy on.")
    text: Annotated[list[str], Field(min_length=1, max_length=2)] = Field(
        description="Column of the sentence, or the two columns of a pair."
    )
    label: str = Field(description="Label column.")
    regression: bool = Field(False, description="Labels are numbers to predict, not classes.")


class BareTexts(_Part):
    """Texts without labels: enough to prune a model of any head, not to measure it."""

    texts: Path = Field(description="Text file, one example a line; a tab parts a pair.")


def _kind_of_task(value: Any) -> str:
    if isinstance(value, BareTexts) or (isinstance(value, dict) and "texts" in value):
        return "BareTexts"
    return "OwnData" if isinstance(value, dict | OwnData) else "str"


class Target(_Part):
    """Where the student is to run, and how small it must be. Give `macs` or `parameters`."""

    device: Literal["cpu", "cuda"] = Field("cpu", description="Device that latency is promised on.")
    batch: Positive = Field(8, description="Sequences at a time, for the gates on latency.")
    sequence: Annotated[int, Field(gt=1)] = Field(
        64, description="Tokens per sequence, for MACs and for the gates on latency."
    )
    macs: Share | None = Field(None, description="Share of the encoder's MACs to keep.")
    parameters: Share | None = Field(None, description="Share of the encoder's parameters to keep.")

    @model_validator(mode="after")
    def _one(self) -> Target:
        if self.macs is not None and self.parameters is not None:
            raise ValueError("give macs or parameters, not both")
        return self


class Prune(_Part):
    """How to choose what goes."""

    score: ScoreName = Field("fisher", description="How heads and neurons are scored.")
    labels: Literal["sampled", "given"] | None = Field(
        None, description="Labels of a gradient score: sampled from the model, or the data's."
    )
    reduction: Literal["token", "sequence", "batch"] | None = Field(
        None, description="Over what a gate's gradient is summed before its size is taken."
    )
    power: Literal[1, 2] | None = Field(None, description="1 for |g|, 2 for g².")
    layer_norm: bool | None = Field(None, description="Divide a layer's scores by their l2 norm.")
    steps: Positive = Field(6, description="Times that units are scored again on the way down.")
    repair: bool = Field(True, description="Refit output projections by least squares.")
    damping: Annotated[float, Field(gt=0)] = Field(
        0.001, description="Of the repair; larger stays nearer to the old weights."
    )
    units: list[Unit] = Field(["heads", "neurons"], description="What may go.")
    layout: PlanLayout = Field(
        "free", description="Sizes that differ by layer, or uniform ones; see the reload table."
    )
    multiple: Positive = Field(16, description="FFN widths are multiples of it.")
    drop_layers: Annotated[int, Field(ge=0)] = Field(0, description="Layers to drop first.")
    strategy: DepthStrategy = Field("top", description="Which layers.")
    calibration_examples: Positive = Field(2048, description="Training examples to look at.")

    @model_validator(mode="after")
    def _gradient_only(self) -> Prune:
        options = {k: getattr(self, k) for k in ("labels", "reduction", "power", "layer_norm")}
        given = [name for name, value in options.items() if value is not None]
        if given and self.score not in ("fisher", "michel"):
            raise ValueError(f"{given[0]} goes with score fisher or michel, found {self.score}")
        return self


class Export(_Part):
    """What to write."""

    variants: list[VariantName] | None = Field(
        None, description="Variants; by default portable and those of the target's device."
    )


class Benchmark(_Part):
    """What to measure."""

    batches: Annotated[list[Positive], Field(min_length=1)] = Field(
        [1, 8, 32], description="Sequences at a time."
    )
    sequences: Annotated[list[Annotated[int, Field(gt=1)]], Field(min_length=1)] = Field(
        [32, 128], description="Tokens per sequence."
    )
    rounds: Positive = Field(60, description="Samples per contender and workload, at most.")
    seconds: Annotated[float, Field(gt=0)] = Field(
        8.0, description="Seconds per workload, after which 15 samples are enough."
    )
    max_length: Annotated[int, Field(gt=1)] = Field(
        128, description="Tokens at which texts are cut, for accuracy and calibration."
    )


class LatencyGate(_Part):
    """Largest latencies that are accepted at the target's workload, in milliseconds."""

    p50: Annotated[float, Field(gt=0)] | None = Field(None, description="Median.")
    p90: Annotated[float, Field(gt=0)] | None = Field(None, description="90th percentile.")
    p95: Annotated[float, Field(gt=0)] | None = Field(None, description="95th percentile.")
    p99: Annotated[float, Field(gt=0)] | None = Field(None, description="99th percentile.")


class GateSpec(_Part):
    """Promises: one that is broken gives exit status 1, one that is undecided 3."""

    retention: Share | None = Field(
        None, description="Least share of the teacher's first metric to keep."
    )
    speedup: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Least ratio of teacher's to student's median latency."
    )
    latency_ms: LatencyGate = Field(default_factory=lambda: LatencyGate(), description="Limits.")


class Recipe(_Part):
    """A run, from a model to a report."""

    model: str = Field(description="A checkpoint folder or a Hub id.")
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
                f"found {self.task!r}{_nearest(self.task, [t.name for t in GLUE])}"
            )
        return self

    @model_validator(mode="after")
    def _gates_are_measured(self) -> Recipe:
        promised = self.gate.model_dump(exclude_defaults=True)
        names = [v.name for v in self.variants()]
        if promised and self.reference().name not in names:
            raise ValueError(
                f"gates look at the variant {self.reference().name!r}, found export.variants "
                f"{names}; add it, or remove gate"
            )
        return self

    def resolve_task(self, base: Path) -> Task:
        """The task, with the paths of own files taken from `base`, the recipe's folder."""
        if isinstance(self.task, BareTexts):
            return TextTask(texts=base / self.task.texts)
        if isinstance(self.task, OwnData):
            return FileTask(
                train=base / self.task.train,
                validation=base / self.task.validation,
                text=tuple(self.task.text),
                label=self.task.label,
                regression=self.task.regression,
            )
        task = glue_task(self.task)
        assert task is not None  # validated
        return task

    def prune_spec(self) -> PruneSpec:
        """The part of the recipe that `compress.prune` takes."""
        unit: Literal["macs", "parameters"] = "parameters" if self.target.parameters else "macs"
        return PruneSpec(
            share=self.target.parameters or self.target.macs or 0.5,
            cost=CostModel(unit=unit, sequence=self.target.sequence),
            score=_score(self.prune, self.seed),
            steps=self.prune.steps,
            repair=self.prune.repair,
            damping=self.prune.damping,
            units=tuple(self.prune.units),
            layout=self.prune.layout,
            multiple=self.prune.multiple,
            drop=self.prune.drop_layers,
            strategy=self.prune.strategy,
            seed=self.seed,
        )

    def variants(self) -> tuple[Variant, ...]:
        """What to export, `cpu-fp32` before `cpu-int8`, which is made from it."""
        wanted = self.export.variants or [
            v.name for v in VARIANTS if v.fusions in (None, self.target.device)
        ]
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
        raise RecipeError(f"recipe must be a readable YAML file, found {error}") from error
    return parse_recipe(text)


def parse_recipe(text: str) -> Recipe:
    """Validate a recipe's YAML text.

    Raises:
        RecipeError: Names the field, the value and the remedy.
    """
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"recipe must be YAML, found: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise RecipeError(f"recipe must be a mapping with model and task, found {data!r}")
    return make_recipe(data)


def make_recipe(data: dict[str, Any]) -> Recipe:
    """Validate a recipe given as plain data; see `parse_recipe`."""
    if isinstance(data.get("task"), dict) and isinstance(data["task"].get("text"), str):
        data = data | {"task": data["task"] | {"text": [data["task"]["text"]]}}
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        raise RecipeError(_sentence(error)) from error


def _score(prune: Prune, seed: int) -> ScoreName | GradientScore:
    options = {k: getattr(prune, k) for k in ("labels", "reduction", "power", "layer_norm")}
    given = {name: value for name, value in options.items() if value is not None}
    if not given:
        return prune.score
    fisher = GradientScore(seed=seed)
    michel = GradientScore(name="michel", reduction="token", power=1, labels="given", seed=seed)
    base = fisher if prune.score == "fisher" else replace(michel, layer_norm=True)
    return replace(base, **given)


def _sentence(error: ValidationError) -> str:
    """One line for the first thing that is wrong."""
    errors = error.errors()
    first = min(errors, key=lambda e: e["type"] != "extra_forbidden")
    path = [str(p) for p in first["loc"] if p not in _TAGS]
    field = ".".join(path)
    if first["type"] == "extra_forbidden":
        known = list(_fields_at(path[:-1], "BareTexts" in first["loc"]))
        return (
            f"recipe field {field!r} is unknown{_nearest(path[-1], known)}; "
            f"known here: {', '.join(known)}"
        )
    if first["type"] == "missing":
        return f"recipe field {field!r} is required, found none; add it"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":
        return f"recipe field {field!r}: {message}" if field else f"recipe: {message}"
    wanted = message[:1].lower() + message[1:]
    return f"recipe field {field!r}: {wanted}, found {first['input']!r}; correct it"


def _fields_at(path: list[str], bare_texts: bool) -> dict[str, Any]:
    fields: dict[str, Any] = dict(Recipe.model_fields)
    for name in path:
        own = BareTexts if bare_texts else OwnData
        kind = own if name == "task" else fields[name].annotation
        fields = dict(kind.model_fields)
    return fields


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""
