"""The short modelling file beside a pruned checkpoint, for loading without this package.

The code is fixed apart from one class name; all shapes are data in `config.json`.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from compress.layout import Layout
from compress.removed import ConstantOutput, RemovedAttention

__all__ = ["module_table", "remote_code"]

_CODE = '''"""A pruned {stock}: the stock model, with modules replaced as config.json lists them.

Written by compress-export. Load with from_pretrained(folder, trust_remote_code=True), or without
any code of this folder with compress.load(folder).
"""

import torch
from torch import nn
from transformers import {stock}


class ConstantOutput(nn.Module):
    """An output projection with no inputs left: its bias."""

    def __init__(self, width):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, _):
        return self.bias


class RemovedAttention(nn.Module):
    """An attention module with no heads left: the output bias, and the norm if it held one."""

    def __init__(self, width, norm):
        super().__init__()
        self.output = ConstantOutput(width)
        self.norm = norm

    def forward(self, hidden_states, *_, **__):
        bias = self.output(hidden_states)
        return (bias if self.norm is None else self.norm(hidden_states + bias)), None


class CompressedModel({stock}):
    """{stock} in the shapes of `config.compress_export["modules"]`."""

    def __init__(self, config):
        super().__init__(config)
        modules = config.compress_export["modules"]
        for path, (n_out, n_in, bias) in modules["linear"].items():
            self.set_submodule(path, nn.Linear(n_in, n_out, bias=bias))
        for path in modules["identity"]:
            self.set_submodule(path, nn.Identity())
        for path, width in modules["constant"].items():
            self.set_submodule(path, ConstantOutput(width))
        for path, (width, norm) in modules["removed_attention"].items():
            kept = self.get_submodule(norm) if norm else None
            self.set_submodule(path, RemovedAttention(width, kept))
        for path, value in modules["attributes"].items():
            parent, _, name = path.rpartition(".")
            setattr(self.get_submodule(parent), name, value)
        self.post_init()
'''


def remote_code(stock: str) -> str:
    """The modelling file for a pruned model of transformers' class `stock`.

    Raises:
        ValueError: `stock` is no identifier.
    """
    if not stock.isidentifier():
        raise ValueError(f"a class name must be an identifier, found {stock!r}")
    return _CODE.replace("{stock}", stock)


def module_table(layout: Layout) -> dict[str, dict[str, Any] | list[str]]:
    """What stands where in the encoder's layers, as plain data for the modelling file."""
    names = {id(module): name for name, module in layout.model.named_modules()}
    table: dict[str, Any] = {
        "linear": {},
        "identity": [],
        "constant": {},
        "removed_attention": {},
        "attributes": {},
    }
    for layer in layout.layers:
        prefix = names[id(layer.module)]
        for name, module in layer.module.named_modules():
            _list_module(table, f"{prefix}.{name}", module, layout)
        if layer.n_heads:
            for path in layout.architecture.head_counts:
                table["attributes"][f"{prefix}.{path}"] = layer.n_heads
            for path in layout.architecture.head_widths:
                table["attributes"][f"{prefix}.{path}"] = layer.n_heads * layout.shape.head_width
    return table


def _list_module(table: dict[str, Any], path: str, module: nn.Module, layout: Layout) -> None:
    match module:
        case nn.Linear():
            shape = [module.out_features, module.in_features, module.bias is not None]
            table["linear"][path] = shape
        case nn.Identity():
            table["identity"].append(path)
        case RemovedAttention():
            inside = layout.architecture.attention_norm
            layer_path = path.removesuffix(layout.architecture.attention)
            norm = None if module.norm is None else f"{layer_path}{inside}"
            table["removed_attention"][path] = [module.output.bias.numel(), norm]
        case ConstantOutput() if not path.endswith(f"{layout.architecture.attention}.output"):
            table["constant"][path] = module.bias.numel()
        case _:
            pass
