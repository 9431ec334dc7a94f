"""Alarms and signals: sirens, bells, horns, telephone tones, beeps.

In:  a Draw.
Out: mono float64 [n] at RATE_HZ, 0.2 to 5 s, of any level; one to three generators per class.
Knows nothing about words or files.

Telephone tones follow ITU-T Q.23 (touch tones) and E.180 (dial and busy tones); bell partials are
the usual ones of a tuned bell (hum, prime, tierce, quint, nominal).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from . import dsp
from . import effects_bells as bells
from .draw import Draw

Generator = Callable[[Draw], np.ndarray]


def _length(draw: Draw, lo: float = 1.8, hi: float = 4.8) -> int:
    return dsp.samples(draw.uniform(lo, hi))


def _speaker(draw: Draw, x: np.ndarray, low: float = 300.0, high: float = 5000.0) -> np.ndarray:
    """A small loudspeaker or horn: an uneven band."""
    low, high = low * draw.uniform(0.7, 1.4), high * draw.uniform(0.7, 1.4)
    return dsp.bandpass(x, low, high, 2.0)


def _outdoors(draw: Draw, x: np.ndarray) -> np.ndarray:
    """Sometimes a single echo from a wall across the street."""
    if draw.chance(0.5):
        return dsp.comb(x, draw.uniform(0.06, 0.25), draw.uniform(0.15, 0.4), taps=2)
    return x


# --- sirens ------------------------------------------------------------------------------------


def _siren_wave(draw: Draw, freq: np.ndarray) -> np.ndarray:
    wave = dsp.square(freq) if draw.chance(0.5) else dsp.saw(freq)
    return _outdoors(draw, dsp.saturate(_speaker(draw, wave, 500, 4000), draw.uniform(1, 3)))


def _police_curve(draw: Draw, n: int, rate_hz: float) -> np.ndarray:
    """[n] frequency rising fast and falling more slowly, rate_hz times a second."""
    up = draw.uniform(0.25, 0.5)
    p = (dsp.cycles(rate_hz, n) + draw.rng.random()) % 1.0
    shape = np.where(
        p < up, 1 - np.exp(-4 * p / up), np.exp(-2.5 * np.maximum(p - up, 0) / (1 - up))
    )
    low = draw.uniform(450, 750)
    return low * draw.uniform(1.9, 2.6) ** shape


def police_wail(draw: Draw) -> np.ndarray:
    return _siren_wave(draw, _police_curve(draw, _length(draw, 3.0, 5.0), draw.uniform(0.2, 0.5)))


def police_yelp(draw: Draw) -> np.ndarray:
    return _siren_wave(draw, _police_curve(draw, _length(draw), draw.uniform(2.4, 4.5)))


def police_switching(draw: Draw) -> np.ndarray:
    wail = _police_curve(draw, _length(draw, 1.5, 2.6), draw.uniform(0.3, 0.6))
    yelp = _police_curve(draw, _length(draw, 1.0, 2.3), draw.uniform(2.8, 5.0))
    parts = [wail, yelp] if draw.chance(0.6) else [yelp, wail]
    return _siren_wave(draw, np.concatenate(parts))


def _two_tone(draw: Draw, n: int) -> np.ndarray:
    """[n] frequency stepping between two pitches a fourth or so apart."""
    low = draw.uniform(360, 480)
    high = low * draw.choice((1.26, 1.333, 1.333, 1.35, 1.5))
    t = (dsp.seconds_axis(n) / draw.uniform(0.38, 0.85) + draw.rng.random()) % 2.0
    return np.where(t < 1, low, high)


def two_tone_electronic(draw: Draw) -> np.ndarray:
    freq = _two_tone(draw, _length(draw, 2.6, 5.0))
    wave = dsp.square(freq) if draw.chance(0.5) else dsp.triangle(freq) + 0.3 * dsp.square(2 * freq)
    return _outdoors(draw, _speaker(draw, wave, 350, 3500))


def two_tone_air_horns(draw: Draw) -> np.ndarray:
    n = _length(draw, 2.6, 5.0)
    freq = _two_tone(draw, n)
    # Compressed air needs a moment to settle: every change is rounded and dips in level.
    change = np.abs(np.diff(freq, prepend=freq[0])) > 1
    dip = dsp.convolve(change.astype(float), dsp.decay(dsp.samples(0.15), 0.03))[:n]
    wave = dsp.saw(freq * (1 - 0.06 * dip)) * (1 - 0.8 * np.minimum(dip, 1))
    brass = dsp.resonate(wave, (900, 1700, 2900), (500, 700, 1200), (1.0, 0.9, 0.5), dry=0.3)
    return _outdoors(draw, brass + 0.03 * dsp.white(draw, n))


def air_raid(draw: Draw) -> np.ndarray:
    """A motor siren: a chopper wheel with two rows of ports runs up and coasts down."""
    n = _length(draw, 4.0, 5.0)
    turn = draw.uniform(0.4, 0.65)
    low, high = draw.uniform(120, 220), draw.uniform(380, 520)
    rise = dsp.curve(n, (0, 0), (turn, 1), (1, draw.uniform(0.1, 0.7)))
    freq = low + (high - low) * (1 - np.exp(-2.5 * rise)) / (1 - np.exp(-2.5))
    wave = dsp.saw(freq) + draw.uniform(0.5, 1.0) * dsp.saw(freq * draw.choice((1.2, 1.25, 1.333)))
    wave *= (freq / high) ** 2
    return dsp.lowpass(dsp.comb(wave, draw.uniform(0.1, 0.3), 0.4, 3), draw.uniform(1200, 3000))


def air_raid_cycles(draw: Draw) -> np.ndarray:
    """The alert signal: the pitch keeps swinging up and down, slowly."""
    n = _length(draw, 4.0, 5.0)
    swing = 0.5 - 0.5 * np.cos(
        2 * np.pi * (dsp.cycles(draw.uniform(0.25, 0.5), n) + draw.rng.random())
    )
    freq = draw.uniform(200, 280) + draw.uniform(160, 260) * swing
    wave = dsp.square(freq, duty=draw.uniform(0.3, 0.5))
    wave = wave * (1 + 0.15 * dsp.wander(draw, n, 3))
    return dsp.comb(
        dsp.bandpass(wave, 150, draw.uniform(1200, 2600)), draw.uniform(0.15, 0.35), 0.45, 3
    )


# --- alarms ------------------------------------------------------------------------------------


def _piezo(draw: Draw, freq: np.ndarray | float, n: int) -> np.ndarray:
    """A piezo disc: bright and thin."""
    return dsp.bandpass(dsp.square(freq, n, duty=draw.uniform(0.3, 0.5)), 1200, 12000, 2.0)


def smoke_three_beeps(draw: Draw) -> np.ndarray:
    """The temporal-three pattern of ISO 8201, at or somewhat above its pace."""
    on = draw.uniform(0.28, 0.5)
    beep = dsp.samples(on)
    wave = dsp.fade(_piezo(draw, draw.uniform(2900, 3500), beep), 0.003, 0.006)
    group = dsp.join([wave, wave, wave], on)
    return dsp.join([group, group], 2.2 * on)[: dsp.samples(5)]


def smoke_fast(draw: Draw) -> np.ndarray:
    n = _length(draw)
    freq = draw.uniform(2700, 3600)
    period = draw.uniform(0.12, 0.3)
    sweep = freq * (1 + draw.uniform(0.0, 0.06) * (dsp.cycles(1 / period, n) % 1.0))
    return _piezo(draw, sweep, n) * dsp.gate(n, period, period * draw.uniform(0.6, 0.9))


def _car_alarm_part(draw: Draw, seconds: float, style: int) -> np.ndarray:
    n = dsp.samples(seconds)
    rate = draw.uniform(1.6, 3.2)
    p = dsp.cycles(rate, n) % 1.0
    if style == 0:  # rising whoops
        freq = 700 * draw.uniform(2.0, 3.2) ** p
    elif style == 1:  # falling zaps
        freq = 2200 * draw.uniform(0.3, 0.5) ** ((2.0 * p) % 1.0)
    elif style == 2:  # a fast warble of two tones
        freq = np.where((4 * p) % 1.0 < 0.5, 1100.0, 1100 * draw.uniform(1.2, 1.5))
    elif style == 3:  # a trill
        freq = 1500 + 500 * dsp.triangle(draw.uniform(9, 15), n)
    else:  # up and down
        freq = 800 + draw.uniform(500, 1000) * (1 - np.abs(2 * p - 1))
    return dsp.fade(dsp.square(np.asarray(freq, dtype=float)), 0.005, 0.01)


def car_alarm_cycle(draw: Draw) -> np.ndarray:
    """The well-known alarm that walks through its list of tunes."""
    order = draw.rng.permutation(5)[: draw.integer(3, 4)]
    parts = [_car_alarm_part(draw, draw.uniform(0.8, 1.2), int(k)) for k in order]
    return _outdoors(draw, _speaker(draw, dsp.join(parts), 700, 6000))


def car_alarm_chirps(draw: Draw) -> np.ndarray:
    """Two arming chirps, then one tune that goes on."""
    n = dsp.samples(draw.uniform(0.06, 0.12))
    chirp = dsp.fade(dsp.square(np.linspace(1500, 2500, n) * draw.uniform(0.8, 1.2)))
    tune = _car_alarm_part(draw, draw.uniform(2.0, 3.6), draw.integer(0, 4))
    gap = np.zeros(dsp.samples(draw.uniform(0.08, 0.2)))
    return _outdoors(
        draw, _speaker(draw, np.concatenate([chirp, gap, chirp, gap, gap, tune]), 700, 6000)
    )


def alarm_clock_beeps(draw: Draw) -> np.ndarray:
    """A quartz clock: groups of four short beeps at half the crystal's sixteenth."""
    on = draw.uniform(0.04, 0.09)
    freq = draw.uniform(1800, 2600)
    wave = dsp.fade(_piezo(draw, freq, dsp.samples(on)), 0.001, 0.003)
    group = dsp.join([wave] * draw.choice((2, 4, 4, 4)), on)
    period = draw.uniform(0.75, 1.0)
    return dsp.join([group] * draw.integer(3, 5), max(0.1, period - len(group) / dsp.RATE_HZ))


