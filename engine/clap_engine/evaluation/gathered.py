"""Rows of metadata -> clips, those of one sound together.

In:  a sound's name, its file if it is there, captions and labels, row by row.
Out: an `EvaluationSet`, its clips in the order of their first rows.
Knows nothing about layouts or CSV.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from clap_engine.evaluation.sets import Clip, EvaluationSet

Labels = Mapping[str, Sequence[str]]


class Gathered:
    """What was read so far."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[Path | None, float | None]] = {}
        self._captions: dict[str, list[str]] = {}
        self._labels: dict[str, dict[str, list[str]]] = {}
        self._classes: dict[str, set[str]] = {}
        self._blank = 0

    def add(
        self,
        name: str,
        path: Path | None,
        captions: Sequence[str] = (),
        labels: Labels | None = None,
        longest_s: float | None = None,
    ) -> None:
        """One row; another of the same name adds its captions and labels."""
        known, _ = self._files.get(name, (None, None))
        self._files[name] = known or path, longest_s
        said = [text.strip() for text in captions]
        self._blank += said.count("")
        self._captions.setdefault(name, []).extend(text for text in said if text)
        self.add_classes(labels or {})
        of_clip = self._labels.setdefault(name, {})
        for task, some in (labels or {}).items():
            of_clip.setdefault(task, []).extend(label.strip() for label in some if label.strip())

    def add_classes(self, labels: Labels) -> None:
        """Classes to choose among, though no clip of this split has them."""
        for task, some in labels.items():
            stripped = {label.strip() for label in some}
            self._classes.setdefault(task, set()).update(stripped - {""})

    def as_set(self, folder: Path, layout: str, split: str) -> EvaluationSet:
        """All of it."""
        clips = tuple(
            Clip(
                name, path, tuple(self._captions[name]),
                {task: tuple(some) for task, some in self._labels[name].items() if some} or None,
                longest_s,
            )
            for name, (path, longest_s) in self._files.items()
        )  # fmt: skip
        classes = {task: tuple(sorted(some)) for task, some in self._classes.items() if some}
        return EvaluationSet(folder, layout, split, clips, classes, self._blank)
