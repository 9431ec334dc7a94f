"""Animals and people by additive partials and by frequency modulation.

In:  a Draw.
Out: mono float64 [n] at RATE_HZ, 0.1 to 5 s, of any level; `SOURCES`: class -> (principle,
     generator) pairs.
Knows nothing about the filtered voices of `effects_living`, `effects_birds` and `effects_people`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from clap_export.corpus import dsp
from clap_export.corpus import principles as by
from clap_export.corpus.draw import Draw

Generator = Callable[[Draw], np.ndarray]
Source = tuple[str, Generator]
Range = tuple[float, float]


@dataclass(frozen=True)
class Call:
    """A creature's call: pitch in Hz and its course, seconds, throat, texture and how often."""

    hz: Range
    course: tuple[tuple[float, float], ...]
    seconds: Range
    formants: tuple[tuple[float, float, float], ...]
    opening: tuple[float, float] = (1.0, 1.0)  # formants at the start and at the end, as factors
    slope: float = 0.8
    rough: float = 0.08
    breath: float = 0.05
    times: tuple[int, int] = (1, 1)
    gap: Range = (0.15, 0.6)
    tremble_hz: Range = (0.0, 0.0)
    descent: float = 1.0  # pitch of the last call over that of the first


CALLS: dict[str, Call] = {
    "cat_meow": Call(
        (380, 800), ((0, 0.72), (0.25, 1.1), (0.65, 1.0), (1, 0.65)), (0.4, 1.3),
        ((850, 200, 1.0), (1700, 300, 0.8), (3300, 500, 0.4)), (0.65, 0.95), 0.5, 0.05, 0.05,
        (1, 3), (0.3, 0.9),
    ),
    "cow": Call(
        (85, 190), ((0, 0.75), (0.2, 1.0), (0.7, 1.05), (1, 0.7)), (1.1, 2.6),
        ((420, 120, 1.0), (950, 200, 0.6), (2300, 400, 0.25)), (0.7, 1.15), 0.6, 0.12, 0.04, (1, 2),
    ),
    "sheep": Call(
        (170, 360), ((0, 0.95), (0.3, 1.05), (1, 0.88)), (0.5, 1.4),
        ((750, 150, 1.0), (1600, 250, 0.8), (2800, 400, 0.5)), (0.95, 1.05), 0.5, 0.1, 0.06,
        (1, 3), (0.3, 0.9), (7, 12),
    ),
    "wolf_howl": Call(
        (260, 560), ((0, 0.55), (0.12, 0.95), (0.3, 1.0), (0.75, 0.97), (1, 0.6)), (1.8, 4.2),
        ((500, 200, 1.0), (1000, 300, 0.3)), (0.8, 1.0), 1.2, 0.01, 0.02, (1, 2), (0.2, 0.5),
    ),
    "crow": Call(
        (330, 620), ((0, 0.85), (0.25, 1.05), (1, 0.8)), (0.18, 0.5),
        ((1300, 300, 1.0), (1900, 300, 0.9), (3400, 600, 0.5)), (0.9, 1.0), 0.3, 0.35, 0.15,
        (1, 5), (0.12, 0.5),
    ),
    "duck": Call(
        (160, 380), ((0, 1.0), (0.3, 1.1), (1, 0.85)), (0.09, 0.28),
        ((1100, 250, 1.0), (2200, 350, 0.9), (3500, 500, 0.5)), (0.9, 1.05), 0.2, 0.25, 0.1,
        (2, 8), (0.07, 0.3), descent=0.9,
    ),
    "dog_bark": Call(
        (170, 800), ((0, 0.6), (0.25, 1.15), (1, 0.45)), (0.09, 0.3),
        ((700, 250, 1.0), (1300, 300, 0.8), (2700, 600, 0.4)), (0.7, 1.1), 0.5, 0.3, 0.15,
        (1, 6), (0.1, 0.7),
    ),
    "owl": Call(
        (280, 560), ((0, 0.93), (0.3, 1.02), (0.8, 1.0), (1, 0.93)), (0.2, 0.8),
        ((400, 200, 1.0),), (1.0, 1.0), 2.2, 0.01, 0.03, (2, 5), (0.12, 0.6),
    ),
    "baby_cry": Call(
        (330, 640), ((0, 0.8), (0.2, 1.1), (0.7, 1.02), (1, 0.72)), (0.5, 1.4),
        ((1150, 250, 1.0), (2900, 450, 0.7), (4300, 600, 0.4)), (0.85, 1.05), 0.4, 0.12, 0.06,
        (2, 4), (0.1, 0.5),
    ),
    "laughter": Call(
        (130, 430), ((0, 1.1), (1, 0.85)), (0.07, 0.17),
        ((720, 160, 1.0), (1300, 250, 0.6), (2700, 400, 0.35)), (1.0, 0.95), 0.7, 0.1, 0.35,
        (5, 14), (0.05, 0.16), descent=0.75,
    ),
    "scream": Call(
        (600, 1500), ((0, 0.7), (0.1, 1.0), (0.7, 1.05), (1, 0.75)), (0.7, 2.8),
        ((1100, 300, 1.0), (2200, 400, 0.9), (3600, 600, 0.6)), (0.9, 1.1), 0.2, 0.25, 0.12, (1, 2),
    ),
}  # fmt: skip


