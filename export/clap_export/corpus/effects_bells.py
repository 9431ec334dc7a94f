"""Bells, horns and whistles: signals that something struck or blown gives.

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


# --- horns -------------------------------------------------------------------------------------


def _horn(
    draw: Draw, freqs: Sequence[float], seconds: float, high_hz: float, scoop: float = 0.03
) -> np.ndarray:
    """[n] reeds or diaphragms sounding together, each sliding up as the air comes."""
    n = dsp.samples(seconds)
    t = dsp.seconds_axis(n)
    out = np.zeros(n)
    for freq in freqs:
        settle = 1 - scoop * np.exp(-t / draw.uniform(0.02, 0.06))
        out += dsp.saw(
            freq * settle * (1 + 0.0015 * dsp.wander(draw, n, 6)), phase=draw.rng.random()
        )
    throat = dsp.bandpass(out, min(freqs) * 0.8, high_hz, 1.5)
    return dsp.fade(throat * (1 + 0.03 * dsp.wander(draw, n, 15)), 0.02, 0.04)


def _honks(draw: Draw) -> list[float]:
    """Lengths of the honks, in seconds: one long, or two or three short ones."""
    if draw.chance(0.4):
        return [draw.uniform(0.6, 1.8)]
    return [draw.uniform(0.12, 0.4) for _ in range(draw.integer(2, 3))]


def car_horn_pair(draw: Draw) -> np.ndarray:
    low = draw.uniform(340, 440)
    pair = (low, low * draw.uniform(1.18, 1.27))
    high, gap = draw.uniform(3000, 6000), draw.uniform(0.06, 0.2)
    horn = dsp.join([_horn(draw, pair, s, high, 0.01) for s in _honks(draw)], gap)
    return dsp.resonate(horn, (1500, 2600), (700, 900), (0.8, 0.6), dry=0.7)


def car_horn_single(draw: Draw) -> np.ndarray:
    """A small car's one high, pinched note."""
    freq, high, gap = draw.uniform(400, 560), draw.uniform(3500, 7000), draw.uniform(0.07, 0.2)
    horn = dsp.join([_horn(draw, (freq,), s, high, 0.01) for s in _honks(draw)], gap)
    return dsp.resonate(horn, (2200, 3300), (600, 700), (1.0, 0.6), dry=0.3)


def car_horn_klaxon(draw: Draw) -> np.ndarray:
    """The old motor klaxon: a-oo-ga."""
    n = dsp.samples(draw.uniform(0.9, 1.4))
    top = draw.uniform(420, 620)
    bend = dsp.curve(n, (0, 0.45), (0.12, 0.75), (0.2, 0.6), (0.45, 1.0), (0.7, 0.9), (1, 0.4))
    level = dsp.curve(
        n, (0, 0), (0.05, 0.8), (0.17, 0.7), (0.22, 0.4), (0.35, 1), (0.75, 0.9), (1, 0)
    )
    wave = dsp.saw(top * bend) + 0.5 * dsp.square(top * bend * 0.5)
    return level * dsp.resonate(wave, (900, 1800, 2700), (500, 600, 700), (1.0, 0.8, 0.5), dry=0.2)


# Five-chime locomotive horns and a plain minor chord, as ratios to the lowest bell.
_CHIMES = ((1.0, 1.19, 1.335, 1.587, 2.0), (1.0, 1.26, 1.498, 1.682), (1.0, 1.335, 1.587))


def train_horn_chord(draw: Draw) -> np.ndarray:
    base = draw.uniform(255, 330)
    chord = [base * r for r in draw.choice(_CHIMES)]
    high = draw.uniform(2000, 4500)
    blasts = draw.choice(((2.6,), (1.4, 1.6), (1.2, 0.5, 1.8), (1.3, 1.3, 0.4)))
    pace = draw.uniform(0.75, 1.1)
    out = dsp.join([_horn(draw, chord, s * pace, high, 0.05) for s in blasts], 0.25 * pace)
    out = dsp.peak(out) + 0.02 * dsp.white(draw, len(out)) * (np.abs(out) > 0)
    return dsp.room(draw, out, draw.uniform(0.6, 1.4), 0.25)[: dsp.samples(5)]


