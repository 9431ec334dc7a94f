"""What happens to a sound between its source and the file: place, room, microphone, level.

In:  waveform [T] at 32 kHz and a Draw.
Out: waveform float32 of five seconds, and the exact attributes (space, quality, timing).
Knows nothing about classes or words.

Room and microphone are both linear, so they are one multiplication of spectra.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from clap_export.corpus import codec
from clap_export.corpus.draw import Draw
from clap_export.corpus.synth import RATE_HZ

SECONDS = 5.0
LENGTH = int(SECONDS * RATE_HZ)
# Lengths of transforms: products of 2, 3 and 5 that hold the clip and the tail of its room.
DRY, SMALL, LARGE = LENGTH, 180_000, 256_000
CODED_SHARE = 0.11
CURVE_POINTS = 320  # of a gain curve, evenly on a logarithmic axis


def convolve(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    n = 1 << int(np.ceil(np.log2(len(x) + len(kernel))))
    return np.asarray(np.fft.irfft(np.fft.rfft(x, n) * np.fft.rfft(kernel, n), n)[: len(x)])


def reverb(draw: Draw, x: np.ndarray, decay_s: float, wet: float) -> np.ndarray:
    """Exponentially decaying noise, darker with time: a plain model of a diffuse room."""
    n = int(decay_s * RATE_HZ)
    tail = draw.noise(n) * np.exp(-6.9 * np.arange(n) / n)
    spectrum = np.fft.rfft(tail)
    hz = np.fft.rfftfreq(n, 1 / RATE_HZ)
    tail = np.fft.irfft(spectrum / (1 + (hz / draw.uniform(2500, 6000)) ** 2), n)
    tail /= max(1e-9, float(np.sqrt((tail**2).sum())))
    return np.asarray((1 - wet) * x + wet * 1.5 * convolve(x, tail))


@lru_cache(maxsize=4)
def _axis(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies of a gain curve, and where each bin of a transform of length n lies in it."""
    points = np.geomspace(20.0, RATE_HZ / 2, CURVE_POINTS)
    hz = np.maximum(np.fft.rfftfreq(n, 1 / RATE_HZ), 20.0)
    place = np.log(hz / 20.0) / np.log(RATE_HZ / 2 / 20.0) * (CURVE_POINTS - 1)
    return points, place.astype(np.float32)


def bins(curve: np.ndarray, n: int) -> np.ndarray:
    """A gain curve [CURVE_POINTS] -> float64 [n // 2 + 1], linear between its points."""
    _, place = _axis(n)
    low = np.minimum(place.astype(np.int32), CURVE_POINTS - 2)
    part = place - low
    return np.asarray(curve[low] + (curve[low + 1] - curve[low]) * part, dtype=np.float64)


def microphone(draw: Draw) -> np.ndarray:
    """The gain curve of a microphone, a loudspeaker and an equaliser: a tilt, a few broad bumps,
    sometimes no bass, sometimes no treble."""
    hz, _ = _axis(LENGTH)
    octaves = np.log2(hz / 1000)
    decibels = draw.uniform(-3.0, 3.0) * np.clip(octaves, -4, 3)
    for _ in range(draw.integer(0, 3)):
        centre, width = draw.uniform(-3.3, 3.3), draw.uniform(0.3, 1.2)
        decibels = decibels + draw.uniform(-7, 7) * np.exp(-(((octaves - centre) / width) ** 2))
    gain = 10 ** (decibels / 20)
    if draw.chance(0.2):
        gain = gain / (1 + (draw.log_uniform(60, 350) / hz) ** 4)
    if draw.chance(0.25):
        gain = gain / (1 + (hz / draw.log_uniform(4500, 13_000)) ** 6)
    return np.asarray(gain)


def response(draw: Draw, n: int, decay_s: float, wet: float) -> np.ndarray:
    """The spectrum [n // 2 + 1] of a room: the sound itself, a few early echoes off its walls,
    then noise that decays exponentially and darkens."""
    length = int(decay_s * RATE_HZ)
    tail = np.zeros(n)
    tail[:length] = draw.noise(length) * np.exp(-6.9 * np.arange(length) / length)
    hz, _ = _axis(n)
    darker = bins(1 / (1 + (hz / draw.uniform(2500, 6000)) ** 2), n)
    spectrum = np.fft.rfft(tail) * darker
    energy = float((spectrum.real**2 + spectrum.imag**2).sum()) * 2 / n
    spectrum *= 1.5 * wet / max(1e-9, np.sqrt(energy))
    if draw.chance(0.6):
        early = np.zeros(n)
        for _ in range(draw.integer(2, 6)):
            at = int(draw.uniform(0.003, 0.04 + 0.03 * decay_s) * RATE_HZ)
            early[at] += draw.uniform(-0.5, 0.5) * wet
        spectrum += np.fft.rfft(early)
    spectrum += 1 - wet
    return np.asarray(spectrum)


