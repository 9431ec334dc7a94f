"""Sounds for tests: seeded waveforms, and any of the formats made of them in memory.

In:  seeds, lengths, rates, names of formats.
Out: float32 waveforms and the bytes of files.
Knows nothing about the engine.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import soundfile

# name -> soundfile's format and subtype; the first six are lossless.
FORMATS = {
    "wav": ("WAV", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "aiff": ("AIFF", "PCM_16"),
    "w64": ("W64", "PCM_16"),
    "au": ("AU", "PCM_16"),
    "caf": ("CAF", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "opus": ("OGG", "OPUS"),
}
LOSSLESS = ("wav", "flac", "aiff", "w64", "au", "caf")


def noise(seed: int, *shape: int, level: float = 0.1) -> Any:
    """Gaussian noise, float32."""
    return (level * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def tone(hz: float, rate_hz: int, n: int, level: float = 0.5) -> Any:
    """A sine, float32 [n]."""
    return (level * np.sin(2 * np.pi * hz * np.arange(n) / rate_hz)).astype(np.float32)


def encode(
    x: Any, rate_hz: int, kind: str = "wav", subtype: str | None = None, times: int = 1, **more: Any
) -> bytes:
    """[T] or [T, C], `times` over, as the bytes of a file."""
    container, usual = FORMATS[kind]
    out = io.BytesIO()
    channels = 1 if x.ndim == 1 else x.shape[1]
    settings = {"format": container, "subtype": subtype or usual, **more}
    with soundfile.SoundFile(out, "w", rate_hz, channels, **settings) as file:
        for _ in range(times):
            # libvorbis overflows its stack when it is handed minutes at once.
            for start in range(0, len(x), 8192):
                file.write(x[start : start + 8192])
    return out.getvalue()


def with_flac_length(data: bytes, frames: int) -> bytes:
    """A FLAC file whose header claims `frames` (36 bits; 0: not known)."""
    bits = (data[21] >> 4 << 36 | frames).to_bytes(5, "big")
    return data[:21] + bits + data[26:]
