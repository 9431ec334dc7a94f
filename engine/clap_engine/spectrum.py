"""Frames -> mel power, the Fourier transform taken as matrix products.

In:  frames float32 [F, n_fft], n_fft a power of two; `window` [n_fft], `mel` [n_fft/2+1, M].
Out: mel power float32 [F, M].
Knows nothing about decibels, padding or files.

With n = B a + b and k = c + A d (A B = n_fft), e^(-2 pi i n k / n_fft) falls into a factor of
(a, c) and one of (b, c, d): first A sums over a, then, for each c, B sums over b. Both are small
dense products, which a CPU does twenty times faster than what an FFT is made of: 965 frames of
1,024 take 3.1 to 3.7 ms where numpy's rfft takes 4.1 to 5.5 (one thread; on a busy machine 7.8
and 9 to 14). Real input needs only c <= A/2; bins that no filter reads are left out.
"""

from __future__ import annotations

import numpy as np

from clap_engine.arrays import Float32

# Frames at a time: their temporaries, 14 KiB a frame, stay in the second cache.
CHUNK = 64


class MelProducts:
    """The constants of one front end. Immutable, safe in many threads."""

    def __init__(self, window: Float32, mel: Float32) -> None:
        n_fft = len(window)
        a = 1 << (n_fft.bit_length() // 2)  # 32 of 1,024
        b = n_fft // a
        c = np.arange(a // 2 + 1)
        bins = c[:, None] + a * np.arange(b)  # [C, B]: the bin k of (c, d)
        bins = np.minimum(bins, n_fft - bins)  # real input: power is the same on both sides
        first = np.zeros(bins.size, bool)
        first[np.unique(bins, return_index=True)[1]] = True  # each bin counts once
        read = first.reshape(bins.shape) & mel.any(axis=1)[bins]
        kept = np.flatnonzero(read.any(axis=0))
        self._window = np.ascontiguousarray(window, np.float32)
        self._shape = (a, b)
        self._rows = _interleaved(np.outer(c, np.arange(a)) / a)  # [2C, A]
        turns = np.multiply.outer(np.arange(b), c[:, None] + a * kept) / n_fft  # [B, C, D]
        self._columns = _complex_blocks(turns.transpose(1, 0, 2))  # [C, 2B, 2D]
        filters = np.where(read[:, kept, None], mel[bins[:, kept]], 0)
        self._mel = np.ascontiguousarray(filters.reshape(-1, mel.shape[1]), np.float32)

    def __call__(self, frames: Float32) -> Float32:
        """[F, n_fft] -> [F, M]."""
        (a, b), (c, _, d2) = self._shape, self._columns.shape
        out = np.empty((len(frames), self._mel.shape[1]), np.float32)
        windowed = np.empty((CHUNK, a, b), np.float32)
        partial = np.empty((CHUNK, 2 * c, b), np.float32)
        spectrum = np.empty((c, CHUNK, d2), np.float32)
        power = np.empty((CHUNK, c, d2 // 2), np.float32)
        for start in range(0, len(frames), CHUNK):
            part = frames[start : start + CHUNK]
            n = len(part)
            x = windowed[:n].reshape(n, a * b)
            np.multiply(part, self._window, out=x)
            np.matmul(self._rows, windowed[:n], out=partial[:n])
            by_c = partial[:n].reshape(n, c, 2 * b).transpose(1, 0, 2)
            y = spectrum[:, :n]
            np.matmul(by_c, self._columns, out=y)
            np.multiply(y, y, out=y)
            np.add(y[..., : d2 // 2], y[..., d2 // 2 :], out=power[:n].transpose(1, 0, 2))
            np.matmul(power[:n].reshape(n, -1), self._mel, out=out[start : start + n])
        return out


def _interleaved(turns: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Float32:
    """[C, A] turns -> [2C, A]: the real and the imaginary row of each c, one after the other."""
    angle = -2 * np.pi * turns
    rows = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return np.ascontiguousarray(rows.reshape(-1, turns.shape[1]), np.float32)


def _complex_blocks(turns: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Float32:
    """[C, B, D] turns -> [C, 2B, 2D]: products of complex numbers as one real matrix each."""
    angle = -2 * np.pi * turns
    real, imaginary = np.cos(angle), np.sin(angle)
    top = np.concatenate([real, imaginary], axis=2)
    bottom = np.concatenate([-imaginary, real], axis=2)
    return np.ascontiguousarray(np.concatenate([top, bottom], axis=1), np.float32)