def train_horn_two_notes(draw: Draw) -> np.ndarray:
    """The European high-low pair, each note a doubled trumpet."""
    low = draw.uniform(280, 380)
    notes = [low * draw.uniform(1.2, 1.35), low]
    high, s = draw.uniform(2200, 4500), draw.uniform(0.5, 1.0)
    parts = [
        _horn(draw, (f, f * 1.004), s, high, 0.04)
        for f in (notes if draw.chance(0.7) else notes[::-1])
    ]
    return dsp.room(draw, dsp.join(parts, 0.03), draw.uniform(0.6, 1.4), 0.3)


def ship_horn_low(draw: Draw) -> np.ndarray:
    base = draw.uniform(72, 130)
    n = dsp.samples(draw.uniform(2.0, 3.8))
    reed = dsp.saw(
        base
        * (1 - 0.1 * np.exp(-dsp.seconds_axis(n) / 0.12))
        * (1 + 0.002 * dsp.wander(draw, n, 5))
    )
    flutter = 1 + 0.15 * dsp.sine(draw.uniform(14, 28), n)
    horn = dsp.resonate(
        reed * flutter, (base * 2, base * 4, 700), (100, 200, 400), (1.0, 0.7, 0.3), dry=0.3
    )
    horn = dsp.fade(dsp.lowpass(horn, draw.uniform(900, 1800)), 0.15, 0.3)
    return dsp.room(draw, horn, 1.2, draw.uniform(0.3, 0.6), 1500)


def ship_horn_chord(draw: Draw) -> np.ndarray:
    """A liner: two or three low pipes that beat against each other."""
    base = draw.uniform(90, 165)
    pipes = [base, base * draw.uniform(1.005, 1.015), base * draw.choice((1.25, 1.335, 1.5))]
    horn = _horn(draw, pipes, draw.uniform(1.8, 3.6), draw.uniform(500, 1100), 0.08)
    return dsp.room(draw, dsp.fade(horn, 0.12, 0.25), 1.3, draw.uniform(0.3, 0.6), 1200)


# --- bells -------------------------------------------------------------------------------------


def _small_bell(draw: Draw, base: float, ring_s: float, spread: float = 0.02) -> np.ndarray:
    """A cup bell of steel; every mode is a slightly split pair, which makes it shimmer."""
    ratios = np.array((1.0, 2.32, 3.85, 5.2)) * (1 + spread * draw.noise(4))
    freqs = np.concatenate([ratios, ratios * (1 + draw.uniform(0.0008, 0.003))]) * base
    times = ring_s / np.sqrt(freqs / base)
    gains = np.array((1.0, 0.7, 0.4, 0.2) * 2) * np.repeat((1.0, 0.7), 4)
    out = dsp.modes(dsp.samples(min(4.0, 5 * ring_s)), freqs, times, gains)
    dsp.place(out, dsp.burst(draw, 0.03, 2000, 12000, 0.003), 0.0, 0.25)
    return out


def _ringing(
    draw: Draw, bell: np.ndarray, rate_hz: float, seconds: float, jitter: float
) -> np.ndarray:
    """The bell under a hammer, and its tail."""
    n = dsp.samples(seconds) + len(bell) // 2
    times = dsp.regular_times(draw, rate_hz, seconds, jitter)
    return dsp.convolve(dsp.impulses(n, times, np.exp(0.2 * draw.noise(len(times)))), bell)[:n]


def bicycle_ring(draw: Draw) -> np.ndarray:
    """The thumb lever spins two discs round inside the cup: brring, brring."""
    bell = _small_bell(draw, draw.uniform(1700, 2900), draw.uniform(0.15, 0.4))
    one = _ringing(draw, bell, draw.uniform(20, 38), draw.uniform(0.25, 0.5), 0.12)
    out = np.zeros(min(dsp.samples(4.5), len(one) + dsp.samples(1.0)))
    gap = draw.uniform(0.35, 0.7)
    for k in range(draw.integer(1, 3)):
        dsp.place(out, one, k * gap)
    return dsp.fade(out, 0.0005, 0.1)


