"""What heads are trained and measured on: every clip and caption as rows of the source's space.

In:  clips with captions, frozen towers, a folder for the cache.
Out: `Features`: windows of each clip, captions of each clip, all unit rows.
Knows nothing about heads, losses or files of pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clap_engine.arrays import Float32, Int64, l2_normalize
from clap_engine.errors import AudioError, TextError
from clap_engine.progress import ProgressLine
from clap_export.clip_files import Clip
from clap_export.errors import PairsError, TrainingError
from clap_export.interrupts import deferred
from clap_export.native_towers import NativeTowers
from clap_export.row_cache import RowCache, key_of

CHUNK = 32  # clips (and four times as many captions) that a killed run embeds again at most
WINDOWS = 16  # a call of the audio tower

Say = Callable[[str], None]


@dataclass(frozen=True)
class Features:
    """N clips with W windows and C captions in all.

    Clip i has the windows [starts[i], starts[i + 1]) and the captions [said[i], said[i + 1]).
    """

    names: tuple[str, ...]
    windows: Float32  # [W, S], unit rows
    starts: Int64  # [N + 1]
    texts: Float32  # [C, S], unit rows
    said: Int64  # [N + 1]

    def __len__(self) -> int:
        return len(self.names)

    def take(self, clips: Int64) -> Features:
        """The clips at these places, in this order."""
        windows, starts = _gathered(self.windows, self.starts, clips)
        texts, said = _gathered(self.texts, self.said, clips)
        names = tuple(self.names[i] for i in clips)
        return Features(names, windows, starts, texts, said)

    def sounds(self, matrix: Float32 | None = None) -> Float32:
        """[N, D]: each clip's embedding under a head: the mean over its windows, a unit row each,
        as the engine makes it."""
        rows = self.windows if matrix is None else l2_normalize(self.windows @ matrix)
        total = np.add.reduceat(rows, self.starts[:-1], axis=0)
        return l2_normalize(np.asarray(total, np.float32))

    def owners(self) -> Int64:
        """[C]: the clip of each caption."""
        return np.repeat(np.arange(len(self)), np.diff(self.said))


def embed(
    clips: Sequence[Clip], towers: NativeTowers, cache: Path, say: Say = lambda line: None
) -> Features:
    """Every clip that can be read, from the cache or through the towers.

    Ctrl-C stops after the chunk in hand; what was embedded is kept. PairsError where no clip can
    be read, TrainingError where a tower gives values that are not finite.
    """
    sounds = RowCache(cache / f"audio-{towers.audio_digest[:16]}", towers.dim, say)
    texts = RowCache(cache / f"text-{towers.text_digest[:16]}", towers.dim, say)
    keys = [key_of(clip.identity()) for clip in clips]
    _embed_sounds(clips, keys, towers, sounds, say)
    readable = [(clip, key) for clip, key in zip(clips, keys, strict=True) if len(sounds.rows[key])]
    failed = [sounds.reasons.get(key, "") for key in keys if not len(sounds.rows[key])]
    if failed:
        say(f"{len(failed)} of {len(clips)} clips can't be read and are left out: {failed[0]}")
    if not readable:
        raise PairsError(f"none of the {len(clips)} clips can be read: {failed[0]}")
    captions = [caption for clip, _ in readable for caption in clip.captions]
    _embed_texts(captions, towers, texts, say)
    windows = [sounds.rows[key] for _, key in readable]
    return Features(
        names=tuple(clip.name for clip, _ in readable),
        windows=np.concatenate(windows),
        starts=_ends([len(rows) for rows in windows]),
        texts=np.concatenate([texts.rows[key_of(caption)] for caption in captions]),
        said=_ends([len(clip.captions) for clip, _ in readable]),
    )


def _embed_sounds(
    clips: Sequence[Clip], keys: Sequence[str], towers: NativeTowers, cache: RowCache, say: Say
) -> None:
    todo = cache.missing(keys)
    if not todo:
        return
    say(f"{len(todo)} of {len(clips)} clips to embed, the rest is in the cache")
    front_end = towers.log_mel()
    with deferred() as interrupts, ProgressLine(len(todo)) as progress:
        for start in range(0, len(todo), CHUNK):
            mels: list[Float32] = []
            counts: dict[str, int] = {}
            reasons: dict[str, str] = {}
            for place in todo[start : start + CHUNK]:
                try:
                    mels.append(clips[place].windows(towers.spec, front_end))
                    counts[keys[place]] = len(mels[-1])
                except (AudioError, OSError) as error:
                    counts[keys[place]] = 0
                    reasons[keys[place]] = str(error)
            rows = _rows(mels, towers)
            parts = np.split(rows, np.cumsum(list(counts.values()))[:-1])
            for place, part in zip(todo[start : start + CHUNK], parts, strict=True):
                _check(part, clips[place].name)
            cache.put(dict(zip(counts, parts, strict=True)), reasons)
            progress(min(start + CHUNK, len(todo)), clips[todo[start]].name)
            interrupts.check()


def _rows(mels: Sequence[Float32], towers: NativeTowers) -> Float32:
    """Log-mels of several clips -> rows, some windows a call whosever they are."""
    if not mels:
        return np.empty((0, towers.dim), np.float32)
    together = np.concatenate(mels)
    calls = [
        towers.embed_windows(together[i : i + WINDOWS]) for i in range(0, len(together), WINDOWS)
    ]
    return np.concatenate(calls)


def _embed_texts(captions: Sequence[str], towers: NativeTowers, cache: RowCache, say: Say) -> None:
    keys = [key_of(caption) for caption in captions]
    todo = cache.missing(keys)
    cut = 0
    with deferred() as interrupts, ProgressLine(len(todo), unit="captions") as progress:
        for start in range(0, len(todo), 4 * CHUNK):
            part = todo[start : start + 4 * CHUNK]
            rows: dict[str, Float32] = {}
            for place in part:
                try:
                    row, was_cut = towers.embed_texts([captions[place]])
                except TextError as error:
                    said = captions[place][:60]
                    raise PairsError(f"caption {said!r}: {error}; correct it in the CSV") from error
                _check(row, captions[place])
                rows[keys[place]] = row
                cut += was_cut
            cache.put(rows, {})
            progress(min(start + 4 * CHUNK, len(todo)))
            interrupts.check()
    if cut:
        say(f"{cut} captions are longer than the model reads; their ends were left out")


def _check(rows: Float32, name: str) -> None:
    if not np.isfinite(rows).all():
        raise TrainingError(
            f"the tower gives values that are not finite for {name!r}; the weights are damaged "
            "(clap-engine doctor looks at a bundle's), nothing was kept of it"
        )


def _ends(counts: Sequence[int]) -> Int64:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _gathered(rows: Float32, starts: Int64, clips: Int64) -> tuple[Float32, Int64]:
    counts = np.diff(starts)[clips]
    ends = _ends(counts.tolist())
    places = np.repeat(starts[:-1][clips] - ends[:-1], counts) + np.arange(ends[-1])
    return rows[places], ends