def alarm_clock_bells(draw: Draw) -> np.ndarray:
    """Wind-up clock: a hammer between two small bells, over its own rattle."""
    n = _length(draw, 1.8, 4.0)
    rate = draw.uniform(17, 28)
    base = draw.uniform(2300, 3200)
    out = _hammered(draw, n, rate / 2, base, 0.12) + np.roll(
        _hammered(draw, n, rate / 2, base * draw.uniform(1.06, 1.2), 0.12), int(dsp.RATE_HZ / rate)
    )
    rattle = dsp.impulses(n, dsp.regular_times(draw, rate, n / dsp.RATE_HZ, 0.05))
    click = dsp.burst(draw, 0.02, 1500, 7000, 0.003)
    return dsp.fade(
        dsp.peak(out) + draw.uniform(0.1, 0.3) * dsp.peak(dsp.convolve(rattle, click)[:n]),
        0.01,
        0.2,
    )


def alarm_clock_buzzer(draw: Draw) -> np.ndarray:
    """A clock radio: harsh blats, one or two a second."""
    n = _length(draw, 2.0, 4.5)
    freq = draw.uniform(380, 720)
    wave = dsp.square(freq, n, duty=draw.uniform(0.15, 0.5)) * (0.6 + 0.4 * dsp.square(freq / 8, n))
    period = draw.uniform(0.4, 0.9)
    return _speaker(draw, wave, 300, 5000) * dsp.gate(
        n, period, period * draw.uniform(0.4, 0.6), 0.003
    )


