"""The words for every class: phrases that training may use, and phrases kept for evaluation.

In:  the JSON files under `words/`: one per kind, two that widen them, the questions, word lists.
Out: a `Lexicon`, and the list of its problems.
Knows nothing about captions, sounds or encoders.

Two sets are kept from training. `unseen` are questions in unseen words: nobody chose them, they
were drawn by lot (`corpus.lot`) from plain and coined phrases and are written down in `kept.json`,
so that figures stay comparable while the words around them grow; no content word of theirs, in any
inflection, stands in a text that training may read. `problems` is that law; it compares stems, so
"barking" also bars "bark" and "barks". `held` are unseen phrasings: a third of the other plain and
coined phrases of each class, whose words may stand in other phrases of training.
`wide` phrases only train: the same sounds in every other way that came to mind, by rarer words,
parts, actions, places, moods, makers, players, other languages, and lemmas of WordNet 3.0 (Debian's
wordnet-base 1:3.0) under animals, guns, vehicles, weather and tools: `wordnet.json`.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from clap_export.corpus.classes import CLASSES, KIND_OF
from clap_export.corpus.stems import content_words, generic_words, raw_words, word_list

MIN_KNOWN = 10  # Varied wording is what carries an unseen phrase to its class.
MIN_TRAINING = 20  # phrases of a class that training reads, wide ones included
MIN_UNSEEN = 1
HELD_SHARE = 3  # one phrasing in so many is held out


@dataclass(frozen=True)
class Lexicon:
    """Phrases by class id; the first known phrase of a class is its plain name."""

    known: dict[str, tuple[str, ...]]
    unseen: dict[str, tuple[str, ...]]  # for the report alone, at most two a class
    generic: frozenset[str]  # words that name no class, and so count for neither side
    wide: dict[str, tuple[str, ...]]  # training's as well, in looser words
    development: dict[str, tuple[str, ...]]  # unseen words for choosing hyper-parameters
    held: dict[str, tuple[str, ...]]  # phrasings that training never reads, in words that it may


@cache
def load() -> Lexicon:
    """The lexicon that ships with this package."""
    kept = _phrases("kept.json")
    unseen, development = (
        {name: tuple(kept[name][part]) for name in KIND_OF} for part in ("report", "development")
    )
    asked = {
        word
        for table in (unseen, development)
        for phrases in table.values()
        for phrase in phrases
        for word in content_words(phrase)
    }
    known, held, wide = {}, {}, {}
    for name, table in training_phrases().items():
        parts = {
            part: tuple(phrase for phrase in phrases if asked.isdisjoint(content_words(phrase)))
            for part, phrases in table.items()
        }
        held[name] = held_phrases(name, parts["plain"])
        known[name] = tuple(phrase for phrase in parts["plain"] if phrase not in held[name])
        wide[name] = parts["wide"]
    return Lexicon(known, unseen, generic_words(), wide, development, held)


def training_phrases() -> dict[str, dict[str, tuple[str, ...]]]:
    """{class: {"plain", "wide"}} of all files, with what the questions bar still in them.

    `coined` phrases were written so as to avoid the common words of a sound; many are names or
    jargon. They count as plain ones here.
    """
    more, wordnet = _phrases("authored.json"), _lists("wordnet.json")
    tables: dict[str, dict[str, tuple[str, ...]]] = {}
    for kind, names in CLASSES.items():
        own = _phrases(f"{kind}.json")
        for name in names:
            plain = (*own[name]["plain"], *own[name]["coined"], *more[name]["plain"])
            wide = (*own[name]["wide"], *more[name]["wide"], *wordnet.get(name, ()))
            tables[name] = {"plain": plain, "wide": wide}
    return tables


def held_phrases(name: str, phrases: tuple[str, ...]) -> tuple[str, ...]:
    """A third of a class's phrases, never its first, by the digests of class and phrase: what is
    added later moves few others from one side to the other."""

    def lot(phrase: str) -> str:
        return hashlib.sha256(f"{name}|{phrase}".encode()).hexdigest()

    chosen = sorted(phrases[1:], key=lot)[: len(phrases) // HELD_SHARE]
    return tuple(phrase for phrase in phrases if phrase in chosen)


@cache
def _beyond_dictionary() -> frozenset[str]:
    return frozenset(word_list("beyond_dictionary.json"))


def is_dictionary(phrase: str) -> bool:
    """Whether SCOWL's large American list has every word of it, and not in capitals only.

    The others are names of players, makers and pieces ("bottesini"), foreign words, or sounds
    spelled out ("mwah"): to know them is not to know the language. `beyond_dictionary.json` lists
    the words of plain and coined phrases that are not in Debian's wamerican-large 2020.12.07.
    """
    return _beyond_dictionary().isdisjoint(raw_words(phrase))


def attribute_words() -> tuple[str, ...]:
    """Words that the caption templates themselves use; training sees all of them."""
    return word_list("attributes.json")


def vocabulary(lexicon: Lexicon) -> Counter[str]:
    """How many phrases of training hold each content stem; its length is the vocabulary count."""
    counts: Counter[str] = Counter()
    for _, phrase in _training(lexicon):
        counts.update(set(content_words(phrase, lexicon.generic)))
    return counts


def problems(lexicon: Lexicon, extra_training_words: Iterable[str] = ()) -> list[str]:
    """One line for each broken rule; empty for a lexicon that is fit for use.

    `extra_training_words` are what training reads beside the known phrases; the attribute words
    of the caption templates always count.
    """
    return [
        *_coverage(lexicon),
        *_phrase_faults(lexicon),
        *_collisions(lexicon, (*attribute_words(), *extra_training_words)),
    ]


def _coverage(lexicon: Lexicon) -> list[str]:
    found: list[str] = []
    tables = (("known", lexicon.known, MIN_KNOWN), ("unseen", lexicon.unseen, MIN_UNSEEN))
    for side, table, least in tables:
        found += [f"{name}: unknown class in {side}" for name in table if name not in KIND_OF]
        found += [f"{name}: no {side} phrases" for name in KIND_OF if name not in table]
        found += [
            f"{name}: {len(phrases)} {side} phrases, at least {least} are needed"
            for name, phrases in table.items()
            if len(phrases) < least
        ]
    return found


def _phrase_faults(lexicon: Lexicon) -> list[str]:
    """Phrases in two places, in capitals or with stray spaces, or without any content."""
    found: list[str] = []
    owners: dict[str, str] = {}
    for side in ("known", "unseen", "development", "held", "wide"):
        table: dict[str, tuple[str, ...]] = getattr(lexicon, side)
        for name, phrases in table.items():
            for phrase in phrases:
                place = f"{name} ({side})"
                if phrase != " ".join(phrase.lower().split()):
                    found.append(f"{place}: {phrase!r} is not plain lower case")
                if not content_words(phrase, lexicon.generic):
                    found.append(f"{place}: {phrase!r} has no content word")
                if phrase in owners:
                    found.append(f"{place}: {phrase!r} is also in {owners[phrase]}")
                owners.setdefault(phrase, place)
    return found


def _collisions(lexicon: Lexicon, training_words: Iterable[str]) -> list[str]:
    seen: dict[str, str] = {}
    for word in training_words:
        for each in content_words(word, lexicon.generic):
            seen.setdefault(each, "the training words")
    for name, phrase in _training(lexicon):
        for each in content_words(phrase, lexicon.generic):
            seen.setdefault(each, f"{phrase!r} of {name}")
    return [
        f"{name}: unseen {phrase!r} shares {each!r} with {seen[each]}"
        for table in (lexicon.unseen, lexicon.development)
        for name, phrases in table.items()
        for phrase in phrases
        for each in content_words(phrase, lexicon.generic)
        if each in seen
    ]


def _training(lexicon: Lexicon) -> Iterator[tuple[str, str]]:
    """(class, phrase) of every phrase that training reads."""
    for table in (lexicon.known, lexicon.wide):
        for name, phrases in table.items():
            yield from ((name, phrase) for phrase in phrases)


def _phrases(name: str) -> Mapping[str, Mapping[str, list[str]]]:
    text = files("clap_export.corpus").joinpath("words", name).read_text(encoding="utf-8")
    table: Mapping[str, Mapping[str, list[str]]] = json.loads(text)
    return table


def _lists(name: str) -> Mapping[str, list[str]]:
    text = files("clap_export.corpus").joinpath("words", name).read_text(encoding="utf-8")
    table: Mapping[str, list[str]] = json.loads(text)
    return table
