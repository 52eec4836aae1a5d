"""Plain texts of several lengths, for checks that need real language where nobody gave any."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from compress.model.task_head import head_of
from export.graph.outputs import Feeds

__all__ = ["PROBES", "PROSE", "prose_feeds"]

PROSE: tuple[str, ...] = (
    "The film was a quiet triumph, and I would gladly see it again.",
    "Two hours of my life that nobody will give back.",
    "ok",
    "The delivery arrived a week late and the box was torn, but the lamp itself works well.",
    "Prices rose by 3.5% in Q2 (from $1,200 to $1,242), analysts said on Tuesday.",
    "Where is the library?",
    "Heavy rain is expected in the north tonight, with floods possible along the river.",
    "He never once apologised.",
    "The committee approved the new budget after a debate that lasted until midnight, although "
    "three of its members had asked for more time to read the figures.",
    "Add the flour slowly, stir until smooth, and leave the dough to rest for an hour.",
    "What a waste of a talented cast!",
    "The patient reported no pain after the second week of treatment.",
    "Please reset my password; the link in the message has expired.",
    "The striker scored twice in the last five minutes.",
    "Under the terms of the agreement, either party may cancel with thirty days' notice in "
    "writing, and no fee is due for the days that remain.",
    "I love it.",
    "Researchers measured the temperature of the lake every morning for eleven years.",
    "The battery lasts about a day, the screen is bright, and the camera is poor in the dark.",
    "She asked whether the train to Cambridge stops at Ely.",
    "Not bad, not great.",
    "The bridge was closed to lorries in March, and by June most shops on the street had moved.",
    "Our server returned an error: connection refused.",
    "A man is playing a guitar while a small crowd listens.",
    "The novel follows four sisters through the war, their letters, their quarrels and their "
    "long journey home, and it is at its best when nothing much happens at all.",
)


PROBES: tuple[str, ...] = (
    *PROSE,
    "MIXED Case And UPPER CASE",
    "digits 1234567890, 3.14159 and 1,000,000",
    "spaces   and\ttabs \n and lines",
    "don't stop-gap e-mail snake_case CamelCase",
    "Ein Café in Zürich, naïve façade — “voilà”",
    "東京 и Москва, مرحبا, 🙂👩‍💻",
    "e\u0301 composed and é, ﬁ ligature, Ⅷ, ½, ™",
    "zero\u200bwidth, soft\u00adhyphen, no\u00a0break, \u2028line",
    "\u0007bell and \ufffd",
    "https://example.org/path?x=1&y=2#top @user #tag",
    "",
)
"""Texts that tokenizers with other normalisation or splitting give other tokens for."""


def prose_feeds(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, names: Sequence[str]
) -> Feeds:
    """`PROSE` as a graph's inputs, all in one batch, padded; every two are a row of choices.

    Args:
        model: Says whether the inputs have choices.
        tokenizer: The model's tokenizer.
        names: The graph's inputs.
    """
    encoded = tokenizer(list(PROSE), padding=True, truncation=True, max_length=48)
    arrays = {name: np.array(encoded[name], np.int64) for name in names}
    if head_of(model).choices:
        arrays = {name: a.reshape(-1, 2, a.shape[-1]) for name, a in arrays.items()}
    return [arrays]
