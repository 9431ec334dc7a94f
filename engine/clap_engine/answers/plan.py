"""What a question asks for, part by part: a value that a caller may read, edit and hand back.

In:  the parts, as the rules, a caller or a JSON document give them.
Out: a frozen, checked `AnswerPlan`, and the same as JSON values.
Knows nothing about how a question is read, or how the plan is carried out.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, TypeAlias, get_args

from clap_engine import filters
from clap_engine.errors import TaskError
from clap_engine.query import Near, Query, Term, Text

# What a short answer can name; a search takes more.
MAX_K = 50
DEFAULT_K = 5
MAX_PARTS = 8
MAX_CHARS = 1000
# Where nothing is asked of the sound itself: any clip will do.
ANY_SOUND = "a sound"

Role: TypeAlias = Literal[
    "text", "source", "mood", "tempo", "without", "like", "filter", "count", "group", "command",
    "filler", "unmet",
]  # fmt: skip
ROLES: tuple[str, ...] = get_args(Role)


@dataclass(frozen=True)
class Word:
    """Some words of the question, and what became of them: `became` says it, where more is to say.

    "text" stays in the query; so do "source" (something that sounds), "mood", "tempo" and "unmet"
    (a condition that can't be checked here).
    """

    words: str
    role: Role
    became: str = ""


@dataclass(frozen=True)
class AnswerPlan:
    """What is looked for, what must not be heard, which clips may answer, and how many.

    `text` is what is searched for; `parts` of it are each checked by themselves. `without` are
    texts that must not stand out. `near` are keys of stored clips to be like. `where` is a filter
    as `search` takes it. `moods` and `tempos` are words of `text` that nothing measures. `unmet`
    are conditions that the collection can't check. TaskError or FilterError unless all is allowed.
    """

    question: str = ""
    text: str = ""
    parts: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    near: tuple[str, ...] = ()
    where: Mapping[str, Any] | None = None
    k: int = DEFAULT_K
    is_k_asked: bool = False
    group_by: str | None = None
    moods: tuple[str, ...] = ()
    tempos: tuple[str, ...] = ()
    unmet: tuple[str, ...] = ()
    words: tuple[Word, ...] = ()

    def __post_init__(self) -> None:
        for name in ("question", "text"):
            _check_text(name, getattr(self, name), allow_empty=True)
        for name in ("parts", "without", "near", "moods", "tempos", "unmet"):
            object.__setattr__(self, name, _texts(name, getattr(self, name)))
        check_k(self.k)
        if not isinstance(self.is_k_asked, bool):
            raise TaskError(f"is_k_asked is {self.is_k_asked!r:.60}; give True or False")
        if self.where is not None:
            filters.parse(self.where)
            object.__setattr__(self, "where", copy.deepcopy(dict(self.where)))
        if self.group_by is not None:
            filters.field_of(self.group_by)
        for word in self.words:
            if not isinstance(word, Word) or word.role not in ROLES:
                raise TaskError(f"words hold {word!r:.60}; give Word(words, role), of {ROLES}")
        object.__setattr__(self, "words", tuple(self.words))
        if not (self.text or self.near or self.without or self.where):
            raise TaskError("the plan asks for nothing; give a text, near, without or where")

    @property
    def is_sound_asked(self) -> bool:
        """Whether it says what to hear, so that a high score means something."""
        return bool(self.text or self.near)

    @property
    def query(self) -> Query:
        """What is searched for."""
        terms: list[Term] = [Near(key) for key in self.near]
        if self.text:
            terms.insert(0, Text(self.text))
        if not terms and self.without:
            return Query(*(Text(text, weight=-1.0) for text in self.without))
        return Query(*(terms or [Text(ANY_SOUND)]))

    @property
    def filter(self) -> dict[str, Any] | None:
        """`where`, and that a clip is not like itself."""
        others: dict[str, Any] = {"not": {"key": {"in": list(self.near)}}}
        given = [dict(part) for part in (self.where, others if self.near else None) if part]
        return None if not given else given[0] if len(given) == 1 else {"and": given}

    def to_json(self) -> dict[str, Any]:
        """JSON values that `from_json` takes."""
        record = asdict(self)
        return {name: list(v) if isinstance(v, tuple) else v for name, v in record.items()}

    @classmethod
    def from_json(cls, record: Any) -> AnswerPlan:
        """The plan of these values; TaskError names what no plan has, or what is missing."""
        if not isinstance(record, Mapping):
            raise TaskError(f"a plan is an object, not {record!r:.60}")
        known = {field.name for field in fields(cls)}
        strange = sorted(str(name) for name in set(record) - known)
        if strange:
            raise TaskError(f"a plan has no {strange[0]!r:.60}; {', '.join(sorted(known))} it has")
        given = dict(record)
        if "words" in given:
            given["words"] = _words(given["words"])
        return cls(**given)


def check_k(k: Any) -> None:
    """TaskError unless an answer can name so many clips."""
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= MAX_K:
        raise TaskError(f"k is {k!r:.60}; an answer names 1 to {MAX_K} clips")


def _words(given: Any) -> tuple[Word, ...]:
    if not isinstance(given, (list, tuple)):
        raise TaskError(f"words must be a list, not {given!r:.60}")
    try:
        return tuple(Word(**one) for one in given)
    except TypeError as error:
        raise TaskError(f"words must hold objects of words, role and became ({error})") from error


def _texts(name: str, given: Any) -> tuple[str, ...]:
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise TaskError(f"{name} must be a list of texts, not {given!r:.60}")
    if len(given) > MAX_PARTS:
        raise TaskError(f"{name} holds {len(given)} texts; {MAX_PARTS} are allowed")
    for one in given:
        _check_text(name, one, allow_empty=False)
    return tuple(given)


def _check_text(name: str, text: Any, *, allow_empty: bool) -> None:
    if not isinstance(text, str):
        raise TaskError(f"{name} holds {text!r:.60}; give text")
    if len(text) > MAX_CHARS or not (text.strip() or (allow_empty and not text)):
        raise TaskError(f"{name} has {len(text)} characters; give 1 to {MAX_CHARS}, not all blank")
    if "\0" in text or any(0xD800 <= ord(char) <= 0xDFFF for char in text):
        raise TaskError(f"{name} holds NUL or a lone surrogate; give Unicode text")
