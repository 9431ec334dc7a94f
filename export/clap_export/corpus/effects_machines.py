"""Machines: motors, tools, household and office devices, and (from effects_engines) vehicles.

In:  a Draw.
Out: mono float64 [n] at RATE_HZ, 0.2 to 5 s, of any level; one to three generators per class.
Knows nothing about words or files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from . import dsp
from . import effects_engines as engines
from .draw import Draw

Generator = Callable[[Draw], np.ndarray]


def _length(draw: Draw, lo: float = 1.8, hi: float = 4.5) -> int:
    return dsp.samples(draw.uniform(lo, hi))


def _unsteady(draw: Draw, n: int, amount: float, rate_hz: float = 6.0) -> np.ndarray:
    return 1 + amount * dsp.wander(draw, n, rate_hz)


def _run(draw: Draw, n: int, start: float = 0.5, stop: float = 0.5) -> np.ndarray:
    """[n] speed 0..1 of a motor that may be switched on and off within the clip."""
    seconds = n / dsp.RATE_HZ
    t = dsp.seconds_axis(n)
    speed = np.ones(n)
    if draw.chance(start):
        speed *= 1 - np.exp(-t / draw.uniform(0.08, 0.3))
    if draw.chance(stop):
        speed *= np.exp(
            -np.maximum(t - seconds * draw.uniform(0.65, 0.85), 0) / draw.uniform(0.15, 0.4)
        )
    return speed


def _whine(draw: Draw, speed_hz: np.ndarray, teeth: Sequence[float]) -> np.ndarray:
    """[n] a saw at the shaft's speed and sines where gears and commutator mesh."""
    out = dsp.saw(speed_hz)
    for ratio in teeth:
        out += draw.uniform(0.3, 1.0) * dsp.sine(speed_hz * ratio)
    return out


def _clack(
    draw: Draw,
    low: float,
    high: float,
    decay_s: float,
    body: Sequence[float] = (),
    ring_s: float = 0.01,
) -> np.ndarray:
    """A short mechanical contact: noise, and the modes of what is hit."""
    out = dsp.burst(draw, 0.12, low, high, decay_s, 0.0004)
    if body:
        gains = [0.8 / (1 + 0.4 * k) for k in range(len(body))]
        freqs = [f * float(np.exp(0.03 * draw.noise(1)[0])) for f in body]
        out += 2 * dsp.modes(len(out), freqs, [ring_s] * len(freqs), gains)
    return dsp.fade(out, 0.0, 0.02)


# --- motors and tools --------------------------------------------------------------------------


def motor_running(draw: Draw) -> np.ndarray:
    n = _length(draw)
    speed = _run(draw, n, 0.7, 0.6)
    shaft = draw.uniform(90, 320) * (0.08 + speed) * _unsteady(draw, n, 0.004)
    out = _whine(draw, shaft, (draw.integer(3, 5), draw.integer(7, 12)))
    brush = 0.3 * dsp.band_noise(draw, n, 1500, 7000) * (1 + 0.5 * dsp.sine(shaft))
    return dsp.bandpass(out + brush, 150, 7000, 1.0) * speed


def motor_servo(draw: Draw) -> np.ndarray:
    """A geared servo: short whirrs up and down."""
    parts: list[np.ndarray] = []
    low, high = draw.uniform(200, 400), draw.uniform(450, 900)
    for _ in range(draw.integer(2, 5)):
        n = dsp.samples(draw.uniform(0.15, 0.7))
        shaft = low + (high - low) * dsp.arc(n, 0.4) * draw.uniform(0.7, 1.0)
        parts.append(dsp.fade(_whine(draw, shaft, (3.0, 6.5)), 0.02, 0.03))
    return dsp.bandpass(dsp.join(parts, draw.uniform(0.05, 0.3)), 300, 6000, 1.5)