def _course(draw: Draw, call: Call, hz: float) -> dsp.Wave:
    """[n] one call's pitch: the creature's course, bent a little, with its tremble and drift."""
    n = dsp.samples(draw.uniform(*call.seconds))
    points = [(at, ratio * (1 + 0.06 * float(draw.noise(1)[0]))) for at, ratio in call.course]
    path = hz * dsp.curve(n, *points)
    path = np.convolve(np.pad(path, 400, mode="edge"), np.full(801, 1 / 801), "valid")
    if call.tremble_hz[1]:
        path = path * (1 + 0.04 * dsp.sine(draw.uniform(*call.tremble_hz), n))
    return path * (1 + 0.012 * dsp.wander(draw, n, 12))


def _loudness(draw: Draw, call: Call, n: int) -> dsp.Wave:
    rise, hold = draw.uniform(0.03, 0.3), draw.uniform(0.4, 0.85)
    level = dsp.curve(n, (0, 0), (rise, 1.0), (max(hold, rise + 0.05), 0.8), (1, 0))
    if call.tremble_hz[1]:
        level = level * (0.6 + 0.4 * dsp.sine(draw.uniform(*call.tremble_hz), n))
    return level


def _series(draw: Draw, call: Call, one: Callable[[float, float], dsp.Wave]) -> dsp.Wave:
    """Calls after each other; `one` makes a call of a pitch in Hz and a throat's size."""
    hz, size = draw.log_uniform(*call.hz), draw.uniform(0.82, 1.22)
    times, gap = draw.integer(*call.times), draw.uniform(*call.gap)
    parts: list[dsp.Wave] = []
    for k in range(times):
        fall = call.descent ** (k / max(1, times - 1))
        parts += [one(hz * fall * (1 + 0.04 * float(draw.noise(1)[0])), size)]
        parts += [dsp.silence(gap * float(draw.rng.uniform(0.7, 1.4)))]
    return np.concatenate(parts[:-1])[: 5 * dsp.RATE_HZ]


def _additive(call: Call) -> Generator:
    """Every harmonic drawn by itself; breath is painted, not filtered."""

    def generate(draw: Draw) -> np.ndarray:
        shimmer = min(0.9, 0.1 + 3 * call.rough) * draw.uniform(0.6, 1.4)
        jitter = 0.4 * call.rough * draw.uniform(0.5, 1.5)
        slope = call.slope * draw.uniform(0.7, 1.4)
        breath = call.breath * draw.log_uniform(0.4, 2.5)

        def one(hz: float, size: float) -> dsp.Wave:
            pitch = _course(draw, call, hz)
            n = len(pitch)
            pitch = pitch * (1 + jitter * dsp.wander(draw, n, 90))
            throat = [(f * size, w, g) for f, w, g in call.formants]
            count = 32 if slope < 1 else 12
            voice = by.partials(draw, pitch, throat, slope, shimmer, call.opening, count)
            voice = dsp.peak(voice)
            bands = [40.0, *(f * size for f, _, _ in call.formants), 9000.0]
            air = [-40.0, *(-3.0 * k for k in range(len(call.formants))), -15.0]
            voice = voice + breath * dsp.peak(by.painted(draw, n, np.array([air, air]), bands))
            return voice * _loudness(draw, call, n)

        return _series(draw, call, one)

    return generate


