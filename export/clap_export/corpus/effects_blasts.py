"""Blasts: explosions, shots, fireworks, and the small ones of a whip and a cork.

In:  a Draw.
Out: mono float64 [n] at RATE_HZ, 0.2 to 5 s, at any level.
Knows nothing about captions or files.
"""

from __future__ import annotations

import numpy as np

from clap_export.corpus import dsp
from clap_export.corpus.draw import Draw

Generator = dsp.Generator


def _boom(draw: Draw, seconds: float, edge_hz: float, fall_s: float) -> dsp.Wave:
    """A blast: an instant broadband front, a deep body that falls in pitch, a dark tail."""
    n = dsp.samples(seconds)
    front = dsp.band_noise(draw, n, 60, edge_hz, 0.7) * dsp.decay(n, 0.25 * fall_s, 0.001)
    body = dsp.band_noise(draw, n, 25, 0.12 * edge_hz + 60, 1.0) * dsp.decay(n, fall_s, 0.01)
    sub = dsp.sine(dsp.curve(n, (0, 95), (0.15, 45), (1, 28))) * dsp.decay(n, 0.6 * fall_s, 0.004)
    return dsp.saturate(1.3 * front + body + sub, 0.5)


def _explosion(draw: Draw) -> dsp.Wave:
    """A large blast with rubble that rains down after it."""
    seconds = draw.uniform(2.0, 4.5)
    out = _boom(draw, seconds, draw.log_uniform(500, 3000), draw.uniform(0.35, 0.9))
    count = draw.integer(0, 60)
    if count:
        debris = [dsp.peak(dsp.burst(draw, 0.05, 200, 3000, 0.008)) for _ in range(6)]
        times = 0.4 + draw.rng.exponential(0.5, count)
        out += dsp.scatter(len(out), times, 0.2 * draw.rng.random(count), debris, draw)
    return dsp.fade(out, 0.0005, 0.4)


def _shot(draw: Draw, seconds: float, body_hz: float, crack_s: float) -> dsp.Wave:
    """A muzzle blast: a crack of a few milliseconds, a short thump."""
    n = dsp.samples(seconds)
    crack = dsp.band_noise(draw, n, 300, 14000, 0.7) * dsp.decay(n, crack_s, 0.0003)
    thump = dsp.band_noise(draw, n, 0.5 * body_hz, 2 * body_hz, 1.0) * dsp.decay(n, 5 * crack_s)
    return dsp.saturate(crack + 0.8 * thump, 2.0)


def _gunshot(draw: Draw) -> dsp.Wave:
    """One to three shots, each with the echo of a street or a field."""
    tail_s = draw.log_uniform(0.5, 2.0)
    count, gap_s = draw.integer(1, 3), draw.uniform(0.4, 0.8)
    body_hz, crack_s = draw.log_uniform(120, 400), draw.log_uniform(0.006, 0.02)
    out = dsp.silence((count - 1) * gap_s + 0.35)
    for k in range(count):
        dsp.place(out, dsp.fade(_shot(draw, 0.3, body_hz, crack_s), 0.0002, 0.05), k * gap_s)
    echo = draw.uniform(0.5, 1.5)
    return dsp.room(draw, out, tail_s, echo, draw.log_uniform(1500, 5000))


def _machine_gun(draw: Draw) -> dsp.Wave:
    """Shots at 8 to 17 a second in bursts, with the action's clatter."""
    rate, bursts = draw.uniform(8, 17), draw.integer(1, 3)
    body_hz = draw.log_uniform(120, 350)
    blast = _shot(draw, 0.12, body_hz, draw.log_uniform(0.005, 0.012))
    clatter = dsp.struck(draw, 0.05, 2600, [1, 1.7, 2.4], 0.008, 0.5)
    shot = dsp.fade(dsp.mix(blast, 0.15 * dsp.peak(clatter)), 0.0002, 0.02)
    out = dsp.silence(3.2)
    at = 0.0
    for _ in range(bursts):
        for _ in range(draw.integer(5, 14)):
            if at < 3.0:
                dsp.place(out, shot, at, 0.85 + 0.15 * draw.rng.random())
            at += 1 / rate * (1 + 0.02 * draw.rng.standard_normal())
        at += 0.3
    return dsp.room(draw, out[: dsp.samples(min(at, 3.2))], 0.7, 0.6, 3500)


