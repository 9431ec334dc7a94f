"""Sirens, alarms, horns, bells and game sounds by wavetables and by frequency modulation.

In:  a Draw.
Out: mono float64 [n] at RATE_HZ, 0.1 to 5 s, of any level; `SOURCES`: class -> (principle,
     generator) pairs.
Knows nothing about the oscillators of `effects_signals`, `effects_bells` and `effects_synthetic`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from clap_export.corpus import courses, dsp
from clap_export.corpus import principles as by
from clap_export.corpus.courses import Course
from clap_export.corpus.draw import Draw

Generator = Callable[[Draw], np.ndarray]
Source = tuple[str, Generator]


def _spoken(draw: Draw, out: dsp.Wave, how: str) -> dsp.Wave:
    """Through what the sound comes from: a small speaker, a street, or nothing."""
    if how == "street":
        out = dsp.bandpass(
            dsp.saturate(dsp.peak(out), draw.uniform(0.8, 4)), 250, draw.uniform(2500, 6000)
        )
        if draw.chance(0.4):
            out = by.passing(
                draw, out, draw.uniform(0.5, 4), draw.uniform(6, 25), draw.uniform(8, 40)
            )
        return dsp.room(draw, out, draw.uniform(0.4, 1.5), draw.uniform(0.05, 0.4), 3000)
    if how == "piezo":
        freqs = [draw.uniform(1800, 4200), draw.uniform(4500, 9000)]
        return dsp.resonate(dsp.saturate(dsp.peak(out), 3), freqs, (700, 1500), (1.0, 0.4), dry=0.4)
    if how == "line":
        return dsp.bandpass(out, 280, draw.uniform(2900, 3600))
    return out


def _scanned(
    course: Course, harmonics: int, slope: tuple[float, float], how: str, odd: float = 1.0
) -> Generator:
    def generate(draw: Draw) -> np.ndarray:
        paths, level = course(draw)
        steep = draw.uniform(*slope)
        out = np.zeros(len(level))
        for path in paths:
            top = max(1, min(harmonics, int(14000 / float(np.max(path)))))
            out += by.scanned(by.table(draw, top, steep, odd), path)
        return _spoken(draw, out * level, how)[: 5 * dsp.RATE_HZ]

    return generate


def _modulated(
    course: Course,
    ratios: Sequence[float],
    index: tuple[float, float],
    how: str,
    swing: bool = False,
) -> Generator:
    """swing lets the level open the sound, as a blow does; steady tones keep one index."""

    def generate(draw: Draw) -> np.ndarray:
        paths, level = course(draw)
        ratio, depth = draw.choice(ratios), draw.uniform(*index)
        out = np.zeros(len(level))
        for path in paths:
            out += by.fm(path, ratio, depth * level if swing else depth, draw.rng.random())
        return _spoken(draw, out * level, how)[: 5 * dsp.RATE_HZ]

    return generate


def _wobbled(draw: Draw) -> np.ndarray:
    """The modulation itself wobbles, instead of a filter."""
    (path,), level = courses.wobble(draw)
    n, rate = len(level), draw.log_uniform(1.5, 9)
    depth = (0.5 - 0.5 * np.cos(2 * np.pi * rate * dsp.seconds_axis(n))) * draw.uniform(4, 12)
    return by.fm(path, draw.choice((1.0, 2.0, 0.5)), depth) + 0.6 * dsp.sine(path / 2)


def _wobbled_table(draw: Draw) -> np.ndarray:
    """Two cycles, dull and bright, read in turns."""
    (path,), level = courses.wobble(draw)
    swing = 0.5 + 0.5 * dsp.sine(draw.log_uniform(1.5, 9), len(level))
    dull, bright = by.table(draw, 3, 1.5), by.table(draw, 70, draw.uniform(0.3, 0.8))
    return dsp.morph(by.scanned(dull, path), by.scanned(bright, path), swing)


def _modem(draw: Draw) -> np.ndarray:
    """Answer tone, chirps, then keyed tones that scramble into hiss."""
    n, baud = dsp.samples(draw.uniform(3.5, 4.9)), draw.log_uniform(60, 600)
    bits = draw.rng.integers(0, draw.choice((2, 4)), int(n / dsp.RATE_HZ * baud) + 2)
    keyed = (
        draw.uniform(1000, 1400)
        + draw.uniform(200, 600) * bits[(dsp.seconds_axis(n) * baud).astype(int)]
    )
    tone = by.fm(np.asarray(keyed, dtype=float), draw.choice((0.5, 1.5)), draw.uniform(0.2, 1.0))
    hiss = dsp.rms(by.painted(draw, n, np.array([[-40, -6, 0, 0, -4, -40]] * 2, dtype=float),
                              (100, 500, 1000, 2000, 3300, 5000)), 0.7)  # fmt: skip
    scramble = np.clip((dsp.seconds_axis(n) - draw.uniform(1.2, 3)) * 3, 0, 1)
    answer = dsp.sine(2100.0, n) * (dsp.seconds_axis(n) < draw.uniform(0.3, 1.1))
    return dsp.bandpass(dsp.morph(tone, hiss, scramble) + answer, 300, 3400)


_BELLS = (1.4, 3.5, 2.76, 1.41, 2.14)
_BELL = courses.strokes(650, 2900, (0.12, 0.5), (14, 30))
_SCHOOL = courses.strokes(500, 1300, (0.2, 0.6), (9, 22))
_TOLL = courses.strokes(160, 620, (0.8, 2.4), (0.4, 1.3))
_HORNS = ((1.0, 1.26), (1.0, 1.19), (1.0,), (1.0, 1.335))
_CHIMES = ((1.0, 1.19, 1.5), (1.0, 1.26, 1.5, 1.68), (1.0, 1.335, 1.587), (1.0, 1.26))
_UP = ((1, 1.26, 1.5, 2), (1, 1.5, 2, 3), (1, 1.12, 1.26, 1.335, 1.5, 1.68, 1.89, 2))
_DOWN = ((2, 1.89, 1.5, 1.335, 1), (1.5, 1.335, 1.26, 1.0, 0.75), (1, 0.94, 0.89, 0.84, 0.5))

SOURCES: dict[str, tuple[Source, ...]] = {
    "police_siren": (("fm", _modulated(courses.police, (1.0, 2.0), (0.8, 3), "street")),),
    "two_tone_siren": (("wavetable", _scanned(courses.two_tone, 30, (0.2, 1), "street")),),
    "air_raid_siren": (("wavetable", _scanned(courses.air_raid, 24, (0.5, 1.3), "street")),),
    "smoke_alarm": (("fm", _modulated(courses.smoke, (1.0, 2.0), (0.2, 1.5), "piezo")),),
    "car_alarm": (("wavetable", _scanned(courses.car_alarm, 30, (0.2, 1), "street")),),
    "alarm_clock": (("fm", _modulated(courses.alarm_clock, (1.0, 2.0, 0.5), (0.3, 2), "piezo")),),
    "telephone_ring": (("fm", _modulated(courses.telephone, (1.0, 3.0, 1.41), (0.4, 2), "piezo")),),
    "dial_tone": (
        ("wavetable", _scanned(courses.dial, 4, (3, 6), "line")),
        ("fm", _modulated(courses.dial, (1.0,), (0.02, 0.3), "line")),
    ),
    "busy_tone": (
        ("wavetable", _scanned(courses.busy, 4, (3, 6), "line")),
        ("fm", _modulated(courses.busy, (1.0,), (0.02, 0.3), "line")),
    ),
    "touch_tone_dialing": (("wavetable", _scanned(courses.touch, 4, (3, 6), "line")),),
    "beep": (("fm", _modulated(courses.beep, (1.0, 2.0), (0.1, 1.2), "piezo")),),
    "car_horn": (
        ("fm", _modulated(courses.horn(310, 520, _HORNS, 3), (1.0,), (1.5, 3.5), "street")),
    ),
    "train_horn": (
        ("fm", _modulated(courses.horn(240, 340, _CHIMES, 2), (1.0,), (1.2, 3), "street")),
    ),
    "ship_horn": (
        (
            "wavetable",
            _scanned(courses.horn(65, 150, ((1.0,), (1.0, 1.5)), 1), 20, (0.5, 1.3), "street"),
        ),
    ),
    "bicycle_bell": (("fm", _modulated(_BELL, _BELLS, (0.8, 3), "none", True)),),
    "doorbell": (
        ("fm", _modulated(courses.doorbell, (2.0, 3.5, 1.41, 4.0), (0.3, 1.6), "none", True)),
    ),
    "school_bell": (("fm", _modulated(_SCHOOL, _BELLS, (1.5, 5), "none", True)),),
    "church_bell": (("fm", _modulated(_TOLL, _BELLS, (1.5, 5), "none", True)),),
    "reversing_beeper": (("wavetable", _scanned(courses.reversing, 10, (0.5, 1.5), "street")),),
    "morse_code": (("wavetable", _scanned(courses.morse, 8, (1, 4), "line")),),
    "sonar_ping": (("fm", _modulated(courses.sonar, (1.0, 2.0), (0.05, 0.8), "street", True)),),
    "train_whistle": (
        ("wavetable", _scanned(courses.horn(420, 950, _CHIMES, 3), 6, (1.5, 3), "street")),
    ),
    "referee_whistle": (("fm", _modulated(courses.whistle, (0.012, 1.0), (0.2, 1.0), "street")),),
    "hospital_monitor": (("wavetable", _scanned(courses.monitor, 6, (1.5, 4), "piezo")),),
    "modem": (("fm", _modem),),
    "laser": (
        (
            "fm",
            _modulated(
                courses.glide((1400, 5200), (-4, -1.5), (0.1, 0.5), 5),
                (0.5, 1.41, 2.0),
                (0.5, 4),
                "none",
            ),
        ),
    ),
    "coin_pickup": (
        (
            "wavetable",
            _scanned(
                courses.notes(((1, 1.335), (1, 1.5), (1, 1.26)), (0.06, 0.14), (800, 1500)),
                12,
                (0.8, 1.6),
                "none",
                4,
            ),
        ),
    ),
    "jump_blip": (
        (
            "fm",
            _modulated(
                courses.glide((180, 500), (0.7, 1.8), (0.1, 0.35)), (1.0, 2.0), (0.3, 2), "none"
            ),
        ),
    ),
    "power_up": (
        (
            "wavetable",
            _scanned(courses.notes(_UP, (0.05, 0.14), (250, 700)), 20, (0.6, 1.3), "none", 3),
        ),
    ),
    "game_over": (
        (
            "wavetable",
            _scanned(courses.notes(_DOWN, (0.12, 0.4), (200, 600)), 20, (0.6, 1.3), "none", 3),
        ),
    ),
    "siren_sweep": (("wavetable", _scanned(courses.sweeping, 12, (0.8, 2), "none")),),
    "sine_tone": (("wavetable", _scanned(courses.steady, 1, (1, 2), "none")),),
    "rising_sweep": (
        ("wavetable", _scanned(courses.glide((90, 350), (2.5, 5.2), (1, 4.5)), 8, (1, 3), "none")),
        (
            "fm",
            _modulated(
                courses.glide((90, 350), (2.5, 5.2), (1, 4.5)), (1.0, 2.0, 0.5), (0.2, 2), "none"
            ),
        ),
    ),
    "falling_sweep": (
        (
            "wavetable",
            _scanned(courses.glide((2500, 8000), (-5.2, -2.5), (1, 4.5)), 8, (1, 3), "none"),
        ),
        (
            "fm",
            _modulated(
                courses.glide((2500, 8000), (-5.2, -2.5), (1, 4.5)),
                (1.0, 2.0, 0.5),
                (0.2, 2),
                "none",
            ),
        ),
    ),
    "robot_bleeps": (("fm", _modulated(courses.bleeps, (1.0, 1.41, 2.0, 3.0), (0.3, 4), "none")),),
    "sub_drop": (
        ("wavetable", _scanned(courses.glide((90, 220), (-3, -1.2), (1.2, 4)), 3, (2, 4), "none")),
        (
            "fm",
            _modulated(
                courses.glide((90, 220), (-3, -1.2), (1.2, 4)), (0.5, 1.0), (0.2, 1.2), "none", True
            ),
        ),
    ),
    "wobble_bass": (("fm", _wobbled), ("wavetable", _wobbled_table)),
}
