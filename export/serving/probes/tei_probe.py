"""Text Embeddings Inference's rules for its ONNX Runtime backend, then the graph itself.

The rules, as of 1.9: model.onnx, at the top or in onnx/; config.json, tokenizer.json and
tokenizer_config.json; inputs among four names; an output called logits for classifiers, and one of
three for embeddings, whose 1_Pooling/config.json names one way to pool; weights in the file itself
or in model.onnx_data.
"""

import json

import onnxruntime
from answering import Request

request = Request()
folder = request.folder
names = ("config.json", "tokenizer.json", "tokenizer_config.json")
missing = [name for name in names if not (folder / name).is_file()]
if missing:
    raise SystemExit(f"{missing[0]} is missing")
graph = next(
    (p for p in (folder / "model.onnx", folder / "onnx" / "model.onnx") if p.is_file()), None
)
if graph is None:
    raise SystemExit("neither model.onnx nor onnx/model.onnx is there")
session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
inputs = [value.name for value in session.get_inputs()]
unknown = set(inputs) - {"input_ids", "attention_mask", "token_type_ids", "position_ids"}
if unknown:
    raise SystemExit(f"the inputs {sorted(unknown)} are not fed")
outputs = {value.name: value.type for value in session.get_outputs()}
if request.reduce == "none":
    wanted = ("logits",)
else:
    wanted = ("sentence_embedding", "last_hidden_state", "token_embeddings")
    pooling = json.loads((folder / "1_Pooling" / "config.json").read_text(encoding="utf-8"))
    if sum(v is True for k, v in pooling.items() if k.startswith("pooling_mode_")) != 1:
        raise SystemExit("1_Pooling/config.json must name one way to pool")
found = [name for name in wanted if name in outputs]
if not found or outputs[found[0]] != "tensor(float)":
    raise SystemExit(f"one of {wanted} must be a float32 output, found {outputs}")
tokenizer = request.tokenizer(folder)
(precision,) = request.graphs


def run(*text):
    """A text through the graph."""
    values = session.run([found[0]], request.feed(tokenizer, inputs, *text))[0]
    return request.vector(values)


request.ask(precision, run, way="layout")
request.answer("onnxruntime", "tokenizers")
