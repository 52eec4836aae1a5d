"""Encoders larger than memory: weights stay in their files, and one layer at a time is there."""

from compress.streamed.mapped import load_mapped, paged
from compress.streamed.prune import prune_streamed
from compress.streamed.spill import spilled
from compress.streamed.walk import walk_streamed

__all__ = ["load_mapped", "paged", "prune_streamed", "spilled", "walk_streamed"]