def drill_hand(draw: Draw) -> np.ndarray:
    """A cordless drill: the trigger, gear whine, the pitch sagging as the bit bites."""
    n = _length(draw)
    speed = _run(draw, n, 0.9, 0.9)
    bite = np.clip(dsp.wander(draw, n, 1.2), 0, 1) * draw.uniform(0.1, 0.3)
    shaft = draw.uniform(280, 620) * (0.1 + speed * (1 - bite)) * _unsteady(draw, n, 0.006, 20)
    gears = _whine(draw, shaft, (2.0, draw.uniform(4.2, 4.8), 7.0))
    grit = dsp.band_noise(draw, n, 1800, 9000) * (0.2 + 3 * bite) * (1 + 0.6 * dsp.sine(shaft / 8))
    return dsp.bandpass(gears + draw.uniform(0.3, 0.8) * grit, 350, 9000, 1.5) * np.minimum(
        speed * 3, 1
    )


def drill_hammer(draw: Draw) -> np.ndarray:
    """A hammer drill in masonry: forty or so blows a second under the whine."""
    n = _length(draw)
    speed = _run(draw, n, 0.8, 0.8)
    blows = engines.firing(
        draw, draw.uniform(34, 62) * (0.1 + speed), 2, 0.1, 0.25, draw.uniform(4, 9)
    )
    stone = dsp.resonate(
        blows * dsp.white(draw, n), (480, 1300, 3100), (300, 700, 1500), (0.7, 1.0, 0.8)
    )
    gears = dsp.bandpass(_whine(draw, draw.uniform(250, 450) * (0.1 + speed), (3.3,)), 300, 6000)
    return (dsp.rms(stone) + draw.uniform(0.2, 0.5) * dsp.rms(gears)) * np.minimum(speed * 3, 1)


def chainsaw(draw: Draw) -> np.ndarray:
    """A two-stroke that idles in putters and screams when it cuts."""
    n = _length(draw, 2.5, 4.8)
    low, high = draw.uniform(38, 60), draw.uniform(120, 190)
    t = (dsp.cycles(draw.uniform(0.4, 1.1), n) + draw.rng.random()) % 1.0
    throttle = np.clip(6 * t, 0, 1) * np.clip(6 * (draw.uniform(0.6, 0.95) - t), 0, 1)
    load = 1 - 0.12 * np.clip(dsp.wander(draw, n, 2.5), 0, 1.5)
    rate = (low + (high - low) * throttle) * load * _unsteady(draw, n, 0.02, 25)
    pulses = engines.firing(draw, rate, 1, 0.0, 0.3, draw.uniform(4, 8))
    source = pulses - float(np.mean(pulses)) + 0.8 * pulses * dsp.white(draw, n)
    rasp = dsp.resonate(
        source, (420, 1150, 2600, 4500), (250, 600, 1200, 2000), (0.8, 1.0, 0.9, 0.5), dry=0.15
    )
    return dsp.saturate(dsp.rms(rasp) * (0.35 + 0.65 * throttle), draw.uniform(1.0, 2.2))


# --- the household -----------------------------------------------------------------------------


def vacuum(draw: Draw) -> np.ndarray:
    n = _length(draw, 2.2, 4.8)
    speed = _run(draw, n, 0.35, 0.35)
    strokes = 0.5 + 0.5 * dsp.sine(draw.uniform(0.4, 1.0), n, draw.rng.random())
    shaft = draw.uniform(240, 520) * (0.15 + speed) * (1 - draw.uniform(0.0, 0.05) * strokes)
    tone = dsp.sine(shaft) + 0.6 * dsp.sine(2 * shaft) + 0.5 * dsp.sine(draw.integer(5, 8) * shaft)
    air = dsp.band_noise(draw, n, draw.uniform(200, 500), draw.uniform(4000, 9000), 1.0, -1.5)
    return (air * (1 - 0.2 * strokes) + draw.uniform(0.25, 0.7) * tone) * speed


def fan_room(draw: Draw) -> np.ndarray:
    """A table fan: soft air with the blades' hum and a slow unevenness."""
    n = _length(draw, 2.5, 4.8)
    turns = draw.uniform(9, 22)
    blades = draw.integer(3, 5)
    air = dsp.band_noise(draw, n, 60, draw.uniform(700, 2200), 1.0, -3.0)
    air *= 1 + 0.25 * dsp.sine(turns * blades, n) + draw.uniform(0.02, 0.15) * dsp.sine(turns, n)
    hum = (
        dsp.sine(turns * blades, n)
        + 0.4 * dsp.sine(2 * turns * blades, n)
        + 0.3 * dsp.sine(100.0, n)
    )
    return air + draw.uniform(0.1, 0.5) * hum


