"""`study adapt`: a task learnt by what is taken out of a frozen model."""

from compress_export.studies.adapt.study import study_adapt

__all__ = ["study_adapt"]
