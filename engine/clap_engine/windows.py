"""Waveform -> windows of one length, with where they lie.

In:  blocks of one mono waveform, float32 [n]; length, hop and padding of the windows.
Out: windows float32 [T_window] with the samples they span; batches of them.
Knows nothing about files, resampling or log-mels.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from clap_engine.arrays import Float32
from clap_engine.errors import AudioError

Float64 = npt.NDArray[np.float64]

BATCH = 16


def fill(clip: Float32, size: int, padding: str) -> Float32:
    """[n], n <= size, at least one sample -> [size], filled as the model was trained.

    `repeat`: the clip again and again, the last time cut; `repeat_pad`: as often as it fits
    whole, then zeros; `zero`: once, then zeros.
    """
    if padding == "repeat":
        return np.resize(clip, size)
    copies = size // len(clip) if padding == "repeat_pad" else 1
    window = np.zeros(size, np.float32)
    window[: copies * len(clip)] = np.tile(clip, copies)
    return window


def cut(
    blocks: Iterator[Float32], size: int, hop: int, padding: str = "repeat"
) -> Iterator[tuple[Float32, int, int]]:
    """Blocks -> (window [size], its first sample, its end), in order."""
    pending = np.empty(0, np.float32)  # the clip from sample `start` on
    last = pending  # the window before `start`
    start = 0
    for block in blocks:
        pending = np.concatenate([pending, block])
        first = 0
        while len(pending) - first >= size:
            last = pending[first : first + size]
            yield last, start, start + size
            first, start = first + hop, start + hop
        pending = pending[first:]
    end = start + len(pending)
    if not start:
        yield fill(pending, size, padding), 0, end
    elif end > start - hop + size:
        yield np.concatenate([last[:hop], pending])[-size:], end - size, end


def batches(
    cuts: Iterator[tuple[Float32, int, int]], size: int, rate_hz: int
) -> Iterator[tuple[Float32, Float64]]:
    """Single windows -> batches; each is filled in place and handed over."""
    rows, spans = np.empty((BATCH, size), np.float32), np.empty((BATCH, 2))
    count = 0
    for window, start, end in cuts:
        rows[count], spans[count] = window, (start / rate_hz, end / rate_hz)
        count += 1
        if count == BATCH:
            yield rows, spans
            rows, spans = np.empty_like(rows), np.empty_like(spans)
            count = 0
    if count:
        yield rows[:count].copy(), spans[:count].copy()


def crop(waveform: Float32, size: int, start: int) -> Float32:
    """[T] -> [size] as msclap cuts it, which takes `start` at random: for parity tests only.

    A clip no longer than the window is repeated to fill it, whatever `start`; in a longer one
    `start` goes to T - size - 1, so its last window is never heard.
    """
    if len(waveform) <= size:
        return np.resize(waveform, size)
    if not 0 <= start < len(waveform) - size:
        raise AudioError(
            f"a crop from sample {start} of {len(waveform)}; give 0 to {len(waveform) - size - 1}"
        )
    return waveform[start : start + size].copy()
