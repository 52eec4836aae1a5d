"""`study masks`: masks that are learnt, against plans that need no training."""

from compress_export.studies.masks.study import study_masks

__all__ = ["study_masks"]