# --- telephones --------------------------------------------------------------------------------


def _hammered(draw: Draw, n: int, rate_hz: float, base_hz: float, ring_s: float) -> np.ndarray:
    """[n] an electric or wind-up hammer on a small gong."""
    ratios = np.array((1.0, 1.006, 1.83, 2.41, 2.76, 3.57)) * (1 + 0.02 * draw.noise(6))
    gains = (1.0, 0.6, 0.5, 0.6, 0.45, 0.3)
    times = ring_s * 2.0 / (1 + 0.8 * ratios)
    gong = dsp.modes(dsp.samples(4 * ring_s), ratios * base_hz, times, gains)
    knock = dsp.regular_times(draw, rate_hz, n / dsp.RATE_HZ, 0.02)
    hits = dsp.impulses(n, knock, 1 + 0.15 * draw.noise(len(knock)))
    return dsp.convolve(hits, gong)[:n]


def telephone_bell(draw: Draw) -> np.ndarray:
    """A rotary telephone: two gongs struck in turn, in rings with a fading tail."""
    ring_s = draw.uniform(0.8, 1.8)
    n = dsp.samples(ring_s)
    base = draw.uniform(1050, 1700)
    rate = draw.uniform(18, 25)
    tail = draw.uniform(0.15, 0.35)
    total = n + dsp.samples(0.8)
    on = dsp.curve(total, (0, 1), (n / total, 1), (min(1.0, n / total + 0.001), 0), (1, 0))
    out = np.zeros(total)
    for index, ratio in enumerate((1.0, draw.uniform(1.15, 1.3))):
        gong = _hammered(draw, n, rate, base * ratio, tail)
        dsp.place(out, np.concatenate([gong, gong[-1:]]), index * 0.5 / rate)
    fall = np.where(
        on > 0, 1.0, np.exp(-np.maximum(np.arange(total) - n, 0) / (tail * dsp.RATE_HZ))
    )
    ring_out = dsp.modes(total - n, (base, base * 2.41), (tail, tail / 2), (1.0, 0.4))
    out = dsp.peak(out) * fall
    out[n:] += 0.5 * ring_out
    return dsp.join([out, out], draw.uniform(0.0, 0.4))[: dsp.samples(5)] if ring_s < 1.5 else out


