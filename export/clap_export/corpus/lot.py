"""Which phrases training never reads, drawn by lot: what the evaluation on unseen words asks.

In:  every phrase of every class, and a seed.
Out: for each class the phrases that training may read, and those kept for evaluation.
Knows nothing about sounds, encoders or how hard a phrase is: nobody chooses what is asked.

A phrase is kept together with its words: no content word of it, in any inflection, may stand in a
text that training reads. So each draw also withdraws the phrases that share a word with it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from clap_export.corpus.stems import content_words

SEED = 2026
EACH = 3  # phrases a class: two to measure, then one for choosing hyper-parameters
MAX_WITHDRAWN = 25  # phrases, over all classes, that one draw may cost

Phrases = Mapping[str, Sequence[str]]
Place = tuple[str, int]


@dataclass(frozen=True)
class Lot:
    """Phrases by class; those that mix kept words with free ones are in neither."""

    known: dict[str, tuple[str, ...]]
    unseen: dict[str, tuple[str, ...]]


@dataclass
class _Urn:
    """Stems of every phrase, who uses them, and what has been drawn so far."""

    stems: dict[str, list[frozenset[str]]]
    fixed: frozenset[str]  # stems that can't be kept from training
    least: int
    users: dict[str, set[Place]] = field(default_factory=lambda: defaultdict(set))
    kept: set[str] = field(default_factory=set)
    left: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, table in self.stems.items():
            self.left[name] = len(table)
            for place, words in enumerate(table):
                for word in words:
                    self.users[word].add((name, place))

    def draw(self, words: frozenset[str]) -> bool:
        """Keep these words back, if every class can spare what that withdraws."""
        if words & self.fixed or words <= self.kept:
            return False
        places = set().union(*(self.users[word] for word in words - self.kept))
        losses: dict[str, int] = defaultdict(int)
        for name, place in places:
            losses[name] += not self.stems[name][place] & self.kept
        if sum(losses.values()) > MAX_WITHDRAWN:
            return False
        if any(self.left[name] - lost < self.least for name, lost in losses.items()):
            return False
        for name, lost in losses.items():
            self.left[name] -= lost
        self.kept |= words
        return True


def draw(
    plain: Phrases, coined: Phrases, *, fixed: Iterable[str], least: int, seed: int = SEED
) -> Lot:
    """Up to EACH phrases for every class: plain ones, or coined ones where none can be spared.

    The classes take turns in an order by lot. The first plain phrase of a class is its name and
    stays, as do the words of `fixed`; every class keeps `least` phrases for training.
    """
    rng = np.random.default_rng([seed, 11])
    phrases = {name: (*plain[name], *coined[name]) for name in plain}
    stems = {
        name: [frozenset(content_words(phrase)) for phrase in table]
        for name, table in phrases.items()
    }
    names = [word for table in stems.values() for word in table[0]]
    urn = _Urn(
        stems, frozenset([*names, *(w for text in fixed for w in content_words(text))]), least
    )
    drawn: dict[str, list[str]] = {name: [] for name in phrases}
    for _ in range(EACH):
        for name in rng.permutation(sorted(phrases)):
            count = len(plain[name])
            places = [*rng.permutation(count), *(count + rng.permutation(len(coined[name])))]
            for place in places:
                if urn.draw(stems[name][place]):
                    drawn[name].append(phrases[name][place])
                    break
    known = {
        name: tuple(p for p, words in zip(table, stems[name], strict=True) if not words & urn.kept)
        for name, table in phrases.items()
    }
    return Lot(known, {name: tuple(table) for name, table in drawn.items()})
