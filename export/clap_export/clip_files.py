"""One sound with its captions, and the windows of a file that are heard for it.

In:  a sound file, its captions, perhaps the span of a recording that was meant.
Out: log-mels of windows; what identifies the sound.
Knows nothing about CSV or towers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from clap_engine import audio
from clap_engine.arrays import Float32
from clap_engine.errors import AudioError
from clap_engine.limits import DEFAULT_LIMITS
from clap_engine.manifest import AudioSpec
from clap_engine.mel import LogMel

# Beyond this a clip says nothing new about its caption, and a podcast would fill the cache.
MAX_WINDOWS = 32
SLACK_S = 1.0  # by which a cut-out clip may be longer than its row says, or a recording shorter


class Clip(Protocol):
    """One sound with its captions; whatever holds log-mels may stand for a file."""

    @property
    def name(self) -> str: ...
    @property
    def captions(self) -> tuple[str, ...]: ...
    def identity(self) -> str:
        """What changes when the sound does: the cache of features is bound to it."""
        ...

    def windows(self, spec: AudioSpec, front_end: LogMel) -> Float32:
        """Log-mels [W, F, M]; AudioError where there are none."""
        ...


@dataclass(frozen=True)
class ClipFile:
    """A sound file; with `span_s` only that part of it, if the file is the whole recording."""

    name: str
    path: Path
    captions: tuple[str, ...]
    span_s: tuple[float, float] | None = None

    def identity(self) -> str:
        """Name, size and time of change: reading gigabytes for a digest would take as long as
        embedding them does."""
        facts = self.path.stat()
        return f"{self.name}|{facts.st_size}|{facts.st_mtime_ns}|{self.span_s}"

    def windows(self, spec: AudioSpec, front_end: LogMel) -> Float32:
        """The clip's first `MAX_WINDOWS` windows; AudioError where the file can't be read or is
        neither the clip nor the recording it was cut from."""
        source: audio.Source = self.path
        if self.span_s is not None and self._is_whole(self.span_s):
            source = (_part(self.path, spec.rate_hz, self.span_s), spec.rate_hz)
        rows: list[Float32] = []
        for windows, _ in audio.windows(source, spec, DEFAULT_LIMITS):
            rows.append(front_end(windows))
            if sum(map(len, rows)) >= MAX_WINDOWS:
                break
        return np.asarray(np.concatenate(rows)[:MAX_WINDOWS], np.float32)

    def _is_whole(self, span_s: tuple[float, float]) -> bool:
        start_s, end_s = span_s
        found_s = audio.probe(self.path).duration_s
        if found_s is None or found_s <= end_s - start_s + SLACK_S:
            return False  # cut out already
        if found_s < end_s - SLACK_S:
            raise AudioError(
                f"{self.path} lasts {found_s:.1f} s: neither the clip of {end_s - start_s:g} s nor "
                f"a recording that reaches {end_s:g} s; fetch it again"
            )
        return True


def _part(path: Path, rate_hz: int, span_s: tuple[float, float]) -> Float32:
    """Seconds `span_s` of a recording, at `rate_hz`; what lies before is decoded, not kept."""
    first, last = (round(rate_hz * t) for t in span_s)
    kept: list[Float32] = []
    place = 0
    for block in audio.decode_blocks(path, rate_hz):
        kept.append(block[max(0, first - place) : max(0, last - place)])
        place += len(block)
        if place >= last:
            break
    return np.concatenate(kept)
