"""One module per way to run a model."""
