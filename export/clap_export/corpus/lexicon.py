"""The words for every class: phrases that training may use, and phrases kept for evaluation.

In:  the JSON files under `words/`, one per kind, and two shared word lists.
Out: a `Lexicon`, and the list of its problems.
Knows nothing about captions, sounds or encoders.

The evaluation on unseen words is honest only while no content word of an unseen phrase, in any
inflection, stands in a text that training may read. `problems` is that law; it compares stems, so
"barking" also bars "bark" and "barks".
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

from clap_export.corpus.classes import CLASSES, KIND_OF

MIN_KNOWN = 13  # Varied wording is what carries an unseen phrase to its class.
MIN_UNSEEN = 2
MIN_STEM = 3  # A suffix goes only if this many letters stay: "sing" is not "s" + "ing".

_WORD = re.compile(r"[^\W\d_]+")
_VOWEL = re.compile(r"[aeiouy]")
_SHORT = re.compile(r"[^aeiou][aeiou][^aeiouwxy]")


@dataclass(frozen=True)
class Lexicon:
    """Phrases by class id; the first known phrase of a class is its plain name."""

    known: dict[str, tuple[str, ...]]
    unseen: dict[str, tuple[str, ...]]
    generic: frozenset[str]  # words that name no class, and so count for neither side
    # The unseen phrases that were drawn by lot from plain ones; the others were written as such.
    by_lot: dict[str, tuple[str, ...]] = field(default_factory=dict)


def load() -> Lexicon:
    """The lexicon that ships with this package."""
    known: dict[str, tuple[str, ...]] = {}
    unseen: dict[str, tuple[str, ...]] = {}
    by_lot: dict[str, tuple[str, ...]] = {}
    for kind in CLASSES:
        for name, phrases in _phrases(f"{kind}.json").items():
            known[name] = tuple(phrases["known"])
            unseen[name] = tuple(phrases["unseen"])
            by_lot[name] = tuple(phrases["by_lot"])
    return Lexicon(known, unseen, _shipped_generic(), by_lot)


def attribute_words() -> tuple[str, ...]:
    """Words that the caption templates themselves use; training sees all of them."""
    return _words("attributes.json")


@cache
def stem(word: str) -> str:
    """A lower-case word without its plural, -ing or -ed ending, nor a final silent "e".

    Inflections of one word meet in one stem, which need not be a word ("whistl"). Four-letter
    words keep their "e", or "pipe" would meet "pip".
    """
    if word.endswith("ies") and len(word) > MIN_STEM + 1:
        word = word[:-3] + "y"
    elif word.endswith(("ches", "shes", "sses", "tzes", "xes", "zzes")):
        word = word[:-2]
    elif word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > MIN_STEM:
        word = word[:-1]
    if word.endswith("ied") and len(word) > MIN_STEM + 1:
        return word[:-3] + "y"
    for suffix in ("ing", "ed"):
        base = word.removesuffix(suffix)
        if base != word and len(base) >= MIN_STEM and _VOWEL.search(base) and base[-1] != "e":
            if base[-1] == base[-2] and base[-1] not in "aeioulsfz":
                return base[:-1]  # "humming" doubles its "m"; "hissing" and "rolling" do not.
            return base + "e" if _SHORT.fullmatch(base) else base  # "piping" is from "pipe".
    return word[:-1] if word.endswith("e") and len(word) > MIN_STEM + 1 else word


def content_words(text: str, generic: Iterable[str] | None = None) -> tuple[str, ...]:
    """The stems of a text's words, in order; generic words and lone letters are left out.

    `generic` defaults to the shipped list.
    """
    dropped = _shipped_generic() if generic is None else frozenset(generic)
    words = _WORD.findall(text.lower())
    return tuple(stem(word) for word in words if len(word) > 1 and word not in dropped)


def vocabulary(lexicon: Lexicon) -> Counter[str]:
    """How many known phrases hold each content stem; its length is the vocabulary count."""
    counts: Counter[str] = Counter()
    for phrases in lexicon.known.values():
        for phrase in phrases:
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
    for side, table in (("known", lexicon.known), ("unseen", lexicon.unseen)):
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
    for name, phrases in lexicon.known.items():
        for phrase in phrases:
            for each in content_words(phrase, lexicon.generic):
                seen.setdefault(each, f"{phrase!r} of {name}")
    return [
        f"{name}: unseen {phrase!r} shares {each!r} with {seen[each]}"
        for name, phrases in lexicon.unseen.items()
        for phrase in phrases
        for each in content_words(phrase, lexicon.generic)
        if each in seen
    ]


@cache
def _shipped_generic() -> frozenset[str]:
    return frozenset(_words("generic.json"))


def _words(name: str) -> tuple[str, ...]:
    words: list[str] = json.loads(_text(name))
    return tuple(words)


def _phrases(name: str) -> Mapping[str, Mapping[str, list[str]]]:
    table: Mapping[str, Mapping[str, list[str]]] = json.loads(_text(name))
    return table


def _text(name: str) -> str:
    return files("clap_export.corpus").joinpath("words", name).read_text(encoding="utf-8")
