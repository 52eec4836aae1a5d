"""Shapes that growth is measured on, by names such as `110M@tokens=1024`."""

from __future__ import annotations

from typing import Any

TOKENS, SEQUENCE, BATCH = 512, 64, 4

SHAPES: dict[str, dict[str, Any]] = {
    name: {
        "model_type": "bert",
        "vocab_size": 30522,
        "num_hidden_layers": layers,
        "hidden_size": width,
        "num_attention_heads": width // 64,
        "intermediate_size": 4 * width,
    }
    for name, layers, width in (
        ("11M", 4, 256),
        ("33M", 12, 384),
        ("110M", 12, 768),
        ("335M", 24, 1024),
        ("730M", 24, 1536),
        ("1.5B", 48, 1600),
    )
}
SHAPES["deberta-v2-xxlarge"] = {
    "model_type": "deberta-v2",
    "vocab_size": 128100,
    "num_hidden_layers": 48,
    "hidden_size": 1536,
    "num_attention_heads": 24,
    "intermediate_size": 6144,
    "type_vocab_size": 0,
    "relative_attention": True,
    "position_buckets": 256,
    "max_relative_positions": -1,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": ["p2c", "c2p"],
    "conv_kernel_size": 3,
    "position_biased_input": False,
    "layer_norm_eps": 1e-7,
}
SHAPES["xlm-roberta-xl"] = {
    "model_type": "xlm-roberta-xl",
    "vocab_size": 250880,
    "num_hidden_layers": 36,
    "hidden_size": 2560,
    "num_attention_heads": 32,
    "intermediate_size": 10240,
    "max_position_embeddings": 514,
}
CHANGES = ("tokens", "layers", "targets")


def known(shape: str) -> bool:
    """Whether it is a shape's name with changes that there are."""
    name, *changes = shape.split("@")
    return name in SHAPES and all(change.split("=")[0] in CHANGES for change in changes)


def settings(shape: str) -> tuple[dict[str, Any], int]:
    """A shape's config, and how many calibration tokens."""
    config = dict(SHAPES[shape.split("@")[0]])
    config["num_hidden_layers"] = changed(shape, "layers", config["num_hidden_layers"])
    return config, changed(shape, "tokens", TOKENS)


def changed(shape: str, name: str, usual: int) -> int:
    """What stands behind a shape's name under `name`."""
    given = dict(change.split("=") for change in shape.split("@")[1:])
    return int(given.get(name, usual))