def _modulated(call: Call) -> Generator:
    """Carriers at the formants, swung by the pitch; a rasp is a noisy modulator."""

    def generate(draw: Draw) -> np.ndarray:
        index = (0.4 + 1.6 / (1 + call.slope)) * draw.uniform(0.6, 1.5)
        rough = min(1.0, 2.0 * call.rough * draw.uniform(0.5, 1.8))
        follow = draw.uniform(0.3, 1.2)

        def one(hz: float, size: float) -> dsp.Wave:
            pitch = _course(draw, call, hz)
            throat = [(f * size, w, g) for f, w, g in call.formants]
            level = _loudness(draw, call, len(pitch))
            voice = dsp.peak(by.fm_voice(draw, pitch, throat, index, rough))
            bright = dsp.peak(by.fm_voice(draw, pitch, throat, 2.2 * index, rough))
            voice = dsp.morph(voice, bright, np.clip(level * follow, 0, 1))
            return (voice + call.breath * 0.5 * dsp.wander(draw, len(pitch), 6000)) * level

        return _series(draw, call, one)

    return generate


# --- those with a form of their own ------------------------------------------------------------


def rooster_syllables(draw: Draw, voice: Callable[[dsp.Wave], dsp.Wave]) -> dsp.Wave:
    """Cock-a-doodle-doo: three short notes and a long one that rises and sinks."""
    hz, pace = draw.uniform(420, 900), draw.uniform(0.8, 1.25)
    parts: list[dsp.Wave] = []
    for seconds, start, top, end in (
        (0.16, 0.7, 0.85, 0.8), (0.14, 0.9, 1.0, 0.9), (0.28, 1.0, 1.3, 1.15),
        (0.85, 1.1, 1.3, 0.6),
    ):  # fmt: skip
        n = dsp.samples(seconds * pace * float(draw.rng.uniform(0.85, 1.2)))
        path = hz * dsp.curve(n, (0, start), (0.35, top), (1, end))
        path = path * (1 + 0.015 * dsp.wander(draw, n, 40))
        parts += [voice(path) * dsp.arc(n, 0.4), dsp.silence(0.04 * pace)]
    return np.concatenate(parts)


def rooster_partials(draw: Draw) -> np.ndarray:
    size, shimmer = draw.uniform(0.85, 1.2), draw.uniform(0.3, 0.8)
    throat = [(1100 * size, 350, 1.0), (2300 * size, 500, 0.8), (3900 * size, 700, 0.5)]
    return rooster_syllables(
        draw, lambda path: dsp.peak(by.partials(draw, path, throat, 0.4, shimmer))
    )


def rooster_modulated(draw: Draw) -> np.ndarray:
    size, index, rough = draw.uniform(0.85, 1.2), draw.uniform(0.8, 1.8), draw.uniform(0.1, 0.4)
    throat = [(1200 * size, 300, 1.0), (2500 * size, 400, 0.7)]
    return rooster_syllables(
        draw, lambda path: dsp.peak(by.fm_voice(draw, path, throat, index, rough))
    )


def song_modulated(draw: Draw) -> np.ndarray:
    """Syllables of a syrinx: whistles swung by a second one, in motifs that come again."""
    out = dsp.silence(draw.uniform(2.0, 4.8))
    motifs = []
    for _ in range(draw.integer(1, 4)):
        n = dsp.samples(draw.log_uniform(0.03, 0.25))
        hz, span = draw.log_uniform(1800, 6500), draw.uniform(-0.6, 0.6)
        path = hz * 2 ** (span * dsp.curve(n, (0, 0), (draw.uniform(0.2, 0.8), 1), (1, -0.4)))
        swing = draw.uniform(0, 4) * dsp.arc(n)
        motifs.append(by.fm(path, draw.uniform(0.01, 0.12), swing) * dsp.arc(n, 0.7))
    at, pace = draw.uniform(0, 0.4), draw.uniform(0.02, 0.2)
    while at * dsp.RATE_HZ < len(out):
        motif = draw.choice(motifs)
        for _ in range(draw.integer(1, 6)):
            dsp.place(out, motif, at, float(draw.rng.uniform(0.5, 1)))
            at += len(motif) / dsp.RATE_HZ + pace
        at += float(draw.rng.exponential(0.25))
    return out


