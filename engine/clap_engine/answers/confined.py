"""A language model's text, sentence by sentence, held against what was found.

In:  its text; the citations, parts and plan of an answer.
Out: the sentences that say nothing beyond them; why the others were dropped.
Knows nothing about how the text was asked for.

A sentence stays if each of its clauses ends in citations of clips that were found, and holds but
words of a small vocabulary, words of the query that stand out in those very clips, their keys, and
numbers that are theirs. So a model may reorder and rephrase, and has no words to invent with.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from clap_engine.answers.evidence import Citation, Part
from clap_engine.answers.plan import AnswerPlan
from clap_engine.answers.prose import Sentence, clock, share, shown

MAX_CHARS = 8000
MAX_SENTENCES = 20
MAX_SENTENCE_CHARS = 600
# No negation, no comparison, nothing that is heard, felt or known: only that clips fit.
_WORDS = (
    "a above also an and are as at between by clip clips come comes fit fits fitting for "
    "found from has have here i in is it its itself match matched matches matching of on one "
    "out pairs query question recording recordings result results s score scored scores "
    "scoring search seconds sound sounds span stand standing stands than that the there these "
    "they this those through to too unrelated was well were which with"
)
VOCABULARY = frozenset(_WORDS.split())
SUPERLATIVES = frozenset(("best", "closest", "first", "highest", "most", "strongest", "top"))
# Only where the clips stand in the order in which they were found.
IN_ORDER = frozenset(("next", "then"))
_MARK = re.compile(r"\[(\d{1,4})\]")
_MARKS = re.compile(r"(?:\s*,?\s*\[\d{1,4}\])+")
_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_STRAY_MARKS = re.compile(r"([.!?])((?:\s*\[\d{1,4}\])+)")
_QUOTE = re.compile(r'"([^"]*)"')
_NUMBER = re.compile(r"\d[\d:.,]*")
_WORD = re.compile(r"[^\W\d_]+")
_ALLOWED = re.compile(r"[\w\s.,;:!?()%'-]*")


@dataclass(frozen=True)
class Bounds:
    """What a text may say."""

    plan: AnswerPlan
    citations: Sequence[Citation]
    parts: Sequence[Part]

    def confined(self, text: str) -> tuple[tuple[Sentence, ...], tuple[str, ...]]:
        """(the sentences that stay, why each other one was dropped)."""
        if len(text) > MAX_CHARS:
            return (), (f"a text of {len(text)} characters; {MAX_CHARS} are allowed",)
        text = " ".join(text.replace("“", '"').replace("”", '"').replace("’", "'").split())
        # "It fits. [1]" -> "It fits [1]."
        text = _STRAY_MARKS.sub(lambda match: f"{match[2]}{match[1]}", text)
        kept: list[Sentence] = []
        dropped: list[str] = []
        for number, said in enumerate(_SENTENCE.split(text), 1):
            if not said:
                continue
            why = "one sentence too many" if len(kept) >= MAX_SENTENCES else self._fault(said)
            if why is None:
                cites = tuple(dict.fromkeys(int(n) for n in _MARK.findall(said)))
                kept.append(Sentence(said, cites))
            else:
                dropped.append(f"sentence {number}: {why}")
        return tuple(kept), tuple(dropped)

    def _fault(self, said: str) -> str | None:
        """Why a sentence can't stay; None if it can."""
        if len(said) > MAX_SENTENCE_CHARS:
            return "it is too long"
        if not said.isprintable():
            return "it holds characters that are not printed"
        marks = list(_MARKS.finditer(said))
        if not marks:
            return "it cites nothing"
        by_number = {one.number: one for one in self.citations}
        start = 0
        order = [int(number) for number in _MARK.findall(said)]
        if order != sorted(order) and IN_ORDER & set(_WORD.findall(said.lower())):
            return "it puts clips into another order"
        for at, mark in enumerate(marks):
            cited = []
            for number in map(int, _MARK.findall(mark[0])):
                one = by_number.get(number)
                if one is None:
                    return f"it cites [{number}], which there is not"
                if one.standing != "found":
                    return f"it cites [{number}], which was not found to stand out"
                cited.append(one)
            clause = said[start : mark.start()]
            if at == len(marks) - 1:
                clause += said[mark.end() :]
            if (why := self._clause_fault(clause, cited)) is not None:
                return why
            start = mark.end()
        return None

    def _clause_fault(self, clause: str, cited: Sequence[Citation]) -> str | None:
        named = {name for one in cited for name in (one.key, shown(one.key))}
        for name in sorted(named, key=len, reverse=True):
            # As a whole: the key "a" is not named by every word that holds an a.
            clause = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", " ", clause)
        for quoted in _QUOTE.findall(clause):
            if quoted not in self._quotable(cited) and quoted.strip():
                return f"it quotes {quoted!r:.60}"
        clause = _QUOTE.sub(" ", clause)
        if _ALLOWED.fullmatch(clause) is None:
            return "it holds signs that no plain sentence has"
        numbers = [_numbers(one) for one in cited]
        for number in _NUMBER.findall(clause):
            if not all(number.rstrip(".,:") in allowed for allowed in numbers):
                return f"it says {number}, which is not a number of what it cites"
        words = self._words(cited)
        is_best = [one.number for one in cited] == [1]
        for word in _WORD.findall(_NUMBER.sub(" ", clause).lower()):
            if word in SUPERLATIVES:
                if not is_best:
                    return f"it says {word!r} of another clip than the first"
            elif word not in VOCABULARY | IN_ORDER | words:
                return f"it says {word!r:.40}, which was not measured"
        return None

    def _heard(self, cited: Sequence[Citation]) -> list[str]:
        """The parts that stand out in each of these clips."""
        numbers = {one.number for one in cited}
        return [part.text for part in self.parts if numbers <= {one.number for one in part.heard}]

    def _quotable(self, cited: Sequence[Citation]) -> set[str]:
        return {self.plan.text, *self._heard(cited)}

    def _words(self, cited: Sequence[Citation]) -> set[str]:
        """Words of the query that may be said of these clips: tempo and mood are not measured."""
        texts = self._heard(cited) if self.parts else [self.plan.text]
        said = {word for text in texts for word in _WORD.findall(text.lower())}
        unmeasured = (*self.plan.moods, *self.plan.tempos, *self.plan.unmet)
        return said - {word for text in unmeasured for word in _WORD.findall(text.lower())}


def _numbers(one: Citation) -> set[str]:
    """How its score and span may be written."""
    spans = [one.start_s, one.end_s]
    found = {f"{one.score:.3f}", f"{one.score:.2f}"}
    found |= {clock(seconds) for seconds in spans}
    found |= {f"{seconds:g}" for seconds in spans} | {f"{seconds:.1f}" for seconds in spans}
    if one.calibrated is not None:
        found.add(share(one.calibrated).removesuffix(" %"))
    return found
