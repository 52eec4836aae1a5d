"""A synthetic sentiment task: English sentences whose words alone do not tell the label.

A label follows from which clause counts and whether it is negated: after *but*, and in the main
clause beside *although*, counts; *not*, *never*, *hardly* and their like turn a word round;
intensifiers do not. Good and bad words are drawn alike for both labels, so that a bag of words
stays below 80 %, and a third of the validation split's good and bad words are not in the training
split. It is a test of machinery, and no benchmark of language.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from benchmarks.tasks import Dataset, Split

__all__ = ["LABELS", "generate"]

LABELS = ("negative", "positive")

_SUBJECTS = (
    "the film", "the plot", "the acting", "the music", "the service", "the room", "the food",
    "the staff", "the story", "the ending", "the camera work", "the book", "the hotel", "the view",
    "the dialogue", "the second half", "the opening", "the price", "the soup", "the concert",
)  # fmt: skip
_GOOD = (
    "good", "wonderful", "charming", "brilliant", "clever", "delightful", "funny", "elegant",
    "gripping", "pleasant", "fresh", "warm", "bearable", "solid", "spotless",
)  # fmt: skip
_BAD = (
    "bad", "awful", "boring", "clumsy", "dull", "dreadful", "shallow", "tedious", "annoying",
    "poor", "stale", "cold", "overrated", "flimsy", "tasteless",
)  # fmt: skip
_SEEN = 10  # of each list, in training
_PLAIN = ("was", "seemed", "felt", "turned out to be", "looked", "proved")
_TURNED = (
    "was not", "was never", "was hardly", "was anything but", "did not seem", "was far from",
    "never felt", "could not be called",
)  # fmt: skip
_INTENSIFIERS = ("", "", "very ", "really ", "so ", "quite ", "truly ", "extremely ")
_JOINED = (
    ("{a}, but {b}", 1),
    ("{a}, yet {b}", 1),
    ("although {a}, {b}", 1),
    ("even though {a}, {b}", 1),
    ("{a}, although {b}", 0),
    ("{a}, even though {b}", 0),
    ("while {a}, {b}", 1),
)


@dataclass(frozen=True, slots=True)
class _Clause:
    text: str
    positive: bool


def generate(split: Split, count: int, seed: int = 0) -> Dataset:
    """`count` labelled sentences; the same for the same split, count and seed.

    Example:
        >>> generate("train", 2).labels == generate("train", 2).labels
        True
    """
    rng = random.Random(f"{split} {seed}")
    words = _SEEN if split == "train" else len(_GOOD)
    rows = [_sentence(rng, words) for _ in range(count)]
    return Dataset(
        name="synthetic sentiment",
        split=split,
        texts=tuple((text,) for text, _ in rows),
        labels=tuple(LABELS[positive] for _, positive in rows),
        label_names=LABELS,
    )


def _sentence(rng: random.Random, words: int) -> tuple[str, bool]:
    first, second = _clause(rng, words), _clause(rng, words)
    if rng.random() < 0.25:
        return f"{first.text} .", first.positive
    pattern, telling = rng.choice(_JOINED)
    text = pattern.format(a=first.text, b=second.text)
    return f"{text} .", (first, second)[telling].positive


def _clause(rng: random.Random, words: int) -> _Clause:
    good, turned = rng.random() < 0.5, rng.random() < 0.4
    verb = rng.choice(_TURNED if turned else _PLAIN)
    word = rng.choice((_GOOD if good else _BAD)[:words])
    text = f"{rng.choice(_SUBJECTS)} {verb} {rng.choice(_INTENSIFIERS)}{word}"
    return _Clause(text, good != turned)