def bicycle_ding(draw: Draw) -> np.ndarray:
    bell = _small_bell(draw, draw.uniform(1900, 3300), draw.uniform(0.4, 0.9))
    out = np.zeros(len(bell))
    dsp.place(out, bell, 0.0)
    if draw.chance(0.5):
        dsp.place(out, bell, draw.uniform(0.12, 0.3), 0.8)
    return dsp.fade(out, 0.0005, 0.1)


def doorbell_chime(draw: Draw) -> np.ndarray:
    """Ding-dong: a plunger strikes two tuned plates."""
    high = draw.uniform(560, 820)
    notes = (high, high * draw.choice((0.794, 0.794, 0.749, 0.841)))
    gap, ring_s = draw.uniform(0.35, 0.7), draw.uniform(0.45, 0.9)
    out = np.zeros(dsp.samples(gap + 3 * ring_s))
    for k, note in enumerate(notes):
        freqs = (note, note * 1.002, note * 2.76, note * 5.4)
        plate = dsp.modes(
            len(out), freqs, (ring_s, ring_s, ring_s / 3, ring_s / 8), (1.0, 0.5, 0.3, 0.15)
        )
        dsp.place(out, plate, k * gap)
    return dsp.fade(out, 0.001, 0.2)


def doorbell_buzzer(draw: Draw) -> np.ndarray:
    n = dsp.samples(draw.uniform(0.35, 1.3))
    mains = draw.choice((100.0, 120.0)) * draw.uniform(0.97, 1.03)
    wave = dsp.square(mains, n, duty=draw.uniform(0.1, 0.4)) + 0.3 * dsp.white(draw, n) * dsp.gate(
        n, 1 / mains, 0.002, 0.0005
    )
    buzz = dsp.resonate(wave, (600, 1500, 3100), (300, 500, 800), (0.8, 1.0, 0.6), dry=0.15)
    one = dsp.fade(buzz, 0.004, 0.015)
    return dsp.join([one, one], draw.uniform(0.15, 0.4)) if draw.chance(0.4) else one


def doorbell_melody(draw: Draw) -> np.ndarray:
    """The Westminster quarter, or a run of a major chord, on electronic chimes."""
    base = draw.uniform(380, 620)
    tune = draw.choice(
        (
            (1.26, 1.0, 1.122, 0.749),
            (0.749, 1.122, 1.26, 1.0),
            (1.0, 1.26, 1.498, 2.0),
            (1.498, 1.26, 1.0),
        )
    )
    gap = draw.uniform(0.28, 0.55)
    out = np.zeros(dsp.samples(gap * len(tune) + 1.2))
    for k, ratio in enumerate(tune):
        n = dsp.samples(1.4)
        f = base * ratio
        dsp.place(
            out, (dsp.sine(f, n) + 0.25 * dsp.sine(3 * f, n)) * dsp.decay(n, 0.4, 0.004), k * gap
        )
    return dsp.fade(out, 0.0, 0.1)


def _church_bell(draw: Draw, prime: float, seconds: float) -> np.ndarray:
    """One stroke. Partials to the prime: hum 0.5, tierce 1.2, quint 1.5, nominal 2, and above."""
    ratios = np.array((0.5, 1.0, 1.2, 1.5, 2.0, 2.52, 2.66, 3.01, 4.17, 5.43)) * (
        1 + 0.006 * draw.noise(10)
    )
    gains = np.array((0.5, 0.6, 0.7, 0.3, 1.0, 0.4, 0.35, 0.5, 0.35, 0.2)) * np.exp(
        0.2 * draw.noise(10)
    )
    times = np.array((4.5, 2.6, 2.2, 1.3, 1.3, 0.7, 0.6, 0.55, 0.35, 0.22)) * (400 / prime) ** 0.5
    n = dsp.samples(seconds)
    out = dsp.modes(n, ratios * prime, times, gains)
    out *= 1 + 0.12 * dsp.sine(draw.uniform(0.8, 3.0), n)
    dsp.place(out, dsp.burst(draw, 0.06, 800, 6000, 0.008), 0.0, 0.5)
    return out


