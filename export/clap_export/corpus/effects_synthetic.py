"""Synthetic and game sounds: test signals, sweeps, arcade effects, studio effects.

In:  a Draw.
Out: mono float64 [n] at RATE_HZ, 0.2 to 5 s, of any level; one to three generators per class.
Knows nothing about words or files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from . import dsp
from .draw import Draw

Generator = Callable[[Draw], np.ndarray]


def _length(draw: Draw, lo: float = 1.0, hi: float = 4.5) -> int:
    return dsp.samples(draw.uniform(lo, hi))


def _wave(draw: Draw, freq: np.ndarray | float, n: int | None = None) -> np.ndarray:
    """One of the wave forms of a games console."""
    style = draw.integer(0, 3)
    if style == 0:
        return dsp.square(freq, n, duty=draw.choice((0.125, 0.25, 0.5)))
    if style == 1:
        return dsp.triangle(freq, n)
    if style == 2:
        return dsp.saw(freq, n)
    return dsp.sine(freq, n)


def _octaves(n: int, *points: tuple[float, float]) -> np.ndarray:
    """[n] frequency through (position, Hz) points, straight in pitch."""
    return np.exp(dsp.curve(n, *((p, float(np.log(f))) for p, f in points)))


def _notes(
    draw: Draw, freqs: Sequence[float], each_s: float, duty: float, decay_s: float = 0.0
) -> np.ndarray:
    """A tune of square notes, all of one length."""
    n = dsp.samples(each_s)
    p = dsp.cycles(np.repeat(np.asarray(freqs, dtype=float), n)) % 1.0
    out = np.where(p < duty, 1.0, -1.0) - (2 * duty - 1)
    if decay_s > 0:
        out *= np.tile(dsp.decay(n, decay_s), len(freqs))
    return dsp.fade(dsp.lowpass(out, 11000, 2.0), 0.001, 0.005)


_MAJOR = (0, 4, 7, 12, 16, 19, 24, 28, 31)


def _pitch(base_hz: float, steps: float) -> float:
    return float(base_hz * 2 ** (steps / 12))


# --- games -------------------------------------------------------------------------------------


def _zap(draw: Draw, seconds: float, top: float, bottom: float, bow: float) -> np.ndarray:
    n = dsp.samples(seconds)
    x = np.linspace(0, 1, n) ** bow
    return dsp.fade(_wave(draw, top * (bottom / top) ** x) * (1 - 0.7 * x), 0.001, 0.02)


def laser_shots(draw: Draw) -> np.ndarray:
    """Pew: the pitch falls through several octaves in a blink; one to five shots."""
    shot = _zap(
        draw,
        draw.uniform(0.1, 0.4),
        draw.log_uniform(2500, 8000),
        draw.log_uniform(90, 500),
        draw.uniform(0.35, 0.9),
    )
    shots = dsp.join([shot] * draw.integer(1, 5), draw.uniform(0.02, 0.25))
    return np.concatenate([shots, np.zeros(max(0, dsp.samples(0.2) - len(shots)))])


def laser_blaster(draw: Draw) -> np.ndarray:
    """The film's blaster, a struck cable under tension: high frequencies arrive first."""
    n = dsp.samples(draw.uniform(0.35, 0.9))
    t = dsp.seconds_axis(n)
    low = draw.uniform(120, 350)
    spread = draw.uniform(0.03, 0.1)
    freq = low + draw.uniform(2500, 6000) / (1 + t / spread) ** 2
    zap = (dsp.sine(freq) + 0.6 * dsp.saw(freq * 0.5)) * dsp.decay(
        n, draw.uniform(0.1, 0.25), 0.002
    )
    dsp.place(zap, dsp.burst(draw, 0.1, 500, 9000, 0.015), 0.0, 0.5)
    shot = dsp.comb(zap, draw.uniform(0.004, 0.02), 0.5, 4)
    return dsp.join([shot] * draw.integer(1, 3), draw.uniform(0.0, 0.1))


def coin_two_notes(draw: Draw) -> np.ndarray:
    """A short note, then a higher one that rings: the arcade's reward."""
    base = draw.uniform(750, 1300)
    steps = draw.choice((5, 5, 4, 7))
    first, duty = draw.uniform(0.05, 0.1), draw.choice((0.25, 0.5))
    n = dsp.samples(draw.uniform(0.35, 0.8))
    ring = dsp.square(_pitch(base, steps), n, duty=duty) * dsp.decay(n, draw.uniform(0.12, 0.3))
    return dsp.fade(
        np.concatenate([dsp.square(base, dsp.samples(first), duty=duty), ring]), 0.001, 0.02
    )


