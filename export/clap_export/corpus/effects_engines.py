"""Vehicles: engines on pistons, propellers, rotors, jets, wheels on rails.

In:  a Draw.
Out: mono float64 [n] at RATE_HZ, 1 to 5 s, of any level; one to three generators per class.
Knows nothing about words or files.

A piston engine is a train of pressure pulses, one per firing: revolutions/60 times half the
cylinders a second for a four-stroke engine, once per revolution and cylinder for a two-stroke.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from . import dsp
from .draw import Draw

Generator = Callable[[Draw], np.ndarray]


def _length(draw: Draw, lo: float = 2.0, hi: float = 4.8) -> int:
    return dsp.samples(draw.uniform(lo, hi))


def firing(
    draw: Draw,
    rate_hz: np.ndarray,
    cylinders: int,
    uneven: float = 0.15,
    jitter: float = 0.05,
    sharpness: float = 8.0,
    angles: Sequence[float] | None = None,
) -> np.ndarray:
    """[n] pressure pulses at rate_hz firings a second.

    `uneven` tells cylinders apart, `jitter` tells cycles apart, `angles` are the instants of the
    firings in a cycle (0..1, first 0) where they are not evenly spaced.
    """
    p = dsp.cycles(rate_hz)
    cycles = int(p[-1]) // cylinders + 1
    starts = np.arange(cylinders) if angles is None else np.asarray(angles) * cylinders
    instants = (np.arange(cycles)[:, None] * cylinders + starts).reshape(-1)
    gains = np.tile(1 + uneven * draw.noise(cylinders), cycles)
    gains *= 1 + jitter * draw.noise(len(gains))
    # Each firing lasts to the next: its number is a step curve over the samples.
    edges = np.diff(np.searchsorted(p, instants), append=len(p))
    return np.repeat(gains, edges) * np.exp(-sharpness * (p - np.repeat(instants, edges)))


def _body(
    draw: Draw, pulses: np.ndarray, formants: Sequence[float], high_hz: float, noise: float
) -> np.ndarray:
    """Exhaust, block and intake: resonances, and noise that each firing lets out."""
    source = pulses - float(np.mean(pulses)) + noise * pulses * dsp.white(draw, len(pulses))
    freqs = [f * draw.uniform(0.8, 1.25) for f in formants]
    widths = [0.5 * f for f in freqs]
    gains = [1.0 / (1 + 0.5 * k) for k in range(len(freqs))]
    return dsp.lowpass(dsp.resonate(source, freqs, widths, gains, dry=0.15), high_hz, 1.5)


def _unsteady(draw: Draw, n: int, amount: float, rate_hz: float = 6.0) -> np.ndarray:
    return 1 + amount * dsp.wander(draw, n, rate_hz)


_GEARS = (1.0, 0.68, 0.52, 0.42)


def _gear_curve(draw: Draw, n: int, low: float, high: float) -> np.ndarray:
    """[n] revolutions while accelerating through two or three gears."""
    gears = draw.integer(2, 3)
    points: list[tuple[float, float]] = []
    at = 0.0
    for k in range(gears):
        span = (1 + 0.5 * k) / sum(1 + 0.5 * j for j in range(gears))
        bottom = low if k == 0 else high * _GEARS[k] / _GEARS[k - 1]
        points += [(at + 0.03, bottom), (at + span - 0.02, high)]
        at += span
    return dsp.curve(n, *points)


def _blip_curve(draw: Draw, n: int, idle: float, top: float) -> np.ndarray:
    """[n] idling, with the throttle opened once to three times."""
    t = dsp.seconds_axis(n)
    out = np.full(n, idle)
    count = draw.integer(1, 3)
    for k in range(count):
        at = (k + 0.2) / count * n / dsp.RATE_HZ
        rise, fall = draw.uniform(0.15, 0.4), draw.uniform(0.3, 0.7)
        since = np.maximum(t - at, 0.0)
        held = np.minimum(since / rise, 1.0) * np.exp(-np.maximum(since - 1.3 * rise, 0) / fall)
        out += (top - idle) * draw.uniform(0.6, 1.0) * held
    return np.minimum(out, top)


def _passing(draw: Draw, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Doppler factor and level [n] of something that drives past."""
    t = dsp.seconds_axis(n) - n / dsp.RATE_HZ * draw.uniform(0.4, 0.6)
    speed, distance = draw.uniform(15, 45), draw.uniform(6, 20)
    away = np.sqrt(distance**2 + (speed * t) ** 2)
    return 1 / (1 + speed * (speed * t / away) / 340), distance / away


