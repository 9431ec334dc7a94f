"""A bundle against a set: each precision, each rung, each figure.

In:  the name or place of a bundle, the folder of a set.
Out: `Evaluation`.
Knows nothing about layouts, formulas or the command line.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from clap_engine import bundle as bundles
from clap_engine import loading
from clap_engine.bundle import Bundle
from clap_engine.engine import Engine
from clap_engine.errors import TaskError
from clap_engine.evaluation import metrics, sets
from clap_engine.evaluation.bootstrap import LEVEL, RESAMPLES, Estimate, estimates
from clap_engine.evaluation.embedded import MIXED, Embedded, Reader
from clap_engine.evaluation.results import Evaluation, PrecisionResult, RungResult
from clap_engine.evaluation.sets import EvaluationSet
from clap_engine.evaluation.sounds import Stage, silent
from clap_engine.specs import PRECISIONS
from clap_engine.tasks.prompts import check_templates

MAX_RESAMPLES = 100_000


def check_draws(seed: int, resamples: int) -> None:
    """TaskError for a seed or a number of bootstrap draws that is not allowed."""
    if not 100 <= resamples <= MAX_RESAMPLES:
        raise TaskError(f"resamples is {resamples}; 100 to {MAX_RESAMPLES} are allowed")
    if seed < 0:
        raise TaskError(f"seed is {seed}; give 0 or more")


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
    check_draws(seed, resamples)
    asked = None if templates is None else check_templates(templates)
    opened = bundles.open(bundles.find(name_or_path, models_dir=models_dir))
    chosen = tuple(precisions) if precisions is not None else of_both_towers(opened)
    found = sets.sample(folder, layout, split, limit, seed)
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
        missing=found.missing,
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
        self._reader = Reader(engine, found, templates, stage)
        self._ladder = engine.ladder
        self._seed, self._resamples = seed, resamples
        self.templates = self._reader.templates

    def result(self, precision: str, cache: str | os.PathLike[str] | None) -> PrecisionResult:
        """All figures of this engine."""
        read = self._reader.read(precision, cache)
        rungs = tuple(self._rung(read, dim) for dim in sorted(self._ladder))
        sounds = read.sounds
        return PrecisionResult(precision, len(read.clips), sounds.cached, sounds.damaged, rungs)

    def _rung(self, read: Embedded, dim: int) -> RungResult:
        def estimated(sums: metrics.Sums) -> dict[str, Estimate]:
            return estimates(sums, seed=self._seed, resamples=self._resamples)

        sums = read.sums(dim)
        return RungResult(
            dim=dim,
            text_to_audio=estimated(sums.text_to_audio),
            audio_to_text=estimated(sums.audio_to_text),
            tasks={task: estimated(some) for task, some in sums.tasks.items()},
        )
