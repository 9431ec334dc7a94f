"""The label sets that come along: General MIDI, genres, UCS categories, emotions, speaker counts.

In:  the name of a set.
Out: `LabelSet`: labels with the words that stand for them, and what the shipped model knows.
Knows nothing about models or sounds.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from clap_engine.errors import NotFoundError, TaskError
from clap_engine.tasks import settings
from clap_engine.tasks.labels import Labels

_KEYS = {"description", "trust", "labels"}


@dataclass(frozen=True)
class LabelSet:
    """Labels of one subject; `trust` says what was measured with the bundle that ships."""

    name: str
    description: str
    trust: str
    labels: Labels


def names() -> tuple[str, ...]:
    """The sets that come along, in alphabetical order."""
    return settings.names("labels")


def load(name: str) -> LabelSet:
    """The set of this name; NotFoundError lists those there are."""
    if name not in names():
        raise NotFoundError(f"there is no label set {name!r:.60}; there are: {', '.join(names())}")
    return read(name, (settings.data_folder("labels") / f"{name}.json").read_bytes())


def read(name: str, data: bytes) -> LabelSet:
    """A set from its JSON: description, trust, labels {label: words or [words, ...]}."""
    try:
        tree = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise TaskError(f"label set {name} is no JSON: {error}") from error
    if not isinstance(tree, dict) or tree.keys() != _KEYS or not isinstance(tree["labels"], dict):
        raise TaskError(f"label set {name} must hold {', '.join(sorted(_KEYS))} and nothing else")
    labels = Labels.of(tree["labels"], f"label set {name}")
    return LabelSet(name, str(tree["description"]), str(tree["trust"]), labels)