def fan_computer(draw: Draw) -> np.ndarray:
    """A small, fast fan: a blade tone above a smooth hiss."""
    n = _length(draw, 2.5, 4.8)
    tone_hz = draw.uniform(180, 420) * _unsteady(draw, n, 0.002, 1)
    tone = dsp.sine(tone_hz) + 0.4 * dsp.sine(2 * tone_hz) + 0.2 * dsp.sine(3.5 * tone_hz)
    hiss = dsp.band_noise(draw, n, 200, draw.uniform(2500, 5000), 1.0, -3.0)
    return hiss + draw.uniform(0.08, 0.3) * tone


def washing_tumbling(draw: Draw) -> np.ndarray:
    """Wet laundry lifted and dropped, water sloshing, a motor that hums."""
    n = _length(draw, 3.5, 5.0)
    seconds = n / dsp.RATE_HZ
    rate = draw.uniform(0.8, 1.6)
    slosh = np.clip(dsp.sine(rate, n, draw.rng.random()) + 0.4 * dsp.wander(draw, n, 4), 0, 2)
    water = dsp.band_noise(draw, n, 300, draw.uniform(1800, 4000), 1.0, -2.0) * slosh
    times = dsp.regular_times(draw, rate, seconds, 0.06)
    thud = dsp.burst(draw, 0.35, 40, 250, 0.07, 0.01)
    thuds = dsp.convolve(dsp.impulses(n, times, 1 + 0.3 * draw.noise(len(times))), thud)[:n]
    motor_hz = draw.uniform(95, 180)
    motor = (
        dsp.sine(motor_hz, n) + 0.5 * dsp.sine(3 * motor_hz, n) + 0.25 * dsp.sine(9.1 * motor_hz, n)
    )
    return 0.35 * water + 1.2 * dsp.peak(thuds) + draw.uniform(0.08, 0.2) * motor


def washing_spinning(draw: Draw) -> np.ndarray:
    """The spin cycle: the drum runs up, shaking the cabinet once a turn."""
    n = _length(draw, 3.5, 5.0)
    turns = dsp.curve(
        n, (0, draw.uniform(3, 7)), (draw.uniform(0.5, 0.9), 17), (1, 17)
    ) * draw.uniform(0.8, 1.1)
    shake = engines.firing(draw, turns, 1, 0.0, 0.15, 4.0)
    rumble = dsp.band_noise(draw, n, 40, 600, 1.0, -3.0) * (0.2 + shake)
    motor = dsp.saw(turns * draw.uniform(11, 16)) + 0.5 * dsp.sine(turns * 40)
    return rumble + draw.uniform(0.15, 0.4) * dsp.bandpass(motor, 80, 1500, 1.0)


def sewing(draw: Draw) -> np.ndarray:
    """Stitches: needle bar down and up, over a treadle-controlled motor; runs with stops."""
    n = _length(draw, 2.2, 4.8)
    t = (dsp.cycles(draw.uniform(0.35, 0.8), n) + 0.7 * draw.rng.random()) % 1.0
    pedal = np.clip(8 * t, 0, 1) * np.clip(8 * (draw.uniform(0.75, 1.1) - t), 0, 1)
    rate = draw.uniform(8, 19) * (0.05 + pedal)
    down = np.diff(np.floor(dsp.cycles(rate)), prepend=0.0)
    up = np.diff(np.floor(dsp.cycles(rate) + 0.5), prepend=0.0)
    grain = _clack(draw, 900, 6000, 0.006, (520, 1350, 2700))
    other = _clack(draw, 400, 3000, 0.009, (380, 950))
    clatter = dsp.convolve(down, grain)[:n] + 0.7 * dsp.convolve(up, other)[:n]
    motor = dsp.bandpass(_whine(draw, rate * draw.uniform(11, 17), (5.0,)), 150, 4000, 1.0)
    return dsp.peak(clatter) + draw.uniform(0.06, 0.2) * motor * pedal


def mains_hum(draw: Draw) -> np.ndarray:
    """A transformer: twice the mains frequency and its harmonics, steady."""
    n = _length(draw, 2.0, 4.8)
    base = draw.choice((50.0, 60.0)) * (1 + 0.002 * draw.uniform(-1, 1))
    gains = [draw.uniform(0.1, 0.5), 1.0] + [draw.uniform(0.0, 0.6) / k for k in range(1, 7)]
    return dsp.harmonics(base, gains, n) + 0.003 * dsp.white(draw, n)


