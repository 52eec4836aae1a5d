"""`study heads`: which heads matter, under which loss, and what pruning by them costs."""

from compress_export.studies.heads.study import study_heads

__all__ = ["study_heads"]
