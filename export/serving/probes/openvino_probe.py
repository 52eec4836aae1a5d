"""OpenVINO on the ONNX graph, and on its own IR where the folder holds one."""

import openvino
from answering import Request

request = Request()
tokenizer = request.tokenizer(request.folder)
core = openvino.Core()
exact = {"INFERENCE_PRECISION_HINT": "f32"}
(precision,) = request.graphs


def opened(path):
    """A text through a compiled model."""
    model = core.compile_model(path, "CPU", exact)
    names = [port.any_name for port in model.inputs]

    def run(*text):
        outputs = model(request.feed(tokenizer, names, *text))
        return request.vector(outputs[request.output])

    return run


request.ask(precision, opened(request.folder / request.graphs[precision]), way="onnx")
if (request.folder / "model.xml").is_file():
    request.ask(precision, opened(request.folder / "model.xml"), way="ir")
request.answer("openvino", "tokenizers")