def mains_buzz(draw: Draw) -> np.ndarray:
    """A bad ground or a dimmer: the same pitch, but sharp."""
    n = _length(draw, 2.0, 4.8)
    base = draw.choice((50.0, 60.0))
    spikes = dsp.square(2 * base, n, duty=draw.uniform(0.03, 0.2)) + 0.6 * dsp.sine(base, n)
    arcing = 0.15 * dsp.white(draw, n) * dsp.gate(n, 0.5 / base, 0.2 / base, 0.0005)
    return dsp.bandpass(spikes + arcing, 35, draw.uniform(1500, 6000), 1.0)


# --- clocks, desks and offices -----------------------------------------------------------------


def _ticks(
    draw: Draw, rate_hz: float, tick: np.ndarray, tock: np.ndarray, seconds: float
) -> np.ndarray:
    """Tick and tock in turn, not quite evenly spaced (a clock is seldom in beat)."""
    out = np.zeros(dsp.samples(seconds))
    limp = draw.uniform(-0.06, 0.06)
    for k in range(int(seconds * rate_hz)):
        at = (k + 0.1 + (limp if k % 2 else 0.0)) / rate_hz
        dsp.place(out, tock if k % 2 else tick, at, 1 + 0.05 * float(draw.noise(1)[0]))
    return out


def clock_wall(draw: Draw) -> np.ndarray:
    """A mechanical wall or mantel clock; each beat is two or three tiny contacts."""
    pitch = draw.uniform(0.7, 1.5)
    body = [f * pitch for f in (1150.0, 2400.0, 3900.0)]
    tick = _clack(draw, 1500, 9000, 0.003, body, 0.006)
    tock = _clack(draw, 1000, 6000, 0.004, [f * draw.uniform(0.68, 0.85) for f in body], 0.008)
    dsp.place(tick, 0.4 * tick.copy(), draw.uniform(0.008, 0.02))
    dsp.place(tock, 0.4 * tock.copy(), draw.uniform(0.008, 0.02))
    return _ticks(draw, draw.uniform(1.0, 2.4), tick, tock, draw.uniform(3.2, 5.0))


def clock_watch(draw: Draw) -> np.ndarray:
    """An alarm clock or pocket watch at the ear: four or five light beats a second."""
    pitch = draw.uniform(0.8, 1.4)
    tick = _clack(draw, 3000, 13000, 0.0015, (3700 * pitch, 6100 * pitch), 0.003)
    tock = 0.85 * _clack(draw, 2500, 11000, 0.0015, (3200 * pitch, 5300 * pitch), 0.003)
    return _ticks(draw, draw.uniform(3.6, 5.4), tick, tock, draw.uniform(2.0, 4.5))


def clock_pendulum(draw: Draw) -> np.ndarray:
    """A grandfather clock: slow, wooden, in a hall."""
    pitch = draw.uniform(0.8, 1.25)
    tick = _clack(draw, 500, 3500, 0.005, (420 * pitch, 980 * pitch, 1700 * pitch), 0.02)
    tock = _clack(draw, 350, 2500, 0.006, (330 * pitch, 760 * pitch, 1350 * pitch), 0.025)
    out = _ticks(draw, draw.uniform(0.85, 1.25), tick, tock, 4.2)
    return dsp.room(draw, out, draw.uniform(0.4, 0.8), 0.4, 3000)


def _typing_times(draw: Draw, rate_hz: float, seconds: float) -> np.ndarray:
    """Human key strokes: uneven gaps, and now and then a pause for thought."""
    count = int(seconds * rate_hz * 1.5) + 2
    gaps = np.exp(0.35 * draw.noise(count)) / rate_hz
    gaps *= np.where(draw.rng.random(count) < 0.1, 2.6, 1.0)
    times = 0.05 + np.cumsum(gaps) - gaps[0]
    return times[times < seconds - 0.1]


