"""The waveforms whose embeddings a bundle stores, made anew wherever they are compared.

In:  the number of a waveform, its rate and length.
Out: samples float32 [n], equal on every machine.
Knows nothing about bundles or graphs.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from clap_engine.arrays import Float32, Float64


def golden_waveform(index: int, rate_hz: int, n: int) -> Float32:
    """[n] in [-0.5, 0.5]: a chirp, two tones or noise by `index` mod 3; equal everywhere."""
    return _WAVEFORMS[index % 3](index, np.arange(n, dtype=np.float64) / rate_hz, n)


def _chirp(index: int, time_s: Float64, n: int) -> Float32:
    """Upwards from 80 (index + 1) Hz by 500 Hz a second."""
    phase = (80.0 * (index + 1) + 250.0 * time_s) * time_s
    return np.asarray(0.5 * np.sin(2 * np.pi * phase), np.float32)


def _tones(index: int, time_s: Float64, n: int) -> Float32:
    """A tone of 220 Hz a step and its fifth, beating slowly."""
    low = np.sin(2 * np.pi * 220.0 * index * time_s)
    fifth = np.sin(2 * np.pi * 331.0 * index * time_s)
    return np.asarray(0.25 * (low + fifth), np.float32)


def _noise(index: int, time_s: Float64, n: int) -> Float32:
    """Integers only (the 32-bit generator of Numerical Recipes, run as products and sums)."""
    powers = np.full(n, 1664525, np.uint32)
    powers[:1] = 1
    powers = np.multiply.accumulate(powers, dtype=np.uint32)
    offsets = np.zeros(n, np.uint32)
    offsets[1:] = np.add.accumulate(powers[:-1], dtype=np.uint32)
    state = powers * np.uint32(index + 1) + offsets * np.uint32(1013904223)
    return np.asarray((state >> np.uint32(8)) / 2.0**24 - 0.5, np.float32)


_WAVEFORMS: tuple[Callable[[int, Float64, int], Float32], ...] = (_chirp, _tones, _noise)
