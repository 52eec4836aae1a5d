"""The parts of a recipe, each a frozen record: names, ranges, and what goes with what."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from compress.distillation.layer_map import LayerMapName
from compress.pruner.spec import MethodName, PlanLayout
from compress.search.depth import DepthStrategy
from compress.search.options import SearchUnit
from compress.training.spec import TrainPrecision
from export.precision.variants import VariantName
from export.serving.target import parse_target

__all__ = [
    "BareTexts",
    "Benchmark",
    "Export",
    "GateSpec",
    "LatencyGate",
    "MixPoint",
    "ObjectivePart",
    "OwnData",
    "Part",
    "Precision",
    "Prune",
    "Recover",
    "Regression",
    "Target",
]

Positive = Annotated[int, Field(gt=0)]
LayerPairs = list[tuple[Positive, Positive]]
Share = Annotated[float, Field(gt=0, le=1)]
Change = Annotated[float, Field(ge=0, lt=1)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Precision = Literal["fp32", "int8", "int8-static", "fp16"]

SIZES = ("speedup", "latency_ms", "macs", "parameters")


class Part(BaseModel):
    """A part of a recipe: frozen, and every key known."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class OwnData(Part):
    """A task of the user's own: CSV, TSV, JSONL or Parquet files, by column names."""

    train: Path = Field(description="File to calibrate on.")
    validation: Path = Field(description="File to measure accuracy on.")
    text: Annotated[list[str], Field(min_length=1, max_length=2)] = Field(
        description="Column of the sentence, or the two columns of a pair."
    )
    label: str = Field(description="Label column.")
    regression: bool = Field(False, description="Labels are numbers to predict, not classes.")
    encoding: str | None = Field(None, description="Of the files; by default UTF-8.")
    delimiter: str | None = Field(None, description="Of CSV or TSV; by default comma or tab.")


class BareTexts(Part):
    """Texts without labels: enough to prune a model of any head, not to measure it."""

    texts: Path = Field(description="Text file, one example a line; a tab parts a pair.")


class MixPoint(Part):
    """One workload of a mix, with its weight."""

    batch: Positive = Field(description="Sequences at a time.")
    sequence: Annotated[int, Field(gt=1)] = Field(description="Tokens per sequence.")
    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        1.0, description="Share of calls, any scale."
    )


class Target(Part):
    """Where the student is to run, and how fast or small it must be: one of the five sizes."""

    device: Literal["cpu", "cuda"] = Field("cpu", description="Device that latency is promised on.")
    batch: Positive = Field(8, description="Sequences at a time.")
    sequence: Annotated[int, Field(gt=1)] = Field(64, description="Tokens per sequence.")
    mix: list[MixPoint] | Literal["data"] | None = Field(
        None,
        description="Several workloads at once, in place of batch and sequence, or 'data': lengths "
        "of the training texts at `batch`.",
    )
    speedup: Annotated[float, Field(gt=1, allow_inf_nan=False)] | None = Field(
        None, description="Measured speed-up over the unpruned float32 model."
    )
    latency_ms: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        None, description="Measured median latency, in milliseconds."
    )
    macs: Share | None = Field(None, description="Share of the encoder's MACs to keep.")
    parameters: Share | None = Field(None, description="Share of the encoder's parameters to keep.")
    precision: Annotated[list[Precision], Field(min_length=1)] = Field(
        ["fp32"], description="Precisions that compete for a measured target."
    )
    table: Path | None = Field(
        None, description="A latency table of `profile`; left out, one is measured and cached."
    )
    force_table: bool = Field(
        False, description="Use the table though it is of another machine or runtime."
    )

    @model_validator(mode="after")
    def _one(self) -> Target:
        sizes = [name for name in SIZES if getattr(self, name) is not None]
        if len(sizes) > 1:
            raise ValueError(f"give {' or '.join(sizes)}, not both")
        measured = self.speedup is not None or self.latency_ms is not None
        for name in ("mix", "table", "force_table"):
            if getattr(self, name) and not measured:
                raise ValueError(f"{name} goes with speedup or latency_ms, found neither; add one")
        if self.force_table and self.table is None:
            raise ValueError("force_table goes with table, found none; name the table")
        if not measured and self.precision != ["fp32"]:
            raise ValueError("precision goes with speedup or latency_ms, found neither; add one")
        if isinstance(self.mix, list):
            places = [(point.batch, point.sequence) for point in self.mix]
            if not places or len(set(places)) < len(places):
                raise ValueError(
                    f"mix must name each workload once, found {places or 'none'}; correct it"
                )
        runs = ("fp32", "fp16") if self.device == "cuda" else ("fp32", "int8", "int8-static")
        for precision in self.precision:
            if precision not in runs:
                raise ValueError(
                    f"precision {precision!r} does not run on {self.device}; "
                    f"choose among {', '.join(runs)}"
                )
        return self