def coin_sparkle(draw: Draw) -> np.ndarray:
    """A quick run up a chord, of bell-like tones."""
    base = draw.uniform(700, 1200)
    out = np.zeros(dsp.samples(0.9))
    gap = draw.uniform(0.03, 0.06)
    for k, step in enumerate((0, 4, 7, 12)[: draw.integer(3, 4)]):
        f = _pitch(base, step)
        dsp.place(out, dsp.modes(dsp.samples(0.6), (f, 3 * f), (0.12, 0.05), (1.0, 0.3)), k * gap)
    return dsp.fade(out, 0.001, 0.1)


def jump_up(draw: Draw) -> np.ndarray:
    n = dsp.samples(draw.uniform(0.2, 0.45))
    low = draw.log_uniform(130, 420)
    x = np.linspace(0, 1, n)
    freq = low * draw.uniform(2.0, 4.0) ** (x ** draw.uniform(0.5, 1.4))
    return dsp.fade(
        dsp.square(freq, duty=draw.choice((0.125, 0.25, 0.5))) * (1 - 0.6 * x), 0.002, 0.03
    )


def jump_boing(draw: Draw) -> np.ndarray:
    """A springy hop: down a little, then up, wobbling."""
    n = dsp.samples(draw.uniform(0.25, 0.6))
    low = draw.uniform(180, 420)
    freq = _octaves(n, (0, low * 1.4), (0.2, low), (1, low * draw.uniform(2.2, 3.5)))
    freq = freq * (1 + 0.06 * dsp.sine(draw.uniform(14, 30), n))
    return dsp.fade(dsp.triangle(freq) * dsp.curve(n, (0, 1), (0.6, 0.8), (1, 0)), 0.002, 0.03)


def power_up_arpeggio(draw: Draw) -> np.ndarray:
    """A chord climbs by fast steps, again and again a little higher."""
    base = draw.uniform(200, 420)
    lift = draw.choice((1, 2, 2, 3))
    freqs = [
        _pitch(base, step + lift * turn)
        for turn in range(draw.integer(3, 4))
        for step in _MAJOR[: draw.integer(4, 6)]
    ]
    return _notes(draw, freqs, draw.uniform(0.03, 0.065), draw.choice((0.25, 0.5)))


def power_up_rise(draw: Draw) -> np.ndarray:
    """One tone rises, trembling faster and faster."""
    n = _length(draw, 0.7, 1.6)
    low = draw.uniform(150, 400)
    freq = _octaves(n, (0, low), (1, low * draw.uniform(4, 8)))
    flutter = dsp.square(dsp.curve(n, (0, 8), (1, 28)) * draw.uniform(0.8, 1.2))
    return dsp.fade(_wave(draw, freq * 2 ** (flutter * draw.uniform(0.1, 0.25))), 0.005, 0.06)


def game_over_tune(draw: Draw) -> np.ndarray:
    """A sad tune that goes down and ends on a long low note."""
    base = draw.uniform(330, 620)
    tune = draw.choice(
        (
            (12, 7, 4, 9, 11, 9, 8, 10, 8),
            (7, 6, 5, 4),
            (12, 11, 10, 9, 8, 7),
            (12, 8, 5, 3, 0),
            (7, 3, 0, -5),
        )
    )
    duty, each = draw.choice((0.25, 0.5)), draw.uniform(0.16, 0.32)
    head = _notes(
        draw, [_pitch(base, s) for s in tune], each if len(tune) < 8 else each * 0.7, duty, each
    )
    n = dsp.samples(draw.uniform(0.7, 1.4))
    last = (
        _pitch(base, min(tune) - 5)
        * (1 + 0.012 * dsp.sine(draw.uniform(4, 7), n))
        * dsp.curve(n, (0, 1), (0.5, 1), (1, 0.9))
    )
    tail = dsp.square(last, duty=duty) * dsp.curve(n, (0, 1), (0.7, 0.6), (1, 0))
    return np.concatenate([head, tail])


