"""Weather, water and fire, from their physics.

In:  a Draw.
Out: mono float64 [n] at RATE_HZ, 0.2 to 5 s, at any level.
Knows nothing about captions or files.

A drop that meets water traps a bubble, which rings at about 3 / radius Hz and rises in pitch as it
reaches the surface (Minnaert 1933; van den Doel 2005, "Physically-based models for liquid
sounds"); most of the sounds of water here are crowds of such bubbles.
"""

from __future__ import annotations

import numpy as np

from clap_export.corpus import dsp
from clap_export.corpus.draw import Draw

Generator = dsp.Generator


def _bubble(freq_hz: float, rise: float, ring: float = 1.0) -> dsp.Wave:
    """One ringing bubble; rise is its relative climb per decay time."""
    radius_m = 3.0 / freq_hz
    damping = (0.13 / radius_m + 0.0072 * radius_m**-1.5) / ring
    n = dsp.samples(min(5.0 / damping, 0.25))
    t = dsp.seconds_axis(n)
    phase = freq_hz * t * (1 + 0.5 * rise * damping * t)
    return dsp.fade(np.sin(2 * np.pi * phase) * np.exp(-damping * t), 0.0005, 0.002)


def _bubbles(
    draw: Draw, low_hz: float, high_hz: float, rise: float, count: int = 24, ring: float = 1.0
) -> list[dsp.Wave]:
    """A set of bubbles of random sizes; larger ones are louder."""
    freqs = low_hz * (high_hz / low_hz) ** draw.rng.random(count)
    rises = rise * draw.rng.random(count)
    return [_bubble(f, r, ring) * (low_hz / f) ** 0.5 for f, r in zip(freqs, rises, strict=False)]


def _heavy(draw: Draw, count: int, spread: float) -> dsp.Wave:
    """[count] log-normal gains: many quiet events, few loud ones."""
    return np.exp(spread * draw.noise(count))


def _seconds(draw: Draw) -> float:
    return draw.uniform(1.5, 4.0)


# --- rain, hail --------------------------------------------------------------------------------


def _rain_on_ground(draw: Draw) -> dsp.Wave:
    """A bright hiss of uncountable far drops under many near ticks."""
    seconds = _seconds(draw)
    n = dsp.samples(seconds)
    hiss = dsp.band_noise(draw, n, draw.log_uniform(500, 1800), draw.log_uniform(7000, 13000), 1.0)
    times = dsp.poisson_times(draw, draw.log_uniform(60, 280), seconds)
    ticks = [
        dsp.burst(draw, 0.012, 1500 + 2500 * draw.rng.random(), 11000, 0.0015) for _ in range(10)
    ]
    drops = dsp.scatter(n, times, _heavy(draw, len(times), 0.7), ticks, draw)
    return hiss + draw.uniform(0.5, 1.5) * dsp.tame(drops, 8.0)


def _rain_on_roof(draw: Draw) -> dsp.Wave:
    """Drops drum on a sheet: short low thumps with the sheet's resonances."""
    seconds = _seconds(draw)
    n = dsp.samples(seconds)
    times = dsp.poisson_times(draw, draw.log_uniform(250, 1200), seconds)
    drive = dsp.impulses(n, times, _heavy(draw, len(times), 0.8)) * np.sign(draw.noise(n))
    low = draw.log_uniform(250, 700)
    sheet = dsp.resonate(
        drive,
        [low, 2.3 * low, 5.1 * low, 7000],
        [0.8 * low, low, 2 * low, 6000],
        [1.0, 0.8, 0.6, 0.35],
    )
    hiss = dsp.sloped(draw, n, -1.5)
    return dsp.tame(dsp.rms(sheet), 7.0) + draw.uniform(0.15, 0.4) * hiss


def _rain_on_water(draw: Draw) -> dsp.Wave:
    """Rain on a puddle: hiss, ticks, and small bubbles around 2 to 8 kHz."""
    seconds = _seconds(draw)
    n = dsp.samples(seconds)
    hiss = dsp.band_noise(draw, n, 1000, 12000, 1.0, draw.uniform(-3, 1))
    times = dsp.poisson_times(draw, draw.log_uniform(60, 200), seconds)
    plinks = _bubbles(draw, draw.log_uniform(1200, 2200), 7000, 0.05)
    drops = dsp.scatter(n, times, _heavy(draw, len(times), 0.6), plinks, draw)
    return 0.5 * hiss + draw.uniform(0.5, 1.3) * drops