def telephone_warble(draw: Draw) -> np.ndarray:
    """An electronic ringer: two tones in quick alternation, in rings."""
    n = dsp.samples(draw.uniform(0.8, 1.4))
    low = draw.uniform(700, 1300)
    fast = dsp.square(draw.uniform(10, 22), n) > 0
    wave = dsp.square(np.where(fast, low, low * draw.uniform(1.18, 1.4)))
    wave = dsp.fade(_speaker(draw, wave, 500, 6000), 0.01, 0.02)
    return dsp.join([wave, wave], draw.uniform(0.5, 1.2))


def telephone_trill(draw: Draw) -> np.ndarray:
    """An office ringer: a tremolo tone, twice short, then silence (the British cadence)."""
    n = dsp.samples(draw.uniform(0.35, 0.5))
    freq = draw.uniform(900, 2000)
    tone = dsp.sine(freq, n) + 0.4 * dsp.sine(freq * 1.26, n) + 0.25 * dsp.sine(freq * 3, n)
    ring = dsp.fade(tone * (0.55 + 0.45 * dsp.sine(draw.uniform(14, 25), n)), 0.01, 0.06)
    pair = dsp.join([ring, ring], draw.uniform(0.15, 0.25))
    return dsp.join([pair, pair], draw.uniform(0.8, 1.6))[: dsp.samples(5)]


def _line(draw: Draw, x: np.ndarray) -> np.ndarray:
    """A telephone line: its band, a little noise and a little distortion."""
    x = x + draw.uniform(0.002, 0.02) * dsp.white(draw, len(x))
    return dsp.bandpass(dsp.saturate(x, draw.uniform(0.3, 1.2)), 280, 3400, 4.0)


def _tones(draw: Draw, n: int, freqs: Sequence[float]) -> np.ndarray:
    off = 1 + 0.004 * draw.uniform(-1, 1)
    return sum((dsp.sine(f * off, n, draw.rng.random()) for f in freqs), np.zeros(n)) / len(freqs)


def dial_tone(draw: Draw) -> np.ndarray:
    n = _length(draw, 1.5, 4.8)
    pairs = ((350.0, 440.0), (350.0, 440.0), (425.0,), (440.0,), (400.0, 425.0), (350.0, 450.0))
    tone = _tones(draw, n, draw.choice(pairs))
    if draw.chance(0.35):  # the receiver is lifted
        lead = dsp.samples(draw.uniform(0.1, 0.5))
        tone[:lead] = 0
        tone[: dsp.samples(0.05)] += 0.7 * dsp.burst(draw, 0.05, 500, 3000, 0.008)
    return _line(draw, tone)


def busy_tone(draw: Draw) -> np.ndarray:
    n = _length(draw, 2.2, 4.8)
    pairs = ((480.0, 620.0), (480.0, 620.0), (425.0,), (425.0,), (400.0,), (450.0,))
    period = draw.uniform(0.42, 1.05)
    on = dsp.gate(n, period, period / 2, 0.005, draw.rng.random() * period)
    return _line(draw, _tones(draw, n, draw.choice(pairs)) * on)


_ROWS, _COLUMNS = (697.0, 770.0, 852.0, 941.0), (1209.0, 1336.0, 1477.0)