def cricket_grains(draw: Draw) -> np.ndarray:
    """Teeth of a wing over a scraper: every tooth is one grain, three or four strokes a chirp."""
    out = dsp.silence(draw.uniform(2.5, 4.8))
    for _ in range(draw.integer(1, 4)):
        hz, teeth = draw.log_uniform(2800, 6500), draw.integer(18, 40)
        strokes, tooth = draw.integer(2, 5), draw.uniform(0.0004, 0.0012)
        chirp, gain = draw.uniform(0.25, 1.0), float(draw.rng.uniform(0.2, 1))
        starts = np.arange(float(draw.rng.uniform(0, chirp)), len(out) / dsp.RATE_HZ, chirp)
        within = np.arange(strokes) * (teeth * tooth + 0.012)
        times = (starts[:, None, None] + within[None, :, None] + np.arange(teeth) * tooth).ravel()
        times = times + 0.00004 * draw.noise(len(times))
        level = np.tile(np.sin(np.pi * (np.arange(teeth) + 0.5) / teeth), len(times) // teeth)
        out += by.grains(
            draw, len(out), times, np.full(len(times), hz), np.full(len(times), 0.0012),
            gain * level,
        )  # fmt: skip
    return out


def frog_grains(draw: Draw) -> np.ndarray:
    """A croak is a train of pulses, each a grain in the throat's two resonances."""
    out = dsp.silence(draw.uniform(1.5, 4.8))
    for _ in range(draw.integer(1, 3)):
        low, rate = draw.log_uniform(350, 1300), draw.log_uniform(22, 75)
        croak, gap = draw.uniform(0.12, 0.6), draw.uniform(0.2, 0.9)
        at = float(draw.rng.uniform(0, gap))
        gain = float(draw.rng.uniform(0.3, 1))
        while at < len(out) / dsp.RATE_HZ:
            times = at + np.arange(0, croak, 1 / rate)
            times = np.repeat(times + 0.0006 * draw.noise(len(times)), 2)
            freqs = np.tile([low, low * 2.1], len(times) // 2)
            rise = np.repeat(np.linspace(0.4, 1, len(times) // 2), 2)
            gains = gain * rise * np.tile([1, 0.5], len(times) // 2)
            out += by.grains(
                draw, len(out), times, freqs, np.full(len(times), draw.uniform(0.003, 0.008)), gains
            )
            at += croak + gap * float(draw.rng.uniform(0.7, 1.5))
    return out


def bee_table(draw: Draw) -> np.ndarray:
    """Wing beats read from a wavetable, coming near and going."""
    n = dsp.samples(draw.uniform(1.5, 4.8))
    out = np.zeros(n)
    for _ in range(draw.choice((1, 1, 1, 6))):
        path = draw.uniform(120, 290) * (1 + 0.06 * dsp.wander(draw, n, draw.uniform(0.8, 4)))
        path = path * (1 + 0.01 * dsp.wander(draw, n, 40))
        wing = by.scanned(by.table(draw, 24, draw.uniform(0.6, 1.3)), path)
        out += wing * np.exp(0.7 * dsp.wander(draw, n, draw.uniform(0.4, 1.5)))
    return out


def bee_modulated(draw: Draw) -> np.ndarray:
    """Flight past the ear: a modulated hum with its pitch bent by the pass."""
    n = dsp.samples(draw.uniform(2.0, 4.8))
    path = draw.uniform(130, 280) * (1 + 0.03 * dsp.wander(draw, n, 5))
    hum = by.fm(path, 1.0, 1.2 + 0.5 * dsp.wander(draw, n, 7)) + 0.4 * by.fm(2 * path, 0.5, 2.0)
    return by.passing(draw, hum, draw.uniform(0.8, 3), draw.uniform(1.5, 6), draw.uniform(0.3, 1.2))


SOURCES: dict[str, tuple[Source, ...]] = {
    **{
        name: (("additive", _additive(call)), ("fm", _modulated(call)))
        for name, call in CALLS.items()
    },
    "rooster": (("additive", rooster_partials), ("fm", rooster_modulated)),
    "bird_song": (("fm", song_modulated),),
    "cricket": (("grains", cricket_grains),),
    "frog": (("grains", frog_grains),),
    "bee_buzz": (("wavetable", bee_table), ("fm", bee_modulated)),
}
