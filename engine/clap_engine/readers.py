"""Readers of JSON values: each checks one kind and returns it, or says what is wrong and where.

In:  a value that json.loads gave, and the dotted name of its place.
Out: the value, checked (lists as tuples, objects as dataclasses); ManifestError otherwise.
Knows nothing about what the values mean.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, NoReturn

from clap_engine.errors import ManifestError

MAX_DEPTH = 8

Reader = Callable[[Any, str], Any]


def refuse(where: str, value: Any, needed: str) -> NoReturn:
    """Raise what all readers raise: the place, what was found, what is needed."""
    found = repr(value[:60]) if isinstance(value, str) else type(value).__name__
    if isinstance(value, (int, float)) and abs(value) < 1e300:
        found = repr(value)
    raise ManifestError(f"manifest {where}: {found} found, {needed} needed; pack the bundle again")


def integer(low: int, high: int) -> Reader:
    """An integer within the bounds; true is none."""

    def read(value: Any, where: str) -> int:
        if type(value) is not int or not low <= value <= high:
            refuse(where, value, f"an integer from {low} to {high}")
        return value

    return read


def number(low: float, high: float) -> Reader:
    """A number within the bounds, as float; NaN is in none."""

    def read(value: Any, where: str) -> float:
        if type(value) not in (int, float) or not low <= value <= high:
            refuse(where, value, f"a number from {low:g} to {high:g}")
        return float(value)

    return read


def text(pattern: str = r"(?s:.*)", needed: str = "text", most: int = 10_000) -> Reader:
    """A string that `pattern` matches whole."""
    compiled = re.compile(pattern)

    def read(value: Any, where: str) -> str:
        if type(value) is not str or len(value) > most or not compiled.fullmatch(value):
            refuse(where, value, f"{needed} (at most {most} characters)")
        if not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value):
            refuse(where, ascii(value), "text without lone surrogates")
        return value

    return read


def boolean(value: Any, where: str) -> bool:
    """true or false."""
    if type(value) is not bool:
        refuse(where, value, "true or false")
    return value


def nullable(reader: Reader) -> Reader:
    """What `reader` reads, or null."""
    return lambda value, where: None if value is None else reader(value, where)


def sequence(reader: Reader, least: int = 0) -> Reader:
    """A list, as tuple."""

    def read(value: Any, where: str) -> tuple[Any, ...]:
        if type(value) is not list or len(value) < least:
            refuse(where, value, f"a list of {least} or more")
        return tuple(reader(item, f"{where}[{i}]") for i, item in enumerate(value))

    return read


def mapping(key: Reader, reader: Reader, least: int = 0) -> Reader:
    """An object of any keys that `key` reads."""

    def read(value: Any, where: str) -> dict[str, Any]:
        if type(value) is not dict or len(value) < least:
            refuse(where, value, f"an object of {least} or more keys")
        return {key(k, f"{where} key"): reader(v, f"{where}.{k}") for k, v in value.items()}

    return read


def exactly(table: dict[str, Reader], make: Callable[..., Any] = dict) -> Reader:
    """An object of the keys of `table`, made into `make`, whose defaults say what may be absent."""
    defaults = {f.name for f in fields(make) if has_default(f)} if is_dataclass(make) else set()

    def read(value: Any, where: str) -> Any:
        if type(value) is not dict:
            refuse(where, value, "an object")
        for name in sorted(value.keys() - table.keys()):
            refuse(where, name, f"only the keys {', '.join(table)}")
        for name in table.keys() - value.keys() - defaults:
            raise ManifestError(f"manifest {where}: {name!r} is missing; pack the bundle again")
        given = {name: read for name, read in table.items() if name in value}
        return make(**{name: read(value[name], f"{where}.{name}") for name, read in given.items()})

    return read


def has_default(field: Field[Any]) -> bool:
    """May this field of a dataclass be left out?"""
    return field.default is not MISSING


def plain(value: Any) -> Any:
    """Dataclasses as objects for json.dumps; a field at its default is left out.

    So a field that is added later changes neither the bytes nor the revision of older manifests.
    """
    if is_dataclass(value):
        shown = [
            f for f in fields(value) if not has_default(f) or getattr(value, f.name) != f.default
        ]
        return {f.name: plain(getattr(value, f.name)) for f in shown}
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    return value


def free(value: Any, where: str) -> Any:
    """Any JSON of finite numbers, at most MAX_DEPTH deep (`where` grows a dot per level)."""
    if where.count("/") > MAX_DEPTH:
        refuse(where, value, f"at most {MAX_DEPTH} levels")
    if type(value) is dict:
        return {text()(k, where): free(v, f"{where}/{k[:20]}") for k, v in value.items()}
    if type(value) is list:
        return [free(v, f"{where}/{i}") for i, v in enumerate(value)]
    if type(value) is str:
        return text()(value, where)
    if type(value) in (int, float):
        number(-1e300, 1e300)(value, where)
    return value
