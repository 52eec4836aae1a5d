"""Optimum's ORTModelFor… classes and transformers' pipeline, on the folder as it is."""

import json

import numpy as np
from answering import Request, single
from optimum import onnxruntime as ort
from transformers import AutoTokenizer, pipeline

CLASSES = {
    "ForSequenceClassification": ort.ORTModelForSequenceClassification,
    "ForTokenClassification": ort.ORTModelForTokenClassification,
    "ForQuestionAnswering": ort.ORTModelForQuestionAnswering,
    "ForMaskedLM": ort.ORTModelForMaskedLM,
    "Model": ort.ORTModelForFeatureExtraction,
}
request = Request()
config = json.loads((request.folder / "config.json").read_text(encoding="utf-8"))
name = config["architectures"][0]
kind = next(kind for suffix, kind in CLASSES.items() if name.endswith(suffix))
model = kind.from_pretrained(request.folder)
tokenizer = AutoTokenizer.from_pretrained(request.folder)
(precision,) = request.graphs


def run(*text):
    """A text through `from_pretrained` and the tokenizer."""
    limits = {"truncation": True, "max_length": request.max_length}
    outputs = model(**tokenizer(*text, return_tensors="np", **limits))
    return request.vector(outputs[request.output])


request.ask(precision, run, way="from_pretrained")
if name.endswith("ForSequenceClassification"):
    pipe = pipeline("text-classification", model=model, tokenizer=tokenizer)
    order = [name for _, name in sorted((int(i), n) for i, n in model.config.id2label.items())]

    def piped(text):
        """The same through a pipeline, its labels brought into order."""
        found = pipe([text], top_k=None, function_to_apply="none", truncation=True,
                     max_length=request.max_length)[0]  # fmt: skip
        scores = {row["label"]: row["score"] for row in found}
        return np.array([scores[name] for name in order])

    request.ask(precision, piped, way="pipeline", takes=single)
request.answer("optimum-onnx", "transformers", "onnxruntime")