def _hail(draw: Draw, bodies: list[dsp.Wave], rate_hz: float) -> dsp.Wave:
    seconds = draw.uniform(1.5, 3.5)
    n = dsp.samples(seconds)
    times = dsp.poisson_times(draw, rate_hz, seconds)
    hits = dsp.tame(dsp.scatter(n, times, _heavy(draw, len(times), 0.6), bodies, draw), 9.0)
    return hits + 0.03 * draw.uniform(0.3, 1.5) * dsp.band_noise(draw, n, 1500, 12000, 1.0)


def _hail_on_ground(draw: Draw) -> dsp.Wave:
    """Hard ice on a hard floor: clear separate clacks."""
    pitch = draw.log_uniform(1200, 3500)
    clack_s = draw.log_uniform(0.002, 0.006)
    bodies = []
    for _ in range(8):
        f = pitch * (0.8 + 0.4 * draw.rng.random())
        body = dsp.modes(640, [f, 1.6 * f, 2.7 * f], [clack_s, clack_s, clack_s / 2], [1, 0.7, 0.5])
        bodies.append(dsp.mix(body, dsp.burst(draw, 0.01, 2500, 14000, 0.0008)))
    return _hail(draw, bodies, draw.log_uniform(25, 110))


def _hail_on_metal(draw: Draw) -> dsp.Wave:
    """Ice on a tin roof or a car: each stone rings the sheet."""
    low = draw.log_uniform(350, 900)
    ring_s = draw.log_uniform(0.015, 0.06)
    bodies = []
    for _ in range(6):
        freqs = low * (1 + 7 * np.sort(draw.rng.random(7)))
        body = dsp.modes(
            3200,
            freqs.tolist(),
            (ring_s * (low / freqs) ** 0.3).tolist(),
            (0.3 + draw.rng.random(7)).tolist(),
        )
        bodies.append(dsp.mix(body, 2 * dsp.burst(draw, 0.01, 2000, 12000, 0.001)))
    return _hail(draw, bodies, draw.log_uniform(20, 90))


# --- thunder, wind -----------------------------------------------------------------------------


def _thunder_roll(draw: Draw) -> dsp.Wave:
    """A far stroke: low rumble that swells several times and dies."""
    seconds = draw.uniform(3.0, 5.0)
    n = dsp.samples(seconds)
    rumble = dsp.band_noise(draw, n, 25, draw.log_uniform(80, 220), 1.5, -3)
    swells = np.exp(0.7 * dsp.wander(draw, n, draw.uniform(1.5, 4.0)))
    envelope = dsp.decay(n, draw.uniform(0.9, 2.0), draw.uniform(0.1, 0.7))
    return dsp.fade(rumble * swells * envelope, 0.02, 0.6)


def _thunder_crack(draw: Draw) -> dsp.Wave:
    """A near stroke: a tearing crack of many arrivals, then the rumble of the far channel."""
    seconds = draw.uniform(2.5, 5.0)
    n = dsp.samples(seconds)
    spread_s = draw.log_uniform(0.06, 0.3)
    arrivals = draw.rng.exponential(spread_s, 160)
    crack = dsp.impulses(n, arrivals + 0.01, draw.noise(160))
    crack = dsp.peak(dsp.convolve(crack, dsp.burst(draw, 0.06, 150, 7000, 0.015))[:n])
    tail = dsp.band_noise(draw, n, 25, draw.log_uniform(120, 350), 1.0, -2)
    tail *= dsp.decay(n, draw.uniform(0.6, 1.6), 0.05)
    tail *= np.exp(0.6 * dsp.wander(draw, n, 3.0))
    return dsp.fade(crack * draw.uniform(0.6, 1.4) + 0.5 * tail, 0.001, 0.5)


def _wind_gusts(draw: Draw) -> dsp.Wave:
    """Broad turbulent noise that gets louder and brighter together."""
    n = dsp.samples(draw.uniform(2.5, 5.0))
    edge = draw.log_uniform(250, 700)
    force = dsp.wander(draw, n, draw.uniform(0.5, 1.5))
    dark = dsp.band_noise(draw, n, 60, edge, 1.0)
    bright = dsp.band_noise(draw, n, edge, 3.5 * edge, 1.0)
    out = dark * np.exp(0.4 * force) + draw.uniform(0.3, 0.7) * bright * np.exp(0.9 * force)
    return dsp.fade(out, 0.3, 0.3)


