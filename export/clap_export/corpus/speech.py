"""Speech: manners of speaking and the places where it is heard.

In:  a Draw and a class id.
Out: waveform float64 [T], mono, at 32 kHz, at most five seconds.
Knows nothing about captions, nor about the engines that speak (`voices`).
"""

from __future__ import annotations

import numpy as np

from clap_export.corpus import dsp, scene
from clap_export.corpus.draw import Draw
from clap_export.corpus.synth import RATE_HZ
from clap_export.corpus.voices import SENTENCES, plain, say, sentence, voice


def band(x: np.ndarray, lo_hz: float, hi_hz: float) -> np.ndarray:
    """Keeps lo_hz..hi_hz, with soft edges of a third of an octave."""
    m = dsp.fast_length(len(x))
    hz = np.maximum(np.fft.rfftfreq(m, 1 / RATE_HZ), 1e-3)
    gain = 1 / (1 + (lo_hz / hz) ** 8) / (1 + (hz / hi_hz) ** 8)
    return np.asarray(np.fft.irfft(np.fft.rfft(x, m) * gain, m)[: len(x)])


def echo(x: np.ndarray, delay_s: float, gain: float, repeats: int) -> np.ndarray:
    out = x.copy()
    for i in range(1, repeats + 1):
        shift = int(i * delay_s * RATE_HZ)
        if shift < len(x):
            out[shift:] += gain**i * x[: len(x) - shift]
    return out


def many(draw: Draw, count: int) -> np.ndarray:
    total = np.zeros(5 * RATE_HZ)
    for _ in range(count):
        one = plain(draw)
        shift = draw.integer(0, RATE_HZ)
        one = np.resize(np.roll(one, shift), len(total))
        total += one * draw.uniform(0.3, 1.0)
    return total


