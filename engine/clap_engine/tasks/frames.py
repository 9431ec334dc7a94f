"""Long sound -> cosines with labels, frame by frame, in a stream.

In:  the audio encoder of a bundle; batches of windows with their spans; rows of the labels' texts.
Out: `Block`s in order, without gaps: cosines [n, L] and power [n] of consecutive frames.
Knows nothing about files, thresholds or events. Memory is that of one window.

Windows overlap, and a frame is the mean of what all windows over it say, those counting most in
whose middle it lies: there a model hears what comes before and after.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from clap_engine.arrays import Float32, Float64
from clap_engine.errors import TaskError
from clap_engine.tasks.labels import Labels

# Frames below are silence, whatever they resemble: log-mels relative to a window's own peak would
# bring the last bit of a recording up to full scale.
SILENT_DBFS = -75.0


class FrameSpec(Protocol):
    """What framing needs of an audio front end; the manifest's AudioSpec has it."""

    @property
    def window_s(self) -> float: ...
    @property
    def frame_s(self) -> float | None: ...


@dataclass(frozen=True)
class Grid:
    """Frames of `frame_s` seconds, `width` of them a window, `hop` of them from one to the next.

    `has_frames`: the bundle's graph scores frames; else a frame is a piece of a window as long as
    the hop and says what the window says.
    """

    frame_s: float
    width: int
    hop: int
    has_frames: bool

    @classmethod
    def of(cls, spec: FrameSpec, hop_s: float | None = None) -> Grid:
        """At a hop (half a window where none is given); TaskError outside a frame to a window."""
        if hop_s is not None and not 0 < hop_s <= spec.window_s:
            raise TaskError(
                f"hop_s is {hop_s}; give more than 0 s and at most the window's {spec.window_s:g} s"
            )
        if spec.frame_s is not None:
            width = round(spec.window_s / spec.frame_s)
            hop = width // 2 if hop_s is None else round(hop_s / spec.frame_s)
            return cls(spec.window_s / width, width, min(max(1, hop), width), True)
        width = min(100, max(1, round(spec.window_s / (hop_s or spec.window_s / 2))))
        return cls(spec.window_s / width, width, 1, False)

    @property
    def hop_s(self) -> float:
        """Seconds from one window to the next."""
        return self.hop * self.frame_s


@dataclass(frozen=True)
class Block:
    """Consecutive frames from number `first` on: `cosines` [n, L], `power` [n] (1 is full scale).

    `end_s` is where the sound ends, in the last block alone.
    """

    first: int
    cosines: Float64
    power: Float64
    end_s: float | None = None

    @property
    def is_silent(self) -> npt.NDArray[np.bool_]:
        """bool [n]."""
        return np.asarray(self.power < 10.0 ** (SILENT_DBFS / 10.0))


class Hearing(Protocol):
    """What turns windows [W, T] into unit rows; AudioEncoder is one."""

    def encode(self, windows: Float32) -> Float32:
        """[W, D]."""

    def encode_frames(self, windows: Float32) -> Float32:
        """[W, F', D]."""


def rows_of(encoder: Hearing, waveforms: Float32, grid: Grid) -> Float32:
    """[W, T] -> [W, F', D], unit rows of the grid's frames."""
    if grid.has_frames:
        return encoder.encode_frames(waveforms)
    return encoder.encode(waveforms)[:, None].repeat(grid.width, axis=1)


def power_of(waveforms: Float32, grid: Grid) -> Float64:
    """[W, T] -> [W, F'], the mean square of each frame."""
    edges = np.linspace(0, waveforms.shape[1], grid.width + 1).round().astype(np.int64)
    sums = np.add.reduceat(np.square(waveforms), edges[:-1], axis=1)
    return np.asarray(sums / np.diff(edges), np.float64)


def blocks(
    parts: Iterable[tuple[Float32, Float64, Float64]], grid: Grid, labels: Labels, texts: Float32
) -> Iterator[Block]:
    """(rows [W, F', D], power [W, F'], spans [W, 2]) of consecutive windows -> blocks."""
    overlap = Overlap(grid.width, len(labels) + 1)
    end_s = 0.0
    for rows, power, spans in parts:
        cosines = labels.best(rows @ texts.T)
        columns = np.concatenate([cosines, power[..., None]], axis=2, dtype=np.float64)
        end_s = float(spans[-1, 1])
        for frames, start_s in zip(columns, spans[:, 0], strict=True):
            first, done = overlap.add(round(start_s / grid.frame_s), frames)
            if len(done):
                yield Block(first, done[:, :-1], done[:, -1])
    first, done = overlap.rest()
    count = max(1, int(np.ceil(end_s / grid.frame_s - 1e-6)))
    done = done[: max(0, count - first)]
    yield Block(first, done[:, :-1], done[:, -1], end_s)


class Overlap:
    """Weighted means of overlapping windows' frames; what no later window reaches is handed out."""

    def __init__(self, width: int, columns: int) -> None:
        steps = np.arange(width)
        self._weight = np.minimum(steps + 1, width - steps).astype(np.float64)[:, None]
        self._sums = np.zeros((0, columns))
        self._weights = np.zeros((0, 1))
        self._first = 0

    def add(self, at: int, frames: Float64) -> tuple[int, Float64]:
        """Frames [F', C] from number `at` on -> (first, [n, C]) of those before `at`."""
        first, done = self._first, self._means(max(0, at - self._first))
        offset = at - self._first
        missing = offset + len(frames) - len(self._sums)
        if missing > 0:
            self._sums = np.pad(self._sums, ((0, missing), (0, 0)))
            self._weights = np.pad(self._weights, ((0, missing), (0, 0)))
        self._sums[offset : offset + len(frames)] += self._weight * frames
        self._weights[offset : offset + len(frames)] += self._weight
        return first, done

    def rest(self) -> tuple[int, Float64]:
        """(first, [n, C]) of all that was not handed out."""
        return self._first, self._means(len(self._sums))

    def _means(self, count: int) -> Float64:
        done = self._sums[:count] / np.maximum(self._weights[:count], 1.0)
        self._sums, self._weights = self._sums[count:], self._weights[count:]
        self._first += count
        return np.asarray(done, np.float64)
