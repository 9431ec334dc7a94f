"""People who are not speaking: hands, hearts, breath and wordless voices.

In:  a Draw.
Out: mono float64 [n] at RATE_HZ, 0.2 to 5 s, at any level.
Knows nothing about captions or files.
"""

from __future__ import annotations

import numpy as np

from clap_export.corpus import dsp
from clap_export.corpus.draw import Draw
from clap_export.corpus.throat import repeated, voiced

Generator = dsp.Generator


def _claps(draw: Draw, count: int) -> list[dsp.Wave]:
    """Palm shapes: cupped hands are low and soft, flat ones high and sharp."""
    out = []
    for _ in range(count):
        centre = 900 * 2.6 ** draw.rng.random()
        clap = dsp.burst(draw, 0.05, 0.6 * centre, 2.2 * centre, 0.004 + 0.006 * draw.rng.random())
        out.append(dsp.peak(clap))
    return out


def _applause_crowd(draw: Draw) -> dsp.Wave:
    """Hundreds of hands at no common beat."""
    seconds = draw.uniform(1.8, 3.5)
    n = dsp.samples(seconds)
    times = dsp.poisson_times(draw, draw.log_uniform(150, 900), seconds)
    near = np.exp(0.6 * draw.noise(len(times)))
    out = dsp.scatter(n, times, near, _claps(draw, 6), draw)
    out = dsp.room(draw, out, draw.uniform(0.3, 0.8), 0.3)[:n]
    swell = dsp.curve(n, (0, draw.uniform(0.2, 1)), (0.3, 1), (0.7, 1), (1, draw.uniform(0.2, 1)))
    return dsp.fade(out * swell, 0.05, 0.1)


def _applause_few(draw: Draw) -> dsp.Wave:
    """A small audience: each pair of hands keeps its own rate of three to five a second."""
    seconds = draw.uniform(1.8, 3.5)
    out = dsp.silence(seconds)
    shapes = _claps(draw, 8)
    rate = draw.uniform(3.0, 5.0)
    for person in range(draw.integer(3, 14)):
        own = rate * (0.8 + 0.4 * draw.rng.random())
        start = 0.4 * draw.rng.random()
        gain = 0.3 + 0.7 * draw.rng.random()
        for at in start + dsp.regular_times(draw, own, seconds - start, 0.06):
            dsp.place(out, shapes[person % 8], float(at), gain * (0.7 + 0.3 * draw.rng.random()))
    return dsp.room(draw, out, draw.uniform(0.3, 0.9), 0.25)


def _heartbeat(draw: Draw) -> dsp.Wave:
    """Lub-dub: two dull thuds below 120 Hz, the second shorter and higher."""
    seconds = draw.uniform(2.0, 4.0)
    rate = draw.uniform(0.9, 2.2)
    low = draw.log_uniform(36, 65)
    n = dsp.samples(0.2)
    bend = dsp.curve(n, (0, 1.3), (0.4, 1), (1, 0.8))
    lub = dsp.sine(low * bend) * dsp.decay(n, 0.045, 0.012)
    dub = dsp.sine(1.35 * low * bend) * dsp.decay(n, 0.03, 0.008)
    skin = dsp.burst(draw, 0.08, 60, draw.log_uniform(130, 400), 0.018, 0.006)
    lub, dub = dsp.mix(lub, 0.25 * skin), dsp.mix(dub, 0.2 * skin)
    split_s = min(0.32, 0.36 / rate) * draw.uniform(0.85, 1.1)
    out = dsp.silence(seconds)
    for at in dsp.regular_times(draw, rate, seconds, 0.015):
        dsp.place(out, lub, float(at))
        dsp.place(out, dub, float(at) + split_s, draw.uniform(0.6, 0.8))
    return dsp.fade(dsp.saturate(out, draw.uniform(1, 3)), 0.005, 0.05)


def _snore_in(draw: Draw, seconds: float, rate: float) -> dsp.Wave:
    """The palate flaps at 25 to 60 Hz in a stream of air."""
    n = dsp.samples(seconds)
    flaps = rate * dsp.curve(n, (0, 0.8), (0.5, 1.05), (1, 0.85))
    formants = ((300, 800, 1900), (150, 250, 500), (1, 0.6, 0.4))
    out = voiced(draw, flaps, formants, breath=0.5, rough=0.15, open_part=0.3)
    return out * dsp.curve(n, (0, 0), (0.25, 0.5), (0.75, 1), (1, 0))


