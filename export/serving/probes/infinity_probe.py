"""Infinity's optimum engine on the folder, its own optimiser disabled."""

import asyncio
import json
import os

import numpy as np
from answering import Request, single
from infinity_emb import AsyncEngineArray, EngineArgs
from transformers import AutoTokenizer

request = Request()
os.chdir(request.folder)  # its path to the graph must be relative to the model's
modules = request.folder / "1_Pooling" / "config.json"
pooling = json.loads(modules.read_text()) if modules.is_file() else {}
engine_args = EngineArgs(
    model_name_or_path=".",
    engine="optimum",
    device="cpu",
    onnx_disable_optimize=True,
    model_warmup=False,
    pooling_method="cls" if pooling.get("pooling_mode_cls_token") else "mean",
)
loop = asyncio.new_event_loop()
engine = AsyncEngineArray.from_args([engine_args])[0]
loop.run_until_complete(engine.astart())
tokenizer = AutoTokenizer.from_pretrained(".")
embeds = request.reduce != "none"
labels = json.loads((request.folder / "config.json").read_text()).get("id2label", {})


def embed(text):
    """A sentence vector; Infinity scales it to length 1."""
    vectors, _ = loop.run_until_complete(engine.embed(sentences=[text]))
    return np.asarray(vectors[0])


def classify(text):
    """Probabilities in the order of the classes; Infinity gives no logits."""
    found, _ = loop.run_until_complete(engine.classify(sentences=[text]))
    scores = {row["label"]: row["score"] for row in found[0]}
    return np.array([scores[labels[i]] for i in sorted(labels, key=int)])


def taken(text):
    """Single texts; of a classifier those alone that need no cutting, for Infinity cuts none."""
    fits = embeds or len(tokenizer(text[0])["input_ids"]) <= request.max_length
    return single(text) and fits


(precision,) = request.graphs
request.ask(precision, embed if embeds else classify, takes=taken, shares=not embeds)
loop.run_until_complete(engine.astop())
request.answer("infinity-emb", "optimum", "onnxruntime", "transformers")
