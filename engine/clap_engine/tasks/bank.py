"""A phrase bank: what captions by retrieval may say, and how sure one must be to say it.

In:  the name of a bank that comes along, the path of a JSON file, or its bytes.
Out: `PhraseBank`, every field checked.
Knows nothing about models or sounds.

The file's `sources` are what may sound, each with the texts it is recognised by and, perhaps, its
family and kind: what is told of a sound whose source is not clear. Its `attributes` are what may be
true of any of these; a form such as "{} in a large hall" is compared with its carrier alone, so
that only the difference counts. `calibration` turns what was measured into a confidence; a bank
without one takes `LEVEL` and `VALUE`, fitted with the bundle and the bank that ship. `say` is what
stands in the sentence. A misspelt field is refused, never ignored.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from clap_engine.errors import NotFoundError, TaskError
from clap_engine.tasks import settings
from clap_engine.tasks.labels import MAX_LABELS, MAX_TEXTS
from clap_engine.tasks.prompts import PLACES

DEFAULT = "english"
MAX_BYTES = 8 * 1024**2
# Weights of 1, the logit of the share and the deviations over the background, see compose.py.
LEVEL = {
    "kind": (1.057, 1.432, -0.232),
    "family": (-0.942, 1.029, 0.248),
    "source": (-5.74, 0.584, 1.356),
}
LEVELS = tuple(LEVEL)
# Weights of 1 and of the difference that a form makes, in standard deviations of the background.
VALUE = (-4.0, 3.0)

Weights = tuple[float, ...]


@dataclass(frozen=True)
class Source:
    """Something that sounds; `family` and `kind` are empty where the bank names none."""

    name: str
    say: str
    texts: tuple[str, ...]
    family: str = ""
    kind: str = ""


@dataclass(frozen=True)
class Value:
    """One value of an attribute: its words in the sentence, its forms around a carrier."""

    name: str
    say: str
    forms: tuple[str, ...]
    weights: Weights = VALUE


@dataclass(frozen=True)
class Attribute:
    """What may be true of sources of some kinds (none: of any); at most one value is told.

    `is_apart` sets it off by a comma; `is_of_window` ones are not told of longer sounds.
    """

    name: str
    values: tuple[Value, ...]
    carriers: tuple[str, ...]
    kinds: tuple[str, ...] = ()
    is_apart: bool = False
    is_of_window: bool = False


@dataclass(frozen=True)
class PhraseBank:
    """`says` are the words of kinds and families; `levels` the weights of LEVELS, in their order.

    `nothing` is said of a sound of which nothing can be told, `silence` of silence, `sound` stands
    for a source of which nothing but attributes is told.
    """

    name: str
    description: str
    licence: str
    sources: tuple[Source, ...]
    says: tuple[tuple[str, str, str], ...]
    attributes: tuple[Attribute, ...]
    levels: tuple[Weights, Weights, Weights]
    nothing: str
    silence: str
    sound: str

    @cached_property
    def _hash(self) -> int:
        return hash((self.sources, self.says, self.attributes, self.levels, self.name))

    def __hash__(self) -> int:
        """Computed once: thousands of texts are hashed as often as a caption is asked for."""
        return self._hash


def names() -> tuple[str, ...]:
    """The banks that come along."""
    return settings.names("banks")


def load(given: str | os.PathLike[str] | PhraseBank | None = None) -> PhraseBank:
    """A bank by its name or from a file, None the one in English; NotFoundError, TaskError."""
    if isinstance(given, PhraseBank):
        return given
    if given is None:
        return _shipped(DEFAULT)
    path = Path(given)
    try:
        if str(given) in names():
            return _shipped(str(given))
        if path.exists() and not path.is_file():  # the open of a FIFO would wait for ever
            raise TaskError(f"{path} is no regular file; give a phrase bank's JSON")
        if path.stat().st_size > MAX_BYTES:
            raise TaskError(f"{path} is larger than the {MAX_BYTES} bytes of a phrase bank")
        return read(path.stem, path.read_bytes())
    except FileNotFoundError as error:
        raise NotFoundError(
            f"{given} is neither a file nor a phrase bank that comes along ({', '.join(names())})"
        ) from error
    except TaskError:
        raise
    except (OSError, ValueError) as error:
        raise TaskError(f"{given!s:.200} can't be read: {error}") from error


@lru_cache(maxsize=8)
def _shipped(name: str) -> PhraseBank:
    return read(name, (settings.data_folder("banks") / f"{name}.json").read_bytes())


_TOP = {"description": str, "licence": str, "words": dict, "kinds": dict, "families": dict,
        "sources": dict, "attributes": dict, "calibration": dict}  # fmt: skip
_NEEDED = ("description", "sources")
_WORDS = {"nothing": "A sound that can't be told.", "silence": "Silence.", "sound": "a sound"}


def read(name: str, data: bytes) -> PhraseBank:
    """A bank from its JSON."""
    what = f"phrase bank {name}"
    try:
        tree = json.loads(data.decode("utf-8"), object_pairs_hook=_no_duplicates)
    except TaskError as error:
        raise TaskError(f"{what}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise TaskError(f"{what} is no JSON: {error}") from error
    tree = _fields(tree, _TOP, what, _NEEDED)
    kinds, families = (_said(tree.get(part, {}), f"{what}, {part}") for part in
                       ("kinds", "families"))  # fmt: skip
    calibration = tree.get("calibration", {})
    sources = _sources(tree["sources"], what, families, kinds)
    attributes = _attributes(tree.get("attributes", {}), what, kinds, calibration)
    known = {*LEVELS, *(attribute.name for attribute in attributes)}
    if unknown := sorted(calibration.keys() - known):
        raise TaskError(
            f"{what}, calibration holds {unknown[0]!r:.60}; it may hold {sorted(known)}"
        )
    weights = [
        _weights(calibration.get(level, weights), len(weights), f"{what}, {level}")
        for level, weights in LEVEL.items()
    ]
    words = _fields(tree.get("words", {}), dict.fromkeys(_WORDS, str), f"{what}, words")
    return PhraseBank(
        name=name,
        description=tree["description"],
        licence=tree.get("licence", ""),
        sources=sources,
        says=tuple(
            (level, key, say)
            for level, some in (("kind", kinds), ("family", families))
            for key, say in some.items()
        ),
        attributes=attributes,
        levels=(weights[0], weights[1], weights[2]),
        **{**_WORDS, **words},
    )


def _sources(
    given: dict[str, Any], what: str, families: Mapping[str, str], kinds: Mapping[str, str]
) -> tuple[Source, ...]:
    if not 1 <= len(given) <= MAX_LABELS:
        raise TaskError(f"{what} holds {len(given)} sources; 1 to {MAX_LABELS} are allowed")
    found = []
    for name, value in given.items():
        here = f"{what}, source {name!r:.60}"
        one = _fields(value, {"say": str, "texts": list, "family": str, "kind": str}, here, ())
        for part, some in (("family", families), ("kind", kinds)):
            if one.get(part, "") not in ("", *some):
                raise TaskError(f"{here} is of the {part} {one[part]!r:.60}, which has no words")
        texts = _texts(one.get("texts", [name]), here)
        say = _text(one.get("say", name), here)
        found.append(Source(_text(name, what), say, texts, one.get("family", ""),
                            one.get("kind", "")))  # fmt: skip
    if (count := sum(len(source.texts) for source in found)) > MAX_TEXTS:
        raise TaskError(f"{what} holds {count} texts; at most {MAX_TEXTS} are allowed")
    return tuple(found)


_ATTRIBUTE = {"values": dict, "carriers": list, "of": list, "apart": bool, "of_window": bool}


def _attributes(
    given: dict[str, Any], what: str, kinds: Mapping[str, str], calibration: Mapping[str, Any]
) -> tuple[Attribute, ...]:
    found = []
    for name, value in given.items():
        here = f"{what}, attribute {name!r:.60}"
        if name in LEVELS or not name.strip():
            raise TaskError(f"{here} has a name that is taken; rename it")
        one = _fields(value, _ATTRIBUTE, here, ("values", "carriers"))
        of = tuple(one.get("of", ()))
        if unknown := [kind for kind in of if kind not in kinds]:
            raise TaskError(f"{here} is of the kind {unknown[0]!r:.60}, which has no words")
        fitted = _fields(calibration.get(name, {}), dict.fromkeys(one["values"], list), here, ())
        values = tuple(
            _value(key, some, f"{here}, {key!r:.60}", fitted.get(key, VALUE))
            for key, some in one["values"].items()
        )
        carriers = _texts(one["carriers"], here)
        if not values or len(carriers) * sum(len(v.forms) for v in values) > MAX_TEXTS:
            raise TaskError(f"{here} needs a value, and at most {MAX_TEXTS} texts in all")
        found.append(Attribute(name, values, carriers, of, one.get("apart", False),
                               one.get("of_window", False)))  # fmt: skip
    return tuple(found)


def _value(name: str, given: Any, here: str, weights: Any) -> Value:
    one = _fields(given, {"say": str, "forms": list}, here, ("say", "forms"))
    forms = _texts(one["forms"], here)
    for form in forms:
        if not any(place in form for place in PLACES):
            raise TaskError(f"{here}: form {form!r:.60} has no place for what sounds; write {{}}")
    return Value(_text(name, here), _text(one["say"], here), forms,
                 _weights(weights, len(VALUE), here))  # fmt: skip


def _said(given: dict[str, Any], what: str) -> dict[str, str]:
    return {_text(name, what): _text(say, what) for name, say in given.items()}


def _fields(
    given: Any, allowed: Mapping[str, type], what: str, needed: tuple[str, ...] = ()
) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise TaskError(f"{what} is a {type(given).__name__}; give an object of named fields")
    for name, value in given.items():
        if name not in allowed:
            raise TaskError(f"{what} holds {name!r:.60}; it may hold {', '.join(allowed)}")
        if not isinstance(value, allowed[name]):
            raise TaskError(f"{what}: {name} must be a {allowed[name].__name__}")
    if missing := [name for name in needed if name not in given]:
        raise TaskError(f"{what} lacks {missing[0]}; give it")
    return given


def _text(given: Any, what: str) -> str:
    if not isinstance(given, str) or not given.strip():
        raise TaskError(f"{what} holds {given!r:.60}; each must be a text that is not blank")
    return given.strip()


def _texts(given: Any, what: str) -> tuple[str, ...]:
    found = tuple(_text(text, what) for text in given)
    if not found or len(set(found)) < len(found):
        raise TaskError(f"{what} has no text, or one twice; give each once")
    return found


def _weights(given: Any, count: int, what: str) -> Weights:
    is_right = isinstance(given, (list, tuple)) and len(given) == count and all(
        isinstance(x, (int, float)) and not isinstance(x, bool) and math.isfinite(x) for x in given
    )  # fmt: skip
    if not is_right:
        raise TaskError(f"{what}: calibration is {given!r:.60}; give {count} numbers")
    return tuple(float(x) for x in given)


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise TaskError(f"{twice!r:.60} stands there twice; give each once")
    return found