# --- road --------------------------------------------------------------------------------------

_CAR_FORMANTS = (90.0, 210.0, 480.0, 1100.0)


def _car(draw: Draw, rpm: np.ndarray, level: np.ndarray | float = 1.0) -> np.ndarray:
    cylinders = draw.choice((4, 4, 4, 6, 8))
    rate = rpm / 60 * cylinders / 2 * _unsteady(draw, len(rpm), 0.006)
    pulses = firing(draw, rate, cylinders, draw.uniform(0.05, 0.3), 0.08, draw.uniform(3, 9))
    load = 0.35 + 0.65 * np.clip(rpm / 3500, 0, 1.5)
    return (
        load
        * level
        * _body(draw, pulses, _CAR_FORMANTS, draw.uniform(1200, 3500), draw.uniform(0.1, 0.4))
    )


def car_idle(draw: Draw) -> np.ndarray:
    n = _length(draw)
    return _car(draw, draw.uniform(650, 1000) * _unsteady(draw, n, 0.012, 3))


def car_revving(draw: Draw) -> np.ndarray:
    n = _length(draw)
    return _car(draw, _blip_curve(draw, n, draw.uniform(700, 1000), draw.uniform(2800, 5500)))


def car_driving_off(draw: Draw) -> np.ndarray:
    n = _length(draw, 3.0, 5.0)
    rpm = _gear_curve(draw, n, draw.uniform(900, 1300), draw.uniform(3000, 5000))
    road = dsp.band_noise(draw, n, 60, 1200, 1.0, -3.0) * dsp.curve(
        n, (0, 0.0), (1, draw.uniform(0.02, 0.06))
    )
    return dsp.rms(_car(draw, rpm), 0.2) + road


def motorcycle_twin(draw: Draw) -> np.ndarray:
    """A big V-twin: two firings close together, then a pause: potato, potato."""
    n = _length(draw)
    idle = draw.uniform(750, 1000)
    rpm = (
        np.full(n, idle)
        if draw.chance(0.4)
        else _blip_curve(draw, n, idle, draw.uniform(2000, 3500))
    )
    rate = rpm / 60 * _unsteady(draw, n, 0.02)
    pulses = firing(draw, rate, 2, 0.2, 0.15, draw.uniform(5, 9), (0.0, draw.uniform(0.40, 0.44)))
    return _body(
        draw, pulses, (75, 160, 420, 1300), draw.uniform(2500, 4500), draw.uniform(0.3, 0.8)
    )


def motorcycle_sport(draw: Draw) -> np.ndarray:
    """A fast four: a high, tearing howl through the gears."""
    n = _length(draw, 2.5, 5.0)
    rpm = _gear_curve(draw, n, draw.uniform(3000, 4500), draw.uniform(8500, 12500))
    bend, level = _passing(draw, n) if draw.chance(0.3) else (np.ones(n), np.ones(n))
    rate = rpm * bend / 60 * 2 * _unsteady(draw, n, 0.004)
    pulses = firing(draw, rate, 4, 0.2, 0.05, draw.uniform(3, 6))
    return level * _body(
        draw, pulses, (320, 800, 1700, 3200), draw.uniform(5000, 9000), draw.uniform(0.2, 0.5)
    )


def motorcycle_moped(draw: Draw) -> np.ndarray:
    """A small two-stroke: one thin, buzzing cylinder."""
    n = _length(draw)
    rpm = _blip_curve(draw, n, draw.uniform(1600, 2400), draw.uniform(5000, 8000))
    pulses = firing(
        draw, rpm / 60 * _unsteady(draw, n, 0.02, 12), 1, 0.0, 0.25, draw.uniform(6, 12)
    )
    return _body(draw, pulses, (380, 900, 2100), draw.uniform(3500, 7000), draw.uniform(0.3, 0.7))


def _diesel(draw: Draw, rpm: np.ndarray) -> np.ndarray:
    n = len(rpm)
    cylinders = draw.choice((6, 6, 8))
    rate = rpm / 60 * cylinders / 2 * _unsteady(draw, n, 0.008)
    deep = _body(draw, firing(draw, rate, cylinders, 0.35, 0.1, 4.0), (48, 110, 260), 900, 0.15)
    knock = firing(draw, rate, cylinders, 0.3, 0.4, draw.uniform(14, 25)) * dsp.white(draw, n)
    knock = dsp.bandpass(knock, draw.uniform(500, 900), draw.uniform(1800, 3500), 2.0)
    return dsp.rms(deep) + draw.uniform(0.15, 0.45) * dsp.rms(knock)


