"""A set as one bundle hears and reads it: rows of its sounds, captions and classes.

In:  an engine, a set, perhaps a cache of sounds.
Out: `Embedded`, and the sums that figures are made of, at any rung.
Knows nothing about intervals, several precisions or the command line.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from clap_engine.arrays import Float32, Int64
from clap_engine.engine import Engine
from clap_engine.errors import TaskError
from clap_engine.evaluation import metrics
from clap_engine.evaluation.cache import EmbeddingCache
from clap_engine.evaluation.sets import Clip, EvaluationSet
from clap_engine.evaluation.sounds import Progress, Sounds, Stage, embed
from clap_engine.matryoshka import truncate
from clap_engine.tasks.labels import Labels
from clap_engine.tasks.prompts import Prompts

# What each tower runs best, where they have no precision in common.
MIXED = "mixed"
# Texts embedded at once: how often progress is told.
_CHUNK = 128


@dataclass(frozen=True)
class Sums:
    """By figure the sums and counts of each clip, see metrics.py; `tasks` by task."""

    text_to_audio: metrics.Sums = field(default_factory=dict)
    audio_to_text: metrics.Sums = field(default_factory=dict)
    tasks: Mapping[str, metrics.Sums] = field(default_factory=dict)


@dataclass(frozen=True)
class Embedded:
    """`clips` are those that could be read, `sounds.rows` [N, D] theirs; `captions` [Q, D] belong
    to the clips `owner` [Q], ascending; by task the classes, their texts' rows and what is true."""

    sounds: Sounds
    clips: tuple[Clip, ...]
    captions: Float32
    owner: Int64
    labels: Mapping[str, Labels]
    classes: Mapping[str, Float32]
    true: Mapping[str, Sequence[frozenset[str]]]

    def sums(self, dim: int) -> Sums:
        """What figures at the first `dim` dims are made of."""
        clips, captions = truncate(self.sounds.rows, dim), truncate(self.captions, dim)
        asked = len(captions) > 0
        return Sums(
            metrics.text_to_audio(captions, clips, self.owner) if asked else {},
            metrics.audio_to_text(captions, clips, self.owner) if asked else {},
            {
                task: metrics.zero_shot(
                    clips, truncate(self.classes[task], dim), some, self.true[task]
                )
                for task, some in self.labels.items()
            },
        )

    def only(self, numbers: Sequence[int]) -> Embedded:
        """The same of some clips alone, named by their numbers in the set, ascending."""
        place = {number: at for at, number in enumerate(self.sounds.kept)}
        chosen = [place[number] for number in numbers]
        new = np.full(len(self.clips), -1, np.int64)
        new[chosen] = np.arange(len(chosen))
        is_in = new[self.owner] >= 0
        return replace(
            self,
            sounds=replace(self.sounds, rows=self.sounds.rows[chosen], kept=tuple(numbers)),
            clips=tuple(self.clips[at] for at in chosen),
            captions=self.captions[is_in],
            owner=new[self.owner][is_in],
            true={task: [some[at] for at in chosen] for task, some in self.true.items()},
        )


class Reader:
    """One engine, one set."""

    def __init__(
        self,
        engine: Engine,
        found: EvaluationSet,
        templates: tuple[str, ...] | None,
        stage: Stage,
    ) -> None:
        """`templates` replace those of the bundle."""
        self._engine, self._set, self._stage = engine, found, stage
        self._given = templates
        self._prompts = Prompts(engine.embed_text, engine.bundle.manifest.templates)
        self.templates = {
            task: templates or self._prompts.templates_of(task) for task in found.classes
        }

    def read(self, precision: str, cache: str | os.PathLike[str] | None) -> Embedded:
        """All of the set that can be read; TaskError where nothing can."""
        sounds = self._sounds(precision, cache)
        if not sounds.kept:
            raise TaskError(
                f"none of the {len(sounds.damaged)} sounds of {self._set.folder} can be read; "
                f"{sounds.damaged[0].error}"
            )
        clips = tuple(self._set.clips[number] for number in sounds.kept)
        texts = [text for clip in clips for text in clip.captions]
        owner = np.repeat(np.arange(len(clips)), [len(clip.captions) for clip in clips])
        with self._stage(len(texts), f"{precision} captions") as progress:
            captions = self._embedded(texts, progress)
        labels = {
            task: Labels.of({name: name.replace("_", " ") for name in names}, f"classes of {task}")
            for task, names in self._set.classes.items()
        }
        return Embedded(
            sounds=sounds,
            clips=clips,
            captions=captions,
            owner=owner,
            labels=labels,
            classes={
                task: self._prompts.rows(some.texts, task, self._given)
                for task, some in labels.items()
            },
            true={
                task: [frozenset((clip.labels or {}).get(task, ())) for clip in clips]
                for task in labels
            },
        )

    def _sounds(self, precision: str, folder: str | os.PathLike[str] | None) -> Sounds:
        clips = self._set.clips
        with self._stage(len(clips), f"{precision} clips") as progress:
            if folder is None:
                return embed(clips, self._engine, None, progress)
            manifest = self._engine.bundle.manifest
            if precision == MIXED:
                raise TaskError(
                    f"the towers of {manifest.id} share no precision, so which one embeds sounds "
                    "depends on the machine, and a cache would mix them; leave the cache out"
                )
            graph = manifest.files[manifest.audio.graphs[precision].file].sha256
            with EmbeddingCache(
                folder, space_id=manifest.space_id, precision=precision, graph=graph,
                dim=manifest.dim,
            ) as cache:  # fmt: skip
                return embed(clips, self._engine, cache, progress)

    def _embedded(self, texts: Sequence[str], progress: Progress) -> Float32:
        """[Q, D]; a text that is there several times is embedded once, so its rows are equal."""
        known: dict[str, int] = {}
        number = [known.setdefault(text, len(known)) for text in texts]
        distinct = list(known)
        rows = np.empty((len(distinct), self._engine.dim), np.float32)
        for start in range(0, len(distinct), _CHUNK):
            part = distinct[start : start + _CHUNK]
            rows[start : start + len(part)] = self._engine.embed_text(part)
            progress(start + len(part), "")
        return rows[number]