def typewriter(draw: Draw) -> np.ndarray:
    """Type bars on a platen; at the end of the line the bell, and the carriage is thrown back."""
    seconds = draw.uniform(2.2, 4.6)
    out = np.zeros(dsp.samples(seconds))
    returns = draw.chance(0.65)
    typed = seconds * draw.uniform(0.5, 0.7) if returns else seconds
    pitch = draw.uniform(0.8, 1.25)
    bars = []
    for _ in range(4):
        bar = _clack(draw, 700, 9000, 0.007, (640 * pitch, 1500 * pitch, 2900 * pitch), 0.012)
        dsp.place(bar, 0.35 * _clack(draw, 300, 2500, 0.006), draw.uniform(0.03, 0.05))
        bars.append(bar)
    times = _typing_times(draw, draw.uniform(5.0, 9.5), typed)
    out += dsp.scatter(len(out), times, np.exp(0.2 * draw.noise(len(times))), bars, draw)
    if returns:
        bell_hz = draw.uniform(2100, 3200)
        bell = dsp.modes(dsp.samples(1.2), (bell_hz, bell_hz * 2.7), (0.3, 0.12), (1.0, 0.4))
        dsp.place(out, bell, typed, 0.8)
        ratchet = typed + 0.25 + np.arange(0, draw.uniform(0.3, 0.6), 1 / draw.uniform(45, 80))
        tooth = _clack(draw, 1200, 8000, 0.003)
        out += dsp.convolve(dsp.impulses(len(out), ratchet, 0.35), tooth)[: len(out)]
        dsp.place(
            out, _clack(draw, 150, 3000, 0.015, (210, 480), 0.03), float(ratchet[-1]) + 0.03, 1.2
        )
    return out


def _keys(
    draw: Draw, down: np.ndarray, up: np.ndarray, space: np.ndarray, rate_hz: float
) -> np.ndarray:
    seconds = draw.uniform(2.0, 4.6)
    out = np.zeros(dsp.samples(seconds))
    for at in _typing_times(draw, rate_hz, seconds):
        gain = float(np.exp(0.3 * draw.noise(1)[0]))
        if draw.chance(0.14):
            dsp.place(out, space, float(at), gain)
        else:
            dsp.place(out, down, float(at), gain)
        dsp.place(out, up, float(at) + 0.06 + 0.03 * float(draw.rng.random()), 0.4 * gain)
    return out


def keyboard_soft(draw: Draw) -> np.ndarray:
    """A laptop or office keyboard: dull plastic taps."""
    pitch = draw.uniform(0.7, 1.4)
    down = _clack(draw, 600 * pitch, 4000 * pitch, 0.004, (420 * pitch, 1900 * pitch), 0.004)
    up = _clack(draw, 1200 * pitch, 5500 * pitch, 0.0025)
    space = _clack(draw, 250 * pitch, 2200 * pitch, 0.009, (260 * pitch, 700 * pitch), 0.01)
    return _keys(draw, down, up, space, draw.uniform(5.5, 11))


def keyboard_clicky(draw: Draw) -> np.ndarray:
    """Mechanical switches: a sharp click before the bottom is reached."""
    pitch = draw.uniform(0.8, 1.3)
    down = _clack(draw, 2500 * pitch, 11000, 0.0015, (4100 * pitch,), 0.002)
    dsp.place(down, _clack(draw, 500, 3500, 0.004, (900 * pitch,), 0.005), 0.009, 0.8)
    up = _clack(draw, 3000, 10000, 0.0015)
    space = _clack(draw, 300, 3000, 0.008, (330 * pitch, 1100 * pitch), 0.012)
    return _keys(draw, down, up, space, draw.uniform(5, 10))


def printer_dot_matrix(draw: Draw) -> np.ndarray:
    """Pins on paper: a buzzing screech per line, then the paper feed."""
    rate = draw.uniform(420, 1000)
    parts: list[np.ndarray] = []
    for _ in range(draw.integer(3, 6)):
        n = dsp.samples(draw.uniform(0.3, 0.75))
        pins = dsp.square(rate, n, duty=0.2) * (0.3 + 0.7 * (dsp.wander(draw, n, 40) > -0.3))
        pins = dsp.resonate(
            pins + 0.3 * dsp.white(draw, n), (1400, 2900, 4800), (500, 900, 1500), (0.7, 1.0, 0.7)
        )
        m = dsp.samples(0.1)
        feed = 0.25 * dsp.bandpass(dsp.square(draw.uniform(110, 190), m, duty=0.1), 300, 4000)
        parts += [dsp.fade(pins, 0.004, 0.006), dsp.fade(feed, 0.005, 0.01)]
    return dsp.join(parts, draw.uniform(0.01, 0.05))[: dsp.samples(5)]


