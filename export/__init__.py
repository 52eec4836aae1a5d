"""From a smaller model to a bundle: graphs, fusions, precision, parity. Knows no task.

Names are loaded when they are first asked for: what reads a file need not wait for torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from compress.lazy import lazily

if TYPE_CHECKING:
    from export.bundle import Exported, export_bundle, export_variant
    from export.graph.fusion import Fusion, check_heads, inspect_graph
    from export.parity import Parity, check_parity
    from export.precision.variants import VARIANTS, Variant, variant

__all__ = [
    "VARIANTS",
    "Exported",
    "Fusion",
    "Parity",
    "Variant",
    "check_heads",
    "check_parity",
    "export_bundle",
    "export_variant",
    "inspect_graph",
    "variant",
]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "bundle": "Exported export_bundle export_variant",
        "graph.fusion": "Fusion check_heads inspect_graph",
        "parity": "Parity check_parity",
        "precision.variants": "VARIANTS Variant variant",
    },
)
