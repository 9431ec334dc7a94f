"""Machines and vehicles by firing pulses and by wavetables, standing, revving and driving past.

In:  a Draw.
Out: mono float64 [n] at RATE_HZ, 1 to 5 s, of any level; `SOURCES`: class -> (principle,
     generator) pairs.
Knows nothing about the harmonic engines of `effects_machines` and `effects_engines`.
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
class Motor:
    """What turns: pulses a second, how its speed goes, its noise and its body."""

    rate_hz: Range
    course: str  # steady, revs, passes, pulls, wanders
    pulse_s: Range  # how long one pulse lasts
    body: tuple[tuple[float, float, float], ...]  # resonances: Hz, width, gain
    hiss_hz: Range  # band of the steady noise
    hiss: Range  # its level against the pulses
    cylinders: tuple[int, ...] = (1,)
    uneven: float = 0.1
    harmonics: int = 30
    slope: Range = (0.6, 1.4)
    pipe_hz: Range = (0.0, 0.0)
    beat_hz: Range = (0.0, 0.0)  # slow swelling: blades against each other, a tumbling drum
    depth: float = 0.0


MOTORS: dict[str, Motor] = {
    "car_engine": Motor(
        (22, 95), "revs", (0.003, 0.012), ((110, 60, 1.0), (320, 150, 0.6), (1100, 500, 0.3)),
        (300, 5000), (0.02, 0.2), (4, 6), 0.12, 24, (0.8, 1.5), (35, 120),
    ),
    "motorcycle": Motor(
        (25, 190), "revs", (0.0015, 0.006), ((180, 80, 1.0), (650, 300, 0.8), (2200, 800, 0.4)),
        (500, 7000), (0.02, 0.15), (1, 2), 0.2, 40, (0.4, 1.0), (70, 260),
    ),
    "truck_engine": Motor(
        (14, 42), "pulls", (0.004, 0.012), ((70, 40, 1.0), (210, 100, 0.8), (900, 400, 0.4)),
        (200, 4000), (0.08, 0.35), (6, 4), 0.18, 30, (0.7, 1.3), (25, 60),
    ),
    "chainsaw": Motor(
        (75, 230), "revs", (0.0008, 0.003), ((420, 200, 1.0), (1500, 600, 1.0), (3800, 1200, 0.7)),
        (1200, 9000), (0.1, 0.4), (1,), 0.25, 60, (0.1, 0.6), (180, 600),
    ),
    "propeller_plane": Motor(
        (45, 115), "passes", (0.002, 0.007), ((120, 60, 1.0), (380, 200, 0.7), (1000, 400, 0.3)),
        (200, 3500), (0.1, 0.4), (3, 6), 0.08, 30, (0.7, 1.3), beat_hz=(0.4, 3), depth=0.35,
    ),
    "helicopter": Motor(
        (9, 27), "passes", (0.008, 0.022), ((60, 40, 1.0), (180, 100, 0.7), (700, 500, 0.4)),
        (300, 5000), (0.1, 0.5), (2, 4), 0.15, 40, (0.5, 1.0),
    ),
    "electric_motor": Motor(
        (90, 420), "revs", (0.0003, 0.001), ((900, 300, 1.0), (2600, 700, 0.8), (6000, 1500, 0.4)),
        (1500, 9000), (0.05, 0.3), (1, 3), 0.05, 30, (0.3, 1.0),
    ),
    "drill": Motor(
        (160, 620), "pulls", (0.0003, 0.001), ((700, 250, 1.0), (2200, 700, 1.0),
        (5000, 1500, 0.7)),
        (1500, 11000), (0.2, 0.8), (2, 5), 0.15, 20, (0.1, 0.7), beat_hz=(8, 35), depth=0.25,
    ),
    "vacuum_cleaner": Motor(
        (110, 330), "steady", (0.0005, 0.002), ((350, 150, 1.0), (1100, 500, 0.7),
        (3000, 1500, 0.5)),
        (250, 7000), (1.0, 3.5), (1, 2), 0.06, 16, (0.5, 1.2),
    ),
    "fan": Motor(
        (14, 90), "steady", (0.004, 0.012), ((120, 80, 1.0), (400, 300, 0.4)),
        (80, 2500), (0.8, 3.0), (3, 5), 0.08, 10, (0.9, 1.6), beat_hz=(0.2, 1.5), depth=0.2,
    ),
    "washing_machine": Motor(
        (18, 110), "wanders", (0.003, 0.01), ((90, 50, 1.0), (260, 120, 0.7), (800, 400, 0.3)),
        (150, 3500), (0.5, 1.8), (1, 3), 0.2, 20, (0.8, 1.5), beat_hz=(0.7, 2.2), depth=0.7,
    ),
    "sewing_machine": Motor(
        (8, 18), "wanders", (0.002, 0.006), ((300, 120, 1.0), (1200, 500, 0.8), (3500, 1200, 0.4)),
        (400, 5000), (0.1, 0.4), (2,), 0.25, 80, (0.2, 0.7),
    ),
    "jet_engine": Motor(
        (700, 2600), "passes", (0.0002, 0.0005), ((1800, 900, 0.5),),
        (120, 6000), (2.0, 5.0), (1, 7), 0.1, 5, (0.3, 1.0),
    ),
    "mains_hum": Motor(
        (99, 121), "steady", (0.0006, 0.003), ((200, 80, 1.0), (500, 200, 0.5)),
        (100, 2000), (0.0, 0.06), (2,), 0.01, 14, (0.7, 1.6),
    ),
    "train_on_tracks": Motor(
        (1.2, 4.2), "steady", (0.02, 0.05), ((90, 60, 1.0), (350, 200, 0.8), (1600, 800, 0.5)),
        (60, 2500), (0.4, 1.4), (2, 4), 0.35, 90, (0.2, 0.6),
    ),
    "printer": Motor(
        (28, 210), "wanders", (0.0006, 0.002), ((600, 200, 1.0), (1900, 500, 0.8),
        (4500, 1500, 0.5)),
        (500, 7000), (0.1, 0.5), (1, 4), 0.2, 40, (0.2, 0.8), beat_hz=(1.2, 6), depth=0.8,
    ),
}  # fmt: skip


def _speed(draw: Draw, motor: Motor, n: int) -> dsp.Wave:
    """[n] turns a second, over the clip."""
    rate, shake = draw.log_uniform(*motor.rate_hz), 1 + 0.012 * dsp.wander(draw, n, 9)
    if motor.course == "revs":
        how = draw.choice(("idle", "blips", "climb", "fall"))
        if how == "blips":
            lift = np.maximum(dsp.wander(draw, n, draw.uniform(0.6, 1.6)), 0)
            shake = shake * (1 + draw.uniform(0.4, 1.2) * lift)
        elif how != "idle":
            ends = (0.6, draw.uniform(1.3, 2.0))
            shake = shake * dsp.curve(n, (0, ends[0]), (1, ends[1]))[:: 1 if how == "climb" else -1]
    elif motor.course == "pulls":
        load = dsp.curve(
            n, (0, draw.uniform(0.5, 1)), (0.3, 1), (0.8, draw.uniform(0.8, 1.2)), (1, 0.7)
        )
        shake = shake * load
    elif motor.course == "wanders":
        shake = shake * np.exp(0.12 * dsp.wander(draw, n, 0.8))
    return np.asarray(rate * shake)


def _finished(draw: Draw, motor: Motor, turning: dsp.Wave, rate: dsp.Wave) -> dsp.Wave:
    """The turning part with its noise, its slow swelling, and a way past the listener."""
    n = len(turning)
    low, high = motor.hiss_hz
    wide = [low / 3, low, np.sqrt(low * high), high, min(15000.0, 2 * high)]
    levels = [-25.0, -3.0, 0.0, -4.0 - draw.uniform(0, 6), -25.0]
    picture = np.array(levels) + 2.5 * draw.noise(5) + 0.8 * draw.noise(60).reshape(12, 5)
    noise = dsp.rms(by.painted(draw, n, picture, wide))
    out = dsp.rms(turning) + draw.uniform(*motor.hiss) * noise * (0.5 + 0.5 * rate / rate.max())
    if motor.depth:
        beat = dsp.sine(draw.uniform(*motor.beat_hz), n, draw.rng.random())
        out = out * (1 + motor.depth * draw.uniform(0.4, 1.2) * beat)
    if (motor.course == "passes" and draw.chance(0.6)) or (
        motor.course == "revs" and draw.chance(0.25)
    ):
        out = by.passing(
            draw, out, draw.uniform(0.5, 4.5), draw.uniform(6, 60), draw.log_uniform(6, 60)
        )
    return dsp.fade(dsp.tame(out, 6.0), draw.uniform(0.01, 0.3), draw.uniform(0.02, 0.4))


def _pulsed(motor: Motor) -> Generator:
    """Every turn fires a grain of noise and pressure; a pipe and a body answer."""

    def generate(draw: Draw) -> np.ndarray:
        n = dsp.samples(draw.uniform(2.2, 4.9))
        rate = _speed(draw, motor, n)
        pulse = draw.log_uniform(*motor.pulse_s)
        g = dsp.samples(5 * pulse)
        rough = draw.uniform(0.1, 0.7)
        grain = dsp.decay(g, pulse, 0.2 * pulse) * ((1 - rough) + rough * draw.noise(g))
        grain = grain - np.mean(grain)
        out = by.fired(draw, rate, grain, draw.choice(motor.cylinders), motor.uneven)
        if motor.pipe_hz[1]:
            pipe = draw.log_uniform(*motor.pipe_hz)
            out = by.guide(out, pipe, draw.uniform(1.0, 4.0) / pipe, draw.uniform(600, 3000), True)
        size = draw.log_uniform(0.75, 1.35)
        freqs, widths, gains = zip(*motor.body, strict=True)
        out = dsp.resonate(
            out, [f * size for f in freqs], widths, gains, dry=draw.uniform(0.1, 0.5)
        )
        return _finished(draw, motor, out, rate)

    return generate


def _scanned(motor: Motor) -> Generator:
    """Two random cycles read at the speed, one fading into the other; no filter at all."""

    def generate(draw: Draw) -> np.ndarray:
        n = dsp.samples(draw.uniform(2.2, 4.9))
        rate = _speed(draw, motor, n)
        cylinders = draw.choice(motor.cylinders)
        top = int(min(motor.harmonics * cylinders, 900, 14000 / (rate.max() / cylinders)))
        slope = draw.uniform(*motor.slope)
        a, b = (by.table(draw, max(2, top), slope) for _ in range(2))
        swing = 0.5 + 0.5 * np.tanh(dsp.wander(draw, n, draw.uniform(1, 12)))
        cycle = rate / cylinders
        out = dsp.morph(by.scanned(a, cycle), by.scanned(b, cycle), swing)
        out = out + 0.3 * by.scanned(a, rate * 0.997)
        return _finished(draw, motor, out * (1 + 0.1 * dsp.wander(draw, n, 30)), rate)

    return generate


_PULSES_ONLY = ("helicopter", "train_on_tracks", "car_engine", "motorcycle")
_TABLES_ONLY = (
    "truck_engine", "propeller_plane", "electric_motor", "drill", "fan", "washing_machine",
    "jet_engine", "mains_hum", "printer",
)  # fmt: skip

SOURCES: dict[str, tuple[Source, ...]] = {
    name: (
        *(() if name in _TABLES_ONLY else (("pulses", _pulsed(motor)),)),
        *(() if name in _PULSES_ONLY else (("wavetable", _scanned(motor)),)),
    )
    for name, motor in MOTORS.items()
    if name != "sewing_machine"
}
