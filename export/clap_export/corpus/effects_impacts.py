"""Impacts and materials: things struck, broken and rubbed; blasts have a module of their own.

In:  a Draw.
Out: mono float64 [n] at RATE_HZ, 0.2 to 5 s, at any level.
Knows nothing about captions or files.

A struck body is a short noise burst (the contact) plus decaying modes (the body): wood is low,
damped and nearly harmonic; metal is inharmonic and rings; glass is high and rings briefly. Rubbed
things are noise or pulses whose rate is the speed of the hand.
"""

from __future__ import annotations

import numpy as np

from clap_export.corpus import dsp
from clap_export.corpus.draw import Draw
from clap_export.corpus.effects_blasts import GENERATORS as BLASTS

Generator = dsp.Generator


def _wood_ratios(draw: Draw) -> dsp.Wave:
    return np.array([1.0, 1.8, 2.7, 3.9, 5.6]) * np.exp(0.07 * draw.noise(5))


def _metal_ratios(draw: Draw, count: int) -> dsp.Wave:
    """Inharmonic and crowded upwards, as bars and plates are."""
    return 1.0 + np.concatenate([[0.0], np.cumsum(0.25 + 1.1 * draw.rng.random(count - 1))])


# --- feet, doors, tools ------------------------------------------------------------------------


def _step(draw: Draw, low: float, bright: float, heel_toe_s: float) -> dsp.Wave:
    """Heel thud, then the softer brighter slap of the sole."""
    out = dsp.silence(heel_toe_s + 0.12)
    heel = dsp.mix(
        dsp.peak(dsp.burst(draw, 0.09, 50, low, 0.018)),
        0.5 * bright * dsp.peak(dsp.burst(draw, 0.04, 500, 5000, 0.005)),
    )
    toe = dsp.mix(
        0.4 * dsp.peak(dsp.burst(draw, 0.06, 120, 2.5 * low, 0.012)),
        0.35 * bright * dsp.peak(dsp.burst(draw, 0.05, 900, 8000, 0.012, 0.004)),
    )
    dsp.place(out, heel, 0.0)
    dsp.place(out, toe, heel_toe_s, 0.8)
    return out


def _footsteps_hard(draw: Draw) -> dsp.Wave:
    """Shoes on a hard floor, in a room."""
    seconds, rate = draw.uniform(1.8, 3.8), draw.log_uniform(1.4, 3.0)
    low, bright = draw.log_uniform(130, 420), draw.uniform(0.4, 1.8)
    heel_toe_s = min(0.13, 0.2 / rate) * draw.uniform(0.6, 1.1)
    feet = [_step(draw, low * k, bright, heel_toe_s) for k in (1.0, 1.08, 0.95, 1.04)]
    out = dsp.silence(seconds)
    for k, at in enumerate(dsp.regular_times(draw, rate, seconds, 0.03)):
        dsp.place(out, feet[k % 4], float(at), 0.75 + 0.25 * draw.rng.random())
    return dsp.room(draw, out, draw.log_uniform(0.25, 0.9), draw.uniform(0.08, 0.35))


def _footsteps_gravel(draw: Draw) -> dsp.Wave:
    """Gravel, leaves or snow: every step is a crowd of small crunches."""
    seconds, rate = draw.uniform(1.8, 3.8), draw.log_uniform(1.3, 2.8)
    out = dsp.silence(seconds)
    centre = draw.log_uniform(1200, 4000)
    grains = [dsp.peak(dsp.burst(draw, 0.012, 0.5 * centre, 2.5 * centre, 0.002)) for _ in range(8)]
    step_s = 0.22 / rate**0.5
    for at in dsp.regular_times(draw, rate, seconds, 0.03):
        count = draw.integer(40, 90)
        times = at + step_s * (0.15 + 0.85 * draw.rng.beta(1.3, 2.2, count))
        out += dsp.scatter(len(out), times, np.exp(0.7 * draw.noise(count)) * 0.4, grains, draw)
        dsp.place(out, dsp.burst(draw, 0.1, 60, 250, 0.025), float(at), 0.15)
    return out