def truck_idle(draw: Draw) -> np.ndarray:
    n = _length(draw)
    out = _diesel(draw, np.full(n, draw.uniform(520, 750)))
    if draw.chance(0.35):  # the brakes let their air go
        hiss = dsp.burst(draw, 0.8, 1500, 9000, draw.uniform(0.1, 0.3), 0.01)
        dsp.place(out, hiss, draw.uniform(0.3, 1.2), 1.2)
    return out


def truck_pulling(draw: Draw) -> np.ndarray:
    n = _length(draw, 3.0, 5.0)
    rpm = _gear_curve(draw, n, draw.uniform(650, 850), draw.uniform(1500, 2100))
    whistle = dsp.sine(rpm * draw.uniform(1.4, 2.4)) * (rpm / 2000) ** 2
    return _diesel(draw, rpm) * (0.4 + rpm / 2000) + draw.uniform(0.03, 0.15) * whistle


# --- air ---------------------------------------------------------------------------------------


def plane_droning(draw: Draw) -> np.ndarray:
    """One or two piston engines in cruise, beating against each other."""
    n = _length(draw, 2.5, 5.0)
    rate = draw.uniform(65, 125)
    out = dsp.saw(rate * _unsteady(draw, n, 0.003, 2))
    if draw.chance(0.5):
        out += 0.8 * dsp.saw(rate * (1 + draw.uniform(0.006, 0.02)), n)
    out = dsp.resonate(
        out, (2 * rate, 4 * rate, 900), (rate, 2 * rate, 600), (1.0, 0.8, 0.4), dry=0.3
    )
    blade = 1 + 0.5 * dsp.sine(rate, n)
    air = dsp.band_noise(draw, n, 150, 1500, 1.0, -3.0) * blade
    out = dsp.rms(out) + draw.uniform(0.2, 0.5) * air
    return dsp.lowpass(out, draw.uniform(1200, 3000), 1.5) * _unsteady(draw, n, 0.08, 1.5)


def plane_passing(draw: Draw) -> np.ndarray:
    n = _length(draw, 3.5, 5.0)
    bend, level = _passing(draw, n)
    rate = draw.uniform(70, 110) * bend
    rasp = firing(draw, rate * 1.0, 3, 0.15, 0.05, draw.uniform(3, 6))
    out = _body(draw, rasp, (170, 420, 1000), draw.uniform(2000, 4000), 0.3)
    return (0.15 + level) * out


def _turbine(draw: Draw, n: int, speed: np.ndarray) -> np.ndarray:
    """[n] blade whine: a few unrelated tones that follow the shaft."""
    base = draw.uniform(1800, 3600)
    out = np.zeros(n)
    for ratio, gain in ((1.0, 1.0), (draw.uniform(1.3, 1.6), 0.6), (draw.uniform(2.1, 2.7), 0.4)):
        out += gain * dsp.sine(base * ratio * speed * _unsteady(draw, n, 0.001, 10))
    return out


def jet_running_up(draw: Draw) -> np.ndarray:
    """On the ground, spooling up, or just running."""
    n = _length(draw, 3.0, 5.0)
    start = draw.uniform(0.3, 0.9)
    speed = start + (1 - start) * dsp.curve(n, (0, 0), (draw.uniform(0.6, 0.95), 1), (1, 1))
    roar = dsp.band_noise(draw, n, 60, draw.uniform(1500, 5000), 1.0, -2.0) * speed**2
    return roar + draw.uniform(0.1, 0.5) * _turbine(draw, n, speed) * speed


def jet_flying_over(draw: Draw) -> np.ndarray:
    n = _length(draw, 3.5, 5.0)
    bend, level = _passing(draw, n)
    roar = dsp.sloped(draw, n, -3.0)
    bright = dsp.swept_filter(roar, 500 + draw.uniform(3000, 7000) * level * bend**2, 0.7)
    crackle = 1 + 0.25 * dsp.wander(draw, n, 18)
    whine = draw.uniform(0.02, 0.12) * _turbine(draw, n, bend)
    return level**1.2 * (bright * crackle + whine * (bend > 0.98))


