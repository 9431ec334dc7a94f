"""Queries in words: different captions of the classes that the corpus has.

In:  how many, a seed.
Out: texts.
Knows nothing about embeddings, and needs no torch.
"""

from __future__ import annotations

import numpy as np

from clap_export.corpus import captions, lexicon
from clap_export.corpus.classes import KIND_OF


def query_texts(n: int, seed: int = 0) -> list[str]:
    """n different captions in known wording, their classes drawn evenly."""
    rng, words = np.random.default_rng(seed), lexicon.load()
    names, found = list(KIND_OF), dict[str, None]()
    while len(found) < n:
        name = names[int(rng.integers(len(names)))]
        found[captions.known(rng, words, {"class": name, "kind": KIND_OF[name]}).text] = None
    return list(found)
