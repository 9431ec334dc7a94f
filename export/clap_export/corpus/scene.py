"""What varies around a sound before any room: its colour, its pace, company and a bed of noise.

In:  a generator.
Out: a generator of the same sound, differently recorded each time.
Knows nothing about classes, except which may not be changed.

A synthesizer's sounds share what its author left constant; recordings share nothing of the kind.
So the constants are shaken too, or a model learns them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

import numpy as np

from clap_export.corpus import dsp
from clap_export.corpus.draw import Draw

Generator = Callable[[Draw], np.ndarray]

# Their spectrum or their frequencies are what they are.
EXACT = frozenset(
    {"white_noise", "pink_noise", "sine_tone", "dial_tone", "busy_tone", "touch_tone_dialing",
     "mains_hum"}
)  # fmt: skip
# One of these at a time; the others may come in company.
ALONE = EXACT | {"rising_sweep", "falling_sweep", "riser", "sub_drop", "power_up", "game_over"}
_KNOTS_HZ = (40.0, 120.0, 350.0, 1000.0, 2800.0, 7000.0, 15000.0)


def varied(name: str, generate: Generator) -> Generator:
    """The generator in a scene: at most 5 s, as every generator gives."""

    @wraps(generate)
    def scene(draw: Draw) -> np.ndarray:
        x = np.asarray(generate(draw), dtype=np.float64)
        if name not in EXACT and draw.chance(0.3):
            x = paced(x, draw.log_uniform(0.8, 1.25))
        if name not in ALONE and draw.chance(0.15):
            second = dsp.peak(np.asarray(generate(draw), dtype=np.float64))
            at = draw.uniform(0.0, 0.6) * len(x) / dsp.RATE_HZ
            first = dsp.peak(x)
            x = np.zeros(min(max(len(x), dsp.samples(at) + len(second)), 5 * dsp.RATE_HZ))
            dsp.place(x, first, 0.0)
            dsp.place(x, second, at, 10 ** (-draw.uniform(0, 14) / 20))
        if name not in EXACT and draw.chance(0.6):
            x = coloured(draw, x)
        if draw.chance(0.2):
            slow = np.exp(0.4 * dsp.wander(draw, len(x), 0.5))
            bed = dsp.sloped(draw, len(x), -draw.uniform(1, 9)) * slow
            level = float(np.sqrt(np.mean(x * x))) * 10 ** (-draw.uniform(14, 34) / 20)
            x = x + level * bed
        return x

    return scene


def paced(x: dsp.Wave, speed: float) -> dsp.Wave:
    """x played speed times as fast, pitch and all; at most 5 s of it."""
    n = min(int(len(x) / speed), 5 * dsp.RATE_HZ)
    return np.interp(np.arange(n) * speed, np.arange(len(x)), x)


def coloured(draw: Draw, x: dsp.Wave) -> dsp.Wave:
    """x through a curve no two recordings share: some dB at seven places, and a far sound's
    missing treble now and then."""
    m = dsp.fast_length(len(x) + dsp.RATE_HZ // 50)
    hz = np.fft.rfftfreq(m, 1 / dsp.RATE_HZ)
    knots_db = 4.0 * np.clip(draw.noise(len(_KNOTS_HZ)), -2, 2)
    if draw.chance(0.25):
        knots_db = knots_db - draw.uniform(3, 9) * np.maximum(np.arange(len(_KNOTS_HZ)) - 3, 0)
    gain_db = np.interp(np.log(np.maximum(hz, 30.0)), np.log(_KNOTS_HZ), knots_db)
    return np.fft.irfft(np.fft.rfft(x, m) * 10 ** (gain_db / 20), m)[: len(x)]
