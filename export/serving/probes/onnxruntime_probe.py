"""The folder's own example, imported as a user's program would."""

import importlib.util

from answering import Request

request = Request()
spec = importlib.util.spec_from_file_location("example", request.folder / "example.py")
example = importlib.util.module_from_spec(spec)
spec.loader.exec_module(example)
(precision,) = request.graphs
request.ask(precision, lambda *text: request.vector(example.run(*text)[request.output]))
request.answer("onnxruntime", "onnxruntime-extensions", "tokenizers", "numpy")
