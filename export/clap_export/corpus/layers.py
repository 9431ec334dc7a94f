"""Clips with two sounds: one after the other, or one over the other.

In:  two waveforms [T] at 32 kHz and a Draw.
Out: float64 of five seconds; both are there to be heard, so captions may say so.
Knows nothing about classes or words.
"""

from __future__ import annotations

import numpy as np

from clap_export.corpus.draw import Draw
from clap_export.corpus.room import LENGTH
from clap_export.corpus.synth import RATE_HZ

FADE = int(0.04 * RATE_HZ)
LOUD = 0.1  # of the peak: where a sound begins to be heard

# Sounds that lie under others without hiding what they are.
BACKGROUNDS = (
    "rain", "wind", "ocean_waves", "stream", "fire_crackling", "waterfall", "cricket",
    "bird_song", "crowd_talking", "applause", "train_on_tracks", "car_engine", "fan",
    "vinyl_crackle", "thunder", "clock_ticking",
)  # fmt: skip
# What plays along with a lone instrument.
COMPANIONS = (
    "piano", "nylon_guitar", "steel_string_guitar", "string_ensemble", "upright_bass", "harp",
    "choir", "rock_beat", "jazz_swing_beat", "bossa_nova_beat", "shaker", "tambourine",
    "bongos_and_congas", "drawbar_organ", "harpsichord", "synth_pad",
)  # fmt: skip


def excerpt(draw: Draw, x: np.ndarray, seconds: float) -> np.ndarray:
    """At most so many seconds of a sound, from where it is first loud, faded at its ends."""
    x = np.asarray(x, dtype=np.float64)
    loud = np.flatnonzero(np.abs(x) > LOUD * max(1e-9, float(np.abs(x).max())))
    first = max(0, int(loud[0]) - FADE // 4) if len(loud) else 0
    x = x[first : first + int(seconds * RATE_HZ)].copy()
    fade = min(FADE, len(x) // 2)
    if fade:
        x[-fade:] *= np.linspace(1, 0, fade)
    return unit(x)


def unit(x: np.ndarray) -> np.ndarray:
    """Equal loudness, near enough: the louder half of it has a mean square of one."""
    if not len(x):
        return x
    square = np.sort(x**2)[len(x) // 2 :]
    return np.asarray(x / max(1e-9, float(np.sqrt(square.mean()))))


def sequence(draw: Draw, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The first sound, and when it is over the second."""
    out = np.zeros(LENGTH)
    at = int(draw.uniform(0.0, 0.3) * RATE_HZ)
    for sound in (first, second):
        part = excerpt(draw, sound, draw.uniform(1.4, 2.2)) * 10 ** (-draw.uniform(0, 5) / 20)
        part = part[: LENGTH - at]
        out[at : at + len(part)] += part
        at += len(part) + int(draw.uniform(0.05, 0.25) * RATE_HZ)
    return out


def mixture(
    draw: Draw, front: np.ndarray, back: np.ndarray, under: tuple[float, float]
) -> np.ndarray:
    """Both at once, the second so many dB below the first."""
    low = 10 ** (-draw.uniform(*under) / 20)
    return np.asarray(unit(np.resize(front, LENGTH)) + low * unit(np.resize(back, LENGTH)))


def fragment(draw: Draw, x: np.ndarray) -> np.ndarray:
    """A second or two of a long sound, with silence around it."""
    part = excerpt(draw, x, draw.uniform(0.8, 2.6))
    out = np.zeros(LENGTH)
    at = draw.integer(0, LENGTH - len(part))
    out[at : at + len(part)] = part
    return out