def _wind_howl(draw: Draw) -> dsp.Wave:
    """Wind across edges and gaps: whistling bands that slide with its speed."""
    n = dsp.samples(draw.uniform(2.5, 5.0))
    force = dsp.wander(draw, n, draw.uniform(0.5, 1.4))
    centre = draw.log_uniform(300, 850)
    depth = draw.uniform(0.12, 0.35)
    howl = np.zeros(n)
    for ratio, gain in ((1.0, 1.0), (1.52, 0.5), (2.35, 0.25)):
        path = centre * ratio * np.exp(depth * force + 0.05 * dsp.wander(draw, n, 3.0))
        howl += gain * dsp.moving_band(draw, path, draw.uniform(15, 45))
    out = howl * np.exp(0.7 * force) + 0.5 * dsp.band_noise(draw, n, 80, 900, 1.0)
    return dsp.fade(out, 0.3, 0.3)


# --- large water -------------------------------------------------------------------------------


def _wave(draw: Draw, seconds: float, crest: float) -> dsp.Wave:
    """One wave: a swelling rumble, the break at crest (0..1), foam that hisses away."""
    n = dsp.samples(seconds)
    swell = dsp.band_noise(draw, n, 60, draw.log_uniform(350, 800), 1.0)
    foam = dsp.band_noise(draw, n, 900, 9000, 1.0, draw.uniform(-4, -1))
    body = dsp.curve(n, (0, 0), (0.6 * crest, 0.25), (crest, 1.0), (crest + 0.2, 0.4), (1, 0))
    late = min(crest + 0.07, 0.9)
    hiss = dsp.curve(n, (0, 0), (0.7 * crest, 0.08), (late, 1), (0.5 + late / 2, 0.45), (1, 0))
    return swell * body**1.5 + draw.uniform(0.5, 1.1) * foam * hiss**1.5


def _ocean_breaker(draw: Draw) -> dsp.Wave:
    return _wave(draw, draw.uniform(3.5, 5.0), draw.uniform(0.3, 0.55))


def _ocean_surf(draw: Draw) -> dsp.Wave:
    """Waves that overlap, over the constant wash of the far surf."""
    seconds = draw.uniform(4.0, 5.0)
    out = dsp.silence(seconds)
    out += 0.2 * dsp.sloped(draw, len(out), -4)
    gap = draw.uniform(1.2, 2.2)
    for k in range(3):
        place_s = k * gap * (1 + 0.1 * draw.rng.standard_normal())
        wave = _wave(draw, draw.uniform(1.8, 2.8), draw.uniform(0.25, 0.5))
        dsp.place(out, wave, place_s, 0.6 + 0.4 * draw.rng.random())
    return dsp.fade(out, 0.2, 0.3)


def _waterfall(draw: Draw) -> dsp.Wave:
    """A steady roar: full low end, gentle slope, almost no movement."""
    n = dsp.samples(_seconds(draw))
    roar = dsp.sloped(draw, n, draw.uniform(-4.0, -2.0))
    spray = dsp.band_noise(draw, n, 1500, 11000, 1.0)
    out = dsp.highpass(roar, 70, 1.0) + draw.uniform(0.1, 0.4) * spray
    return out * (1 + 0.06 * dsp.wander(draw, n, 6.0))


def _waterfall_cascade(draw: Draw) -> dsp.Wave:
    """Water on rocks: a roar with bodies of its own that boil slowly."""
    n = dsp.samples(_seconds(draw))
    out = 0.5 * dsp.band_noise(draw, n, 90, 9000, 0.5)
    edge = draw.log_uniform(200, 450)
    for ratio in (1.0, 2.5, 6.0):
        band = dsp.band_noise(draw, n, edge * ratio, edge * ratio * 2.2, 1.0)
        out += 0.5 * ratio**-0.3 * band * np.exp(0.25 * dsp.wander(draw, n, 8.0))
    return out


# --- small water -------------------------------------------------------------------------------


