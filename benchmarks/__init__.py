"""From a bundle to a measurement and a report. Opens files; never looks inside a model."""
