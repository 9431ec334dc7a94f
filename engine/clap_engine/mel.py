"""Windows -> log-mel: the numpy front end that stands in front of every audio graph.

In:  windows float32 [B, T], mono, at the bundle's rate; `window` [n_fft] and `mel`
     [n_fft/2+1, M] as the bundle's frontend.npz holds them.
Out: log_mel float32 [B, F, M]: dB under the window's own peak, in [-floor_db, 0], or, where the
     reference is one, dB of power, at least that of `amin`.
Knows nothing about files, resampling or graphs.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from clap_engine.arrays import Float32, check_array
from clap_engine.errors import IntegrityError, ManifestError
from clap_engine.spectrum import MelProducts

Float64 = npt.NDArray[np.float64]

# A window whose loudest mel power is not above this is silence: -floor_db everywhere.
SILENT_POWER = 1e-10

# Samples per rfft: 16 frames of 2,048 keep the temporaries in the cache and out of mmap: 1.3 ms
# for 128 such frames, all at once 1.9-3.2. In these chunks a float64 rfft costs what a float32 one
# does (numpy 1.26.4 and 2.4.6), and stays within 4e-5 dB of the reference where float32 reaches
# 5e-4 beside a strong DC.
CHUNK_SAMPLES = 2**15

# Above this the power of a full-scale tone nears float32's end, so louder windows are brought
# down by a power of two, which is exact; dB of power get it back as a sum.
LOUD = 2.0**20


class MelSpec(Protocol):
    """What the log-mel needs of an audio front end; the manifest's AudioSpec has it."""

    @property
    def rate_hz(self) -> int: ...
    @property
    def window_s(self) -> float: ...
    @property
    def n_fft(self) -> int: ...
    @property
    def hop(self) -> int: ...
    @property
    def pad(self) -> int: ...
    @property
    def n_mels(self) -> int: ...
    @property
    def n_frames(self) -> int: ...
    @property
    def floor_db(self) -> float | None: ...
    @property
    def reference(self) -> str: ...
    @property
    def amin(self) -> float: ...
    @property
    def pad_mode(self) -> str: ...


