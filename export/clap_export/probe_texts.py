"""Seeded short texts, as diverse as queries: what text graphs are compared on.

In:  a tokenizer.json with a WordPiece vocabulary; a count; a seed.
Out: texts, the same for the same seed.
Knows nothing about the classes of sounds: these are no training captions.
"""

from __future__ import annotations

import json

import numpy as np

FORMS = (
    "{}",
    "{} {}",
    "the sound of {}",
    "a recording of {} and {}",
    "{} {} with {}",
    "someone plays {} in a {} {}",
    "{} near the {}, then {}",
    "slow {} over {} and {} with distant {}",
)


def probe_texts(tokenizer_json: bytes, n: int, seed: int = 0) -> list[str]:
    """`n` different texts of 1 to 12 words, drawn from the vocabulary's frequent whole words."""
    vocabulary = json.loads(tokenizer_json)["model"]["vocab"]
    # BERT's vocabulary is ordered by frequency from id 1996 ("the") on; rare words are names.
    words = sorted(
        (word for word in vocabulary if word.isascii() and word.isalpha() and len(word) > 2),
        key=vocabulary.__getitem__,
    )[:8000]
    random = np.random.default_rng(seed)
    found: dict[str, None] = {}
    while len(found) < n:
        form = FORMS[int(random.integers(len(FORMS)))]
        chosen = random.choice(len(words), size=form.count("{}"), replace=False)
        found[form.format(*(words[int(i)] for i in chosen))] = None
    return list(found)
