"""A tokenizer gives what its file says, and goes with its model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from compress.errors import CheckpointError
from compress_export.tokenizers import load_tokenizer
from export.graph.reference_texts import PROBES
from tests.families import tiny
from tests.tokenizer import tiny_tokenizer

ODD = {
    "lower-casing before BPE": (normalizers.Lowercase(), pre_tokenizers.ByteLevel()),
    "single digits": (
        None,
        pre_tokenizers.Sequence([pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel()]),
    ),
    "replacing": (normalizers.Replace("a", "o"), pre_tokenizers.ByteLevel()),
    "white space alone": (None, pre_tokenizers.WhitespaceSplit()),
}


def odd(kind: str, folder: Path) -> Tokenizer:
    """A byte-pair tokenizer with rules of its own, saved as RoBERTa's."""
    normalizer, splitter = ODD[kind]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = splitter
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=special)
    tokenizer.train_from_iterator(PROBES, trainer)
    whole = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>",
        unk_token="<unk>", cls_token="<s>", sep_token="</s>", mask_token="<mask>",
    )  # fmt: skip
    whole.save_pretrained(folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["tokenizer_class"] = "RobertaTokenizer"
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


@pytest.mark.parametrize("kind", ODD)
def test_the_tokenizers_file_is_the_truth(kind: str, tmp_path: Path) -> None:
    filed = odd(kind, tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    texts = [text for text in PROBES if text]
    found = tokenizer(texts, add_special_tokens=False)["input_ids"]
    assert found == [e.ids for e in filed.encode_batch(texts, add_special_tokens=False)]
    tokenizer.save_pretrained(tmp_path / "again")
    again = Tokenizer.from_file(str(tmp_path / "again" / "tokenizer.json"))
    again.no_truncation()
    again.no_padding()
    assert [e.ids for e in again.encode_batch(texts, add_special_tokens=False)] == found


def test_tokens_beyond_the_embeddings_are_refused(tmp_path: Path) -> None:
    tiny("bert").save_pretrained(tmp_path)
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["new"])
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="'new' with id 99, and the model's embeddings have"):
        load_tokenizer(tmp_path)


def test_token_types_are_left_out_where_the_model_has_one(tmp_path: Path) -> None:
    tiny("bert", type_vocab_size=1).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    assert "token_type_ids" not in load_tokenizer(tmp_path)("w1", "w2")


def test_a_padding_token_is_chosen_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny("bert").save_pretrained(tmp_path)
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = None
    tokenizer.save_pretrained(tmp_path)
    assert load_tokenizer(tmp_path).pad_token == "[PAD]"
    assert "no padding token; '[PAD]' is used" in capsys.readouterr().err
