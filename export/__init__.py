"""From a smaller model to a bundle: graphs, fusions, precision, parity. Knows no task."""

from __future__ import annotations

from export.bundle import Exported, export_bundle, export_variant
from export.fusion import Fusion, check_heads, inspect_graph
from export.parity import Parity, check_parity
from export.precision import VARIANTS, Variant, variant

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
