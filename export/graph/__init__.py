"""From a model to an ONNX graph: attention nodes, fusion, rewriting, running it."""
