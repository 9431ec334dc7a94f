"""The sounds of a set -> one unit row each, by cache or by engine.

In:  clips whose file is there, an engine, perhaps a cache.
Out: rows float32 [N, D] of those that could be read; which those are, and why not the others.
Knows nothing about captions, labels or figures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clap_engine import storage
from clap_engine.arrays import Float32
from clap_engine.clips import clip_embedding
from clap_engine.engine import Engine
from clap_engine.errors import AudioError, IntegrityError, NotFoundError
from clap_engine.evaluation.cache import EmbeddingCache, Row
from clap_engine.evaluation.results import Failure
from clap_engine.evaluation.sets import Clip

# Called with how much is done, and what came last.
Progress = Callable[[int, str], None]
# Entered for a stage of so many things of a kind.
Stage = Callable[[int, str], AbstractContextManager[Progress]]


def silent(total: int, unit: str) -> AbstractContextManager[Progress]:
    """A stage that tells nobody."""
    return nullcontext(lambda done, label: None)


# What is wrong with a file costs that file only.
_OF_A_FILE = (AudioError, NotFoundError, IntegrityError, storage.StorageError)


@dataclass(frozen=True)
class Sounds:
    """`rows` float32 [N, D]; `kept` numbers their clips among those given, ascending.

    `missing` names those without a file.
    """

    rows: Float32
    kept: tuple[int, ...]
    missing: tuple[str, ...]
    damaged: tuple[Failure, ...]
    cached: int


def embed(
    clips: Sequence[Clip], engine: Engine, cache: EmbeddingCache | None, progress: Progress
) -> Sounds:
    """Each file once, whatever it is called: the same bytes have the same row.

    A clip that can't be read costs only itself. Memory is that of the rows and one clip's windows.
    """
    rows = np.empty((len(clips), engine.dim), np.float32)
    kept: list[int] = []
    missing: list[str] = []
    damaged: list[Failure] = []
    seen: dict[str, tuple[int, float]] = {}
    cached = 0
    for number, clip in enumerate(clips):
        progress(number, clip.name)
        if clip.path is None:
            missing.append(clip.name)
            continue
        try:
            digest = storage.file_digest(clip.path).sha256
        except _OF_A_FILE as error:
            damaged.append(Failure(clip.name, str(error)))
            continue
        found: Row | None = None
        if digest in seen:
            at, duration_s = seen[digest]
            found = rows[at], duration_s
        elif cache is not None:
            found = cache.get(digest)
            cached += found is not None
        try:
            row, duration_s = _embedded(clip.path, engine) if found is None else found
            _check_length(clip, duration_s)
        except _OF_A_FILE as error:
            damaged.append(Failure(clip.name, str(error)))
            continue
        if cache is not None and found is None:
            cache.put(digest, row, duration_s)
        rows[len(kept)] = row
        seen[digest] = len(kept), duration_s
        kept.append(number)
    progress(len(clips), "")
    return Sounds(rows[: len(kept)], tuple(kept), tuple(missing), tuple(damaged), cached)


def _embedded(path: Path, engine: Engine) -> Row:
    vectors, _, duration_s = engine.embed_windows(path)
    return clip_embedding(vectors), duration_s


def _check_length(clip: Clip, duration_s: float) -> None:
    if clip.longest_s is not None and duration_s > clip.longest_s:
        raise AudioError(
            f"{clip.path} lasts {duration_s:.1f} s, the clip that is meant at most "
            f"{clip.longest_s:g} s; cut it to the excerpt"
        )
