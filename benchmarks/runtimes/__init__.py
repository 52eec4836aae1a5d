"""One module per way to run a model; `spec` names them all."""