def game_over_fall(draw: Draw) -> np.ndarray:
    """The player spirals down: wobbling steps fall away, then a thump."""
    top, each = draw.uniform(500, 1000), draw.uniform(0.08, 0.14)
    count = draw.integer(8, 13)
    freqs = [_pitch(top, -k * 2 + (3 if k % 2 else 0)) for k in range(count)]
    thump = _zap(draw, 0.5, freqs[-1], 40, 0.6)
    return np.concatenate([_notes(draw, freqs, each, 0.5), np.zeros(dsp.samples(0.08)), thump])


def robot_random(draw: Draw) -> np.ndarray:
    """Computer chatter: random pure tones, all equally short."""
    each = draw.uniform(0.05, 0.13)
    low, high = draw.uniform(300, 700), draw.uniform(1800, 3500)
    freqs = low * (high / low) ** draw.rng.random(int(draw.uniform(1.2, 3.6) / each))
    n = dsp.samples(each)
    tone = _wave(draw, np.repeat(freqs, n))
    return tone * np.tile(dsp.gate(n, 2 * each, each * draw.uniform(0.6, 1.0), 0.003), len(freqs))


def robot_talk(draw: Draw) -> np.ndarray:
    """A droid's whistles: sliding, trilling, questioning."""
    parts: list[np.ndarray] = []
    base = draw.uniform(600, 1400)
    for _ in range(draw.integer(5, 12)):
        n = dsp.samples(draw.uniform(0.06, 0.3))
        a, b = base * 2 ** draw.rng.uniform(-1, 1.2), base * 2 ** draw.rng.uniform(-1, 1.2)
        freq = _octaves(n, (0, a), (0.5, (a * b) ** 0.5 * draw.uniform(0.7, 1.4)), (1, b))
        if draw.chance(0.35):
            freq = freq * (1 + 0.15 * dsp.square(draw.uniform(15, 40), n))
        parts.append(dsp.fade(dsp.sine(freq) + 0.3 * dsp.triangle(2 * freq), 0.005, 0.01))
        if draw.chance(0.4):
            parts.append(np.zeros(dsp.samples(draw.uniform(0.02, 0.12))))
    return np.concatenate(parts)[: dsp.samples(5)]


# --- test signals ------------------------------------------------------------------------------


def white_noise(draw: Draw) -> np.ndarray:
    return dsp.fade(
        dsp.white(draw, _length(draw)), draw.uniform(0.002, 0.3), draw.uniform(0.002, 0.3)
    )


def pink_noise(draw: Draw) -> np.ndarray:
    noise = dsp.sloped(draw, _length(draw), -3.0 + draw.uniform(-0.2, 0.2))
    return dsp.fade(noise, draw.uniform(0.002, 0.3), draw.uniform(0.002, 0.3))


def sine_tone(draw: Draw) -> np.ndarray:
    n = _length(draw, 2.0, 4.8)
    return dsp.fade(
        dsp.sine(draw.log_uniform(110, 4000), n), draw.uniform(0.005, 0.2), draw.uniform(0.005, 0.2)
    )


def _sweep(draw: Draw, low: float, high: float, rising: bool) -> np.ndarray:
    n = _length(draw, 1.0, 4.5)
    ends = (low, high) if rising else (high, low)
    straight = draw.chance(0.4)
    freq = np.linspace(*ends, n) if straight else _octaves(n, (0, ends[0]), (1, ends[1]))
    wave = dsp.sine(freq) if draw.chance(0.6) else dsp.lowpass(_wave(draw, freq), 9000)
    return dsp.fade(wave, 0.01, 0.03)


def rising_sweep(draw: Draw) -> np.ndarray:
    return _sweep(draw, draw.log_uniform(50, 350), draw.log_uniform(2000, 11000), True)


def falling_sweep(draw: Draw) -> np.ndarray:
    return _sweep(draw, draw.log_uniform(50, 350), draw.log_uniform(2000, 11000), False)


def siren_sweep(draw: Draw) -> np.ndarray:
    """The sound system's dub siren: a slow wave bends an oscillator, and a long echo answers."""
    n = _length(draw, 2.2, 4.6)
    p = dsp.cycles(draw.uniform(0.8, 5.5), n)
    shapes = (
        np.sin(2 * np.pi * p),
        2 * (p % 1) - 1,
        1 - 2 * (p % 1),
        np.sign(np.sin(2 * np.pi * p)),
    )
    bend = draw.choice(shapes)
    freq = draw.log_uniform(350, 1100) * 2 ** (bend * draw.uniform(0.5, 1.4))
    wave = dsp.lowpass(_wave(draw, freq), draw.uniform(2500, 7000)) * (
        np.arange(n) < n * draw.uniform(0.45, 1.0)
    )
    return dsp.comb(
        dsp.fade(wave, 0.01, 0.02), draw.uniform(0.18, 0.4), draw.uniform(0.35, 0.65), 6
    )