def church_toll(draw: Draw) -> np.ndarray:
    """One large bell, struck slowly."""
    bell = _church_bell(draw, draw.log_uniform(180, 480), 4.8)
    out = np.zeros(dsp.samples(4.9))
    period = draw.uniform(1.4, 3.2)
    for k in range(int(4.5 / period) + 1):
        dsp.place(out, bell, k * period, draw.uniform(0.85, 1.0))
    return dsp.fade(out, 0.0005, 0.6)


def church_peal(draw: Draw) -> np.ndarray:
    """Several bells swung together, down the scale and out of step."""
    top = draw.uniform(520, 880)
    scale = (1.0, 0.891, 0.794, 0.749, 0.668, 0.595)[: draw.integer(3, 6)]
    out = np.zeros(dsp.samples(4.9))
    gap = draw.uniform(0.22, 0.42)
    bells = [_church_bell(draw, top * ratio, 2.0) for ratio in scale]
    for k in range(int(4.4 / gap)):
        dsp.place(out, bells[k % len(bells)], gap * (k + 0.08 * float(draw.noise(1)[0])))
    return dsp.fade(out, 0.0005, 0.5)


def school_electric_bell(draw: Draw) -> np.ndarray:
    """A big wall gong under an electric hammer: one long, harsh ring."""
    base = draw.uniform(620, 1150)
    ratios = np.array((1.0, 1.004, 2.2, 3.5, 3.52, 5.1, 6.7)) * (1 + 0.01 * draw.noise(7))
    gong = dsp.modes(
        dsp.samples(1.6), ratios * base, 0.45 / np.sqrt(ratios), (0.7, 0.5, 1.0, 0.8, 0.5, 0.5, 0.3)
    )
    dsp.place(gong, dsp.burst(draw, 0.03, 1500, 9000, 0.004), 0.0, 1.5)
    return dsp.fade(
        _ringing(draw, gong, draw.uniform(11, 20), draw.uniform(1.5, 3.6), 0.03), 0.001, 0.3
    )


def school_hand_bell(draw: Draw) -> np.ndarray:
    """Swung by hand in the yard: the clapper strikes both sides, unevenly."""
    bell = _small_bell(draw, draw.uniform(850, 1500), draw.uniform(0.35, 0.8), 0.06)
    return dsp.fade(
        _ringing(draw, bell, draw.uniform(3.4, 6.0), draw.uniform(1.8, 3.3), 0.08), 0.0005, 0.3
    )


# --- pings and whistles ------------------------------------------------------------------------


def _ping(draw: Draw, freq: float, ring_s: float) -> np.ndarray:
    n = dsp.samples(min(4.5, 5 * ring_s))
    body = dsp.sine(freq, n) + 0.15 * dsp.sine(freq * 2.01, n)
    return dsp.fade(body * dsp.decay(n, ring_s, 0.01), 0.005, 0.05)


def sonar_resonant(draw: Draw) -> np.ndarray:
    """The submarine film's ping: one pure tone that rings on in a metal hull."""
    ping = _ping(draw, draw.uniform(900, 1700), draw.uniform(0.35, 0.8))
    return dsp.room(draw, ping, draw.uniform(1.5, 2.5), draw.uniform(0.3, 0.8), 2500)[
        : dsp.samples(5)
    ]


def sonar_echo(draw: Draw) -> np.ndarray:
    """A ping with a slight chirp, and its fainter answer from afar, in rumbling water."""
    n = dsp.samples(draw.uniform(0.12, 0.35))
    freq = draw.uniform(700, 1500)
    ping = dsp.fade(
        dsp.sine(np.linspace(freq, freq * draw.uniform(1.0, 1.15), n)), 0.01, n / dsp.RATE_HZ * 0.6
    )
    out = np.zeros(dsp.samples(draw.uniform(3.0, 4.8)))
    wet = dsp.room(draw, ping, 1.5, 0.6, 2500)
    dsp.place(out, wet, 0.05)
    dsp.place(out, dsp.lowpass(wet, 1600), draw.uniform(0.9, 1.7), draw.uniform(0.2, 0.45))
    return out + draw.uniform(0.01, 0.05) * dsp.band_noise(draw, len(out), 30, 200)


