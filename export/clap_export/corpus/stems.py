"""Words -> stems, so that inflections of one word count as one.

In:  texts.
Out: the stems of their content words.
Knows nothing about classes or phrases.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from functools import cache
from importlib.resources import files

MIN_STEM = 3  # A suffix goes only if this many letters stay: "sing" is not "s" + "ing".

_WORD = re.compile(r"[^\W\d_]+")
_VOWEL = re.compile(r"[aeiouy]")
_SHORT = re.compile(r"[^aeiou][aeiou][^aeiouwxy]")


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
    dropped = generic_words() if generic is None else frozenset(generic)
    return tuple(stem(word) for word in raw_words(text) if word not in dropped)


def raw_words(text: str) -> tuple[str, ...]:
    """A text's words in lower case, in order; lone letters are left out."""
    return tuple(word for word in _WORD.findall(text.lower()) if len(word) > 1)


def word_list(name: str) -> tuple[str, ...]:
    """A list of words that ships with this package."""
    text = files("clap_export.corpus").joinpath("words", name).read_text(encoding="utf-8")
    words: list[str] = json.loads(text)
    return tuple(words)


@cache
def generic_words() -> frozenset[str]:
    """Words that name no class, and so count neither as seen nor as unseen."""
    return frozenset(word_list("generic.json"))