def theremin_sweep(draw: Draw) -> np.ndarray:
    """The flying saucer: one wavering tone swings over and over through two octaves."""
    n = _length(draw, 2.5, 4.8)
    swing = np.sin(2 * np.pi * dsp.cycles(draw.uniform(0.5, 1.6), n)) ** 3
    vibrato = dsp.sine(draw.uniform(6, 11), n)
    freq = draw.uniform(500, 1000) * 2 ** (swing * draw.uniform(0.7, 1.3) + 0.05 * vibrato)
    return dsp.comb(
        dsp.fade(dsp.sine(freq) + 0.2 * dsp.sine(2 * freq), 0.05, 0.2),
        draw.uniform(0.1, 0.2),
        0.4,
        4,
    )


# --- media faults ------------------------------------------------------------------------------


def radio_static(draw: Draw) -> np.ndarray:
    """Between stations: hiss that breathes, crackles, and a whistle that drifts by."""
    n = _length(draw, 2.0, 4.6)
    hiss = dsp.band_noise(draw, n, draw.uniform(150, 500), draw.uniform(3000, 7000), 2.0)
    hiss *= np.clip(0.7 + 0.35 * dsp.wander(draw, n, draw.uniform(1, 6)), 0.1, 2)
    times = dsp.poisson_times(draw, draw.log_uniform(4, 50), n / dsp.RATE_HZ)
    gains = np.exp(0.8 * draw.noise(len(times)))
    crackle = dsp.convolve(dsp.impulses(n, times, gains), dsp.burst(draw, 0.02, 400, 6000, 0.004))[
        :n
    ]
    out = hiss + draw.uniform(0.3, 1.2) * crackle
    if draw.chance(0.6):
        whistle = dsp.sine(np.abs(draw.uniform(400, 2200) + 500 * dsp.wander(draw, n, 0.6)))
        out += draw.uniform(0.1, 0.6) * whistle * np.clip(dsp.wander(draw, n, 0.8), 0, 1)
    return out


