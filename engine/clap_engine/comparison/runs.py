"""Two models on one set: embed with both, then every figure on the clips that both could read.

In:  the names or places of two bundles and a set; or two files of rows with labels.
Out: `Comparison`.
Knows nothing about layouts, formulas, pages or the command line.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from clap_engine import bundle as bundles
from clap_engine import loading
from clap_engine.arrays import l2_normalize
from clap_engine.bundle import Bundle
from clap_engine.comparison import agreement, figures, speed
from clap_engine.comparison.correlation import separated
from clap_engine.comparison.results import Comparison, Model, Rung
from clap_engine.deadline import Deadline, Timeout
from clap_engine.errors import TaskError
from clap_engine.evaluation import sets
from clap_engine.evaluation.bootstrap import LEVEL, RESAMPLES
from clap_engine.evaluation.embedded import MIXED, Embedded, Reader, Sums
from clap_engine.evaluation.runs import check_draws, of_both_towers
from clap_engine.evaluation.sounds import Progress, Stage, silent
from clap_engine.placement import ANYWHERE
from clap_engine.tasks import separation, separation_files
from clap_engine.tasks.prompts import check_templates
from clap_engine.tower import best_precision

# Neighbours take time that grows with the square: of more clips so many are drawn by the seed.
MOST_NEAR = 20_000

Path_: TypeAlias = "str | os.PathLike[str]"


def compare(
    a: Path_ | None,
    b: Path_ | None,
    data: Path_,
    *,
    models_dir: Path_ | None = None,
    layout: str = "auto",
    split: str | None = None,
    precision: str | None = None,
    threads: int | None = None,
    limit: int | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
    templates: Sequence[str] | None = None,
    cache: Path_ | None = None,
    is_timed: bool = True,
    stage: Stage = silent,
    timeout_s: Timeout = None,
) -> Comparison:
    """Bundles `a` and `b` (None: the one that ships) on a set, see `evaluation.sets.read`; a folder
    of sounds for each class is one too.

    Without `precision` each runs in the best one that both of its towers hold. The other settings
    are those of `evaluation.evaluate`; `is_timed` false leaves speed out. Clips that one of the two
    can't read are in no figure of either.

    Raises TaskError for a set that can't be measured, NotFoundError for a bundle, set or precision
    that is not there, DeadlineError.
    """
    check_draws(seed, resamples)
    asked = None if templates is None else check_templates(templates)
    opened = [bundles.open(bundles.find(name, models_dir=models_dir)) for name in (a, b)]
    chosen = [precision or _best(bundle) for bundle in opened]
    found = sets.sample(data, layout, split, limit, seed)
    deadline = Deadline.of(timeout_s)
    with ExitStack() as stack:
        engines = [
            stack.enter_context(
                loading.load(name, models_dir=models_dir, precision=one, threads=threads)
            )
            for name, one in zip((a, b), chosen, strict=True)
        ]
        for engine in engines:
            engine.warm()  # a damaged bundle ends here, not once for every sound
        read = [
            Reader(engine, found, asked, _bounded(stage, deadline)).read(one or MIXED, cache)
            for engine, one in zip(engines, chosen, strict=True)
        ]
        timed = speed.timings(engines[0], engines[1], deadline) if is_timed else {}
    models = _models(opened, chosen, read)
    common = sorted(set(read[0].sounds.kept) & set(read[1].sounds.kept))
    if not common:
        raise TaskError(f"no clip of {found.folder} can be read by both bundles")
    ours, theirs = (side.only(common) for side in read)
    task = next(iter(found.classes), None)
    few = [side.only([common[i] for i in _near(len(common), seed)]) for side in (ours, theirs)]
    dims = [(dim, dim) for dim in models[0].ladder if dim in models[1].ladder]
    full = models[0].dim, models[1].dim
    rungs = []
    for pair in dict.fromkeys([*dims, full]):
        deadline.check()
        sums = ours.sums(pair[0]), theirs.sums(pair[1])
        values = figures.values(*sums)
        rungs.append(Rung(*pair, values, agreement.of_sets(few[0], few[1], pair, task)))
    last = ours.sums(full[0]), theirs.sums(full[1])
    both = None if task is None else figures.separations(few, task, seed, resamples)
    return Comparison(
        a=models[0], b=models[1], data=str(found.folder), layout=found.layout, split=found.split,
        listed=len(found.clips), clips=len(common), captions=len(ours.captions),
        classes={name: len(some) for name, some in found.classes.items()}, missing=found.missing,
        seed=seed, resamples=resamples, level=LEVEL, rungs=tuple(rungs),
        figures=figures.figures_of(last, seed, resamples),
        separation=None if both is None else (both[0], both[1]),
        separated=0 if both is None else both[0].figures.count, speed=timed,
    )  # fmt: skip


async def compare_async(
    a: Path_ | None, b: Path_ | None, data: Path_, *, timeout_s: Timeout = None, **options: Any
) -> Comparison:
    """As `compare`, in a thread; cancelling the task ends the work at the next clip or text."""
    shared = Deadline.of(timeout_s)
    deadline = Deadline(shared.remaining_s)
    shared.watch(deadline.cancel)
    try:
        return await asyncio.to_thread(compare, a, b, data, timeout_s=deadline, **options)
    finally:
        deadline.cancel()
        shared.unwatch(deadline.cancel)


def compare_rows(
    a: Path_, b: Path_, labels: Path_, *, seed: int = 0, resamples: int = RESAMPLES
) -> Comparison:
    """Ready embeddings, rows of the same sounds in two .npy files, with a CSV of labels.

    Without texts the accuracy is that of the nearest class middle, and of the ten nearest rows.
    """
    check_draws(seed, resamples)
    sides = []
    for path in (a, b):
        rows, names = separation_files.read_rows(path, labels)
        sides.append(l2_normalize(rows))
    near = _near(len(names), seed)
    used = [names[i] for i in near]
    found = [separation.separate(rows[near], used) for rows in sides]
    both = [separated(one, None, seed=seed, resamples=resamples) for one in found]
    full = sides[0].shape[1], sides[1].shape[1]
    sums = [figures.nearest(rows[near], one) for rows, one in zip(sides, found, strict=True)]
    agreed = agreement.of_rows(sides[0][near], sides[1][near])
    pair = Sums(tasks={"nearest middle": sums[0]}), Sums(tasks={"nearest middle": sums[1]})
    values = figures.values(*pair)
    return Comparison(
        a=Model(os.fspath(a), full[0], (full[0],)), b=Model(os.fspath(b), full[1], (full[1],)),
        data=os.fspath(labels), layout="rows", split="all", listed=len(names), clips=len(names),
        captions=0, classes={"label": len(set(names))}, missing=(), seed=seed,
        resamples=resamples, level=LEVEL, figures=figures.figures_of(pair, seed, resamples),
        rungs=(Rung(*full, values, agreed),), separation=(both[0], both[1]),
        separated=len(near), speed={},
    )  # fmt: skip


def _best(bundle: Bundle) -> str | None:
    """The fastest here of the precisions that both towers hold."""
    both = [precision for precision in of_both_towers(bundle) if precision is not None]
    graphs = {precision: bundle.manifest.audio.graphs[precision] for precision in both}
    if not graphs:
        return None
    precision, _ = best_precision(graphs, ANYWHERE)
    return precision if precision in graphs else both[0]


def _bounded(stage: Stage, deadline: Deadline) -> Stage:
    """The same stage, whose progress also looks at the deadline."""

    @contextmanager
    def bounded(total: int, unit: str) -> Iterator[Progress]:
        with stage(total, unit) as progress:

            def tell(done: int, label: str) -> None:
                deadline.check()
                progress(done, label)

            yield tell

    return bounded


def _models(
    opened: Sequence[Bundle], chosen: Sequence[str | None], read: Sequence[Embedded]
) -> list[Model]:
    """Both sides, told apart by their revisions where they have one name."""
    found = [
        _model(bundle, precision or MIXED, side)
        for bundle, precision, side in zip(opened, chosen, read, strict=True)
    ]
    if found[0].name == found[1].name:
        return [replace(one, name=f"{one.name} {one.revision[:8]}") for one in found]
    return found


def _model(bundle: Bundle, precision: str, read: Embedded) -> Model:
    manifest = bundle.manifest
    files = {name: entry.size for name, entry in manifest.files.items()}
    of = {
        tower: files.get(graphs[precision].file) if precision in graphs else None
        for tower, graphs in (("audio", manifest.audio.graphs), ("text", manifest.text.graphs))
    }
    return Model(
        name=manifest.id, dim=manifest.dim, ladder=tuple(sorted(manifest.ladder)),
        revision=manifest.revision, precision=precision, total_bytes=sum(files.values()),
        audio_bytes=of["audio"], text_bytes=of["text"], cached=read.sounds.cached,
        damaged=read.sounds.damaged,
    )  # fmt: skip


def _near(count: int, seed: int) -> list[int]:
    """All, or MOST_NEAR of them drawn by the seed, ascending."""
    if count <= MOST_NEAR:
        return list(range(count))
    drawn = np.random.default_rng(seed).permutation(count)[:MOST_NEAR]
    return sorted(int(i) for i in drawn)


def is_rows(a: Path_, b: Path_) -> bool:
    """Are both sides files of rows? TaskError where only one is."""
    are = [Path(path).suffix.lower() == ".npy" for path in (a, b)]
    if are[0] != are[1]:
        raise TaskError("one side is an .npy of rows and the other a bundle; give two of a kind")
    return are[0]