def _stream_bubbles(draw: Draw) -> dsp.Wave:
    """A brook: crowds of bubbles of all sizes over a thin wash."""
    seconds = _seconds(draw)
    n = dsp.samples(seconds)
    low = draw.log_uniform(350, 800)
    times = dsp.poisson_times(draw, draw.log_uniform(70, 190), seconds)
    babble = dsp.scatter(
        n, times, _heavy(draw, len(times), 0.7), _bubbles(draw, low, 6 * low, 0.12, 40, 2.0), draw
    )
    wash = dsp.band_noise(draw, n, 700, 6000, 1.0, -2)
    return dsp.rms(babble) + draw.uniform(0.05, 0.25) * wash


def _stream_babble(draw: Draw) -> dsp.Wave:
    """A faster brook: many narrow bands that flicker independently."""
    n = dsp.samples(_seconds(draw))
    low = draw.log_uniform(350, 650)
    pace = draw.uniform(6, 14)
    out = 0.25 * dsp.band_noise(draw, n, 500, 7000, 1.0, -3)
    for k in range(6):
        path = low * 1.42**k * np.exp(0.2 * dsp.wander(draw, n, pace))
        gate = np.maximum(dsp.wander(draw, n, pace) - 0.2, 0.0)
        out += 0.8 * gate * 0.87**k * dsp.moving_band(draw, path, 70.0)
    return out


def _drip(draw: Draw, freq_hz: float) -> dsp.Wave:
    """The tick of the drop on the surface, then the plink of its bubble."""
    out = dsp.silence(0.25)
    dsp.place(out, dsp.burst(draw, 0.006, 2000, 9000, 0.0012), 0.0, 0.25)
    delay_s = 0.008 + 0.01 * draw.rng.random()
    dsp.place(out, _bubble(freq_hz, 0.15, 3.0), delay_s)
    if draw.chance(0.4):
        dsp.place(out, _bubble(1.5 * freq_hz, 0.2, 2.0), delay_s + 0.03, 0.4)
    return out


def _dripping(draw: Draw) -> dsp.Wave:
    """Slow drops into standing water in a bare room."""
    seconds = draw.uniform(1.5, 4.0)
    pitch = draw.log_uniform(700, 2200)
    out = dsp.silence(seconds)
    for at in dsp.regular_times(draw, draw.log_uniform(0.9, 4.0), seconds, 0.1):
        f = pitch * np.exp(0.12 * draw.rng.standard_normal())
        dsp.place(out, _drip(draw, f), float(at), 0.6 + 0.4 * draw.rng.random())
    return dsp.room(draw, out, draw.log_uniform(0.2, 0.9), draw.uniform(0.05, 0.5))


def _dripping_on_basin(draw: Draw) -> dsp.Wave:
    """A leaking tap above an empty sink: dull taps with a metal body."""
    seconds = draw.uniform(1.5, 4.0)
    body = draw.log_uniform(350, 1100)
    out = dsp.silence(seconds)
    for at in dsp.regular_times(draw, draw.log_uniform(1.0, 5.0), seconds, 0.06):
        tap = dsp.modes(3200, [body, 2.4 * body, 4.3 * body], [0.02, 0.012, 0.006], [1, 0.5, 0.3])
        tap = dsp.mix(tap, dsp.burst(draw, 0.02, 1500, 9000, 0.002))
        dsp.place(out, tap, float(at), 0.7 + 0.3 * draw.rng.random())
        if draw.chance(0.5):
            dsp.place(out, _bubble(2.5 * body, 0.2, 2.0), float(at) + 0.015, 0.4)
    return dsp.room(draw, out, 0.3, draw.uniform(0.05, 0.3))


def _bubbling(draw: Draw) -> dsp.Wave:
    """Air blown into water: separate large bubbles that climb in pitch."""
    seconds = draw.uniform(1.5, 3.5)
    low = draw.log_uniform(160, 420)
    times = dsp.poisson_times(draw, draw.log_uniform(9, 28), seconds)
    grains = _bubbles(draw, low, 3 * low, draw.uniform(0.1, 0.5), 16, 1.2)
    return dsp.scatter(dsp.samples(seconds), times, _heavy(draw, len(times), 0.4), grains, draw)


def _boiling(draw: Draw) -> dsp.Wave:
    """A rolling boil: dense low bubbles over the rumble of the pot."""
    seconds = draw.uniform(1.5, 3.5)
    n = dsp.samples(seconds)
    low = draw.log_uniform(120, 300)
    times = dsp.poisson_times(draw, draw.log_uniform(40, 130), seconds)
    grains = _bubbles(draw, low, 5 * low, 0.25, 24, 0.8)
    boil = dsp.rms(dsp.scatter(n, times, _heavy(draw, len(times), 0.5), grains, draw))
    return boil + draw.uniform(0.1, 0.4) * dsp.band_noise(draw, n, 80, 500, 1.0)