def _knocking(draw: Draw) -> dsp.Wave:
    """Knuckles on a door: two to five hollow raps."""
    low = draw.log_uniform(130, 420)
    ratios, ring_s = _wood_ratios(draw), draw.log_uniform(0.02, 0.05)
    gap_s, count = draw.log_uniform(0.13, 0.4), draw.integer(2, 5)
    raps = [dsp.struck(draw, 0.25, low, ratios, ring_s, draw.uniform(0.2, 0.6)) for _ in range(2)]
    out = dsp.silence(count * gap_s + 0.2)
    for k in range(count):
        at = k * gap_s + 0.01 * abs(draw.rng.standard_normal())
        dsp.place(out, raps[k % 2], at, 0.75 + 0.25 * draw.rng.random())
    return dsp.room(draw, out, draw.uniform(0.2, 0.6), 0.15)


def _door_slam(draw: Draw) -> dsp.Wave:
    """A heavy thud of door and frame, the latch just before, the room after."""
    low = draw.log_uniform(55, 130)
    thud = dsp.struck(
        draw, 0.6, low, [1, 1.6, 2.3, 3.4, 4.9, 7.0], draw.log_uniform(0.06, 0.16), 0.8
    )
    slap = dsp.peak(dsp.burst(draw, 0.25, 90, draw.log_uniform(900, 3500), 0.035))
    out = dsp.silence(0.9)
    if draw.chance(0.6):
        latch = dsp.struck(draw, 0.05, draw.log_uniform(1500, 3000), [1, 1.7, 2.4], 0.006, 0.8)
        dsp.place(out, latch, 0.0, 0.25)
    dsp.place(out, dsp.mix(dsp.peak(thud), draw.uniform(0.5, 1.2) * slap), 0.045)
    for at in draw.uniform(0.12, 0.2) + np.array([0.0, 0.05, 0.09]):  # the frame rattles
        dsp.place(out, dsp.peak(dsp.burst(draw, 0.04, 400, 3000, 0.006)), float(at), 0.12)
    return dsp.room(draw, out, draw.uniform(0.5, 1.6), draw.uniform(0.15, 0.5), 3000)


def _hammering(draw: Draw) -> dsp.Wave:
    """Nail and plank: a hard metallic tick on a wooden thud, the nail's pitch rises as it sinks."""
    low, nail = draw.log_uniform(180, 420), draw.log_uniform(1700, 3600)
    ratios, rate = _wood_ratios(draw), draw.uniform(1.5, 4.0)
    count = draw.integer(3, 8)
    out = dsp.silence(min(count / rate + 0.3, 4.0))
    wood = dsp.peak(dsp.struck(draw, 0.2, low, ratios, 0.03, 0.8))
    steel_gain = draw.uniform(0.4, 0.8)
    for k in range(count):
        steel = dsp.struck(draw, 0.12, nail * 1.02**k, [1, 1.55, 2.43, 3.6], 0.025, 0.6, 0.4)
        blow = dsp.mix(wood, steel_gain * dsp.peak(steel))
        dsp.place(out, blow, k / rate, 0.7 + 0.3 * draw.rng.random())
    return dsp.room(draw, out, draw.uniform(0.2, 0.7), 0.15)


def _creak(draw: Draw) -> dsp.Wave:
    """A hinge or a board: stick-slip pulses, slow then fast, ring in the wood."""
    seconds = draw.uniform(0.7, 2.2)
    n = dsp.samples(seconds)
    rate = draw.log_uniform(25, 110)
    speed = rate * np.exp(
        0.6 * dsp.wander(draw, n, 3) + dsp.curve(n, (0, -0.6), (0.5, 0.5), (1, -0.4))
    )
    slips = np.diff(np.floor(dsp.cycles(speed)), prepend=0.0)
    slips *= 0.6 + 0.4 * draw.rng.random(n)
    low = draw.log_uniform(350, 900)
    freqs = low * np.array([1.0, 1.9, 3.1, 4.6])
    out = dsp.resonate(slips, freqs.tolist(), (0.07 * freqs).tolist(), (1, 0.8, 0.7, 0.4), 0.05)
    return dsp.fade(dsp.peak(out) * dsp.arc(n, 0.5), 0.02, 0.05)


