"""The words for every class: phrases that training may use, and phrases kept for evaluation.

In:  the JSON files under `words/`, one per kind, and three shared word lists.
Out: a `Lexicon`, and the list of its problems.
Knows nothing about captions, sounds or encoders.

Nobody chooses which phrases are kept: they are drawn by lot, with a fixed seed, at every load,
among `plain` and `coined` ones. `wide` phrases only train: the same sounds in every other way that
came to mind, by rarer words, parts, actions, places, moods, makers, players, other languages.
The evaluation on unseen words is honest only while no content word of an unseen phrase, in any
inflection, stands in a text that training may read. `problems` is that law; it compares stems, so
"barking" also bars "bark" and "barks".
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from clap_export.corpus import lot
from clap_export.corpus.classes import CLASSES, KIND_OF
from clap_export.corpus.stems import content_words, generic_words, raw_words, word_list

MIN_KNOWN = 13  # Varied wording is what carries an unseen phrase to its class.
MIN_UNSEEN = 1


@dataclass(frozen=True)
class Lexicon:
    """Phrases by class id; the first known phrase of a class is its plain name."""

    known: dict[str, tuple[str, ...]]
    unseen: dict[str, tuple[str, ...]]
    generic: frozenset[str]  # words that name no class, and so count for neither side
    wide: dict[str, tuple[str, ...]]  # training's as well, in looser words


@cache
def load() -> Lexicon:
    """The lexicon that ships with this package.

    `coined` phrases were written so as to avoid the common words of a sound; many are names or
    jargon. They serve as unseen ones only where no plain phrase can be spared.
    """
    tables: dict[str, dict[str, tuple[str, ...]]] = {"plain": {}, "coined": {}, "wide": {}}
    for kind in CLASSES:
        for name, phrases in _phrases(f"{kind}.json").items():
            for part, table in tables.items():
                table[name] = tuple(phrases[part])
    kept = lot.draw(tables["plain"], tables["coined"], fixed=attribute_words(), least=MIN_KNOWN)
    asked = {
        word for table in kept.unseen.values() for phrase in table for word in content_words(phrase)
    }
    wide = {
        name: tuple(phrase for phrase in table if asked.isdisjoint(content_words(phrase)))
        for name, table in tables["wide"].items()
    }
    return Lexicon(kept.known, kept.unseen, generic_words(), wide)


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
    for side in ("known", "unseen", "wide"):
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
        for name, phrases in lexicon.unseen.items()
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
