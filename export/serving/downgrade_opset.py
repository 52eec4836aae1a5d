"""Stamp a graph with the oldest opset and IR that its operators allow.

Servers lag behind exporters, and refuse what is newer than they are by its stamp alone.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx.defs import get_schema
from onnx.helper import VERSION_TABLE

__all__ = ["downgrade_opset", "oldest"]

_LEAST_IR = 8


def downgrade_opset(source: Path, target: Path) -> None:
    """Write `source` to `target` with older stamps and the same operators.

    An operator's schema holds from the opset that brought it to the one that changes it: a graph
    whose operators all stem from an older opset is, to the letter, a graph of that opset.
    """
    model = onnx.load(source)
    opset, ir = oldest(model)
    for entry in model.opset_import:
        if entry.domain == "":
            entry.version = min(entry.version, opset)
    model.ir_version = min(model.ir_version, ir)
    target.parent.mkdir(parents=True, exist_ok=True)
    large = source.with_name(f"{source.name}_data").is_file()
    onnx.save(
        model,
        target,
        save_as_external_data=large,
        location=f"{target.name}_data" if large else None,
    )


def oldest(model: onnx.ModelProto) -> tuple[int, int]:
    """The oldest opset of the standard operators in a graph, and the IR of that time.

    Returns:
        Opset and IR version.
    """
    stamped = next(entry.version for entry in model.opset_import if entry.domain == "")
    nodes = list(model.graph.node)
    for function in model.functions:
        nodes += function.node
    since = [
        get_schema(node.op_type, stamped, "").since_version
        for node in nodes
        if node.domain in ("", "ai.onnx")
    ]
    opset = max([*since, 13])
    ir = min((row[1] for row in VERSION_TABLE if row[2] >= opset), default=model.ir_version)
    return opset, max(ir, _LEAST_IR)