def _creak_squeal(draw: Draw) -> dsp.Wave:
    """A dry hinge that sings: fast slips with a pitch that bends and breaks."""
    n = dsp.samples(draw.uniform(0.6, 1.8))
    pitch = draw.log_uniform(220, 620)
    path = pitch * np.exp(
        0.25 * dsp.wander(draw, n, 2.5) + dsp.curve(n, (0, -0.3), (0.6, 0.3), (1, 0))
    )
    tone = dsp.saw(path * (1 + 0.03 * dsp.wander(draw, n, 70)))
    tone = dsp.resonate(tone, (900, 1900, 3300), (250, 400, 600), (0.7, 1, 0.6))
    grip = np.clip(0.6 + 0.6 * dsp.wander(draw, n, 8), 0, 1)
    return dsp.fade(tone * grip * dsp.arc(n, 0.6), 0.02, 0.05)


def _sawing(draw: Draw) -> dsp.Wave:
    """Strokes to and fro: teeth at hundreds a second, the push louder and higher."""
    rate, teeth = draw.uniform(1.2, 2.6), draw.log_uniform(140, 420)
    n = dsp.samples(draw.uniform(2.0, 3.8))
    swing = dsp.sine(rate / 2 * np.ones(n))
    speed = np.abs(swing)
    bite = np.maximum(dsp.sine(teeth * (0.35 + 0.65 * speed)), 0) ** 2
    rasp = dsp.band_noise(draw, n, draw.log_uniform(700, 1600), 7000, 1.0)
    body = dsp.resonate(
        rasp * (0.35 + bite), (520, 1300, 2900), (200, 500, 900), (0.6, 0.7, 1), 0.2
    )
    push = np.where(swing > 0, 1.0, draw.uniform(0.35, 0.75))
    return dsp.fade(body * speed**1.3 * push, 0.01, 0.05)


# --- metal, glass, coins, balls ----------------------------------------------------------------


def _clang(draw: Draw) -> dsp.Wave:
    """A pipe, pan or plate is struck: bright inharmonic modes that beat and ring."""
    low = draw.log_uniform(220, 900)
    ring_s = draw.log_uniform(0.15, 0.8)
    ratios = _metal_ratios(draw, 10)
    ratios = np.concatenate([ratios, ratios[:4] * 1.006])  # paired modes beat
    count, gap_s = draw.integer(1, 3), draw.uniform(0.25, 0.6)
    out = dsp.silence(min(4.5, (count - 1) * gap_s + 0.3 + 4 * ring_s))
    hit = dsp.struck(draw, 4.0, low, ratios, ring_s, draw.uniform(0.8, 2.0), 0.5)
    for k in range(count):
        dsp.place(out, hit, k * gap_s, 0.7 + 0.3 * draw.rng.random())
    return dsp.fade(out, 0.0005, 0.05)


def _shard(draw: Draw, low_hz: float, ring_s: float) -> dsp.Wave:
    f = low_hz * (1 + 1.5 * draw.rng.random())
    return dsp.struck(draw, 0.15, f, [1, 1.4 + 0.3 * draw.rng.random(), 2.2], ring_s, 0.5, 0.3)


