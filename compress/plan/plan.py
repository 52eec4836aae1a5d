"""A pruning plan: which layers, heads and neurons survive.

Knows shapes and keep lists, and from them its own cost. Must not know torch or any model.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from compress.errors import PlanError

__all__ = ["UNITS", "EncoderShape", "LayerPlan", "Plan", "Unit"]

SCHEMA = 2


Unit = Literal["heads", "neurons"]
UNITS: tuple[Unit, ...] = get_args(Unit)
"""What may be removed from within a layer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderShape:
    """The sizes of an encoder, all that a cost model needs.

    Attributes:
        model_type: The family.
        hidden_size: Width of the residual stream.
        head_width: Width of one head.
        n_heads: Heads of each physical layer.
        ffn_widths: FFN neurons of each physical layer.
        head_weights, head_biases: Weights and biases that one head owns.
        neuron_weights, neuron_biases: The same for one FFN neuron.
        layer_parameters: Parameters of each layer that belong to no unit (norms, output biases).
        depth: How many times a layer is applied (`len(n_heads)` unless layers are shared).
        groups: Groups of shared layers (ALBERT); 0 where each layer is used once.
        queries_per_kv_head: Query heads of one head; above 1 where they share a key (EuroBERT), so
            that a head of the plan is a key with its queries.
        kinds: The kind of each layer, where kinds differ (ModernBERT).
        first_pinned: The first layer cannot be dropped (DeBERTa-v2 with a convolution after it).
    """

    model_type: str
    hidden_size: int
    head_width: int
    n_heads: tuple[int, ...]
    ffn_widths: tuple[int, ...]
    head_weights: int
    head_biases: int
    neuron_weights: int
    neuron_biases: int
    layer_parameters: tuple[int, ...]
    depth: int
    groups: int = 0
    queries_per_kv_head: int = 1
    kinds: tuple[str, ...] = ()
    first_pinned: bool = False

    def fits(self, other: EncoderShape) -> bool:
        """Whether a plan for one is a plan for the other: the same units in the same places."""
        return _places(self) == _places(other)

    @property
    def n_layers(self) -> int:
        """Number of physical layers."""
        return len(self.n_heads)

    @property
    def uses(self) -> tuple[int, ...]:
        """How many times each physical layer is applied."""
        if not self.groups:
            return (1,) * self.n_layers
        applied = self.applied
        return tuple(applied.count(layer) for layer in range(self.n_layers))

    @property
    def applied(self) -> tuple[int, ...]:
        """The physical layer applied at each position, bottom to top.

        A shared layer comes back: transformers spreads ALBERT's positions evenly over its groups,
        and applies all inner layers of a group at each.
        """
        if not self.groups:
            return tuple(range(self.n_layers))
        inner = self.n_layers // self.groups
        groups = [int(position / (self.depth / self.groups)) for position in range(self.depth)]
        return tuple(group * inner + i for group in groups for i in range(inner))


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerPlan:
    """What survives of one layer: its place in the unpruned model, kept heads, kept neurons."""

    source: int
    heads: tuple[int, ...]
    neurons: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What survives of a model. `shape` is that of the unpruned model.

    Example:
        >>> shape = EncoderShape(model_type="bert", hidden_size=8, head_width=4, n_heads=(2,),
        ...     ffn_widths=(6,), head_weights=128, head_biases=12, neuron_weights=16,
        ...     neuron_biases=1, layer_parameters=(48,), depth=1)
        >>> plan = Plan.full(shape)
        >>> plan.student_shape.n_heads
        (2,)
        >>> Plan.from_json(plan.to_json()) == plan
        True
    """

    shape: EncoderShape
    layers: tuple[LayerPlan, ...]
    depth: int

    def __post_init__(self) -> None:
        _check_layers(self)

    @classmethod
    def full(cls, shape: EncoderShape) -> Plan:
        """The plan that keeps everything."""
        layers = tuple(
            LayerPlan(source=i, heads=tuple(range(h)), neurons=tuple(range(w)))
            for i, (h, w) in enumerate(zip(shape.n_heads, shape.ffn_widths, strict=True))
        )
        return cls(shape=shape, layers=layers, depth=shape.depth)

    @property
    def student_shape(self) -> EncoderShape:
        """The shape of the pruned model."""
        fields = asdict(self.shape)
        fields["n_heads"] = tuple(len(layer.heads) for layer in self.layers)
        fields["ffn_widths"] = tuple(len(layer.neurons) for layer in self.layers)
        fields["depth"] = self.depth
        for name in ("layer_parameters", "kinds"):
            values = fields[name]
            fields[name] = tuple(values[layer.source] for layer in self.layers) if values else ()
        return EncoderShape(**fields)

    def then(self, later: Plan) -> Plan:
        """This plan followed by `later`, a plan of this plan's student, as one plan.

        Raises:
            PlanError: `later` is not a plan of this plan's student.
        """
        if not later.shape.fits(self.student_shape):
            raise PlanError(
                f"a later plan must be of this plan's student, with heads "
                f"{self.student_shape.n_heads}, found {later.shape.n_heads}; "
                "make it from the pruned model"
            )
        layers = tuple(_compose(self.layers[layer.source], layer) for layer in later.layers)
        return Plan(shape=self.shape, layers=layers, depth=later.depth)

    def to_json(self) -> str:
        """The plan as JSON text."""
        return json.dumps(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain lists and numbers."""
        return {"schema": SCHEMA, **asdict(self)}

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Read what `to_json` wrote.

        Raises:
            PlanError: The text is not a plan of this schema.
        """
        try:
            return cls.from_dict(json.loads(text))
        except json.JSONDecodeError as error:
            raise PlanError(f"a plan must be JSON, found {error}; write it again") from error

    @classmethod
    def from_dict(cls, data: Any) -> Plan:
        """Read what `to_dict` gave.

        Raises:
            PlanError: A field is missing or of the wrong kind, or the schema is another.
        """
        try:
            if data["schema"] != SCHEMA:
                raise PlanError(
                    f"plan schema must be {SCHEMA}, found {data['schema']!r}, written by another "
                    "version; prune again with this one"
                )
            layers = tuple(
                LayerPlan(
                    source=int(layer["source"]),
                    heads=tuple(map(int, layer["heads"])),
                    neurons=tuple(map(int, layer["neurons"])),
                )
                for layer in data["layers"]
            )
            shape = EncoderShape(**{k: _frozen(v) for k, v in data["shape"].items()})
            return cls(shape=shape, layers=layers, depth=int(data["depth"]))
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise PlanError(
                f"a plan lacks or misspells a field: {error}; write it again"
            ) from error

    def save(self, path: Path) -> None:
        """Write the plan as JSON."""
        path.write_text(self.to_json() + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Plan:
        """Read a plan written by `save`.

        Raises:
            PlanError: The file cannot be read, or is no plan of this schema.
        """
        try:
            return cls.from_json(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise PlanError(f"{path} must hold a plan, found {error}; name another") from error


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _compose(first: LayerPlan, later: LayerPlan) -> LayerPlan:
    return LayerPlan(
        source=first.source,
        heads=tuple(first.heads[i] for i in later.heads),
        neurons=tuple(first.neurons[i] for i in later.neurons),
    )


def _places(shape: EncoderShape) -> tuple[object, ...]:
    return (
        shape.model_type,
        shape.hidden_size,
        shape.head_width,
        shape.n_heads,
        shape.ffn_widths,
        shape.depth,
        shape.groups,
        shape.kinds,
    )


def _check_layers(plan: Plan) -> None:
    sources = [layer.source for layer in plan.layers]
    rising = bool(sources) and sources == sorted(set(sources))
    if not rising or sources[0] < 0 or sources[-1] >= plan.shape.n_layers:
        raise PlanError(
            f"kept layers must rise within 0 to {plan.shape.n_layers - 1}, found {sources}"
        )
    if plan.shape.groups and len(sources) != plan.shape.n_layers:
        raise PlanError(
            f"a shared layer cannot be removed, found layers {sources} of {plan.shape.n_layers}; "
            "lower `depth` to use it less often"
        )
    if plan.shape.first_pinned and sources[0] != 0:
        raise PlanError(
            "layer 0 must stay, for a convolution is applied after it; found kept layers "
            f"{sources}; drop others"
        )
    lowest = plan.shape.groups or len(sources)
    highest = plan.shape.depth if plan.shape.groups else len(sources)
    if not lowest <= plan.depth <= highest:
        raise PlanError(f"depth must be {lowest} to {highest}, found {plan.depth}")
    for layer in plan.layers:
        _check_units(layer, "heads", layer.heads, plan.shape.n_heads[layer.source])
        _check_units(layer, "neurons", layer.neurons, plan.shape.ffn_widths[layer.source])


def _check_units(layer: LayerPlan, unit: str, keep: tuple[int, ...], count: int) -> None:
    if list(keep) != sorted(set(keep)) or (keep and not 0 <= keep[0] <= keep[-1] < count):
        raise PlanError(
            f"layer {layer.source}: kept {unit} must rise within 0 to {count - 1}, "
            f"found {list(keep)[:8]}"
        )