def _splash(draw: Draw) -> dsp.Wave:
    """A body hits water: slap, spray that darkens, bubbles that follow."""
    seconds = draw.uniform(0.8, 1.8)
    n = dsp.samples(seconds)
    spray_s = draw.log_uniform(0.08, 0.3)
    out = dsp.band_noise(draw, n, 800, 9000, 1.0, -2) * dsp.decay(n, spray_s, 0.006)
    out += 0.6 * dsp.band_noise(draw, n, 250, 1600, 1.0) * dsp.decay(n, 1.8 * spray_s, 0.03)
    dsp.place(out, dsp.burst(draw, 0.12, 80, draw.log_uniform(250, 900), 0.03), 0.0, 2.0)
    times = 0.05 + draw.rng.exponential(spray_s * 1.6, draw.integer(15, 60))
    bubbles = _bubbles(draw, draw.log_uniform(300, 600), 3000, 0.3, 20, 1.5)
    out += 1.2 * dsp.scatter(n, times, np.exp(-times / (2 * spray_s)), bubbles, draw)
    return dsp.fade(out, 0.001, 0.1)


def _plunge(draw: Draw) -> dsp.Wave:
    """A stone drops in: a deep 'ploonk' as the cavity closes, then droplets falling back."""
    seconds = draw.uniform(0.7, 1.5)
    n = dsp.samples(seconds)
    out = 0.7 * dsp.band_noise(draw, n, 600, 7000, 1.0) * dsp.decay(n, draw.log_uniform(0.03, 0.1))
    dsp.place(out, _bubble(draw.log_uniform(140, 420), 0.5, 2.5), draw.uniform(0.03, 0.09), 2.5)
    times = draw.uniform(0.15, 0.35) + draw.rng.exponential(0.12, draw.integer(12, 40))
    drops = [dsp.burst(draw, 0.015, 1500, 8000, 0.003) for _ in range(4)]
    out += dsp.scatter(
        n, times, 0.5 * draw.rng.random(len(times)), drops + _bubbles(draw, 800, 4000, 0.2, 8), draw
    )
    return dsp.fade(out, 0.001, 0.1)


def _pouring(draw: Draw) -> dsp.Wave:
    """A glass fills: splashing bubbles through an air column that shortens, so it climbs."""
    seconds = draw.uniform(1.8, 4.0)
    n = dsp.samples(seconds)
    start = draw.log_uniform(280, 600)
    column = start * draw.uniform(2.0, 4.0) ** (np.linspace(0, 1, n) ** 1.6)
    flicker = np.exp(0.5 * dsp.wander(draw, n, 25))
    out = flicker * dsp.moving_band(draw, column, 60.0)
    out += 0.4 * flicker * dsp.moving_band(draw, 2.9 * column, 150.0)
    times = dsp.poisson_times(draw, draw.log_uniform(40, 120), seconds)
    grains = _bubbles(draw, 500, 3500, 0.2, 24, 1.5)
    out += dsp.scatter(n, times, _heavy(draw, len(times), 0.5), grains, draw)
    out += 0.2 * dsp.band_noise(draw, n, 1200, 8000, 1.0)
    return dsp.fade(out, 0.06, 0.15)


def _glugging(draw: Draw) -> dsp.Wave:
    """A bottle empties: air gulps in at a steady rate, its resonance falling as it empties."""
    seconds = draw.uniform(1.5, 3.0)
    n = dsp.samples(seconds)
    start = draw.log_uniform(260, 520)
    out = 0.1 * dsp.band_noise(draw, n, 800, 6000, 1.0)
    for at in dsp.regular_times(draw, draw.uniform(4.0, 8.0), seconds, 0.08):
        f = start * (1 - 0.45 * at / seconds) * np.exp(0.05 * draw.rng.standard_normal())
        gulp = dsp.fade(_bubble(f, 0.6, 1.0), 0.012, 0.02)
        dsp.place(out, gulp, float(at))
        dsp.place(out, _bubble(3 * f, 0.3, 1.0), float(at) + 0.03, 0.3)
    return dsp.fade(out, 0.02, 0.1)


