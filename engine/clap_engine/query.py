"""What can be searched for: words, sounds, stored clips, vectors, and sums of them.

In:  values such as Query("warm pad") + Clip("ref.wav", weight=0.4) - "vocals".
Out: one unit vector float32 [D].
Knows nothing about models, rows or scores: whoever resolves a query hands it the vectors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from clap_engine.arrays import Float32, flush_denormals
from clap_engine.errors import ArrayError, CollectionError

MAX_TERMS = 64
# Sums this small beside their weights are what rounding left: they point nowhere.
_CANCELLED = 1e-5


@dataclass(frozen=True)
class Text:
    """Words, with their weight in a sum."""

    text: str
    weight: float = 1.0


@dataclass(frozen=True)
class Clip:
    """A query by example: any source that the embedder takes."""

    source: Any
    weight: float = 1.0


@dataclass(frozen=True)
class Near:
    """A stored clip, by its key: the mean of its vectors; its sound is not read again."""

    key: str
    weight: float = 1.0


Term: TypeAlias = Text | Clip | Near


@dataclass(frozen=True, init=False)
class Query:
    """A weighted sum of terms. Each is a unit vector first, so that weights are comparable.

    `+` and `-` take text, Text, Clip, Near and other queries; `*` scales all weights.
    """

    terms: tuple[Term, ...]

    def __init__(self, *terms: str | Term | Query, weight: float = 1.0) -> None:
        found = [term for part in terms for term in terms_of(part)]
        if not 1 <= len(found) <= MAX_TERMS:
            raise CollectionError(f"a query has {len(found)} terms; give 1 to {MAX_TERMS}")
        object.__setattr__(self, "terms", tuple(_scaled(term, weight) for term in found))

    def __add__(self, other: str | Term | Query) -> Query:
        return Query(self, other)

    def __sub__(self, other: str | Term | Query) -> Query:
        return Query(self, Query(other, weight=-1.0))

    def __mul__(self, weight: float) -> Query:
        return Query(self, weight=weight)

    __rmul__ = __mul__


AnyQuery: TypeAlias = "str | Term | Query | npt.NDArray[Any]"


def terms_of(query: Any) -> tuple[Term, ...]:
    """The terms of anything but a vector; CollectionError for what is no query."""
    if isinstance(query, str):
        return (Text(query),)
    if isinstance(query, Query):
        return query.terms
    if isinstance(query, (Text, Clip, Near)):
        return (_scaled(query, 1.0),)
    raise CollectionError(
        f"a query of {type(query).__name__} is unknown; give text, Clip(...), Near(...), "
        "a Query or a vector"
    )


def has_sound(query: Any) -> bool:
    """Whether a sound must be embedded for it."""
    terms = query.terms if isinstance(query, Query) else (query,)
    return any(isinstance(term, Clip) for term in terms)


def _scaled(term: Term, factor: float) -> Term:
    for number in (factor, term.weight):
        is_number = isinstance(number, (int, float)) and not isinstance(number, bool)
        if not is_number or not math.isfinite(number):
            raise CollectionError(f"a weight is {number!r}; give a finite number")
    return replace(term, weight=term.weight * factor)


def modality_of(terms: Sequence[Term]) -> str:
    """The kind of scores: of "text" or "audio" for one term that counts for itself, else "sum"."""
    if len(terms) > 1 or terms[0].weight <= 0:
        return "sum"
    return "text" if isinstance(terms[0], Text) else "audio"


def summed(terms: Sequence[Term], vector_of: Callable[[Term], Float32]) -> Float32:
    """The unit vector [D] of a weighted sum of unit vectors [D]."""
    if len(terms) == 1 and terms[0].weight > 0:
        return vector_of(terms[0])
    weights = np.array([term.weight for term in terms], np.float32)
    total = weights @ np.stack([vector_of(term) for term in terms])
    if np.abs(total).max() <= _CANCELLED * np.abs(weights).max():
        raise ArrayError("the terms of the query cancel each other out; change their weights")
    return unit(total)


def unit(row: Float32) -> Float32:
    """[D] -> [D] of norm 1; ArrayError where there is no direction to search in."""
    largest = np.abs(row).max()
    if not largest:
        raise ArrayError("the query is a zero vector; it has no direction to search in")
    # Scaled first, so that tiny or huge entries don't vanish in their squares.
    scaled = row / largest
    return flush_denormals(scaled / np.sqrt(scaled @ scaled))
