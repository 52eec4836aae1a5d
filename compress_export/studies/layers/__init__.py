"""`study layers`: what dropping layers costs, by strategy, number, task and moment."""

from compress_export.studies.layers.study import LayerGrid, study_layers

__all__ = ["LayerGrid", "study_layers"]