def _frames(x: np.ndarray, size: int) -> np.ndarray:
    """[T] -> [frames, size] half-overlapping, under a sine window."""
    padded = np.pad(x, (size // 2, size))
    count = (len(padded) - size) // (size // 2)
    index = np.arange(size)[None] + np.arange(count)[:, None] * (size // 2)
    return np.asarray(padded[index] * np.sin(np.pi * (np.arange(size) + 0.5) / size))


def _overlapped(frames: np.ndarray, n: int) -> np.ndarray:
    count, size = frames.shape
    frames = frames * np.sin(np.pi * (np.arange(size) + 0.5) / size)
    out = np.zeros((count + 1, size // 2))
    out[:-1] += frames[:, : size // 2]
    out[1:] += frames[:, size // 2 :]
    return np.asarray(out.reshape(-1)[size // 2 : size // 2 + n])


def whispered(draw: Draw, x: np.ndarray) -> np.ndarray:
    """x without its voice: frames of 8 ms, shorter than a period, keep the mouth and lose the
    pitch; noise takes its place, and the lowest tones, which only a voice has, go."""
    loud = np.abs(np.fft.rfft(_frames(x, 256), axis=1))
    noise = np.fft.rfft(draw.noise(loud.shape[0] * 256).reshape(-1, 256), axis=1)
    breath = np.fft.irfft(loud * noise / np.sqrt(128), 256, axis=1)
    return band(_overlapped(breath, len(x)), draw.uniform(350, 900), draw.uniform(7000, 12000))


def vocoded(draw: Draw, x: np.ndarray) -> np.ndarray:
    """x's mouth on a buzzing chord: bands of its loudness open those of a machine's tone."""
    t, base = np.arange(len(x)) / RATE_HZ, draw.uniform(55, 160)
    chord = sum((t * base * r) % 1.0 - 0.5 for r in draw.choice(((1.0,), (1.0, 1.5), (1.0, 1.26))))
    loud = np.abs(np.fft.rfft(_frames(x, 512), axis=1))
    smooth = np.stack([np.convolve(row, np.full(9, 1 / 9), "same") for row in loud])
    carrier = np.fft.rfft(_frames(np.asarray(chord), 512), axis=1)
    return _overlapped(np.fft.irfft(smooth * carrier, 512, axis=1), len(x))


def speak(draw: Draw, name: str) -> np.ndarray:
    """Speech of one class, cut at five seconds, through a microphone of its own."""
    x = spoken(draw, name)
    return scene.coloured(draw, x) if draw.chance(0.5) else x


def spoken(draw: Draw, name: str) -> np.ndarray:
    if name == "man_speaking":
        x = plain(draw, "man")
    elif name == "woman_speaking":
        x = plain(draw, "woman")
    elif name == "child_speaking":
        speaker = voice(draw, "woman")
        x = say(sentence(draw, speaker), speaker, int(draw.uniform(120, 170)), 99)
        factor = draw.uniform(1.18, 1.35)  # a shorter vocal tract: faster playback of slower speech
        x = np.interp(np.arange(0, len(x) - 1, factor), np.arange(len(x)), x)
    elif name == "whispering":
        language = voice(draw, "any").split("+")[0]
        if draw.chance(0.5):
            x = whispered(draw, plain(draw, rate=(120, 170)))
        else:
            variant = draw.choice(("whisper", "whisperf"))
            x = say(
                sentence(draw, language), f"{language}+{variant}", int(draw.uniform(120, 170)), 50
            )
    elif name == "fast_speech":
        x = plain(draw, rate=(270, 360))
    elif name == "slow_speech":
        x = plain(draw, rate=(80, 100))
    elif name == "robot_voice":
        if draw.chance(0.5):
            return vocoded(draw, plain(draw))[: 5 * RATE_HZ]
        x = plain(draw)
        hz = draw.log_uniform(35, 120)
        t = np.arange(len(x)) / RATE_HZ
        x = x * np.sin(2 * np.pi * hz * t)
        x = echo(x, draw.uniform(0.008, 0.02), 0.7, 4)
    elif name == "crowd_talking":
        x = band(many(draw, draw.integer(7, 11)), 150, draw.uniform(2500, 6000))
    elif name == "conversation":
        first, second = voice(draw, "man"), voice(draw, "woman")
        turns = []
        for i in range(4):
            speaker = (first, second)[i % 2]
            line = say(
                draw.choice(SENTENCES[speaker.split("+")[0]]),
                speaker,
                int(draw.uniform(160, 200)),
                (35, 65)[i % 2],
            )
            turns.append(line[: int(draw.uniform(0.9, 1.5) * RATE_HZ)])
            turns.append(np.zeros(int(draw.uniform(0.05, 0.2) * RATE_HZ)))
        x = np.concatenate(turns)
    elif name == "telephone_voice":
        x = band(plain(draw), draw.uniform(300, 450), draw.uniform(2400, 3200))
        x = np.tanh(x / max(1e-9, np.abs(x).max()) * draw.uniform(2, 6))
    elif name == "public_address":
        x = band(plain(draw), 350, draw.uniform(3500, 5000))
        x = echo(x, draw.uniform(0.18, 0.35), 0.55, 5)
    elif name == "counting_aloud":
        lowest = draw.integer(1, 20)
        numbers = ". ".join(str(lowest + i) for i in range(8))
        x = say(numbers, voice(draw, "any"), int(draw.uniform(110, 160)), int(draw.uniform(25, 75)))
    elif name == "shouting":
        speaker = voice(draw, "any")
        words = draw.choice(
            (
                "hey you! stop! come back here!",
                "look out! get down! run!",
                "help! over here! quick!",
            )
        )
        x = say(words, speaker, int(draw.uniform(150, 190)), int(draw.uniform(70, 99)))
        m = dsp.fast_length(len(x))
        bins = np.fft.rfftfreq(m, 1 / RATE_HZ)
        tilt = 1 + (bins / 1500) ** 1.2 * draw.uniform(0.8, 1.6)  # raised voices are brighter
        x = np.fft.irfft(np.fft.rfft(x, m) * np.minimum(tilt, 8), m)[: len(x)]
        x = np.tanh(x / max(1e-9, np.abs(x).max()) * draw.uniform(3, 6))
    else:  # distant_speech
        x = band(plain(draw), 120, draw.uniform(1200, 2200))
        tail = draw.noise(int(draw.uniform(0.8, 1.8) * RATE_HZ))
        tail *= np.exp(-np.arange(len(tail)) / (len(tail) / 5))
        wet = dsp.convolve(x, tail)[: len(x)]
        x = wet / max(1e-9, np.abs(wet).max()) + 0.15 * x
    return np.asarray(x[: 5 * RATE_HZ])