def _fireworks(draw: Draw) -> dsp.Wave:
    """A rocket whistles up, a boom far above, then the crackle of its stars."""
    out = dsp.silence(draw.uniform(2.8, 4.6))
    n = dsp.samples(draw.uniform(0.5, 1.0))
    if draw.chance(0.7):
        top = draw.log_uniform(1600, 3600)
        path = top * dsp.curve(n, (0, 0.5), (0.7, 1.0), (1, 0.85))
        whistle = (dsp.sine(path) + dsp.moving_band(draw, path, 80)) * dsp.curve(
            n, (0, 0), (0.3, 1), (1, 0.2)
        )
        dsp.place(out, whistle, 0.0, 0.12)
    bang_s = n / dsp.RATE_HZ + 0.05
    boom = _boom(draw, 1.2, draw.log_uniform(400, 1500), draw.uniform(0.12, 0.3))
    dsp.place(out, dsp.fade(boom, 0.001, 0.3), bang_s)
    count = draw.integer(40, 160)
    stars = [dsp.peak(dsp.burst(draw, 0.02, 1500, 12000, 0.002)) for _ in range(6)]
    times = bang_s + 0.15 + draw.uniform(0.4, 1.0) * draw.rng.beta(1.5, 2.5, count) * 1.8
    out += dsp.scatter(len(out), times, 0.35 * draw.rng.random(count), stars, draw)
    return dsp.fade(out, 0.01, 0.2)


def _firecrackers(draw: Draw) -> dsp.Wave:
    """A string of bangers: sharp reports in clusters, in the open."""
    seconds = draw.uniform(1.5, 3.0)
    times = dsp.poisson_times(draw, draw.uniform(8, 22), seconds)
    bangs = [_shot(draw, 0.1, 250 * 2 ** draw.rng.random(), 0.004) for _ in range(4)]
    gains = np.exp(0.5 * draw.noise(len(times)))
    out = dsp.scatter(dsp.samples(seconds), times, gains, [dsp.fade(b) for b in bangs], draw)
    return dsp.room(draw, out, 0.9, 0.5, 4000)


def _whip(draw: Draw) -> dsp.Wave:
    """A swish that rises as the tip speeds up, then a crack as it passes the speed of sound."""
    n = dsp.samples(draw.uniform(0.18, 0.4))
    x = np.linspace(0, 1, n)
    path = 350 * draw.uniform(4, 9) ** (x**2)
    swish = dsp.moving_band(draw, path, 300) * x**3
    crack = dsp.band_noise(draw, 2400, draw.log_uniform(900, 2500), 15000, 0.7)
    crack = dsp.peak(crack * dsp.decay(2400, draw.log_uniform(0.0015, 0.005), 0.0002))
    out = np.concatenate([draw.uniform(0.03, 0.12) * swish, dsp.fade(crack, 0.0001, 0.01)])
    return dsp.room(draw, out, draw.uniform(0.3, 0.9), 0.4, 6000)


def _cork(draw: Draw) -> dsp.Wave:
    """The bottle's neck rings as the cork leaves, its pitch jumping up; sometimes fizz after."""
    n = dsp.samples(0.09)
    pitch = draw.log_uniform(350, 950)
    path = pitch * dsp.curve(n, (0, 0.6), (0.12, 1.0), (1, 1.15))
    pop = dsp.sine(path) * dsp.decay(n, draw.log_uniform(0.008, 0.02), 0.001)
    out = dsp.silence(0.3)
    if draw.chance(0.5):
        squeak_n = dsp.samples(0.12)
        squeak = dsp.saw(
            np.linspace(600, 900, squeak_n) * (1 + 0.05 * dsp.wander(draw, squeak_n, 60))
        )
        dsp.place(out, squeak * dsp.arc(squeak_n), 0.0, 0.03)
    dsp.place(out, dsp.mix(pop, 0.5 * dsp.peak(dsp.burst(draw, 0.03, 800, 9000, 0.003))), 0.14)
    if draw.chance(0.4):
        fizz_n = dsp.samples(draw.uniform(0.5, 1.5))
        fizz = dsp.band_noise(draw, fizz_n, 4000, 15000, 1.0) * dsp.decay(fizz_n, 0.4, 0.1)
        out = np.concatenate([out, np.zeros(fizz_n)])
        dsp.place(out, dsp.fade(fizz, 0.05, 0.2), 0.2, 0.04)
    return dsp.room(draw, out, draw.uniform(0.2, 0.7), 0.25)


GENERATORS: dict[str, tuple[Generator, ...]] = {
    "explosion": (_explosion,),
    "gunshot": (_gunshot,),
    "machine_gun": (_machine_gun,),
    "fireworks": (_fireworks, _firecrackers),
    "whip_crack": (_whip,),
    "cork_pop": (_cork,),
}
