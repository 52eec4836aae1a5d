"""The short modelling file beside a pruned checkpoint, for loading without this package.

The code is fixed apart from one class name; all shapes are data in `config.json`.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from compress.model.layout import BoundSlot, LayerLayout, Layout, child
from compress.model.shared_bias import kept_rows
from compress.model.task_head import init_arguments
from compress.plan.plan import Plan
from compress.plan.stock_config import stock_attributes

__all__ = ["module_table", "remote_code"]

_CODE = '''"""A pruned {stock}: the stock model, with modules replaced as config.json lists them.

Written by compress-export. Load with from_pretrained(folder, trust_remote_code=True), or without
any code of this folder with compress.load(folder).
"""

import torch
from torch import nn
from transformers import {stock}


class ConstantOutput(nn.Module):
    """An output projection with no inputs left: its bias, or zeros."""

    def __init__(self, width, bias):
        super().__init__()
        self.width = width
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None

    def forward(self, hidden_states):
        bias = hidden_states.new_zeros(self.width) if self.bias is None else self.bias
        return bias.expand(*hidden_states.shape[:-1], -1) if self.training else bias


class RemovedAttention(nn.Module):
    """An attention module with no heads left: the output bias, and the norm if it held one."""

    def __init__(self, width, bias, kind, norm, streams):
        super().__init__()
        self.output = ConstantOutput(width, bias)
        self.kind, self.norm, self.streams = kind, norm, streams

    def forward(self, hidden_states, *others, **_):
        query = others[0] if self.streams > 1 else None
        return self.stream(hidden_states), None if query is None else self.stream(query)

    def stream(self, hidden_states):
        bias = self.output(hidden_states)
        if self.kind == "bare":
            return bias
        total = hidden_states + bias
        return total if self.norm is None else self.norm(total)


def pick_rows(attention, args):
    """Of the position bias that all layers share, take the rows of the kept heads."""
    hidden_states, mask, bias, *rest = args
    return (hidden_states, mask, bias[:, attention.kept_heads], *rest)


class CompressedModel({stock}):
    """{stock} in the shapes of `config.compress_export["modules"]`."""

    def __init__(self, config):
        table = config.compress_export["modules"]
        unpruned = table["unpruned"]
        student = {name: getattr(config, name, value) for name, value in unpruned.items()}
        for name, value in unpruned.items():
            setattr(config, name, value)
        super().__init__(config, **table["arguments"])
        for name, value in student.items():
            setattr(config, name, value)
        self.cut(table)
        self.post_init()

    def cut(self, table):
        for path, kept in table["layers"].items():
            layers = self.get_submodule(path)
            survivors = [layers[i] for i in kept]
            del layers[:]
            layers.extend(survivors)
        for path, (n_out, n_in, bias) in table["linear"].items():
            self.set_submodule(path, nn.Linear(n_in, n_out, bias=bias))
        for path, shape in table["parameter"].items():
            self.put(path, nn.Parameter(torch.zeros(shape)))
        for path in table["identity"]:
            self.set_submodule(path, nn.Identity())
        for path, (width, bias) in table["constant"].items():
            self.set_submodule(path, ConstantOutput(width, bias))
        for path, (width, bias, kind, norm, streams) in table["removed_attention"].items():
            kept = self.get_submodule(norm) if norm else None
            self.set_submodule(path, RemovedAttention(width, bias, kind, kept, streams))
        for path, value in table["attributes"].items():
            self.put(path, value)
        for path, rows in table["rows"].items():
            attention = self.get_submodule(path)
            attention.kept_heads = rows
            attention.register_forward_pre_hook(pick_rows)

    def put(self, path, value):
        parent, _, name = path.rpartition(".")
        setattr(self.get_submodule(parent), name, value)
'''


def remote_code(stock: str) -> str:
    """The modelling file for a pruned model of transformers' class `stock`.

    Raises:
        ValueError: `stock` is no identifier.
    """
    if not stock.isidentifier():
        raise ValueError(f"a class name must be an identifier, found {stock!r}")
    return _CODE.replace("{stock}", stock)


def module_table(layout: Layout, plan: Plan) -> dict[str, Any]:
    """What stands where in the student's layers, as plain data for the modelling file.

    Args:
        layout: The student.
        plan: The plan for the unpruned model that it came from.
    """
    names = {id(module): name for name, module in layout.model.named_modules()}
    architecture = layout.architecture
    shared = architecture.shared
    table: dict[str, Any] = {
        "arguments": init_arguments(layout.model),
        "unpruned": stock_attributes(architecture, Plan.full(plan.shape)),
        "layers": {}
        if shared
        else {names[id(layout.containers[0])]: [layer.source for layer in plan.layers]},
        **{kind: {} for kind in ("linear", "parameter", "constant", "removed_attention")},
        "identity": [],
        "attributes": {},
        "rows": {},
    }
    for layer in layout.layers:
        prefix = f"{names[id(layer.module)]}."
        _list_attention(table, prefix, layer, layout)
        _list_ffn(table, prefix, layer, layout.shape.hidden_size)
    return table


def _list_attention(table: dict[str, Any], prefix: str, layer: LayerLayout, layout: Layout) -> None:
    architecture = layout.architecture
    if not layer.n_heads:
        norm = prefix + architecture.attention_sum if layer.attention.norm else None
        biased = layer.attention.projection[1] is not None
        table["removed_attention"][prefix + architecture.attention] = [
            layout.shape.hidden_size,
            biased,
            architecture.attention_output,
            norm,
            architecture.streams,
        ]
        return
    _list_slots(table, prefix, layer.attention.slots)
    for path in architecture.head_counts:
        table["attributes"][prefix + path] = layer.n_heads
    for path in architecture.head_widths:
        table["attributes"][prefix + path] = layer.n_heads * layout.shape.head_width
    if architecture.shared_bias:
        rows = kept_rows(child(layer.module, architecture.shared_bias))
        if rows is not None:
            table["rows"][prefix + architecture.shared_bias] = list(rows)


def _list_ffn(table: dict[str, Any], prefix: str, layer: LayerLayout, width: int) -> None:
    if layer.ffn_width:
        _list_slots(table, prefix, layer.ffn.slots)
        return
    architecture = layer.architecture
    table["identity"] += [prefix + slot.path for slot in architecture.ffn_in]
    biased = layer.ffn.projection[1] is not None
    table["constant"][prefix + architecture.ffn_out.path] = [width, biased]


def _list_slots(table: dict[str, Any], prefix: str, slots: tuple[BoundSlot, ...]) -> None:
    for bound in slots:
        path, shape = prefix + bound.slot.path, list(bound.weight.shape)
        if isinstance(bound.owner, nn.Linear):
            table["linear"][path] = [*shape, bound.bias is not None]
        else:
            table["parameter"][path] = shape
