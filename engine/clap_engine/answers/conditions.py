"""Conditions in words -> filters: durations, years, declared fields, names after "by".

In:  a page; the fields that the collection declares.
Out: filters as `search` takes them, groups; their words are taken from the page.
Knows nothing about what is searched for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from clap_engine import filters
from clap_engine.answers.page import QUOTED, Page
from clap_engine.answers.words import DECADES, NUMBERS, UNITS_S
from clap_engine.errors import FilterError

Filter = dict[str, Any]

YEAR_FIELDS = ("year", "release_year", "date")
MAKER_FIELDS = ("artist", "author", "composer", "performer", "creator", "maker")
UNKNOWN_YEAR = "no field of years is declared"

_NOT = r"(?:(but not|not|except(?: for)?|excluding|other than|without) )?"
_THAT = r"(?:(?:that|which) )?(?:(?:is|are|was|were|lasts?|lasting|runs?|running|being) )?"
_NUMBER = rf"(?:\d+(?:\.\d+)?|{'|'.join(sorted(NUMBERS, key=len, reverse=True))})"
_UNIT = r"(?:seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h)\b"
_AMOUNT = rf"(?:\d+:[0-5]\d\b|{_NUMBER}[ -]?{_UNIT})"
_SPOKEN = re.compile(rf"({_NUMBER})[ -]?({_UNIT})", re.IGNORECASE)
_OPS = {
    ">=": r"at least|no shorter than|not shorter than|no less than|not less than|minimum",
    "<=": r"at most|up to|no longer than|not longer than|no more than|not more than"
    r"|not over|maximum|within",
    ">": r"longer than|more than|over|above",
    "<": r"shorter than|less than|under|below",
}
_NEGATED = {">": "<=", "<": ">=", ">=": "<", "<=": ">"}
_COMPARED = re.compile(
    rf"\b{_NOT}{_THAT}(?:{'|'.join(f'({words})' for words in _OPS.values())}) ({_AMOUNT})"
    r"(?: (?:long|in length|in duration))?",
    re.IGNORECASE,
)
_BETWEEN = re.compile(
    rf"\b{_NOT}{_THAT}(?:between|from) ({_NUMBER}(?:[ -]?{_UNIT})?) (?:and|to) ({_AMOUNT})"
    r"(?: (?:long|in length|in duration))?",
    re.IGNORECASE,
)

_YEAR = r"(?:1\d{3}|20\d{2})\b(?!s)"
_DECADE = rf"(?:the )?(?:(?:1\d|20)\d0s|'?(?:[3-9]0|00|10)s|{'|'.join(DECADES)})\b"
_MADE = r"(?:(?:that|which) )?(?:(?:is|are|was|were) )?(?:(?:recorded|made|released|dated) )?"
_YEARS: tuple[tuple[str, str], ...] = (
    (rf"between ({_YEAR}) and ({_YEAR})|from ({_YEAR}) (?:to|until|till|through) ({_YEAR})"
     rf"|(?:in|from) ({_YEAR}) ?[-–] ?({_YEAR})", "between"),
    (rf"from ({_YEAR}) (?:on|onwards?)", ">="),
    (rf"(?:older than|earlier than|before) ({_YEAR}|{_DECADE})", "<"),
    (rf"(?:newer than|later than|after) ({_YEAR}|{_DECADE})", ">"),
    (rf"since ({_YEAR}|{_DECADE})", ">="),
    (rf"(?:until|up to|no later than) ({_YEAR}|{_DECADE})", "<="),
    (rf"(?:from|in|of|during) ({_YEAR}|{_DECADE})", "in"),
)  # fmt: skip
_YEAR_RULES = tuple(
    (re.compile(rf"\b{_NOT}{_MADE}(?:{pattern})", re.IGNORECASE), op) for pattern, op in _YEARS
)
_VALUE = rf'(?:"{QUOTED}+"|\[[^\]]*\]|[^\s,;"]+)'
_NAME = r"[A-Z0-9][\w.'&-]*"
_BY = re.compile(rf'\bby ("{QUOTED}+"|{_NAME}(?: (?:and |of |the |&|de |van |von )*{_NAME})*)')


def taken(page: Page, declared: Sequence[str]) -> tuple[list[Filter], str | None, list[str]]:
    """(filters that must all hold, field to group by, conditions that nothing can check)."""
    found = list(_pairs(page, declared))
    group = _group(page, declared)
    found += _durations(page)
    year = _first(declared, YEAR_FIELDS)
    unmet: list[str] = []
    found += _years(page, year, unmet)
    maker = _first(declared, MAKER_FIELDS)
    if maker is not None:
        for match in _BY.finditer(page.free):
            name = page.said(*match.span(1)).rstrip(".?!")
            page.take(*match.span(), "filter", f"{maker} = {name}")
            found.append({maker: name})
    return found, group, unmet


def _first(declared: Sequence[str], wanted: Sequence[str]) -> str | None:
    """The declared field that has the first of `wanted` that there is among its names."""
    by_name = {part.lower(): name for name in reversed(declared) for part in name.split(".")}
    return next((by_name[name] for name in wanted if name in by_name), None)


def _pairs(page: Page, declared: Sequence[str]) -> Iterator[Filter]:
    """field:value, of declared fields and a clip's own facts."""
    names = "|".join(re.escape(name) for name in (*declared, *filters.RESERVED))
    if ":" not in page.free:
        return
    pattern = re.compile(rf"(?:(?<!\S)(-)|\b(?:(not|without) )?)({names}):(>=|<=|>|<)?({_VALUE})")
    for match in pattern.finditer(page.free):
        value = page.text[slice(*match.span(5))]
        condition = _pair(match[3], match[4], value.rstrip(".?!") or value)
        if condition is None:
            continue
        if match[1] or match[2]:
            condition = {"not": condition}
        page.take(*match.span(), "filter", in_words(condition))
        yield condition


