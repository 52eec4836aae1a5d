"""Which tokens and features are kept, and layers paired: by hand, and never padding."""

from __future__ import annotations

import pytest
import torch

from compress.distillation.cache_spec import CacheSpec, choose_features, choose_tokens
from compress.distillation.layer_map import layer_pairs
from compress.errors import RecipeError, SpecError

MASK = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1]])
SEPARATORS = torch.tensor([[0, 0, 0, 1, 0, 1], [0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 1]]).bool()


def attention(worth: list[list[float]]) -> torch.Tensor:
    """Two heads that mean to `worth` in every row."""
    whole = torch.tensor(worth)[:, None, None, :].expand(-1, 2, 6, -1).clone()
    whole[:, 0] += 0.1
    whole[:, 1] -= 0.1
    return whole


def test_tokens_are_those_that_the_first_one_looks_at_most_separators_last() -> None:
    seen = attention(
        [[0.1, 0.5, 0.2, 0.9, 0.3, 0.8], [0.1, 0.2, 0.3, 0.9, 1, 1], [1, 1, 0, 4, 1, 9]]
    )
    chosen = choose_tokens(CacheSpec(max_tokens=3), MASK, SEPARATORS, seen)
    assert chosen.tolist() == [[1, 2, 4], [0, 1, 2], [2, 3, 4]]


def test_tokens_from_the_left_skip_padding_on_the_left() -> None:
    chosen = choose_tokens(CacheSpec(max_tokens=3, tokens="left"), MASK, SEPARATORS)
    assert chosen.tolist() == [[0, 1, 2], [0, 1, 2], [2, 3, 4]]


def test_all_tokens_are_all_real_ones() -> None:
    chosen = choose_tokens(CacheSpec(max_tokens=None), MASK, SEPARATORS)
    assert [[t for t in row if t >= 0] for row in chosen.tolist()] == [
        [0, 1, 2, 3, 4, 5],
        [0, 1, 2, 3],
        [2, 3, 4, 5],
    ]


def test_features_are_the_largest_evenly_spaced_or_random() -> None:
    states = torch.tensor([[[1.0, -5.0, 0.5, 3.0, 0.0, -2.0]]])
    generator = torch.Generator().manual_seed(0)
    assert choose_features(CacheSpec(feature_fraction=0.5), states, generator).tolist() == [
        [[1, 3, 5]]
    ]
    even = choose_features(CacheSpec(feature_fraction=0.5, features="uniform"), states, generator)
    assert even.tolist() == [[[0, 2, 4]]]
    some = choose_features(CacheSpec(feature_fraction=0.5, features="random"), states, generator)
    assert some.shape == (1, 1, 3)
    assert len(set(some.flatten().tolist())) == 3


def test_depth_keeps_the_upper_pairs() -> None:
    pairs = layer_pairs("uniform", 3, 6)
    assert pairs == ((1, 2), (2, 4), (3, 6))
    assert CacheSpec(depth=2).pairs(pairs) == ((2, 4), (3, 6))
    assert CacheSpec(depth=None).pairs(pairs) == ((0, 0), *pairs)
    assert CacheSpec(depth=0).pairs(pairs) == ()


def test_layer_maps_are_lius_uniform_the_last_and_a_plans_sources() -> None:
    # g(l, L_top) = round(l * L_top / L'), with 4 layers of the student and the tenth of 12
    assert layer_pairs("uniform", 4, 12, top=10) == ((1, 2), (2, 5), (3, 8), (4, 10))
    assert layer_pairs("last", 4, 12) == ((4, 12),)
    assert layer_pairs("source", 2, 6, sources=[1, 4]) == ((1, 2), (2, 5))
    assert layer_pairs([(1, 3)], 2, 6) == ((1, 3),)
    assert layer_pairs("nearest", 3, 12) == ((0, 3), (0, 6), (0, 9), (0, 12))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"depth": -1}, r"CacheSpec\.depth"),
        ({"max_tokens": 0}, r"CacheSpec\.max_tokens"),
        ({"feature_fraction": 0.0}, r"CacheSpec\.feature_fraction"),
        ({"feature_fraction": 1.5}, r"CacheSpec\.feature_fraction"),
        ({"tokens": "best"}, r"CacheSpec\.tokens"),
        ({"features": "best"}, r"CacheSpec\.features"),
    ],
)
def test_knowledge_that_cannot_be_is_refused_by_name(change: dict[str, object], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        CacheSpec(**change)  # type: ignore[arg-type]


def test_pairs_of_layers_that_are_not_there_are_refused() -> None:
    with pytest.raises(RecipeError, match="layer map"):
        layer_pairs([(3, 1)], 2, 6)
    with pytest.raises(RecipeError, match="top layer"):
        layer_pairs("uniform", 2, 6, top=7)
    with pytest.raises(RecipeError, match="source"):
        layer_pairs("source", 2, 6)
