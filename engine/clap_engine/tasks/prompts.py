"""Texts -> one unit vector each: prompt templates filled, embedded, averaged, kept.

In:  the texts of labels; templates with a place for them; a function that embeds texts.
Out: float32 [T, D], unit rows, read-only; the same array while it is cached.
Knows nothing about sounds or what the rows are compared with.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from clap_engine.arrays import Float32, l2_normalize
from clap_engine.errors import TaskError
from clap_engine.tasks.labels import GivenLabels, Labels

MAX_TEMPLATES = 100
# 20,000 rows of 512 dims are 41 MB; the sets used longest ago are forgotten beyond that.
MAX_CACHED_ROWS = 20_000
# Texts embedded at once: bounds what thousands of labels need beside their rows.
CHUNK = 512
PLACES = ("{label}", "{}")
BARE = ("{}",)
MAX_CHECKED = 16


def check_templates(templates: object) -> tuple[str, ...]:
    """The templates as a tuple; TaskError if one has no place for a label."""
    if isinstance(templates, str):
        templates = (templates,)
    if not isinstance(templates, Sequence) or not 1 <= len(templates) <= MAX_TEMPLATES:
        raise TaskError(f"templates must be a list of 1 to {MAX_TEMPLATES} texts")
    for template in templates:
        if not isinstance(template, str) or not any(place in template for place in PLACES):
            raise TaskError(
                f"template {template!r:.60} has no place for the label; "
                "write {} there, as in 'the sound of {}'"
            )
    return tuple(templates)


def filled(template: str, label: str) -> str:
    """The template with the label in its place; no other brace means anything."""
    place = next(place for place in PLACES if place in template)
    return template.replace(place, label)


class Prompts:
    """Embeds sets of texts and keeps them; safe in many threads."""

    def __init__(
        self,
        embed: Callable[[list[str]], Float32],
        templates: Mapping[str, Sequence[str]],
        max_rows: int = MAX_CACHED_ROWS,
    ) -> None:
        """`templates` are those of the bundle, by task."""
        self._embed, self._templates, self._max_rows = embed, templates, max_rows
        self._kept: OrderedDict[tuple[tuple[str, ...], tuple[str, ...]], Float32] = OrderedDict()
        self._lock = threading.Lock()
        self._checked: OrderedDict[tuple[str, ...], Labels] = OrderedDict()

    def labels(self, given: GivenLabels) -> Labels:
        """`Labels.of`, remembered for lists: checking a hundred takes as long as comparing them."""
        if not isinstance(given, (list, tuple)):
            return Labels.of(given)
        key = tuple(given)
        try:
            found = self._checked.get(key)
        except TypeError:  # something in it can't be hashed, so it is no text
            found = None
        if found is None:
            found = Labels.of(given)
            with self._lock:
                self._checked[key] = found
                if len(self._checked) > MAX_CHECKED:
                    self._checked.popitem(last=False)
        return found

    def rows(
        self, texts: tuple[str, ...], task: str, templates: Sequence[str] | str | None = None
    ) -> Float32:
        """[T, D], the normalised mean of each text in all templates; those given, or the task's."""
        chosen = self.templates_of(task) if templates is None else check_templates(templates)
        key = texts, chosen
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
                return found
        made = self._made(texts, chosen)
        with self._lock:
            self._kept[key] = made
            while len(self._kept) > 1 and sum(map(len, self._kept.values())) > self._max_rows:
                self._kept.popitem(last=False)
        return made

    def templates_of(self, task: str) -> tuple[str, ...]:
        """The bundle's templates for a task, else those for classify, else the label alone."""
        return tuple(self._templates.get(task) or self._templates.get("classify") or BARE)

    def _made(self, texts: tuple[str, ...], templates: tuple[str, ...]) -> Float32:
        parts = []
        for start in range(0, len(texts), CHUNK):
            part = texts[start : start + CHUNK]
            rows = self._embed([filled(t, text) for t in templates for text in part])
            parts.append(rows.reshape(len(templates), len(part), -1).mean(axis=0))
        made = l2_normalize(np.concatenate(parts).astype(np.float32))
        made.flags.writeable = False  # shared by all who ask for the same labels
        return made
