"""Encoders larger than memory: weights stay in their files, and one layer at a time is there."""

from compress.streamed.in_files import InFiles
from compress.streamed.mapped import load_mapped, paged
from compress.streamed.spill import spilled

__all__ = ["InFiles", "load_mapped", "paged", "spilled"]