def _snoring(draw: Draw) -> dsp.Wave:
    """A rattling breath in, a soft breath out, once or twice."""
    rate = draw.log_uniform(25, 62)
    inward_s, outward_s = draw.uniform(0.8, 1.3), draw.uniform(0.6, 1.0)
    parts = []
    for _ in range(draw.integer(1, 2)):
        parts.append(dsp.peak(_snore_in(draw, inward_s, rate)))
        parts.append(dsp.silence(0.15))
        n = dsp.samples(outward_s)
        puff = dsp.band_noise(draw, n, 300, draw.log_uniform(900, 2500), 1.0)
        parts.append(draw.uniform(0.03, 0.09) * puff * dsp.arc(n, 1.5))
        parts.append(dsp.silence(0.1))
    return np.concatenate(parts)[: 5 * dsp.RATE_HZ]


def _breath(draw: Draw, seconds: float, low: float, inward: bool) -> dsp.Wave:
    """Air through a mouth: coloured noise, brighter going in."""
    n = dsp.samples(seconds)
    shift = 1.4 if inward else 1.0
    air = dsp.resonate(
        draw.noise(n),
        (low * shift, 2.2 * low * shift, 4.6 * low * shift),
        (0.5 * low, 0.6 * low, 1.5 * low),
        (1, 0.8, 0.5 * shift),
        dry=0.08,
    )
    top = 0.65 if inward else 0.3
    return air * dsp.curve(n, (0, 0), (top, 1), (1, 0)) ** 1.4


def _breathing(draw: Draw) -> dsp.Wave:
    """In and out, at rest or after a run."""
    low = draw.log_uniform(450, 1000)
    half_s = draw.log_uniform(0.3, 1.1)
    parts: list[dsp.Wave] = []
    for k in range(int(np.clip(round(3.6 / half_s), 2, 8))):
        parts.append(_breath(draw, half_s * (0.9 + 0.2 * draw.rng.random()), low, k % 2 == 0))
        parts.append(dsp.silence(0.12 * half_s))
    return np.concatenate(parts)[: 5 * dsp.RATE_HZ]


def _laughter(draw: Draw) -> dsp.Wave:
    """'Ha-ha-ha': puffs of breath, each into a short vowel, falling in pitch over the run."""
    woman = draw.chance(0.5)
    pitch = draw.log_uniform(230, 420) if woman else draw.log_uniform(120, 220)
    size = 1.15 if woman else 1.0
    vowel = draw.choice(((800, 1300, 2600), (600, 1800, 2600), (500, 1000, 2500)))
    formants = (tuple(size * f for f in vowel), (110, 140, 250), (1, 0.7, 0.35))
    period_s = 1 / draw.uniform(4.2, 6.2)
    parts = []
    count = draw.integer(4, 10)
    for k in range(count):
        n = dsp.samples(0.55 * period_s)
        fall = 1.15 - 0.35 * k / count + 0.06 * draw.rng.standard_normal()
        path = pitch * fall * dsp.curve(n, (0, 1.1), (0.3, 1.12), (1, 0.85))
        vowel_part = voiced(draw, path, formants, breath=0.15, rough=0.03)
        puff_n = dsp.samples(0.4 * period_s)
        puff = dsp.resonate(draw.noise(puff_n), *formants, dry=0.1) * dsp.arc(puff_n, 0.8)
        ha = vowel_part * dsp.curve(n, (0, 0), (0.15, 1), (0.6, 0.8), (1, 0))
        parts += [0.35 * puff, ha * (1 - 0.5 * k / count), dsp.silence(0.05 * period_s)]
    return np.concatenate(parts)[: 5 * dsp.RATE_HZ]


def _baby(draw: Draw) -> dsp.Wave:
    """'Waah': long arches near 450 Hz with hard bright harmonics, a gasp between."""
    pitch = draw.log_uniform(360, 580)
    size = draw.uniform(1.25, 1.55)
    closed = (tuple(size * f for f in (450, 1100, 2800)), (120, 200, 400), (1, 0.5, 0.3))
    open_ = (tuple(size * f for f in (900, 1500, 3000)), (150, 220, 400), (1, 0.9, 0.6))
    parts: list[dsp.Wave] = []
    for k in range(draw.integer(2, 4)):
        n = dsp.samples(draw.uniform(0.5, 1.1))
        path = pitch * dsp.curve(n, (0, 0.8), (0.2, 1.08), (0.6, 1.05), (1, 0.8))
        path *= 1 + 0.02 * dsp.sine(draw.uniform(5, 8), n)
        opening = dsp.curve(n, (0, 0), (0.2, 1), (0.8, 0.9), (1, 0.3))
        rough = draw.uniform(0.01, 0.09)
        wail = voiced(draw, path, closed, open_, opening, 0.08, rough, 0.4)
        if k:
            gasp_n = dsp.samples(0.18)
            gasp = dsp.band_noise(draw, gasp_n, 1200, 5000, 1.0) * dsp.arc(gasp_n)
            parts += [dsp.silence(0.06), 0.04 * gasp, dsp.silence(0.05)]
        parts.append(wail * dsp.curve(n, (0, 0), (0.12, 0.9), (0.6, 1), (1, 0)))
    return np.concatenate(parts)[: 5 * dsp.RATE_HZ]


