"""Filters on keys, paths, durations and metadata: JSON values that say which clips may be found.

In:  JSON values, such as {"year": {">=": 1970}, "genre": {"in": ["jazz", "folk"]}}.
Out: a frozen tree of conditions.
Knows nothing about collections or SQL: whoever stores metadata compiles the tree.

Every condition is true or false, never unknown. A field that is absent or null makes each
condition on it false, {"exists": false} aside; "not" turns that around. So {"year": {"!=": 1970}}
leaves clips without a year out, and {"not": {"year": 1970}} lets them in. Numbers, texts and
booleans are never equal to each other; texts are ordered by code point.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from clap_engine.errors import FilterError

# Fields of the clip itself; metadata of the same names is hidden by them.
RESERVED = ("key", "path", "duration_s")
MAX_DEPTH = 16
MAX_CONDITIONS = 256
MAX_VALUES = 10_000  # all values of all conditions together
MAX_TEXT_CHARS = 4096
MAX_NAME_CHARS = 256

Scalar: TypeAlias = str | int | float | bool
Comparison = Literal["=", "!=", "<", "<=", ">", ">="]
COMPARISONS: tuple[str, ...] = get_args(Comparison)
_OPERATORS = (*COMPARISONS, "in", "has", "prefix", "exists")
_WORDS = ("and", "or", "not")


@dataclass(frozen=True)
class Field:
    """What a condition looks at: a reserved field, or the way through nested metadata."""

    names: tuple[str, ...]

    @property
    def is_reserved(self) -> bool:
        """Whether it is a fact of the clip, not of its metadata."""
        return len(self.names) == 1 and self.names[0] in RESERVED


@dataclass(frozen=True)
class Compare:
    """The field holds a value of the same kind, and it compares so; "!=" also other kinds."""

    field: Field
    op: Comparison
    value: Scalar  # text or a number where `op` orders


@dataclass(frozen=True)
class In:
    """The field equals one of the values; of none of them, if there are none."""

    field: Field
    values: tuple[Scalar, ...]


@dataclass(frozen=True)
class Has:
    """The field is a list and one of its elements equals the value."""

    field: Field
    value: Scalar


@dataclass(frozen=True)
class Prefix:
    """The field is a text that begins so."""

    field: Field
    text: str


@dataclass(frozen=True)
class Exists:
    """The field is there and not null, or, if not `wanted`, absent or null."""

    field: Field
    wanted: bool


@dataclass(frozen=True)
class And:
    """All parts hold; so does an empty one."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True)
class Or:
    """At least one part holds."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True)
class Not:
    """The part does not hold."""

    part: Filter


Condition: TypeAlias = Compare | In | Has | Prefix | Exists
Filter: TypeAlias = Condition | And | Or | Not


def parse(where: Any) -> Filter:
    """The tree of a filter given as JSON values; FilterError names what is not allowed."""
    return _Parser().filter(where, 0)


def field_of(name: Any) -> Field:
    """The field of a dotted name; FilterError unless it can be one."""
    if not isinstance(name, str) or not 1 <= len(name) <= MAX_NAME_CHARS:
        raise FilterError(f"the field {name!r:.80} is no text of 1 to {MAX_NAME_CHARS} characters")
    names = tuple(name.split("."))
    if not all(names) or any(char in '"\\' or not char.isprintable() for char in name):
        raise FilterError(
            f"the field {name!r:.80} is refused; names joined by dots, without quotes, "
            "backslashes and control characters, are allowed"
        )
    return Field(names)


@dataclass
class _Parser:
    """Counts over one whole filter what its limits count."""

    conditions: int = 0
    values: int = 0

    def filter(self, where: Any, depth: int) -> Filter:
        if depth > MAX_DEPTH:
            raise FilterError(f"the filter is nested deeper than {MAX_DEPTH}; flatten it")
        if not isinstance(where, Mapping):
            raise FilterError(
                f"a filter is an object such as {{'year': {{'>=': 1970}}}}, not {where!r:.80}"
            )
        parts: list[Filter] = []
        for name, value in where.items():
            if name in ("and", "or"):
                if not isinstance(value, (list, tuple)) or not value:
                    raise FilterError(f"{name!r} takes a list of filters, not {value!r:.80}")
                inner = tuple(self.filter(part, depth + 1) for part in value)
                parts.append(And(inner) if name == "and" else Or(inner))
            elif name == "not":
                parts.append(Not(self.filter(value, depth + 1)))
            else:
                parts += self._conditions(field_of(name), value)
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _conditions(self, found: Field, value: Any) -> list[Filter]:
        tests = value if isinstance(value, Mapping) else {"=": value}
        if not tests:
            raise FilterError(f"{_name(found)!r} has no condition; {_one_of(_OPERATORS)} are known")
        self.conditions += len(tests)
        if self.conditions > MAX_CONDITIONS:
            raise FilterError(f"more than {MAX_CONDITIONS} conditions; 'in' takes many values")
        return [self._condition(found, op, operand) for op, operand in tests.items()]

    def _condition(self, found: Field, op: Any, operand: Any) -> Condition:
        where = f"{_name(found)!r} {op}"
        if op in COMPARISONS:
            if op not in ("=", "!=") and isinstance(operand, bool):
                raise FilterError(f"{where} {operand}: booleans have no order; use = or !=")
            return Compare(found, op, self._scalar(where, operand))
        if op == "in":
            if not isinstance(operand, (list, tuple)):
                raise FilterError(f"{where} takes a list of values, not {operand!r:.80}")
            return In(found, tuple(self._scalar(where, value) for value in operand))
        if op == "has":
            return Has(found, self._scalar(where, operand))
        if op == "prefix":
            if not isinstance(operand, str):
                raise FilterError(f"{where} takes a text, not {operand!r:.80}")
            return Prefix(found, str(self._scalar(where, operand)))
        if op == "exists":
            if not isinstance(operand, bool):
                raise FilterError(f"{where} takes true or false, not {operand!r:.80}")
            return Exists(found, operand)
        raise FilterError(f"{op!r:.80} on {_name(found)!r} is unknown; use {_one_of(_OPERATORS)}")

    def _scalar(self, where: str, value: Any) -> Scalar:
        self.values += 1
        if self.values > MAX_VALUES:
            raise FilterError(f"more than {MAX_VALUES} values in one filter")
        if value is None:
            raise FilterError(f"{where} null: use {{'exists': false}}, which also finds null")
        if isinstance(value, str):
            if len(value) > MAX_TEXT_CHARS or "\0" in value or not _is_unicode(value):
                raise FilterError(
                    f"{where} {value!r:.80} is refused; texts of up to {MAX_TEXT_CHARS} "
                    "characters of Unicode without NUL are allowed"
                )
            return value
        if isinstance(value, int) and abs(value) < 2**63:  # a bool, too
            return value
        if isinstance(value, float) and math.isfinite(value):
            return value
        raise FilterError(f"{where} {value!r:.80}: give text, a finite number, true or false")


def _is_unicode(text: str) -> bool:
    return not any(0xD800 <= ord(char) <= 0xDFFF for char in text)


def _name(found: Field) -> str:
    return ".".join(found.names)


def _one_of(words: tuple[str, ...]) -> str:
    return ", ".join(words)