# --- fire, steam -------------------------------------------------------------------------------


def _fire(draw: Draw) -> dsp.Wave:
    """Wood fire: sharp random snaps of very different loudness over a soft roar."""
    seconds = _seconds(draw)
    n = dsp.samples(seconds)
    times = dsp.poisson_times(draw, draw.log_uniform(12, 45), seconds)
    snaps = [
        dsp.burst(
            draw,
            0.02,
            600 + 3000 * draw.rng.random(),
            12000,
            0.0008 + 0.003 * draw.rng.random(),
            0.0002,
        )
        for _ in range(12)
    ]
    out = dsp.tame(dsp.scatter(n, times, 0.5 * _heavy(draw, len(times), 1.0), snaps, draw), 14.0)
    roar = dsp.band_noise(draw, n, 50, draw.log_uniform(200, 500), 1.0)
    roar *= np.exp(0.4 * dsp.wander(draw, n, 7))
    return out + draw.uniform(0.06, 0.25) * roar


def _campfire(draw: Draw) -> dsp.Wave:
    """Embers: fine crackle in clusters, now and then a pop, and a thin hiss of sap."""
    seconds = _seconds(draw)
    n = dsp.samples(seconds)
    centres = dsp.poisson_times(draw, draw.uniform(2, 5), seconds)
    clusters = [c + draw.rng.exponential(0.05, draw.integer(4, 16)) for c in centres]
    times = np.concatenate(clusters)
    fine = [dsp.burst(draw, 0.006, 2500, 14000, 0.0005, 0.0001) for _ in range(6)]
    out = dsp.scatter(n, times, _heavy(draw, len(times), 0.7), fine, draw)
    pops = [dsp.burst(draw, 0.04, 250, draw.log_uniform(1500, 4000), 0.006) for _ in range(3)]
    pop_times = dsp.poisson_times(draw, draw.uniform(0.8, 2.5), seconds)
    out += 2 * dsp.scatter(n, pop_times, 1.0, pops, draw)
    return dsp.tame(out, 16.0) + draw.uniform(0.02, 0.08) * dsp.band_noise(
        draw, n, 1000, 9000, 1.0, -2
    )


def _steam(draw: Draw) -> dsp.Wave:
    """A valve lets go: a steady bright jet that opens fast and dies away."""
    n = dsp.samples(draw.uniform(0.8, 3.0))
    jet = dsp.band_noise(draw, n, draw.log_uniform(2000, 5000), 15500, 1.5)
    envelope = dsp.curve(n, (0, 0), (0.03, 1), (draw.uniform(0.4, 0.8), 0.75), (1, 0))
    return jet * envelope * (1 + 0.1 * dsp.wander(draw, n, 40))


def _steam_puffs(draw: Draw) -> dsp.Wave:
    """An espresso machine or iron: sputtering spurts with a wet edge."""
    seconds = draw.uniform(1.2, 3.0)
    n = dsp.samples(seconds)
    jet = dsp.band_noise(draw, n, draw.log_uniform(1200, 3000), 14000, 1.0, draw.uniform(-1, 2))
    sputter = 1 / (1 + np.exp(-4 * dsp.wander(draw, n, draw.uniform(12, 30))))
    spurt = 0.5 + 0.5 * np.tanh(3 * dsp.wander(draw, n, draw.uniform(1.5, 3)) + 1.5)
    return dsp.fade(jet * (0.3 + 0.7 * sputter) * spurt, 0.03, 0.2)


GENERATORS: dict[str, tuple[Generator, ...]] = {
    "rain": (_rain_on_ground, _rain_on_roof, _rain_on_water),
    "thunder": (_thunder_roll, _thunder_crack),
    "wind": (_wind_gusts, _wind_howl),
    "ocean_waves": (_ocean_breaker, _ocean_surf),
    "stream": (_stream_bubbles, _stream_babble),
    "dripping_water": (_dripping, _dripping_on_basin),
    "bubbling": (_bubbling, _boiling),
    "splash": (_splash, _plunge),
    "waterfall": (_waterfall, _waterfall_cascade),
    "fire_crackling": (_fire, _campfire),
    "steam_hiss": (_steam, _steam_puffs),
    "pouring_liquid": (_pouring, _glugging),
    "hail": (_hail_on_ground, _hail_on_metal),
}