def _cough(draw: Draw) -> dsp.Wave:
    """A burst as the folds fly open, noisy breath, and a short voiced end; one to three."""
    size = draw.uniform(0.9, 1.2)
    pitch = draw.log_uniform(110, 300)
    formants = (tuple(size * f for f in (650, 1300, 2500)), (200, 300, 500), (1, 0.8, 0.6))
    length_s = draw.uniform(0.22, 0.38)
    calls = []
    for _ in range(draw.integer(1, 3)):
        n = dsp.samples(length_s)
        blast = dsp.resonate(draw.noise(n), *formants, dry=0.15)
        blast *= dsp.decay(n, 0.05, 0.003) + 0.25 * dsp.curve(n, (0, 0), (0.3, 1), (1, 0))
        path = pitch * dsp.curve(n, (0, 1.2), (0.4, 1), (1, 0.7))
        tail = voiced(draw, path, formants, breath=0.6, rough=0.15)
        tail *= dsp.curve(n, (0, 0), (0.3, 0.2), (0.5, 1), (0.75, 0.6), (1, 0))
        calls.append(dsp.rms(blast) + draw.uniform(0.3, 0.8) * dsp.rms(tail))
    return repeated(draw, calls, draw.uniform(0.1, 0.35))


def _scream(draw: Draw) -> dsp.Wave:
    """A very high open vowel, rough at 40 to 120 Hz as frightened voices are."""
    n = dsp.samples(draw.uniform(0.8, 2.2))
    pitch = draw.log_uniform(650, 1400)
    path = pitch * dsp.curve(n, (0, 0.7), (0.1, 1.0), (0.7, 1.05), (1, 0.75))
    path *= 1 + 0.02 * dsp.wander(draw, n, 8)
    formants = ((1100, 1900, 3400), (250, 300, 500), (1, 0.9, 0.7))
    out = voiced(draw, path, formants, breath=0.2, rough=0.03, open_part=0.4)
    out *= 1 + draw.uniform(0.2, 0.6) * dsp.sine(draw.uniform(40, 120), n)
    out = dsp.saturate(dsp.rms(out), 1.2) * dsp.curve(n, (0, 0), (0.06, 1), (0.8, 0.9), (1, 0))
    return dsp.room(draw, out, 0.5, 0.1)


def _snap(draw: Draw) -> dsp.Wave:
    """Finger on palm: a few milliseconds of air resonance, at 1.5 to 3.5 kHz."""
    f = draw.log_uniform(1500, 3500)
    slap = dsp.resonate(
        draw.noise(960) * dsp.decay(960, 0.0012), (f, 1.9 * f), (0.25 * f, 0.5 * f), (1, 0.5), 0.1
    )
    dry = np.concatenate([slap, np.zeros(1600)])
    n_slide = 500
    slide = dsp.band_noise(draw, n_slide, 2500, 9000) * dsp.arc(n_slide)
    return np.concatenate([0.02 * slide, dsp.peak(dry)])


def _finger_snap(draw: Draw) -> dsp.Wave:
    """One snap, or a few in time, in a room."""
    count = draw.integer(1, 5)
    snap = _snap(draw)
    gap_s = draw.uniform(0.25, 0.6)
    out = dsp.silence((count - 1) * gap_s + 0.15)
    for k in range(count):
        dsp.place(out, snap, k * gap_s, 0.8 + 0.2 * draw.rng.random())
    return dsp.room(draw, out, draw.log_uniform(0.2, 0.8), draw.uniform(0.1, 0.5))


GENERATORS: dict[str, tuple[Generator, ...]] = {
    "applause": (_applause_crowd, _applause_few),
    "heartbeat": (_heartbeat,),
    "snoring": (_snoring,),
    "breathing": (_breathing,),
    "laughter": (_laughter,),
    "baby_cry": (_baby,),
    "cough": (_cough,),
    "scream": (_scream,),
    "finger_snap": (_finger_snap,),
}