class Prune(Part):
    """How to choose what goes."""

    score: MethodName | None = Field(
        None,
        description="How heads and neurons are scored; by default obs, or fisher with a uniform "
        "layout or drop_layers. kprune goes layer by layer, bottom-up.",
    )
    labels: Literal["sampled", "given"] | None = Field(
        None, description="Labels of a gradient score: sampled from the model, or the data's."
    )
    reduction: Literal["token", "sequence", "batch"] | None = Field(
        None, description="Over what a gate's gradient is summed before its size is taken."
    )
    power: Literal[1, 2] | None = Field(None, description="1 for |g|, 2 for g².")
    layer_norm: bool | None = Field(None, description="Divide a layer's scores by their l2 norm.")
    steps: Positive | None = Field(
        None,
        description="Times that units are scored again on the way down; by default 6, with kprune "
        "1, with obs as many as a quarter off each needs.",
    )
    trials: Annotated[int, Field(ge=0)] | None = Field(
        None,
        description="Changes of the layers' error weights that the last step tries; by default 8 "
        "with obs and layout free, else 0.",
    )
    repair: bool = Field(True, description="Refit output projections by least squares.")
    damping: Annotated[float, Field(gt=0)] = Field(
        0.001, description="Of the repair; larger stays nearer to the old weights."
    )
    units: Annotated[list[SearchUnit], Field(min_length=1)] | None = Field(
        None,
        description="What may go: heads, neurons, whole sublayers, with obs whole layers; by "
        "default heads, neurons and, but with kprune, sublayers.",
    )
    layout: PlanLayout = Field(
        "free", description="Sizes that differ by layer, or uniform ones; see the reload table."
    )
    round_to: Positive = Field(16, description="FFN widths are multiples of it.")
    drop_layers: Annotated[int, Field(ge=0)] = Field(0, description="Layers to drop first.")
    strategy: DepthStrategy = Field("top", description="Which layers.")
    calibration_examples: Positive = Field(2048, description="Training examples to look at.")

    @property
    def method(self) -> MethodName:
        """The score, with its default."""
        if self.score is not None:
            return self.score
        return "fisher" if self.layout == "uniform" or self.drop_layers else "obs"

    @model_validator(mode="after")
    def _fits_method(self) -> Prune:
        options = {k: getattr(self, k) for k in ("labels", "reduction", "power", "layer_norm")}
        given = [name for name, value in options.items() if value is not None]
        if given and self.method not in ("fisher", "michel"):
            raise ValueError(f"{given[0]} goes with score fisher or michel, found {self.method}")
        return self


class ObjectivePart(Part):
    """What a student learns: weights of losses, and which layers are paired."""

    labels: Weight = Field(0.0, description="Weight of the given labels' own loss.")
    logits: Weight = Field(1.0, description="Weight of the teacher's logits, T² KL.")
    hidden: Weight = Field(10.0, description="Weight of hidden states, layer by layer.")
    embeddings: Weight = Field(0.0, description="Weight of the embeddings' output.")
    attention: Weight = Field(0.0, description="Weight of attention scores, head by head.")
    relations: Weight = Field(
        0.0, description="Weight of query, key and value relations, free of head counts."
    )
    temperature: Annotated[float, Field(gt=0)] = Field(2.0, description="T of the logits.")
    relation_heads: Positive | None = Field(
        None, description="Relation heads; by default as many as divide both widths."
    )
    layers: LayerMapName | LayerPairs | None = Field(
        None,
        description="source, uniform, last, nearest, or pairs [student's, teacher's] from 1; by "
        "default source for a student pruned from this teacher, uniform for others.",
    )
    top: Positive | None = Field(
        None, description="Teacher's layer that the student's last learns from."
    )