class LogMel:
    """Windows [B, T] -> log-mel [B, F, M]; immutable after construction, safe in many threads."""

    def __init__(self, spec: MelSpec, frontend_npz: bytes) -> None:
        self.n_samples = round(spec.rate_hz * spec.window_s)
        self._pad, self._hop, self._n_fft = spec.pad, spec.hop, spec.n_fft
        self._n_frames = spec.n_frames
        self._floor_db = None if spec.floor_db is None else np.float32(spec.floor_db)
        self._amin, self._is_mirrored = spec.amin, spec.pad_mode == "reflect"
        if (spec.floor_db is None) != (spec.reference == "one"):
            raise ManifestError(
                f"floor_db is {spec.floor_db} with reference {spec.reference!r}; "
                "give dB under 'peak', or None with 'one'"
            )
        frames = 1 + (self.n_samples + 2 * spec.pad - spec.n_fft) // spec.hop
        if frames != spec.n_frames:
            raise ManifestError(
                f"{self.n_samples} samples padded by {spec.pad} give {frames} frames, the manifest "
                f"says {spec.n_frames}; make n_frames, hop, pad and window_s agree"
            )
        window, mel = _read_frontend(frontend_npz)
        wanted = ((spec.n_fft,), (spec.n_fft // 2 + 1, spec.n_mels))
        if (window.shape, mel.shape) != wanted:
            raise ManifestError(
                f"frontend.npz holds window {window.shape} and mel {mel.shape}; "
                f"the manifest needs {wanted[0]} and {wanted[1]}"
            )
        used = np.flatnonzero(mel.any(axis=1))
        if not used.size or mel.min() < 0:
            raise ManifestError("mel filters are all zero or negative; re-export the front end")
        self._bins = slice(int(used[0]), int(used[-1]) + 1)
        self._window = window.astype(np.float64)
        self._mel = np.ascontiguousarray(mel[self._bins])
        # dB under a peak are read 80 dB deep, beside DC too: there float32 sums are too coarse.
        # Models whose dB are of power were trained on float32 sums, and those are faster.
        is_power_of_two = spec.n_fft & (spec.n_fft - 1) == 0
        by_products = spec.reference == "one" and is_power_of_two
        self._products = MelProducts(window, mel) if by_products else None

    def __call__(self, windows: Any) -> Float32:
        """[B, T] -> [B, F, M]; each window alone, so its result doesn't depend on its mates."""
        windows = check_array(windows, shape=(None, self.n_samples), name="windows")
        out = np.empty((len(windows), self._n_frames, self._mel.shape[1]), np.float32)
        dtype = np.float64 if self._products is None else np.float32
        padded: npt.NDArray[Any] = np.zeros(self.n_samples + 2 * self._pad, dtype)
        frames = np.lib.stride_tricks.sliding_window_view(padded, self._n_fft)[:: self._hop]
        for row, window in zip(out, windows, strict=True):
            scale = _scale(window)
            np.multiply(window, scale, out=padded[self._pad : len(padded) - self._pad])
            if self._is_mirrored:
                _mirror(padded, self._pad)
            power = self._power(frames) if self._products is None else self._products(frames)
            row[:] = self._decibels(power, scale)
        return out

    def _power(self, frames: Float64) -> Float32:
        """[F, n_fft] -> mel power [F, M]."""
        chunk = max(1, CHUNK_SAMPLES // self._n_fft)
        power = np.empty((len(frames), len(self._mel)), np.float32)
        imaginary = np.empty((chunk, len(self._mel)), np.float32)
        for start in range(0, len(frames), chunk):
            spectrum = np.fft.rfft(frames[start : start + chunk] * self._window)[:, self._bins]
            part = power[start : start + chunk]
            np.square(spectrum.real, out=part, casting="same_kind")
            part += np.square(spectrum.imag, out=imaginary[: len(part)], casting="same_kind")
        return np.asarray(power @ self._mel, np.float32)

    def _decibels(self, power: Float32, scale: np.float32) -> Float32:
        """[F, M] power of a window that was multiplied by `scale` -> dB."""
        if self._floor_db is None:
            return _of_one(power, self._amin, float(scale))
        return _under_peak(power, self._floor_db)


def _under_peak(power: Float32, floor_db: np.float32) -> Float32:
    """[F, M] power -> dB under its own peak, cut at the floor."""
    peak = power.max()
    if peak <= SILENT_POWER:
        return np.full_like(power, -floor_db)
    relative = np.maximum(power / peak, np.float32(10.0 ** (-float(floor_db) / 10)))
    # 1e-8 isn't a float32: without the second maximum the floor lies 3e-7 dB under -80.
    decibels: Float32 = np.maximum(np.float32(10) * np.log10(relative), -floor_db)
    return decibels


def _of_one(power: Float32, amin: float, scale: float) -> Float32:
    """[F, M] power times scale**2 -> dB of the power itself, at least that of `amin`."""
    if scale == 1:
        decibels: Float32 = np.float32(10) * np.log10(np.maximum(power, np.float32(amin)))
        return decibels
    unscaled = np.maximum(power.astype(np.float64) / scale**2, amin)
    return np.asarray(10 * np.log10(unscaled), np.float32)


def _mirror(padded: npt.NDArray[Any], pad: int) -> None:
    """Fill `pad` samples on each side with what lies inside, the outermost sample not doubled."""
    end = len(padded) - pad
    padded[:pad] = padded[2 * pad : pad : -1]
    padded[end:] = padded[end - 2 : end - 2 - pad : -1]


def _scale(window: Float32) -> np.float32:
    """1, or the power of two that brings a window louder than LOUD down to about 1."""
    loudest = max(float(window.max()), -float(window.min()))
    if loudest <= LOUD:
        return np.float32(1)
    return np.float32(2.0 ** -float(np.ceil(np.log2(loudest))))


def _read_frontend(data: bytes) -> tuple[Float32, Float32]:
    """frontend.npz -> (window [n_fft], mel [bins, M]), finite float32."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            window, mel = archive["window"], archive["mel"]
    except (
        ValueError,
        KeyError,
        OSError,
        EOFError,
        RuntimeError,
        MemoryError,
        AttributeError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise IntegrityError(
            f"frontend.npz can't be read ({error}); fetch the bundle again"
        ) from error
    return (
        check_array(window, shape=(None,), name="frontend.npz window"),
        check_array(mel, shape=(None, None), name="frontend.npz mel"),
    )