def place(draw: Draw, x: np.ndarray) -> tuple[np.ndarray, dict[str, str]]:
    """A sound of any length into five seconds: whole, once with silence around, or repeated."""
    if len(x) >= LENGTH * 0.8:
        return np.resize(x, LENGTH) if len(x) < LENGTH else x[:LENGTH], {}
    out = np.zeros(LENGTH)
    how = draw.choice(("once", "once", "repeated", "tiled"))
    if how == "tiled":  # as short files are padded when they are embedded
        return np.resize(x, LENGTH), {}
    if how == "once":
        at = draw.integer(0, LENGTH - len(x))
        out[at : at + len(x)] = x
        return out, {"timing": "once"}
    gap = int(draw.uniform(0.1, 0.8) * RATE_HZ)
    at = draw.integer(0, gap)
    while at < LENGTH:
        part = x[: LENGTH - at] * draw.rng.uniform(0.7, 1.0)
        out[at : at + len(part)] += part
        at += len(x) + int(gap * draw.rng.uniform(0.85, 1.15))
    return out, {"timing": "repeated"}


def record(
    draw: Draw, x: np.ndarray, held_steady: bool = False
) -> tuple[np.ndarray, dict[str, str]]:
    """Room, microphone, format and level. `held_steady` keeps the room dry (the sound has its
    own)."""
    attributes: dict[str, str] = {}
    space = "dry" if held_steady else draw.choice(("dry", "dry", "room", "room", "hall"))
    quality = draw.choice(("plain",) * 7 + ("noisy", "muffled", "radio"))
    n = {"dry": DRY, "room": SMALL, "hall": LARGE}[space]
    hz, _ = _axis(n)
    if quality == "plain":
        curve = microphone(draw)
    elif quality == "muffled":
        curve = 1 / (1 + (hz / draw.uniform(500, 900)) ** 4)
    elif quality == "radio":
        curve = 1 / (1 + (380 / hz) ** 6) / (1 + (hz / draw.uniform(2600, 3600)) ** 8)
    else:
        curve = np.ones(CURVE_POINTS)
    spectrum = np.fft.rfft(x, n) * bins(curve, n)
    if space == "room":
        spectrum *= response(draw, n, draw.uniform(0.12, 0.6), draw.uniform(0.08, 0.35))
    elif space == "hall":
        spectrum *= response(draw, n, draw.uniform(1.6, 3.0), draw.uniform(0.4, 0.65))
        attributes["space"] = "hall"
    x = np.fft.irfft(spectrum, n)[:LENGTH]
    x = x / max(1e-9, float(np.abs(x).max()))
    if quality == "noisy":
        floor = np.fft.rfft(draw.noise(LENGTH)) * bins(1 / (1 + hz / 4000), LENGTH)
        hiss = np.fft.irfft(floor, LENGTH)
        rms = float(np.sqrt((x**2).mean()))
        x = x + hiss / hiss.std() * rms * 10 ** (-draw.uniform(4, 12) / 20)
    elif quality == "radio":
        x = np.tanh(x * draw.uniform(1.5, 3.5))
    if quality != "plain":
        attributes["quality"] = quality
    else:
        if draw.chance(0.5):  # a little room tone, so that silence is not digital
            x = x + draw.noise(len(x)) * 10 ** (-draw.uniform(45, 75) / 20)
        if draw.chance(0.04):  # recorded too loud
            x = np.clip(x, -draw.uniform(0.4, 0.8), draw.uniform(0.4, 0.8))
    level = 10 ** (-draw.uniform(0.5, 18) / 20)
    x = np.asarray(x / max(1e-9, float(np.abs(x).max())) * level, dtype=np.float32)
    if draw.chance(CODED_SHARE):
        x = codec.round_trip(draw, x)
        x = x / max(1.0, float(np.abs(x).max()))
    return x, attributes
