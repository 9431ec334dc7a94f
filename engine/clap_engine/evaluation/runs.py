"""A bundle against a set: each precision, each rung, each figure.

In:  the name or place of a bundle, the folder of a set.
Out: `Evaluation`.
Knows nothing about layouts, formulas or the command line.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np

from clap_engine import bundle as bundles
from clap_engine import loading
from clap_engine.arrays import Float32, Int64
from clap_engine.bundle import Bundle
from clap_engine.engine import Engine
from clap_engine.errors import TaskError
from clap_engine.evaluation import metrics, sets
from clap_engine.evaluation.bootstrap import LEVEL, RESAMPLES, Estimate, estimates
from clap_engine.evaluation.cache import EmbeddingCache
from clap_engine.evaluation.results import Evaluation, PrecisionResult, RungResult
from clap_engine.evaluation.sets import EvaluationSet
from clap_engine.evaluation.sounds import Progress, Sounds, Stage, embed, silent
from clap_engine.matryoshka import truncate
from clap_engine.specs import PRECISIONS
from clap_engine.tasks.labels import Labels
from clap_engine.tasks.prompts import Prompts, check_templates

MAX_RESAMPLES = 100_000
# What each tower runs best, where they have no precision in common.
MIXED = "mixed"
# Texts embedded at once: how often progress is told.
_CHUNK = 128


def evaluate(
    name_or_path: str | os.PathLike[str] | None,
    folder: str | os.PathLike[str],
    *,
    models_dir: str | os.PathLike[str] | None = None,
    layout: str = "auto",
    split: str | None = None,
    precisions: Sequence[str] | None = None,
    threads: int | None = None,
    limit: int | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
    templates: Sequence[str] | None = None,
    cache: str | os.PathLike[str] | None = None,
    stage: Stage = silent,
) -> Evaluation:
    """How well the bundle finds and names the sounds of a set; None is the bundle that ships.

    `layout` and `split`: see `sets.read`. `precisions` are those that both towers hold, unless
    named. `limit` draws so many clips by the seed, which also draws the intervals. `templates`
    replace the bundle's. With a folder as `cache` no sound is embedded again by a later run,
    whether this one ended or was interrupted.

    Missing and damaged sounds are left out of all figures, and told. Raises TaskError for a set
    that can't be measured, NotFoundError for a bundle, folder or precision that is not there.
    """
    if not 100 <= resamples <= MAX_RESAMPLES:
        raise TaskError(f"resamples is {resamples}; 100 to {MAX_RESAMPLES} are allowed")
    if seed < 0:
        raise TaskError(f"seed is {seed}; give 0 or more")
    asked = None if templates is None else check_templates(templates)
    opened = bundles.open(bundles.find(name_or_path, models_dir=models_dir))
    chosen = tuple(precisions) if precisions is not None else of_both_towers(opened)
    found = sets.read(folder, layout, split)
    if limit is not None:
        found = found.limited(limit, seed)
    missing = tuple(clip.name for clip in found.clips if clip.path is None)
    if len(missing) == len(found.clips):
        raise TaskError(
            f"none of the {len(missing)} clips that {found.folder} lists is there; the first is "
            f"{missing[0]!r}: put the sounds where the layout has them"
        )
    results = []
    used: dict[str, tuple[str, ...]] = {}
    for precision in chosen:
        with loading.load(
            name_or_path, models_dir=models_dir, precision=precision, threads=threads
        ) as engine:
            engine.warm()  # a damaged bundle ends here, not once for every sound
            run = _Run(engine, found, asked, seed, resamples, stage)
            results.append(run.result(precision or MIXED, cache))
            used = run.templates
    manifest = opened.manifest
    return Evaluation(
        bundle=manifest.id,
        revision=manifest.revision,
        space_id=manifest.space_id,
        folder=str(found.folder),
        layout=found.layout,
        split=found.split,
        clips=len(found.clips),
        captions=sum(len(clip.captions) for clip in found.clips),
        blank_captions=found.blank,
        missing=missing,
        classes={task: len(names) for task, names in found.classes.items()},
        templates=used,
        seed=seed,
        resamples=resamples,
        level=LEVEL,
        precisions=tuple(results),
    )


def of_both_towers(bundle: Bundle) -> tuple[str | None, ...]:
    """The precisions in which a bundle has both graphs; (None,), the engine's own choice for each
    tower, where there is none."""
    manifest = bundle.manifest
    both = set(manifest.text.graphs) & set(manifest.audio.graphs)
    return tuple(p for p in PRECISIONS if p in both) or (None,)


class _Run:
    """One engine, one set."""

    def __init__(
        self,
        engine: Engine,
        found: EvaluationSet,
        templates: tuple[str, ...] | None,
        seed: int,
        resamples: int,
        stage: Stage,
    ) -> None:
        self._engine, self._set, self._stage = engine, found, stage
        self._seed, self._resamples = seed, resamples
        self._given = templates
        self._prompts = Prompts(engine.embed_text, engine.bundle.manifest.templates)
        self.templates = {
            task: templates or self._prompts.templates_of(task) for task in found.classes
        }

    def result(self, precision: str, cache: str | os.PathLike[str] | None) -> PrecisionResult:
        """All figures of this engine."""
        sounds = self._sounds(precision, cache)
        if not sounds.kept:
            raise TaskError(
                f"none of the {len(sounds.damaged)} sounds of {self._set.folder} can be read; "
                f"{sounds.damaged[0].error}"
            )
        clips = [self._set.clips[number] for number in sounds.kept]
        texts = [text for clip in clips for text in clip.captions]
        owner = np.repeat(np.arange(len(clips)), [len(clip.captions) for clip in clips])
        with self._stage(len(texts), f"{precision} captions") as progress:
            captions = self._embedded(texts, progress)
        labels = {
            task: Labels.of({name: name.replace("_", " ") for name in names}, f"classes of {task}")
            for task, names in self._set.classes.items()
        }
        rows = {
            task: self._prompts.rows(some.texts, task, self._given) for task, some in labels.items()
        }
        true = {
            task: [frozenset((clip.labels or {}).get(task, ())) for clip in clips]
            for task in labels
        }
        rungs = tuple(
            self._rung(
                truncate(sounds.rows, dim), truncate(captions, dim), owner,
                {
                    task: metrics.zero_shot(
                        truncate(sounds.rows, dim), truncate(rows[task], dim), some, true[task]
                    )
                    for task, some in labels.items()
                },
            )
            for dim in sorted(self._engine.ladder)
        )  # fmt: skip
        return PrecisionResult(precision, len(clips), sounds.cached, sounds.damaged, rungs)

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

    def _rung(
        self, clips: Float32, captions: Float32, owner: Int64, tasks: Mapping[str, metrics.Sums]
    ) -> RungResult:
        def estimated(sums: metrics.Sums) -> dict[str, Estimate]:
            return estimates(sums, seed=self._seed, resamples=self._resamples)

        has_captions = len(captions) > 0
        return RungResult(
            dim=clips.shape[1],
            text_to_audio=estimated(metrics.text_to_audio(captions, clips, owner))
            if has_captions else {},
            audio_to_text=estimated(metrics.audio_to_text(captions, clips, owner))
            if has_captions else {},
            tasks={task: estimated(sums) for task, sums in tasks.items()},
        )  # fmt: skip