def _glass(draw: Draw, pane: float) -> dsp.Wave:
    """The crash, then shards that fall and tinkle, ever fewer; pane is the share of the crash."""
    seconds = draw.uniform(0.9, 2.2)
    n = dsp.samples(seconds)
    low = draw.log_uniform(1900, 4200)
    shards = [_shard(draw, low, 0.012 + 0.035 * draw.rng.random()) for _ in range(14)]
    out = dsp.silence(seconds)
    crash = dsp.band_noise(draw, n, 1500, 15000, 1.0) * dsp.decay(n, draw.log_uniform(0.03, 0.12))
    out += pane * 0.6 * crash
    dsp.place(out, dsp.peak(dsp.burst(draw, 0.08, 150, 900, 0.012)), 0.0, 0.8 * pane)
    count = draw.integer(40, 130)
    times = draw.rng.exponential(draw.uniform(0.12, 0.4), count)
    gains = np.exp(-times / seconds * 1.5 + 0.6 * draw.noise(count)) * 0.5
    return dsp.fade(out + dsp.scatter(n, times, gains, shards, draw), 0.0005, 0.2)


def _glass_pane(draw: Draw) -> dsp.Wave:
    return _glass(draw, draw.uniform(0.9, 1.8))


def _glass_bottle(draw: Draw) -> dsp.Wave:
    """A bottle: one ringing clink, then it bursts into fewer pieces."""
    low = draw.log_uniform(1100, 2200)
    clink = dsp.struck(draw, 0.3, low, [1, 2.3, 3.6, 5.1], 0.06, 1.0, 0.3)
    return dsp.mix(1.2 * clink, _glass(draw, draw.uniform(0.3, 0.8)))


def _coin(draw: Draw, low: float) -> dsp.Wave:
    freqs = [1.0, 1.008, 1.62, 2.31, 2.33]
    return dsp.struck(draw, 0.35, low, freqs, 0.05 + 0.05 * draw.rng.random(), 0.6, 0.4)


def _coins_handful(draw: Draw) -> dsp.Wave:
    """Coins jingle in a hand or pour on a table."""
    seconds = draw.uniform(0.8, 2.5)
    low = draw.log_uniform(3000, 5200)
    grains = [_coin(draw, low * (0.8 + 0.5 * draw.rng.random())) for _ in range(8)]
    times = dsp.poisson_times(draw, draw.log_uniform(8, 30), seconds)
    gains = np.exp(0.5 * draw.noise(len(times)))
    return dsp.scatter(dsp.samples(seconds + 0.35), times, gains, grains, draw)


def _coin_spin(draw: Draw) -> dsp.Wave:
    """One coin falls, bounces and settles in ever quicker taps."""
    low = draw.log_uniform(2700, 5000)
    grains = [_coin(draw, low) for _ in range(3)]
    times, gap = [0.0], draw.uniform(0.2, 0.4)
    shrink = draw.uniform(0.68, 0.86)
    while gap > 0.012 and times[-1] < 2.2:
        times.append(times[-1] + gap)
        gap *= shrink
    at = np.array(times)
    gains = np.linspace(1, 0.2, len(at))
    return dsp.scatter(dsp.samples(float(at[-1]) + 0.4), at, gains, grains, draw)


def _ball(draw: Draw) -> dsp.Wave:
    """A ball left alone: each bounce a fixed part lower and sooner; rubber or table tennis."""
    light = draw.chance(0.4)
    if light:
        low = draw.log_uniform(900, 1900)
        bounce = dsp.struck(draw, 0.06, low, [1, 2.1, 3.3], 0.006, 0.5)
    else:
        low = draw.log_uniform(70, 190)
        thump = dsp.struck(draw, 0.25, low, [1, 1.9, 3.1], draw.log_uniform(0.02, 0.06), 0.25)
        ring = dsp.struck(draw, 0.15, draw.log_uniform(500, 1000), [1, 1.4], 0.03, 0.0)
        bounce = dsp.mix(dsp.peak(thump), 0.15 * ring)
    gap, keep = draw.uniform(0.35, 0.75), draw.uniform(0.7, 0.88)
    out = dsp.silence(4.0)
    at, gain = 0.0, 1.0
    while gap > 0.03 and at < 3.7:
        dsp.place(out, bounce, at, gain)
        at, gap, gain = at + gap, gap * keep, gain * (0.5 + 0.5 * keep)
    out = out[: dsp.samples(min(at + 0.3, 4.0))]
    return dsp.room(draw, out, draw.uniform(0.2, 0.8), draw.uniform(0.05, 0.3))