def _dial(draw: Draw, count: int, on_s: float, gap_s: float, human: float) -> np.ndarray:
    parts: list[np.ndarray] = []
    for _ in range(count):
        n = dsp.samples(on_s * float(np.exp(human * draw.noise(1)[0])))
        key = _tones(draw, n, (draw.choice(_ROWS), draw.choice(_COLUMNS)))
        parts += [
            dsp.fade(key, 0.002, 0.003),
            np.zeros(dsp.samples(gap_s * float(np.exp(human * draw.noise(1)[0])))),
        ]
    return _line(draw, np.concatenate(parts)[: dsp.samples(5)])


def touch_tones_machine(draw: Draw) -> np.ndarray:
    return _dial(draw, draw.integer(7, 12), draw.uniform(0.06, 0.12), draw.uniform(0.05, 0.1), 0.0)


def touch_tones_finger(draw: Draw) -> np.ndarray:
    return _dial(draw, draw.integer(5, 9), draw.uniform(0.1, 0.22), draw.uniform(0.12, 0.3), 0.3)


# --- beeps -------------------------------------------------------------------------------------


def _beep(draw: Draw, freq: float, seconds: float, style: int) -> np.ndarray:
    n = dsp.samples(seconds)
    wave = (dsp.sine, dsp.triangle, dsp.square)[style](freq, n)
    return dsp.fade(wave if style < 2 else 0.6 * dsp.lowpass(wave, 4 * freq), 0.004, 0.008)


def single_beep(draw: Draw) -> np.ndarray:
    return _beep(draw, draw.log_uniform(450, 3500), draw.uniform(0.2, 0.7), draw.integer(0, 2))


def repeated_beeps(draw: Draw) -> np.ndarray:
    one = _beep(draw, draw.log_uniform(600, 3000), draw.uniform(0.07, 0.2), draw.integer(0, 2))
    return dsp.join([one] * draw.integer(2, 3), draw.uniform(0.08, 0.3))


def censor_beep(draw: Draw) -> np.ndarray:
    return dsp.fade(
        dsp.sine(draw.uniform(900, 1150), dsp.samples(draw.uniform(0.4, 1.1))), 0.002, 0.002
    )


def reversing(draw: Draw) -> np.ndarray:
    n = _length(draw, 2.6, 5.0)
    period = draw.uniform(0.8, 1.2)
    wave = dsp.square(draw.uniform(900, 1450), n) * dsp.gate(
        n, period, period * draw.uniform(0.45, 0.55), 0.006
    )
    return _outdoors(draw, _speaker(draw, wave, 700, 4000))


def reversing_truck(draw: Draw) -> np.ndarray:
    """The same with the truck's diesel under it."""
    beeps = dsp.peak(reversing(draw))
    n = len(beeps)
    idle = dsp.saw(draw.uniform(22, 38) * (1 + 0.03 * dsp.wander(draw, n, 8))) + 0.3 * dsp.white(
        draw, n
    )
    return beeps + draw.uniform(0.2, 0.45) * dsp.peak(dsp.bandpass(idle, 40, 300, 2.0))


_MORSE = [
    ".-",
    "-...",
    "-.-.",
    "-..",
    ".",
    "..-.",
    "--.",
    "....",
    "..",
    ".---",
    "-.-",
    ".-..",
    "--",
    "-.",
    "---",
    ".--.",
    "--.-",
    ".-.",
    "...",
    "-",
    "..-",
    "...-",
    ".--",
    "-..-",
    "-.--",
    "--..",
]  # A to Z, ITU-R M.1677-1


def _keying(draw: Draw) -> np.ndarray:
    """[n] a random text in Morse code as an on-off envelope."""
    unit = dsp.samples(1.2 / draw.uniform(11, 26))
    levels: list[int] = []
    while len(levels) * unit < dsp.samples(2.8):
        for mark in draw.choice(_MORSE):
            levels += [1, 0] if mark == "." else [1, 1, 1, 0]
        levels += [0, 0]
    edge = dsp.samples(0.005)
    on = np.repeat(np.array(levels, dtype=float), unit)[: dsp.samples(4.9)]
    return np.convolve(on, np.ones(edge) / edge)[: len(on)]


def morse_clean(draw: Draw) -> np.ndarray:
    on = _keying(draw)
    freq = draw.uniform(480, 1000)
    return on * (dsp.sine(freq, len(on)) + draw.uniform(0.0, 0.3) * dsp.sine(3 * freq, len(on)))


