"""What happens to a sound between its source and the file: place, room, microphone, level.

In:  waveform [T] at 32 kHz and a Draw.
Out: waveform float32 of five seconds, and the exact attributes (space, quality, timing).
Knows nothing about classes or words.
"""

from __future__ import annotations

import numpy as np

from clap_export.corpus.draw import Draw
from clap_export.corpus.synth import RATE_HZ

SECONDS = 5.0
LENGTH = int(SECONDS * RATE_HZ)


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
    """Room, microphone and level. `held_steady` keeps the room dry (the sound has its own)."""
    attributes: dict[str, str] = {}
    space = "dry" if held_steady else draw.choice(("dry", "dry", "dry", "room", "hall"))
    if space == "room":
        x = reverb(draw, x, draw.uniform(0.25, 0.6), draw.uniform(0.15, 0.35))
    elif space == "hall":
        x = reverb(draw, x, draw.uniform(1.6, 3.0), draw.uniform(0.4, 0.65))
        attributes["space"] = "hall"
    x = x / max(1e-9, float(np.abs(x).max()))
    quality = draw.choice(("plain",) * 7 + ("noisy", "muffled", "radio"))
    hz = np.fft.rfftfreq(len(x), 1 / RATE_HZ)
    if quality == "noisy":
        floor = np.fft.irfft(np.fft.rfft(draw.noise(len(x))) / (1 + (hz / 4000)), len(x))
        rms = float(np.sqrt((x**2).mean()))
        x = x + floor / floor.std() * rms * 10 ** (-draw.uniform(4, 12) / 20)
    elif quality == "muffled":
        x = np.fft.irfft(np.fft.rfft(x) / (1 + (hz / draw.uniform(500, 900)) ** 4), len(x))
    elif quality == "radio":
        gain = 1 / (1 + (380 / np.maximum(hz, 1)) ** 6) / (1 + (hz / draw.uniform(2600, 3600)) ** 8)
        x = np.fft.irfft(np.fft.rfft(x) * gain, len(x))
        x = np.tanh(x / max(1e-9, float(np.abs(x).max())) * draw.uniform(1.5, 3.5))
    if quality != "plain":
        attributes["quality"] = quality
    else:
        if draw.chance(0.5):  # a little room tone, so that silence is not digital
            x = x + draw.noise(len(x)) * 10 ** (-draw.uniform(45, 75) / 20)
        tilt = draw.uniform(-3.0, 3.0)  # dB an octave around 1 kHz: microphones differ
        shape = np.maximum(hz, 30) / 1000
        x = np.fft.irfft(np.fft.rfft(x) * shape ** (tilt / 6.02), len(x))
    level = 10 ** (-draw.uniform(0.5, 18) / 20)
    x = x / max(1e-9, float(np.abs(x).max())) * level
    return np.asarray(x, dtype=np.float32), attributes