def radio_tuning(draw: Draw) -> np.ndarray:
    """Across the dial: static gives way to scraps of unintelligible stations."""
    n = _length(draw, 2.4, 4.8)
    hiss = dsp.band_noise(draw, n, 300, draw.uniform(3000, 5500), 2.0)
    tuned = np.clip(1.5 * dsp.wander(draw, n, draw.uniform(1.5, 3.0)) - 0.4, 0, 1)
    pitch = np.repeat(
        draw.uniform(180, 350) * 2 ** (draw.rng.integers(0, 12, n // 5000 + 1) / 12), 5000
    )[:n]
    station = dsp.resonate(dsp.saw(pitch), (600, 1300, 2400), (200, 300, 400))
    howl = dsp.sine(200 + 2500 * np.abs(dsp.wander(draw, n, 1.5)))
    edge = tuned * (1 - tuned) * 4
    out = (
        hiss * (1 - 0.85 * tuned)
        + 0.8 * dsp.rms(station) * tuned
        + draw.uniform(0.1, 0.6) * howl * edge
    )
    return dsp.bandpass(out, 350, 4500, 2.0)


def vinyl_crackle(draw: Draw) -> np.ndarray:
    """Dust in the groove: many tiny clicks, a few pops, rumble, and the scratch of each turn."""
    n = _length(draw, 2.5, 4.8)
    seconds = n / dsp.RATE_HZ
    dust = dsp.poisson_times(draw, draw.log_uniform(20, 140), seconds)
    pops = dsp.poisson_times(draw, draw.uniform(0.8, 5), seconds)
    small = dsp.burst(draw, 0.006, 1500, 11000, 0.0006, 0.0001)
    large = dsp.burst(draw, 0.03, 150, 5000, 0.0025, 0.0003)
    out = dsp.convolve(dsp.impulses(n, dust, np.exp(0.9 * draw.noise(len(dust)))), dsp.peak(small))[
        :n
    ]
    out += (
        3
        * dsp.convolve(dsp.impulses(n, pops, np.exp(0.4 * draw.noise(len(pops)))), dsp.peak(large))[
            :n
        ]
    )
    if draw.chance(0.4):
        turns = np.arange(draw.rng.random() * 1.8, seconds, 60 / draw.choice((33.33, 45.0, 78.0)))
        out += 3.5 * dsp.convolve(dsp.impulses(n, turns), dsp.peak(large))[:n]
    rumble = dsp.band_noise(draw, n, 15, 90) + 0.5 * dsp.band_noise(draw, n, 500, 9000)
    return out + draw.uniform(0.01, 0.06) * rumble


def glitch_stutter(draw: Draw) -> np.ndarray:
    """A broken buffer: snippets of tone and noise repeat, jump and stop."""
    parts: list[np.ndarray] = []
    total = 0
    while total < dsp.samples(2.0):
        n = dsp.samples(draw.log_uniform(0.008, 0.07))
        style = draw.integer(0, 3)
        freq = draw.log_uniform(80, 6000)
        if style == 0:
            grain = dsp.square(freq, n, duty=draw.uniform(0.05, 0.5))
        elif style == 1:
            grain = dsp.white(draw, n) * 0.6
        elif style == 2:
            grain = dsp.sine(np.linspace(freq, draw.log_uniform(80, 6000), n))
        else:
            hold = draw.integer(8, 60)
            grain = np.repeat(0.8 * draw.noise(n // hold + 1), hold)[:n]
        repeated = np.tile(grain, draw.integer(1, 10))[: dsp.samples(0.5)]
        parts += [
            repeated,
            np.zeros(dsp.samples(draw.uniform(0.0, 0.12)) if draw.chance(0.5) else 1),
        ]
        total += sum(len(p) for p in parts[-2:])
    return np.concatenate(parts)[: dsp.samples(draw.uniform(1.2, 3.0))]


def glitch_crushed(draw: Draw) -> np.ndarray:
    """A few coarse bits and a stumbling sample clock, cut by drop-outs."""
    n = _length(draw, 1.2, 3.2)
    steps = draw.integer(5, 12)
    pitch = draw.log_uniform(90, 500) * 2.0 ** draw.rng.integers(-1, 4, n // 2500 + 1)
    tone = dsp.saw(np.repeat(pitch, 2500)[:n]) + 0.4 * dsp.white(draw, n)
    hold = np.repeat(draw.rng.integers(4, 90, n // 1600 + 1), 1600)[:n]
    index = np.arange(n)
    crushed = np.round(tone[index - index % hold] * steps / 2) / (steps / 2)
    on = np.repeat(draw.rng.random(n // 1100 + 1) < draw.uniform(0.55, 0.85), 1100)[:n]
    return dsp.fade(crushed * on, 0.001, 0.002)


# --- film and club -----------------------------------------------------------------------------


def whoosh(draw: Draw) -> np.ndarray:
    """Something cuts the air: noise whose colour and level rise and fall."""
    n = _length(draw, 0.35, 1.7)
    middle = draw.uniform(0.35, 0.7)
    shape = np.sin(np.pi * np.linspace(0, 1, n) ** (np.log(0.5) / np.log(middle)))
    low = draw.log_uniform(150, 500)
    moved = dsp.swept_filter(
        dsp.white(draw, n), low * draw.uniform(5, 18) ** shape, draw.uniform(0.8, 2.5), band=True
    )
    return dsp.fade(moved * shape ** draw.uniform(1.3, 3.0), 0.005, 0.01)


def whoosh_pass(draw: Draw) -> np.ndarray:
    """A film's pass-by: it comes slowly, goes by with a Doppler drop, and trails off."""
    n = _length(draw, 0.9, 2.4)
    t = np.linspace(-1, 1, n) * draw.uniform(3, 6) + draw.uniform(-0.8, 0.8)
    level = 1 / (1 + t * t)
    freq = draw.log_uniform(350, 1100) * 2 ** (-np.tanh(t) * draw.uniform(0.3, 0.9))
    air = dsp.swept_filter(dsp.white(draw, n), freq, draw.uniform(1.2, 3.5), band=True)
    return dsp.fade((air + 0.4 * dsp.lowpass(dsp.white(draw, n), 250)) * level, 0.02, 0.05)


def sub_drop(draw: Draw) -> np.ndarray:
    """The trailer's boom: a sine falls out of the bottom of hearing."""
    n = _length(draw, 1.0, 3.6)
    top = draw.log_uniform(85, 220)
    x = np.linspace(0, 1, n) ** draw.uniform(0.4, 1.0)
    out = dsp.saturate(dsp.sine(top * (draw.uniform(20, 32) / top) ** x), draw.uniform(1.0, 2.5))
    out *= dsp.curve(n, (0, 1), (draw.uniform(0.3, 0.7), 0.8), (1, 0))
    if draw.chance(0.4):
        dsp.place(out, dsp.burst(draw, 0.3, 60, 1200, 0.03), 0.0, 0.5)
    return dsp.fade(out, 0.003, 0.08)


def wobble_bass(draw: Draw) -> np.ndarray:
    """A low saw behind a filter that a slow wave opens and shuts."""
    n = _length(draw, 1.8, 4.4)
    base = draw.log_uniform(38, 85)
    saws = dsp.saw(base, n) + 0.8 * dsp.saw(base * 1.008, n) + 0.5 * dsp.square(base, n)
    speed = draw.uniform(1.4, 3.0)
    if draw.chance(0.5):  # the producer changes the wobble's speed from beat to beat
        beats = speed * np.array([draw.choice((1.0, 2.0, 3.0, 4.0)) for _ in range(16)])
        rate = beats[np.minimum((dsp.seconds_axis(n) * speed / 2).astype(np.intp), 15)]
    else:
        rate = np.full(n, speed * draw.choice((1.0, 2.0)))
    opening = 0.5 - 0.5 * np.cos(2 * np.pi * dsp.cycles(rate))
    low = draw.uniform(80, 160)
    wet = dsp.swept_filter(saws, low * draw.uniform(10, 25) ** opening, draw.uniform(1.5, 5.0))
    return dsp.fade(
        dsp.saturate(wet, draw.uniform(0.4, 1.5)) * (0.35 + 0.65 * opening), 0.005, 0.03
    )


def riser_noise(draw: Draw) -> np.ndarray:
    """Before the drop: noise that opens and swells to a sudden stop."""
    n = _length(draw, 2.4, 4.8)
    x = np.linspace(0, 1, n)
    low, high = draw.log_uniform(150, 400), draw.uniform(6000, 12000)
    rise = dsp.swept_filter(
        dsp.white(draw, n), low * (high / low) ** x, draw.uniform(1.0, 3.0), band=True
    )
    if draw.chance(0.5):
        rise = rise * (0.6 + 0.4 * dsp.sine(dsp.curve(n, (0, 4), (1, 22))))
    return dsp.fade(rise * (0.05 + x ** draw.uniform(1.2, 2.2)), 0.02, 0.005)


def riser_synth(draw: Draw) -> np.ndarray:
    """Detuned saws climb an octave or two, brighter, louder, pulsing ever faster."""
    n = _length(draw, 2.4, 4.8)
    x = np.linspace(0, 1, n)
    freq = draw.log_uniform(90, 220) * 2 ** (x * draw.uniform(1.0, 2.2))
    saws = dsp.saw(freq) + dsp.saw(freq * 1.01) + 0.7 * dsp.saw(freq * 0.5)
    out = dsp.swept_filter(saws, 300 * draw.uniform(15, 35) ** x, draw.uniform(0.8, 2.0))
    out += draw.uniform(0.1, 0.5) * dsp.highpass(dsp.white(draw, n), 3000) * x**2
    if draw.chance(0.5):
        p = dsp.cycles(2.0 * 2 ** (np.floor(x * 4)))
        out = out * np.exp(-2.0 * (p % 1.0))
    return dsp.fade(out * (0.08 + x**1.4), 0.03, 0.005)


GENERATORS: dict[str, tuple[Generator, ...]] = {
    "laser": (laser_shots, laser_blaster),
    "coin_pickup": (coin_two_notes, coin_sparkle),
    "jump_blip": (jump_up, jump_boing),
    "power_up": (power_up_arpeggio, power_up_rise),
    "game_over": (game_over_tune, game_over_fall),
    "siren_sweep": (siren_sweep, theremin_sweep),
    "white_noise": (white_noise,),
    "pink_noise": (pink_noise,),
    "sine_tone": (sine_tone,),
    "rising_sweep": (rising_sweep,),
    "falling_sweep": (falling_sweep,),
    "radio_static": (radio_static, radio_tuning),
    "vinyl_crackle": (vinyl_crackle,),
    "whoosh": (whoosh, whoosh_pass),
    "robot_bleeps": (robot_random, robot_talk),
    "glitch": (glitch_stutter, glitch_crushed),
    "sub_drop": (sub_drop,),
    "wobble_bass": (wobble_bass,),
    "riser": (riser_noise, riser_synth),
}