def _pair(name: str, op: str | None, text: str) -> Filter | None:
    """One field:value as a filter; None where no filter says it."""
    if op:
        number = _scalars(text.strip('"'))[0]
        made: Filter = {name: {op: number}}
    elif text.startswith("["):
        inside = [one.strip().strip('"') for one in text[1:-1].split(",") if one.strip()]
        made = {name: {"in": [value for one in inside for value in _scalars(one)]}}
    elif ".." in text and not text.startswith('"'):
        low, high = (_scalars(one)[0] for one in text.split("..", 1))
        made = {name: {">=": low, "<=": high}}
    else:
        values = [text.strip('"')] if text.startswith('"') else _scalars(text)
        made = {name: values[0] if len(values) == 1 else {"in": values}}
    try:
        filters.parse(made)
    except FilterError:
        return None
    return made


def _scalars(text: str) -> list[Any]:
    """What a word may have been stored as: the number or truth that it spells, and itself."""
    if text.lower() in ("true", "false"):
        return [text.lower() == "true", text]
    if re.fullmatch(r"-?\d{1,15}", text):
        return [int(text), text]
    if re.fullmatch(r"-?\d{1,15}\.\d{1,15}", text):
        return [float(text), text]
    return [text]


def _group(page: Page, declared: Sequence[str]) -> str | None:
    by_last = {name.split(".")[-1].lower(): name for name in reversed(declared)}
    by_last |= {name.lower(): name for name in declared}
    if not by_last:
        return None
    names = "|".join(re.escape(name) for name in sorted(by_last, key=len, reverse=True))
    pattern = rf"\b(?:(?:grouped? |sorted )?by|per|for each) ({names})\b(?!:)"
    match = re.search(pattern, page.free, re.IGNORECASE)
    if match is None:
        return None
    field = by_last[match[1].lower()]
    page.take(*match.span(), "group", f"grouped by {field}")
    return field