def printer_ink_jet(draw: Draw) -> np.ndarray:
    """The carriage whirrs to and fro; stepper and rollers move the sheet between."""
    top = draw.uniform(450, 900)
    parts: list[np.ndarray] = []
    for _ in range(draw.integer(3, 5)):
        n = dsp.samples(draw.uniform(0.35, 0.7))
        speed = dsp.curve(n, (0, 0.2), (0.15, 1), (0.85, 1), (1, 0.2))
        sled = dsp.triangle(top * speed) + 0.5 * dsp.sine(2.02 * top * speed)
        sled = (0.4 * sled + dsp.band_noise(draw, n, 900, 6000, 1.0, -2.0)) * speed
        m = dsp.samples(draw.uniform(0.08, 0.2))
        step = dsp.bandpass(dsp.square(draw.uniform(150, 320), m, duty=0.3), 200, 5000, 1.0)
        knock = 0.6 * dsp.burst(draw, 0.06, 150, 2500, 0.01)
        parts += [dsp.fade(sled, 0.03, 0.03), dsp.fade(0.6 * step, 0.005, 0.01), knock]
    return dsp.join(parts, 0.02)[: dsp.samples(5)]


def _shutter(draw: Draw, pitch: float, gap_s: float) -> np.ndarray:
    """Mirror up, curtain, curtain, mirror down."""
    out = np.zeros(dsp.samples(gap_s + 0.25))
    mirror = _clack(draw, 250 * pitch, 4000 * pitch, 0.008, (340 * pitch, 880 * pitch), 0.01)
    curtain = _clack(draw, 1800 * pitch, 12000, 0.003, (2600 * pitch, 5200 * pitch), 0.004)
    dsp.place(out, mirror, 0.005, 0.7)
    dsp.place(out, curtain, 0.03, 1.0)
    dsp.place(out, curtain, 0.03 + gap_s, 0.9)
    dsp.place(out, mirror, 0.045 + gap_s, 0.8)
    return out


def camera_single(draw: Draw) -> np.ndarray:
    out = _shutter(draw, draw.uniform(0.75, 1.4), draw.uniform(0.04, 0.16))
    if draw.chance(0.5):  # the motor winds the film on
        n = dsp.samples(draw.uniform(0.3, 0.8))
        wind = _whine(
            draw, draw.uniform(260, 480) * dsp.curve(n, (0, 0.6), (0.2, 1), (1, 0.9)), (3.0,)
        )
        out = dsp.join([out, dsp.fade(0.12 * dsp.bandpass(wind, 400, 7000), 0.02, 0.03)], 0.0)
    return out


def camera_burst(draw: Draw) -> np.ndarray:
    """A press photographer holds the button down."""
    one = _shutter(draw, draw.uniform(0.8, 1.4), draw.uniform(0.03, 0.06))
    rate = draw.uniform(4.5, 9.0)
    count = draw.integer(3, 12)
    out = np.zeros(dsp.samples(count / rate + 0.3))
    for k in range(count):
        dsp.place(out, one, k / rate)
    return out


# --- modem -------------------------------------------------------------------------------------


def _fsk(draw: Draw, n: int, low: float, high: float, baud: float) -> np.ndarray:
    bits = draw.rng.integers(0, 2, int(n / dsp.RATE_HZ * baud) + 2)
    return dsp.sine(np.where(bits[dsp.cycles(baud, n).astype(np.intp)] > 0, high, low))


def _scrambled(draw: Draw, n: int, carrier: float, baud: float) -> np.ndarray:
    """Scrambled quadrature data: to the ear a coloured hiss with the carrier's pitch."""
    k = dsp.cycles(baud, n).astype(np.intp)
    turns = draw.rng.integers(0, 8, int(k[-1]) + 1) / 8
    return np.sin(2 * np.pi * (dsp.cycles(carrier, n) + turns[k]))


