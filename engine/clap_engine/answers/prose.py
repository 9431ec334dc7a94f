"""Findings -> sentences. Each claim names the clips that it rests on; what is no claim is a note.

In:  findings, parts, groups.
Out: `Sentence`s, the same for the same findings.
Knows nothing about questions, collections or models.

What a score beats is rounded down, so that no sentence says more than was measured.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from clap_engine.answers.conditions import UNKNOWN_YEAR, in_words
from clap_engine.answers.evidence import Citation, Findings, Part
from clap_engine.answers.plan import AnswerPlan

MAX_NAME_CHARS = 100
MAX_LISTED = 4
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


@dataclass(frozen=True)
class Sentence:
    """One sentence; a "claim" is about the clips that it cites, and so is a "caveat", which limits
    what was claimed; a "note" is about the search."""

    text: str
    cites: tuple[int, ...] = ()
    kind: Literal["claim", "caveat", "note"] = "claim"


@dataclass(frozen=True)
class Group:
    """The clips that share a value of a metadata field, by their numbers; None: they have none."""

    value: str | None
    cites: tuple[int, ...]


def clock(seconds: float) -> str:
    """Seconds as `m:ss.s`."""
    tenths = round(seconds * 10)
    return f"{tenths // 600}:{tenths % 600 / 10:04.1f}"


def shown(name: Any) -> str:
    """A key or value on one line, without what would look like a citation or move a cursor."""
    text = str(name).replace("[", "(").replace("]", ")")
    kept = "".join("?" if unicodedata.category(c)[0] in "CZ" and c != " " else c for c in text)
    return kept if len(kept) <= MAX_NAME_CHARS else f"{kept[: MAX_NAME_CHARS - 3]}..."


def share(calibrated: float) -> str:
    """A share as a percentage, rounded down, never all."""
    return f"{min(math.floor(max(calibrated, 0.0) * 1000) / 10, 99.9):.1f} %"


def place(one: Citation) -> str:
    """`banjo.ogg at 0:00.0-0:05.0`."""
    return f"{shown(one.key)} at {clock(one.start_s)}-{clock(one.end_s)}"


def wanted(plan: AnswerPlan) -> str:
    """What was asked of the sound."""
    said = [f'"{shown(plan.text)}"'] if plan.text else []
    said += [f"the sound of {shown(key)}" for key in plan.near]
    if not said and plan.without:
        return "anything but " + _listed([f'"{shown(text)}"' for text in plan.without])
    return _listed(said) or "any sound"


def lead(findings: Findings) -> Iterator[Sentence]:
    """What was found, from the best down; what was not; what was left out."""
    strong, plan = findings.strong, findings.plan
    weak = [one for one in findings.citations if one.standing == "weak"]
    if not findings.answering:
        yield _nothing(findings)
    elif not strong:
        yield _no_strong(findings, weak[0])
        weak = weak[1:]
    else:
        yield _best(findings, strong[0])
        yield from _further(strong[1:])
    if weak and findings.bar is not None:
        places = [f"{place(one)} with {one.score:.3f} {_marks([one])}" for one in weak]
        yield _caveat(f"Less certain, below {share(findings.bar)}: {_listed(places)}.", weak)
    if plan.is_k_asked and findings.answering and len(strong) < plan.k:
        asked, got = _number(plan.k).capitalize(), _number(len(strong))
        yield _note(f"{asked} {'was' if plan.k == 1 else 'were'} asked for; {got} stood out.")
    yield from _excluded(findings)
    if findings.answering and plan.where:
        cited = findings.answering
        what = "It meets" if len(cited) == 1 else "All named so far meet"
        yield _claim(f"{what} {shown(in_words(plan.where))} {_marks(cited)}.", cited)


def together(plan: AnswerPlan, parts: Sequence[Part]) -> bool:
    """Whether one clip has every part; any part will do where the text says "or"."""
    heard = [{one.number for one in part.heard} for part in parts]
    if not heard:
        return True
    if re.search(r"\bor\b", plan.text, re.IGNORECASE):
        return any(heard)
    return bool(set.intersection(*heard))


def of_parts(plan: AnswerPlan, parts: Sequence[Part]) -> Iterator[Sentence]:
    """In which clips each part stands out by itself, and whether any has them all."""
    for part in parts:
        name = f'"{shown(part.text)}"'
        every = sorted((*part.heard, *part.unheard), key=lambda one: one.number)
        if not part.heard:
            yield _caveat(f"By itself {name} stands out in none of {_marks(every)}.", every)
            continue
        heard = _listed([
            f"{_marks([one])} at {clock(one.start_s)}-{clock(one.end_s)}" for one in part.heard
        ])  # fmt: skip
        rest = f", not in {_marks(part.unheard)}" if part.unheard else ""
        yield _claim(f"By itself {name} stands out in {heard}{rest}.", every)
    if len(parts) > 1 and all(part.heard for part in parts) and not together(plan, parts):
        every = sorted((*parts[0].heard, *parts[0].unheard), key=lambda one: one.number)
        yield _caveat(f"In none of {_marks(every)} do they stand out together.", every)


def of_groups(field: str, groups: Sequence[Group]) -> Iterator[Sentence]:
    """Which clips share a value."""
    if not groups:
        return
    said = [
        ("without one" if group.value is None else shown(group.value))
        + " "
        + "".join(f"[{number}]" for number in group.cites)
        for group in groups
    ]
    cites = tuple(number for group in groups for number in group.cites)
    yield Sentence(f"By {shown(field)}: {'; '.join(said)}.", cites)


def notes(findings: Findings, clips: int) -> Iterator[Sentence]:
    """What was not measured, what could not be applied, and what chance alone would give."""
    plan = findings.plan
    for words, what in ((plan.tempos, "Tempo"), (plan.moods, "Mood")):
        if words and findings.answering:
            said = _listed([f'"{shown(word)}"' for word in words])
            yield _note(f"{what} was not measured: {said} counted only as part of the query.")
    for condition in plan.unmet:
        yield _note(f'"{shown(condition)}" was not applied: {UNKNOWN_YEAR} for this collection.')
    if findings.bar is None and findings.answering:
        yield _note(
            "The bundle doesn't say what unrelated sounds score, so nothing tells how sure it is."
            if plan.is_sound_asked
            else "Nothing was asked of the sound itself, so the order says little."
        )
    elif findings.bar is not None and findings.strong and not findings.is_sum:
        by_chance = (1.0 - findings.bar) * clips
        if by_chance >= 1:
            yield _note(
                f"Of {clips:,} clips some {by_chance:,.0f} would get such a score by chance."
            )


def grouped(findings: Findings, field: str) -> tuple[Group, ...]:
    """The answering clips by the value of a metadata field, in the order of the best of each."""
    found: dict[str | None, list[int]] = {}
    for one in findings.answering:
        for value in _values(one, field):
            found.setdefault(value, []).append(one.number)
    return tuple(Group(value, tuple(numbers)) for value, numbers in found.items())


def _values(one: Citation, field: str) -> list[str | None]:
    if field == "key":
        return [one.key]
    value: Any = one.metadata
    for name in field.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    if isinstance(value, list) and value:
        return [str(each) for each in value]
    return [None if value is None or isinstance(value, (Mapping, list)) else str(value)]


def _best(findings: Findings, best: Citation) -> Sentence:
    if findings.bar is None:
        said = f"{place(best)} comes first for {wanted(findings.plan)}, with score {best.score:.3f}"
        return _claim(f"{said} {_marks([best])}.", [best])
    of_what = "the windows of this collection" if findings.is_sum else "unrelated pairs"
    beats = share(best.calibrated or 0.0)
    return _claim(
        f"{place(best)} fits {wanted(findings.plan)} best, with score {best.score:.3f}, "
        f"above {beats} of {of_what} {_marks([best])}.",
        [best],
    )


def _further(rest: Sequence[Citation]) -> Iterator[Sentence]:
    named, others = rest[:MAX_LISTED], rest[MAX_LISTED:]
    if named:
        places = [f"{place(one)} with {one.score:.3f} {_marks([one])}" for one in named]
        yield _claim(f"Next {'comes' if len(named) == 1 else 'come'} {_listed(places)}.", named)
    if others:
        high, low = others[0].score, others[-1].score
        scores = f"{high:.3f}" if len(others) == 1 else f"{high:.3f} down to {low:.3f}"
        yield _claim(f"Then {_number(len(others))} more, with {scores} {_marks(others)}.", others)


def _no_strong(findings: Findings, best: Citation) -> Sentence:
    beats = "" if best.calibrated is None else f", above {share(best.calibrated)}"
    asked = "" if findings.bar is None else f" where {share(findings.bar)} is asked"
    return _caveat(
        f"Nothing stands out for {wanted(findings.plan)}: the best, {place(best)}, has score "
        f"{best.score:.3f}{beats}{asked} {_marks([best])}.",
        [best],
    )


def _nothing(findings: Findings) -> Sentence:
    plan = findings.plan
    if findings.left_out:
        return _note(f"Nothing is left for {wanted(plan)} once what is unwanted is left out.")
    if plan.where:
        return _note(f"No clip of this collection meets {shown(in_words(plan.where))}.")
    return _note(f"No clip of this collection was found for {wanted(plan)}.")


def _excluded(findings: Findings) -> Iterator[Sentence]:
    left = [one for one in findings.citations if one.standing == "left out"]
    if left:
        places = [
            f'{place(one)}, where "{shown(one.because)}" has score {one.score:.3f} {_marks([one])}'
            for one in left
        ]
        more = findings.left_out - len(left)
        others = f", and {more} more" if more > 0 else ""
        yield _caveat(f"Left out: {'; '.join(places)}{others}.", left)
    if findings.answering and findings.plan.without:
        names = [f'"{shown(text)}"' for text in findings.plan.without]
        joined, verb = " or ".join(names), "stands" if len(names) == 1 else "stand"
        cited = findings.answering
        if all(one.calibrated is not None for one in cited):
            yield _caveat(f"{joined} {verb} out in none of {_marks(cited)}.", cited)


def _claim(text: str, cited: Sequence[Citation]) -> Sentence:
    return Sentence(text, tuple(one.number for one in cited))


def _caveat(text: str, cited: Sequence[Citation]) -> Sentence:
    return Sentence(text, tuple(one.number for one in cited), "caveat")


def _note(text: str) -> Sentence:
    return Sentence(text, (), "note")


def _marks(cited: Sequence[Citation]) -> str:
    return "".join(f"[{one.number}]" for one in cited)


def _number(count: int) -> str:
    return _NUMBERS[count] if count < len(_NUMBERS) else str(count)


def _listed(parts: Sequence[str]) -> str:
    """`a, b and c`."""
    if len(parts) < 2:
        return "".join(parts)
    return ", ".join(parts[:-1]) + " and " + parts[-1]
