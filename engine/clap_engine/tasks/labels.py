"""Labels as a caller gives them -> labels checked, each with the words that stand for it.

In:  a list of texts; a mapping of labels to one text or several; labels that were checked before.
Out: `Labels`.
Knows nothing about models, templates or sounds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from clap_engine.errors import TaskError

MAX_LABELS = 10_000
MAX_TEXTS = 20_000


@dataclass(frozen=True)
class Labels:
    """`texts` are the words of all labels in a row; those of label i begin at `starts[i]`.

    A label is as true as the truest of its texts.
    """

    names: tuple[str, ...]
    texts: tuple[str, ...]
    starts: tuple[int, ...]

    @classmethod
    def of(cls, given: GivenLabels, what: str = "labels") -> Labels:
        """Checked; TaskError if there is none, one twice, one blank, or too many."""
        if isinstance(given, Labels):
            return given
        if isinstance(given, (str, bytes)):
            raise TaskError(f"{what} is one text; give a list: [{given!r:.40}]")
        if not isinstance(given, (Mapping, Sequence)):
            raise TaskError(f"{what} is a {type(given).__name__}; give a list of texts")
        if not 1 <= len(given) <= MAX_LABELS:
            raise TaskError(f"{len(given)} {what} are given; 1 to {MAX_LABELS} are allowed")
        names = _texts(list(given), what)
        words: list[tuple[str, ...]] = [(name,) for name in names]
        if isinstance(given, Mapping):
            words = [_texts(_listed(some), f"{what} {name!r:.40}") for name, some in given.items()]
        texts = tuple(text for some in words for text in some)
        if len(texts) > MAX_TEXTS:
            raise TaskError(f"{what} come to {len(texts)} texts; at most {MAX_TEXTS} are allowed")
        lengths = [len(some) for some in words]
        return cls(names, texts, tuple(int(n) for n in np.cumsum([0, *lengths[:-1]])))

    def __len__(self) -> int:
        return len(self.names)

    def best(self, cosines: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """[..., T] of all texts -> [..., L], for each label that of its best text."""
        if len(self.texts) == len(self.names):
            return cosines
        return np.asarray(np.maximum.reduceat(cosines, self.starts, axis=-1))


GivenLabels: TypeAlias = "Sequence[str] | Mapping[str, str | Sequence[str]] | Labels"


def _listed(words: object) -> list[object]:
    return list(words) if isinstance(words, (list, tuple)) else [words]


def _texts(given: list[Any], what: str) -> tuple[str, ...]:
    """Stripped; each a text that is not blank and stands there once."""
    if not given:
        raise TaskError(f"{what} has no text; give one at least")
    for text in given:
        if not isinstance(text, str) or not text.strip():
            raise TaskError(f"{what} holds {text!r:.60}; each must be a text that is not blank")
    found = tuple(text.strip() for text in given)
    if len(set(found)) != len(found):
        text, count = Counter(found).most_common(1)[0]
        raise TaskError(f"{what} holds {text!r:.60} {count} times; give each once")
    return found