def _answer_tone(draw: Draw, n: int) -> np.ndarray:
    """2100 Hz whose phase turns over every 450 ms (ITU-T V.25)."""
    return dsp.sine(2100.0, n) * dsp.square(1 / 0.9, n)


def modem_handshake(draw: Draw) -> np.ndarray:
    """Answer tone, chirps and tones, then both sides train in noise."""
    pace = draw.uniform(0.6, 1.2)
    lengths = [dsp.samples(pace * s) for s in (0.7, 0.35, 0.35, 0.5, 0.4, 1.4)]
    unscrambled = dsp.sine(1200.0, lengths[2]) + dsp.sine(2400.0, lengths[2]) * (
        1 + 0.5 * dsp.sine(600.0, lengths[2])
    )
    bong = dsp.sine(np.linspace(400, 2600, lengths[3])) * dsp.gate(lengths[3], 0.12, 0.09)
    parts = [
        _answer_tone(draw, lengths[0]),
        _fsk(draw, lengths[1], 980.0, 1180.0, 300.0)
        + 0.6 * _fsk(draw, lengths[1], 1650.0, 1850.0, 300.0),
        unscrambled,
        bong,
        _scrambled(draw, lengths[4], 1800.0, 600.0),
        1.2 * dsp.band_noise(draw, lengths[5], 350, 3300, 4.0),
    ]
    order = [0, *(int(k) + 1 for k in draw.rng.permutation(4)), 5]
    out = dsp.join([dsp.fade(dsp.rms(parts[k]), 0.003, 0.003) for k in order], 0.02)
    out = out + 0.02 * dsp.white(draw, len(out))
    return dsp.bandpass(out, draw.uniform(250, 450), draw.uniform(2800, 3600), 3.0)[
        : dsp.samples(5)
    ]


def modem_low_speed(draw: Draw) -> np.ndarray:
    """V.21 or V.22 and a fax: warbling two-tone data between steady tones."""
    n = [
        dsp.samples(draw.uniform(lo, hi))
        for lo, hi in ((0.4, 0.9), (0.8, 1.6), (0.3, 0.6), (0.6, 1.4))
    ]
    parts = [
        dsp.sine(draw.choice((2100.0, 2225.0, 1300.0)), n[0]),
        _fsk(draw, n[1], 1650.0, 1850.0, draw.uniform(80, 300)),
        dsp.sine(draw.choice((1100.0, 1270.0, 2400.0)), n[2]),
        _scrambled(draw, n[3], draw.choice((1200.0, 2400.0)), 600.0),
    ]
    out = dsp.join([dsp.fade(p, 0.003, 0.003) for p in parts], draw.uniform(0.02, 0.1))
    out = out + 0.02 * dsp.white(draw, len(out))
    return dsp.bandpass(out, 300, 3400, 3.0)[: dsp.samples(5)]


GENERATORS: dict[str, tuple[Generator, ...]] = {
    "car_engine": (engines.car_idle, engines.car_revving, engines.car_driving_off),
    "motorcycle": (engines.motorcycle_twin, engines.motorcycle_sport, engines.motorcycle_moped),
    "truck_engine": (engines.truck_idle, engines.truck_pulling),
    "propeller_plane": (engines.plane_droning, engines.plane_passing),
    "jet_engine": (engines.jet_running_up, engines.jet_flying_over),
    "helicopter": (engines.helicopter_near, engines.helicopter_far),
    "train_on_tracks": (engines.train_clatter, engines.train_steam, engines.train_fast),
    "electric_motor": (motor_running, motor_servo),
    "drill": (drill_hand, drill_hammer),
    "chainsaw": (chainsaw,),
    "vacuum_cleaner": (vacuum,),
    "fan": (fan_room, fan_computer),
    "washing_machine": (washing_tumbling, washing_spinning),
    "clock_ticking": (clock_wall, clock_watch, clock_pendulum),
    "typewriter": (typewriter,),
    "keyboard_typing": (keyboard_soft, keyboard_clicky),
    "printer": (printer_dot_matrix, printer_ink_jet),
    "camera_shutter": (camera_single, camera_burst),
    "mains_hum": (mains_hum, mains_buzz),
    "sewing_machine": (sewing,),
    "modem": (modem_handshake, modem_low_speed),
}
