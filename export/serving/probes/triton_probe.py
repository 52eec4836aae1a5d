"""A model repository without the server: Triton's schema, its graph, its Python tokenizer model.

config.pbtxt is parsed with Triton's own protobuf; the graph runs in onnxruntime with the options
that it names, fed by the tokenizer model behind a stub of the backend's request API.
"""

import importlib.util
import json
import sys
import types

import numpy as np
import onnxruntime
from answering import Request
from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2 as schema

TYPES = {schema.TYPE_INT64: "tensor(int64)", schema.TYPE_FP32: "tensor(float)"}


class Tensor:
    """`pb_utils.Tensor`, as far as the tokenizer model uses it."""

    def __init__(self, name, values):
        self.name, self.values = name, values

    def as_numpy(self):
        """Its values."""
        return self.values


def stub():
    """`triton_python_backend_utils`, as far as the tokenizer model uses it."""
    module = types.ModuleType("triton_python_backend_utils")
    module.Tensor = Tensor
    module.InferenceResponse = lambda output_tensors: output_tensors
    module.get_input_tensor_by_name = lambda request, name: request.get(name)
    return module


request = Request()
configs = {}
for path in sorted(request.folder.glob("*/config.pbtxt")):
    config = text_format.Parse(path.read_text(encoding="utf-8"), schema.ModelConfig())
    if config.name != path.parent.name:
        raise SystemExit(f"{path} must be named like its folder, found {config.name}")
    configs[config.name] = config
name = next(name for name, config in configs.items() if config.backend == "onnxruntime")
model, tokens, ensemble = (configs[n] for n in (name, f"{name}-tokenizer", f"{name}-text"))
for step in ensemble.ensemble_scheduling.step:
    known = configs[step.model_name]
    for side, values in (("input", known.input), ("output", known.output)):
        given = set(getattr(step, f"{side}_map")) - {value.name for value in values}
        if given:
            raise SystemExit(f"{ensemble.name} maps {sorted(given)}, which {known.name} lacks")

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = int(
    model.parameters["intra_op_thread_count"].string_value or 0
    if "intra_op_thread_count" in model.parameters
    else 0
)
graph = request.folder / name / "1" / "model.onnx"
session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
for values, found in ((model.input, session.get_inputs()), (model.output, session.get_outputs())):
    held = {value.name: value for value in found}
    for value in values:
        node = held[value.name]
        dims = [-1 if isinstance(d, str) or d is None else d for d in node.shape[1:]]
        if list(value.dims) != dims or TYPES[value.data_type] != node.type:
            raise SystemExit(f"{value.name} differs: {list(value.dims)} and {dims}, {node.type}")

sys.modules["triton_python_backend_utils"] = stub()
place = request.folder / tokens.name / "1" / "model.py"
spec = importlib.util.spec_from_file_location("model", place)
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
tokenizer = module.TritonPythonModel()
plain = json_format.MessageToDict(tokens, preserving_proto_field_name=True)
tokenizer.initialize({"model_config": json.dumps(plain)})


def run(*text):
    """A text, or a pair, through the tokenizer model and the graph."""
    given = zip(("text", "pair"), text, strict=False)
    fields = {name: Tensor(name, np.array([[value.encode()]], object)) for name, value in given}
    (found,) = tokenizer.execute([fields])
    feed = {tensor.name: tensor.as_numpy() for tensor in found}
    return request.vector(session.run([request.output], feed)[0])


(precision,) = request.graphs
request.ask(precision, run, way="schema")
request.answer("tritonclient", "onnxruntime", "tokenizers")