def morse_radio(draw: Draw) -> np.ndarray:
    """Over short wave: fading, static, a narrow receiver."""
    on = _keying(draw)
    n = len(on)
    freq = draw.uniform(550, 950)
    fading = np.clip(0.8 + 0.3 * dsp.wander(draw, n, 0.8), 0.2, 1.5)
    static = draw.uniform(0.05, 0.25) * dsp.band_noise(draw, n, 300, 2800)
    return on * fading * dsp.sine(freq * (1 + 0.002 * dsp.wander(draw, n, 1)), None) + static


# --- the sick-room -----------------------------------------------------------------------------


def _monitor_tone(freq: float, seconds: float) -> np.ndarray:
    n = dsp.samples(seconds)
    return dsp.fade(dsp.harmonics(freq, (1.0, 0.3, 0.25, 0.1), n), 0.006, 0.02)


def monitor_pulse(draw: Draw) -> np.ndarray:
    """One soft beep per heartbeat."""
    out = np.zeros(_length(draw, 3.2, 5.0))
    tone = _monitor_tone(draw.uniform(480, 1000), draw.uniform(0.07, 0.16))
    rate = draw.uniform(0.95, 2.0)
    for at in dsp.regular_times(draw, rate, len(out) / dsp.RATE_HZ - 0.2, 0.015):
        dsp.place(out, tone, float(at))
    return out


def monitor_flat_line(draw: Draw) -> np.ndarray:
    """A few beats, then the long tone."""
    freq = draw.uniform(500, 1000)
    beat = _monitor_tone(freq, draw.uniform(0.08, 0.15))
    gap = draw.uniform(0.4, 0.75)
    beats = dsp.join([beat] * draw.integer(2, 3), gap)
    return dsp.join([beats, _monitor_tone(freq, draw.uniform(1.4, 2.4))], gap)[: dsp.samples(5)]


def monitor_alarm(draw: Draw) -> np.ndarray:
    """The high-priority burst of IEC 60601-1-8: three pulses, then two."""
    base = draw.uniform(350, 700)
    tune = draw.choice(
        ((1.0, 1.0, 1.0, 1.0, 1.0), (1.0, 1.26, 1.498, 1.498, 2.0), (2.0, 1.498, 1.26, 1.26, 1.0))
    )
    on, gap = draw.uniform(0.1, 0.16), draw.uniform(0.06, 0.12)
    pulses = [_monitor_tone(base * r, on) for r in tune]
    burst = dsp.join([dsp.join(pulses[:3], gap), dsp.join(pulses[3:], gap)], 3 * gap)
    return dsp.join([burst, burst], draw.uniform(0.5, 0.9))[: dsp.samples(5)]


GENERATORS: dict[str, tuple[Generator, ...]] = {
    "police_siren": (police_wail, police_yelp, police_switching),
    "two_tone_siren": (two_tone_electronic, two_tone_air_horns),
    "air_raid_siren": (air_raid, air_raid_cycles),
    "smoke_alarm": (smoke_three_beeps, smoke_fast),
    "car_alarm": (car_alarm_cycle, car_alarm_chirps),
    "alarm_clock": (alarm_clock_beeps, alarm_clock_bells, alarm_clock_buzzer),
    "telephone_ring": (telephone_bell, telephone_warble, telephone_trill),
    "dial_tone": (dial_tone,),
    "busy_tone": (busy_tone,),
    "touch_tone_dialing": (touch_tones_machine, touch_tones_finger),
    "beep": (single_beep, repeated_beeps, censor_beep),
    "reversing_beeper": (reversing, reversing_truck),
    "morse_code": (morse_clean, morse_radio),
    "hospital_monitor": (monitor_pulse, monitor_flat_line, monitor_alarm),
    "car_horn": (bells.car_horn_pair, bells.car_horn_single, bells.car_horn_klaxon),
    "train_horn": (bells.train_horn_chord, bells.train_horn_two_notes),
    "ship_horn": (bells.ship_horn_low, bells.ship_horn_chord),
    "bicycle_bell": (bells.bicycle_ring, bells.bicycle_ding),
    "doorbell": (bells.doorbell_chime, bells.doorbell_buzzer, bells.doorbell_melody),
    "church_bell": (bells.church_toll, bells.church_peal),
    "school_bell": (bells.school_electric_bell, bells.school_hand_bell),
    "sonar_ping": (bells.sonar_resonant, bells.sonar_echo),
    "train_whistle": (bells.train_whistle_chime, bells.train_whistle_peep),
    "referee_whistle": (bells.whistle_with_pea, bells.whistle_three_chambers),
}
