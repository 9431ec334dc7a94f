"""What the ear follows in a signal: its pitch and its level, whatever makes the sound.

In:  a Draw.
Out: paths of pitch in Hz, one for each voice [n], and the level [n] they share.
Knows nothing about how a path is made to sound.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from clap_export.corpus import dsp
from clap_export.corpus.draw import Draw

Paths = tuple[Sequence[dsp.Wave], dsp.Wave]
Course = Callable[[Draw], Paths]


def smooth(x: dsp.Wave, width: int) -> dsp.Wave:
    """[n] running mean over width samples."""
    total = np.cumsum(np.pad(x, (width, 0), mode="edge"))
    return (total[width:] - total[:-width]) / width


def _steps(values: Sequence[float], each_s: Sequence[float]) -> dsp.Wave:
    return np.concatenate([np.full(dsp.samples(s), v) for v, s in zip(values, each_s, strict=True)])


def _long(draw: Draw) -> int:
    return dsp.samples(draw.uniform(2.8, 4.9))


def _pattern(
    draw: Draw, on_s: float, off_s: float, n: int, group: int = 1, rest: float = 0.0
) -> dsp.Wave:
    """[n] 1 while a beep of on_s sounds: groups of them, each followed by a rest."""
    t = dsp.seconds_axis(n) + draw.rng.random() * 0.3
    beat = on_s + off_s
    within = t % (group * beat + rest)
    sounding = (within < group * beat) & (within % beat < on_s)
    edge = dsp.samples(draw.uniform(0.002, 0.012))
    return smooth(sounding.astype(float), edge)


def police(draw: Draw) -> Paths:
    n = _long(draw)
    low, high = draw.uniform(480, 750), draw.uniform(1150, 1800)
    rate = draw.choice((draw.uniform(0.18, 0.35), draw.uniform(2.4, 4.2)))
    u = (dsp.seconds_axis(n) * rate + draw.rng.random()) % 1.0
    rise = draw.uniform(0.25, 0.6)
    shape = np.where(u < rise, 1 - np.exp(-3 * u / rise), np.exp(-2.2 * (u - rise) / (1 - rise)))
    return [low * (high / low) ** shape], np.ones(n)


def two_tone(draw: Draw) -> Paths:
    low, half = draw.uniform(380, 620), draw.uniform(0.35, 0.9)
    high = low * draw.choice((1.335, 1.26, 1.2, 1.5))
    n = _long(draw)
    up = np.floor(dsp.seconds_axis(n) / half + draw.rng.random()) % 2
    up = smooth(up, 300)
    return [low + (high - low) * up], np.ones(n)


def air_raid(draw: Draw) -> Paths:
    n = dsp.samples(draw.uniform(3.8, 4.95))
    top, rate, start = draw.uniform(380, 640), draw.uniform(0.1, 0.22), draw.rng.random()
    spin = 0.5 - 0.5 * np.cos(2 * np.pi * (dsp.seconds_axis(n) * rate + start))
    path = top * (0.35 + 0.65 * spin**0.6)
    return [path, path * draw.choice((0.8, 0.75, 1.2))], 0.3 + 0.7 * spin


def smoke(draw: Draw) -> Paths:
    n = _long(draw)
    gate = draw.choice(
        (
            _pattern(draw, 0.5, 0.5, n, 3, 1.0),
            _pattern(draw, 0.1, 0.1, n),
            _pattern(draw, 0.25, 0.1, n),
        )
    )
    return [np.full(n, draw.uniform(2700, 3700))], gate


def car_alarm(draw: Draw) -> Paths:
    n = _long(draw)
    t = dsp.seconds_axis(n)
    rate, low = draw.log_uniform(1.5, 12), draw.uniform(500, 1100)
    up = (t * rate) % 1.0
    kind = draw.choice(("saw", "fall", "switch", "honk"))
    if kind == "honk":
        return [np.full(n, low * 0.6), np.full(n, low * 0.75)], _pattern(draw, 0.35, 0.35, n)
    shape = up if kind == "saw" else 1 - up if kind == "fall" else np.round(up)
    return [low * (1 + draw.uniform(0.6, 1.8) * shape)], np.ones(n)


def alarm_clock(draw: Draw) -> Paths:
    n = _long(draw)
    on = draw.uniform(0.05, 0.12)
    gate = _pattern(draw, on, on * draw.uniform(0.8, 1.3), n, draw.choice((1, 3, 4)), 0.5)
    return [np.full(n, draw.uniform(1700, 2900))], gate


def telephone(draw: Draw) -> Paths:
    n = _long(draw)
    low, trill = draw.uniform(700, 1500), draw.uniform(9, 26)
    warble = np.round((dsp.seconds_axis(n) * trill) % 1.0)
    gate = draw.choice(
        (
            _pattern(draw, 0.4, 0.2, n, 2, 1.8),
            _pattern(draw, 1.6, 1.8, n),
            _pattern(draw, 0.9, 0.6, n),
        )
    )
    return [low * (1 + draw.uniform(0.15, 0.35) * warble)], gate


def dial(draw: Draw) -> Paths:
    n = _long(draw)
    pair = draw.choice(((350.0, 440.0), (425.0, 425.0), (440.0, 440.0), (400.0, 450.0)))
    return [np.full(n, f) for f in pair], np.ones(n)


def busy(draw: Draw) -> Paths:
    n = _long(draw)
    pair = draw.choice(((480.0, 620.0), (425.0, 425.0), (400.0, 400.0)))
    on = draw.choice((0.5, 0.375, 0.25, 0.48))
    return [np.full(n, f) for f in pair], _pattern(draw, on, on, n)


def touch(draw: Draw) -> Paths:
    rows, columns = (697.0, 770.0, 852.0, 941.0), (1209.0, 1336.0, 1477.0)
    on, off = draw.uniform(0.06, 0.2), draw.uniform(0.05, 0.22)
    count = min(draw.integer(5, 12), int(4.8 / (on + off)))
    each = [on + off] * count
    low = _steps([draw.choice(rows) for _ in range(count)], each)
    high = _steps([draw.choice(columns) for _ in range(count)], each)
    n = min(len(low), len(high))
    level = (dsp.seconds_axis(n) % (on + off) < on).astype(float)
    return [low[:n], high[:n]], level


def beep(draw: Draw) -> Paths:
    on, hz = draw.uniform(0.08, 0.7), draw.log_uniform(450, 3200)
    if draw.chance(0.5):
        n = dsp.samples(on)
        return [np.full(n, hz)], dsp.fade(np.ones(n), 0.004, 0.01)
    n = _long(draw)
    return [np.full(n, hz)], _pattern(draw, on, draw.uniform(0.15, 0.9), n)


def horn(low: float, high: float, chord: Sequence[Sequence[float]], blasts: int) -> Course:
    def course(draw: Draw) -> Paths:
        base, ratios = draw.uniform(low, high), draw.choice(chord)
        parts = []
        for _ in range(draw.integer(1, blasts)):
            n = dsp.samples(draw.uniform(0.25, 4.2 / blasts))
            parts += [dsp.fade(np.ones(n), 0.03, 0.06), dsp.silence(draw.uniform(0.06, 0.25))]
        level = np.concatenate(parts[:-1])
        scoop = 1 - 0.06 * np.exp(-dsp.seconds_axis(len(level)) / 0.06)
        return [base * r * scoop * draw.uniform(0.996, 1.004) for r in ratios], level

    return course


def reversing(draw: Draw) -> Paths:
    n, on = _long(draw), draw.uniform(0.3, 0.6)
    return [np.full(n, draw.uniform(950, 1500))], _pattern(draw, on, on * draw.uniform(0.8, 1.2), n)


def morse(draw: Draw) -> Paths:
    dot = draw.uniform(0.04, 0.11)
    parts: list[dsp.Wave] = []
    while sum(map(len, parts)) < 4.4 * dsp.RATE_HZ:
        for _ in range(draw.integer(1, 4)):
            parts += [np.ones(dsp.samples(dot * draw.choice((1, 3)))), dsp.silence(dot)]
        parts.append(dsp.silence(2 * dot if draw.chance(0.8) else 6 * dot))
    level = smooth(np.concatenate(parts)[: 5 * dsp.RATE_HZ], 120)
    return [np.full(len(level), draw.uniform(450, 1100))], level


def sonar(draw: Draw) -> Paths:
    n, ring = dsp.samples(draw.uniform(2.2, 4.8)), draw.uniform(0.15, 0.7)
    hz = draw.uniform(750, 1700) * (1 + 0.01 * np.exp(-dsp.seconds_axis(n) / 0.2))
    return [hz], dsp.decay(n, ring, 0.02)


def whistle(draw: Draw) -> Paths:
    n = dsp.samples(draw.uniform(0.3, 1.6))
    hz, pea = draw.uniform(2200, 3600), draw.uniform(20, 45)
    path = hz * (1 + 0.03 * dsp.sine(pea, n))
    return [path, path * draw.uniform(1.06, 1.2)], dsp.arc(n, 0.2) * (0.7 + 0.3 * dsp.sine(pea, n))


def monitor(draw: Draw) -> Paths:
    n = _long(draw)
    period = 60 / draw.uniform(50, 130)
    hz = np.full(n, draw.uniform(650, 1200))
    if draw.chance(0.25):  # the last beep does not end
        t, stop = dsp.seconds_axis(n), draw.uniform(1.2, 2.4)
        return [hz], np.where(t > stop, 1.0, _pattern(draw, 0.1, period - 0.1, n))
    return [hz], _pattern(draw, draw.uniform(0.06, 0.14), period - 0.1, n)


def strokes(
    low: float, high: float, ring: tuple[float, float], rate: tuple[float, float]
) -> Course:
    """A bell under a hammer: every stroke dies away, the next one comes before silence."""

    def course(draw: Draw) -> Paths:
        pace, fall = draw.log_uniform(*rate), draw.log_uniform(*ring)
        n = dsp.samples(min(4.8, draw.uniform(1.2, 3.5) + fall))
        phase = (dsp.seconds_axis(n) * pace) % 1.0
        stop = n - dsp.samples(min(fall * 2, 0.5 * n / dsp.RATE_HZ))
        level = np.exp(-phase / pace / fall)
        level[stop:] = np.exp(-dsp.seconds_axis(n - stop) / fall) * level[stop - 1]
        return [np.full(n, draw.log_uniform(low, high))], level

    return course


def doorbell(draw: Draw) -> Paths:
    high, gap = draw.uniform(520, 900), draw.uniform(0.35, 0.75)
    tune = draw.choice(((1.0, 0.794), (1.0, 0.794), (1.0, 0.749), (1.0, 0.794, 1.19, 0.89)))
    path = _steps([high * r for r in tune], [gap] * (len(tune) - 1) + [gap + 0.9])
    start = dsp.seconds_axis(len(path)) % gap
    last = dsp.seconds_axis(len(path)) - gap * (len(tune) - 1)
    return [path], np.exp(-np.where(last > 0, last, start) / draw.uniform(0.25, 0.6))


def notes(
    ratios: Sequence[Sequence[float]], each: tuple[float, float], base: tuple[float, float]
) -> Course:
    """Short notes one after another, each with its own little decay."""

    def course(draw: Draw) -> Paths:
        tune, note = draw.choice(ratios), draw.log_uniform(*each)
        first, lengths = draw.log_uniform(*base), [note] * (len(tune) - 1) + [2.2 * note]
        path = _steps([first * r for r in tune], lengths)
        phase = dsp.seconds_axis(len(path)) % note
        return [path], np.exp(-phase / note * draw.uniform(0.3, 1.5))

    return course


def glide(
    hz: tuple[float, float],
    octaves: tuple[float, float],
    seconds: tuple[float, float],
    times: int = 1,
) -> Course:
    """A pitch that runs up (or down, with negative octaves) once or several times."""

    def course(draw: Draw) -> Paths:
        n, span = dsp.samples(draw.log_uniform(*seconds)), draw.uniform(*octaves)
        u = np.linspace(0, 1, n) ** draw.choice((1.0, draw.uniform(0.5, 1.6)))
        one, level = draw.log_uniform(*hz) * 2 ** (span * u), dsp.fade(np.ones(n), 0.004, 0.03)
        level = level * np.exp(-draw.uniform(0, 2.5) * u)
        count = min(draw.integer(1, times), max(1, int(4.8 * dsp.RATE_HZ / n)))
        return [np.tile(one, count)], np.tile(level, count)

    return course


def sweeping(draw: Draw) -> Paths:
    n, rate = _long(draw), draw.log_uniform(0.3, 5)
    return [
        draw.log_uniform(350, 1300) * 2 ** (draw.uniform(0.3, 1.0) * dsp.sine(rate, n))
    ], np.ones(n)


def bleeps(draw: Draw) -> Paths:
    each = draw.log_uniform(0.03, 0.14)
    count = int(draw.uniform(1.2, 4.2) / each)
    path = _steps(draw.uniform(300, 700) * 2 ** (3 * draw.rng.random(count)), [each] * count)
    drift = 1 + 0.15 * draw.rng.standard_normal() * (dsp.seconds_axis(len(path)) % each) / each
    mute = np.repeat(draw.rng.random(count) < 0.85, len(path) // count + 1)[: len(path)]
    return [path * drift], mute * (dsp.seconds_axis(len(path)) % each < 0.85 * each)


def steady(draw: Draw) -> Paths:
    n = _long(draw)
    return [np.full(n, draw.log_uniform(150, 4000))], np.ones(n)


def wobble(draw: Draw) -> Paths:
    n = _long(draw)
    return [np.full(n, draw.uniform(38, 90))], np.ones(n)