def _steam_pipe(draw: Draw, freqs: Sequence[float], seconds: float, breath: float) -> np.ndarray:
    """Flue pipes blown with steam: nearly pure tones, each in a halo of noise."""
    n = dsp.samples(seconds)
    t = dsp.seconds_axis(n)
    bend = (1 - 0.08 * np.exp(-t / 0.08)) * (1 - 0.06 * np.exp(-(t[-1] - t) / 0.06))
    out = np.zeros(n)
    for f in freqs:
        p = f * bend * (1 + 0.002 * dsp.wander(draw, n, 7))
        out += dsp.saturate(dsp.sine(p, phase=draw.rng.random()), 1.5)
    halo = dsp.band_noise(draw, n, min(freqs) * 0.9, max(freqs) * 4, 2.0, -3.0)
    return dsp.fade(
        (dsp.rms(out) + breath * halo) * (1 + 0.08 * dsp.wander(draw, n, 12)), 0.06, 0.09
    )


def train_whistle_chime(draw: Draw) -> np.ndarray:
    base = draw.uniform(330, 520)
    chord = [
        base * r
        for r in draw.choice(((1.0, 1.26, 1.498), (1.0, 1.189, 1.498, 1.682), (1.0, 1.335, 1.682)))
    ]
    breath, pace = draw.uniform(0.25, 0.6), draw.uniform(0.7, 1.15)
    blasts = draw.choice(((2.2,), (0.6, 1.6), (0.9, 0.9), (0.5, 0.5, 1.2)))
    out = dsp.join([_steam_pipe(draw, chord, s * pace, breath) for s in blasts], 0.15)
    return dsp.room(draw, out, draw.uniform(0.7, 1.5), 0.35, 4000)[: dsp.samples(5)]


def train_whistle_peep(draw: Draw) -> np.ndarray:
    """A small engine's single shrill pipe."""
    freq, breath = draw.uniform(850, 1400), draw.uniform(0.3, 0.7)
    lengths = [draw.uniform(0.2, 1.0) for _ in range(draw.integer(1, 3))]
    out = dsp.join([_steam_pipe(draw, (freq, freq * 1.01), s, breath) for s in lengths], 0.12)
    return dsp.room(draw, out, draw.uniform(0.5, 1.2), 0.3, 5000)[: dsp.samples(5)]


def _blasts(draw: Draw) -> list[float]:
    return [draw.uniform(0.21, 0.9) for _ in range(draw.integer(1, 3))]


def _pea_blast(draw: Draw, freq: float, trill: float, seconds: float) -> np.ndarray:
    n = dsp.samples(seconds)
    pea = dsp.sine(trill * (1 + 0.1 * dsp.wander(draw, n, 6)))
    air = dsp.curve(n, (0, 0.92), (0.08, 1.0), (0.85, 1.0), (1, 0.93))
    tone = dsp.sine(freq * air * (1 + 0.035 * pea)) + 0.2 * dsp.sine(2 * freq * air)
    tone = tone * (0.6 + 0.4 * pea) + 0.12 * dsp.band_noise(draw, n, 2000, 8000)
    return dsp.fade(tone, 0.015, 0.03)


def whistle_with_pea(draw: Draw) -> np.ndarray:
    freq, trill = draw.uniform(2100, 3200), draw.uniform(24, 48)
    return dsp.join(
        [_pea_blast(draw, freq, trill, s) for s in _blasts(draw)], draw.uniform(0.06, 0.2)
    )


def whistle_three_chambers(draw: Draw) -> np.ndarray:
    """Without a pea: close, high tones whose beating is the trill."""
    base = draw.uniform(2900, 3700)
    freqs = (base, base + draw.uniform(60, 160), base + draw.uniform(200, 420))
    parts: list[np.ndarray] = []
    for s in _blasts(draw):
        n = dsp.samples(s)
        air = dsp.curve(n, (0, 0.95), (0.1, 1.0), (0.9, 1.0), (1, 0.95))
        tone = sum((dsp.sine(f * air) for f in freqs), np.zeros(n))
        parts.append(
            dsp.fade(
                dsp.saturate(tone, 0.8) + 0.1 * dsp.band_noise(draw, n, 2500, 10000), 0.01, 0.03
            )
        )
    return dsp.join(parts, draw.uniform(0.06, 0.2))