def _durations(page: Page) -> Iterator[Filter]:
    for match in _BETWEEN.finditer(page.free):
        high = _seconds(match[3])
        low = _seconds(match[2] if _has_unit(match[2]) else _with_unit(match[2], match[3]))
        if low is None or high is None:
            continue
        low, high = min(low, high), max(low, high)
        found: Filter = {"duration_s": {">=": low, "<=": high}}
        yield _noted(page, match, {"not": found} if match[1] else found)
    for match in _COMPARED.finditer(page.free):
        op = next(op for n, op in enumerate(_OPS, 2) if match[n])
        seconds = _seconds(match[6])
        if seconds is not None:
            yield _noted(page, match, {"duration_s": {_NEGATED[op] if match[1] else op: seconds}})


def _noted(page: Page, match: re.Match[str], found: Filter) -> Filter:
    page.take(*match.span(), "filter", in_words(found))
    return found


def _has_unit(amount: str) -> bool:
    return ":" in amount or _SPOKEN.fullmatch(amount) is not None


def _with_unit(number: str, like: str) -> str:
    spoken = _SPOKEN.fullmatch(like)
    return number if spoken is None else f"{number} {spoken[2]}"


def _seconds(amount: str) -> float | None:
    if ":" in amount:
        minutes, seconds = amount.split(":")
        return 60.0 * int(minutes) + int(seconds)
    spoken = _SPOKEN.fullmatch(amount)
    if spoken is None:
        return None
    number = NUMBERS.get(spoken[1].lower())
    value = float(spoken[1]) if number is None else number
    return value * UNITS_S[spoken[2][0].lower()]


def _years(page: Page, field: str | None, unmet: list[str]) -> Iterator[Filter]:
    for pattern, op in _YEAR_RULES:
        for match in pattern.finditer(page.free):
            words = match[0].strip()
            if field is None:
                unmet.append(words)
                settle = page.take if match[1] else page.keep
                settle(*match.span(), "unmet", UNKNOWN_YEAR)
                continue
            given = [group for group in match.groups()[1:] if group]
            spans = [_span_of_years(one) for one in given]
            (first, last), (_, end) = spans[0], spans[-1]
            tests: dict[str, Any] = {
                "between": {">=": min(first, end), "<=": max(first, end)},
                "in": {">=": first, "<=": last},
                "<": {"<": first}, ">": {">": last}, ">=": {">=": first}, "<=": {"<=": last},
            }[op]  # fmt: skip
            found: Filter = {field: tests if first != last or op != "in" else first}
            yield _noted(page, match, {"not": found} if match[1] else found)


def _span_of_years(text: str) -> tuple[int, int]:
    """The first and last year of a year or a decade."""
    word = text.lower().removeprefix("the ").removeprefix("'")
    if word in DECADES:
        return 1900 + DECADES[word], 1909 + DECADES[word]
    if word.endswith("s"):
        number = int(word[:-1])
        first = number if number >= 1000 else number + (1900 if number >= 30 else 2000)
        return first, first + 9
    return int(word), int(word)


def in_words(where: Any) -> str:
    """A filter on one line: `year >= 1990 and year < 2000`."""
    parts = []
    for name, value in where.items():
        if name in ("and", "or"):
            parts.append(f" {name} ".join(f"({in_words(one)})" for one in value))
        elif name == "not":
            parts.append(f"not ({in_words(value)})")
        else:
            tests = value if isinstance(value, dict) else {"=": value}
            parts += [f"{name} {op} {_shown(operand)}" for op, operand in tests.items()]
    return " and ".join(parts)


def _shown(operand: Any) -> str:
    if isinstance(operand, (list, tuple)):
        return "[" + ", ".join(map(_shown, operand)) + "]"
    return f"{operand:g}" if isinstance(operand, float) else str(operand)