# --- cloth, paper, nails -----------------------------------------------------------------------


def _zipper(draw: Draw) -> dsp.Wave:
    """Teeth one after another, faster and higher as the hand speeds up."""
    seconds = draw.uniform(0.35, 1.2)
    n = dsp.samples(seconds)
    top = draw.log_uniform(130, 420)
    speed = top * dsp.curve(n, (0, 0.4), (0.6, 1.0), (1, 0.8))
    clicks = np.diff(np.floor(dsp.cycles(speed)), prepend=0.0) * (0.7 + 0.3 * draw.rng.random(n))
    low = draw.log_uniform(1800, 3200)
    teeth = dsp.resonate(clicks, (low, 2.1 * low, 3.4 * low), (700, 1200, 2500), (1, 0.9, 0.6), 0.1)
    cloth = dsp.band_noise(draw, n, 1200, 9000, 1.0) * speed / top
    out = dsp.peak(teeth) + draw.uniform(0.03, 0.1) * cloth
    return dsp.fade(out * dsp.curve(n, (0, 0.3), (0.7, 1), (1, 0.9)), 0.01, 0.01)


def _paper(draw: Draw) -> dsp.Wave:
    """Folds that snap: sharp crackles in clusters as the hand closes, over a rustle."""
    seconds = draw.uniform(1.0, 3.0)
    n = dsp.samples(seconds)
    low = draw.log_uniform(1200, 3500)
    grains = [
        dsp.peak(
            dsp.burst(
                draw,
                0.03,
                low * (0.6 + draw.rng.random()),
                13000,
                0.001 + 0.006 * draw.rng.random(),
            )
        )
        for _ in range(12)
    ]
    force = np.exp(0.9 * dsp.wander(draw, n, draw.uniform(2.5, 5)))
    times = dsp.poisson_times(draw, draw.log_uniform(90, 220), seconds)
    gains = np.exp(0.8 * draw.noise(len(times))) * force[(times * dsp.RATE_HZ).astype(int)]
    out = dsp.tame(dsp.scatter(n, times, gains, grains, draw), 9.0)
    return dsp.fade(out + 0.08 * force * dsp.band_noise(draw, n, low, 10000, 1.0), 0.05, 0.1)


def _scratching(draw: Draw) -> dsp.Wave:
    """Nails on a rough surface: short strokes of grainy bright noise."""
    rate = draw.uniform(3.0, 8.0)
    n = dsp.samples(draw.uniform(1.2, 2.8))
    stroke = np.abs(dsp.sine(rate / 2 * (1 + 0.1 * dsp.wander(draw, n, 4))))
    low = draw.log_uniform(1500, 4200)
    grit = dsp.band_noise(draw, n, low, 3 * low, 1.0)
    grit *= np.maximum(dsp.wander(draw, n, draw.log_uniform(200, 700)), 0.0)
    return dsp.fade(grit * stroke**1.5 * (0.8 + 0.2 * dsp.wander(draw, n, rate)), 0.01, 0.05)


GENERATORS: dict[str, tuple[Generator, ...]] = {
    "footsteps": (_footsteps_hard, _footsteps_gravel),
    "knocking": (_knocking,),
    "door_slam": (_door_slam,),
    "glass_breaking": (_glass_pane, _glass_bottle),
    "metal_clang": (_clang,),
    "hammering": (_hammering,),
    "wood_creak": (_creak, _creak_squeal),
    "coins": (_coins_handful, _coin_spin),
    "ball_bounce": (_ball,),
    "sawing": (_sawing,),
    "zipper": (_zipper,),
    "paper_crumple": (_paper,),
    "scratching": (_scratching,),
    **BLASTS,
}