class Recover(Part):
    """Training after pruning; none by default."""

    epochs: Annotated[int, Field(ge=0)] = Field(0, description="Passes over the training data.")
    learning_rate: Annotated[float, Field(gt=0, lt=1)] = Field(1e-4, description="At its peak.")
    batch_size: Positive = Field(32, description="Examples a process and step.")
    accumulate: Positive = Field(1, description="Steps that make one update.")
    precision: TrainPrecision = Field("fp32", description="Of matrix products.")
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        None, description="While training; by default the model's own."
    )
    patience: Positive | None = Field(
        None,
        description="Looks at a held-out part of the training data without a gain, four an epoch, "
        "after which to stop with the best weights.",
    )
    gradient_checkpointing: bool = Field(
        False, description="Compute activations again in the backward pass, to save memory."
    )
    teacher_device: str | None = Field(
        None, description="Where the teacher runs, such as cuda:1; by default beside the student."
    )
    report_to: list[str] | None = Field(
        None, description="Trackers of transformers; by default tensorboard if installed."
    )
    objective: ObjectivePart = Field(
        default_factory=lambda: ObjectivePart(), description="What is learnt."
    )


def _order(text: str) -> str:
    parse_target(text)
    return text


class Export(Part):
    """What to write."""

    variants: list[VariantName] | None = Field(
        None, description="Variants; by default portable and those of the target's device."
    )
    serving: list[Annotated[str, AfterValidator(_order)]] = Field(
        [], description="Folders for serving stacks: STACK or STACK@PRECISION each."
    )


class Benchmark(Part):
    """What to measure."""

    batches: Annotated[list[Positive], Field(min_length=1)] = Field(
        [1, 8, 32], description="Sequences at a time."
    )
    sequences: Annotated[list[Annotated[int, Field(gt=1)]], Field(min_length=1)] = Field(
        [32, 128], description="Tokens per sequence."
    )
    precision: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.02, description="Relative half-width of the 95 % intervals at which to stop."
    )
    openings: Positive = Field(4, description="Times that all graphs are opened anew.")
    disagreements: Annotated[int, Field(ge=0)] = Field(
        50,
        description="Examples that student and teacher answer differently, to list with their text "
        "in the report; 0 keeps texts out of it.",
    )
    rounds: Positive = Field(400, description="Samples per contender and workload, at most.")
    seconds: Annotated[float, Field(gt=0)] = Field(
        8.0, description="Seconds per workload, after which 15 samples are enough."
    )
    max_length: Annotated[int, Field(gt=1)] = Field(
        128, description="Tokens at which texts are cut, for accuracy and calibration."
    )


class LatencyGate(Part):
    """Largest latencies that are accepted at the target's workload, in milliseconds."""

    p50: Annotated[float, Field(gt=0)] | None = Field(None, description="Median.")
    p90: Annotated[float, Field(gt=0)] | None = Field(None, description="90th percentile.")
    p95: Annotated[float, Field(gt=0)] | None = Field(None, description="95th percentile.")
    p99: Annotated[float, Field(gt=0)] | None = Field(None, description="99th percentile.")


class Regression(Part):
    """Changes for the worse that `check --baseline` accepts; null is not judged."""

    latency: Change | None = Field(0.05, description="Median latency, up by.")
    throughput: Change | None = Field(None, description="Result under load, worse by.")
    memory: Change | None = Field(0.10, description="Working memory, up by.")
    size: Change | None = Field(0.02, description="Bytes of a graph, up by.")
    retention: Change | None = Field(0.01, description="Share of the teacher's metric, down by.")


class GateSpec(Part):
    """Promises: one that is broken gives exit status 1, one that is undecided 3."""

    retention: Share | None = Field(
        None, description="Least share of the teacher's first metric to keep."
    )
    speedup: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Least ratio of teacher's to student's median latency."
    )
    latency_ms: LatencyGate = Field(default_factory=lambda: LatencyGate(), description="Limits.")
    regression: Regression = Field(
        default_factory=lambda: Regression(), description="Limits of `check --baseline`."
    )