def helicopter_near(draw: Draw) -> np.ndarray:
    """Blade slap: each blade chops the air; a turbine sings above."""
    n = _length(draw, 2.5, 5.0)
    rate = draw.uniform(10.5, 23) * _unsteady(draw, n, 0.004, 1)
    chop = firing(draw, rate, draw.choice((2, 3, 4)), 0.12, 0.08, draw.uniform(3, 7))
    low = dsp.lowpass(chop - float(np.mean(chop)), draw.uniform(120, 300), 2.0)
    wash = dsp.band_noise(draw, n, 80, draw.uniform(900, 2500), 1.0, -3.0) * chop
    out = dsp.rms(low, draw.uniform(0.5, 1.0)) + dsp.rms(wash)
    if draw.chance(0.6):
        out += draw.uniform(0.02, 0.1) * _turbine(draw, n, np.ones(n))
    return out


def helicopter_far(draw: Draw) -> np.ndarray:
    """Only the thud arrives, swelling with the wind."""
    n = _length(draw, 3.0, 5.0)
    bend, level = _passing(draw, n)
    chop = firing(draw, draw.uniform(11, 20) * bend, 2, 0.2, 0.15, draw.uniform(5, 9))
    thud = dsp.bandpass(chop * (1 + 0.6 * dsp.white(draw, n)), 40, draw.uniform(250, 600), 2.0)
    return (0.3 + level) * _unsteady(draw, n, 0.15, 2) * thud


# --- rails -------------------------------------------------------------------------------------


def train_clatter(draw: Draw) -> np.ndarray:
    """Jointed rails: the two axles of a bogie, then those of the next: da-dum, da-dum."""
    n = _length(draw, 3.0, 5.0)
    seconds = n / dsp.RATE_HZ
    period = draw.uniform(0.45, 1.1)
    axle = period * draw.uniform(0.11, 0.17)
    bogie = period * draw.uniform(0.38, 0.5)
    first = np.arange(-period, seconds, period)
    times = np.sort(np.concatenate([first, first + axle, first + bogie, first + bogie + axle]))
    times = times[times >= 0]
    m = dsp.samples(0.25)
    thump = dsp.burst(draw, 0.25, 50, 220, 0.04) + 0.5 * dsp.burst(draw, 0.25, 400, 2500, 0.012)
    thump += 0.3 * dsp.modes(m, (310, 790, 1650), (0.03, 0.02, 0.015), (1.0, 0.7, 0.4))
    out = dsp.convolve(dsp.impulses(n, times, 1 + 0.15 * draw.noise(len(times))), thump)[:n]
    roll = dsp.band_noise(draw, n, 50, draw.uniform(500, 1500), 1.0, -3.0) * _unsteady(
        draw, n, 0.15, 4
    )
    return dsp.peak(out) + draw.uniform(0.04, 0.12) * roll


def train_steam(draw: Draw) -> np.ndarray:
    """A steam engine: four exhaust beats to a turn of the wheels, getting faster."""
    n = _length(draw, 3.0, 5.0)
    rate = draw.uniform(2.0, 5.5) * dsp.curve(n, (0, 1), (1, draw.uniform(1.0, 2.0)))
    chuff = firing(draw, rate, 4, 0.2, 0.08, draw.uniform(3, 6))
    chuff = dsp.lowpass(chuff, 40, 1.0)
    steam = dsp.band_noise(draw, n, 250, draw.uniform(2500, 6000), 1.0, -3.0)
    rods = dsp.lowpass(firing(draw, rate / 2, 2, 0.3, 0.1, 30) * dsp.white(draw, n), 900)
    return steam * np.maximum(chuff, 0) + 0.3 * dsp.rms(rods) + 0.03 * dsp.white(draw, n)


def train_fast(draw: Draw) -> np.ndarray:
    """Welded rails from inside a carriage: a rumble, quick thuds, a squeal now and then."""
    n = _length(draw, 3.0, 5.0)
    seconds = n / dsp.RATE_HZ
    rumble = dsp.band_noise(draw, n, 40, 400, 1.0, -4.0) * _unsteady(draw, n, 0.2, 5)
    hiss = 0.2 * dsp.band_noise(draw, n, 800, 4000, 1.0, -3.0)
    rate = draw.uniform(1.6, 3.5)
    beats = dsp.regular_times(draw, rate, seconds, 0.02)
    times = np.concatenate([beats, beats + draw.uniform(0.06, 0.12)])
    thuds = dsp.convolve(dsp.impulses(n, times), dsp.burst(draw, 0.15, 60, 900, 0.02))[:n]
    out = rumble + hiss + draw.uniform(1.5, 3.0) * dsp.peak(thuds)
    if draw.chance(0.5):
        squeal = dsp.sine(draw.uniform(1800, 3600) * _unsteady(draw, n, 0.004, 8))
        out += draw.uniform(0.1, 0.4) * squeal * np.maximum(dsp.wander(draw, n, 1.0), 0)
    return out
