"""A folder of FLAC files to index: 30 s each, 44.1 kHz, tones that move over noise.

In:  a folder, how many files, how many channels, a seed.
Out: the paths; each file is its own sound, decided by seed and number alone.
Knows nothing about embeddings or time.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

RATE_HZ = 44_100
SECONDS = 30


def write_folder(folder: Path, files: int, channels: int, seed: int = 0) -> list[Path]:
    """`files` sounds; 16 bits, compressed to about two thirds, as music is."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:03d}.flac" for number in range(files)]
    for number, path in enumerate(paths):
        rng = np.random.default_rng([seed, channels, number])
        soundfile.write(path, _sound(rng, channels), RATE_HZ, subtype="PCM_16")
    return paths


def _sound(
    rng: np.random.Generator, channels: int
) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """[T, C] in -1..1: six harmonics of a note that changes each second, panned, over noise."""
    total = RATE_HZ * SECONDS
    notes = rng.uniform(80, 900) * 2 ** (rng.integers(-7, 8, SECONDS) / 12)
    phase = 2 * np.pi * np.cumsum(np.repeat(notes, RATE_HZ)) / RATE_HZ
    loudness = rng.uniform(0.05, 1, 6) / np.arange(1, 7)
    tone = np.zeros(total)
    for harmonic, amplitude in enumerate(loudness, start=1):
        tone += amplitude * np.sin(harmonic * phase)
    fade = np.exp(-rng.uniform(0.3, 6) * (np.arange(total) % RATE_HZ) / RATE_HZ)
    tone *= fade / np.abs(tone).max()
    noise = rng.standard_normal((total, channels)) * 10 ** rng.uniform(-2.5, -1)
    pan = rng.uniform(0.3, 1, channels)
    return np.asarray(np.clip(0.5 * tone[:, None] * pan + noise, -1, 1), np.float32)
