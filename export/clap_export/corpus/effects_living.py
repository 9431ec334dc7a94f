"""Mammals and small creatures; birds and people come from modules of their own.

In:  a Draw.
Out: mono float64 [n] at RATE_HZ, 0.2 to 5 s, at any level.
Knows nothing about captions or files.

Most voices here are a pulse train (the folds) plus breath noise, through formants (the throat and
mouth); what tells a dog from a duck is the pitch, its path over one call, and the formants.
"""

from __future__ import annotations

import numpy as np

from clap_export.corpus import dsp
from clap_export.corpus.draw import Draw
from clap_export.corpus.effects_birds import GENERATORS as BIRDS
from clap_export.corpus.effects_people import GENERATORS as PEOPLE
from clap_export.corpus.throat import repeated, scaled, voiced

Generator = dsp.Generator


# --- mammals -----------------------------------------------------------------------------------


def _bark(draw: Draw, pitch: float, seconds: float, size: float, rough: float) -> dsp.Wave:
    n = dsp.samples(seconds)
    path = pitch * dsp.curve(n, (0, 0.75), (0.15, 1.25), (0.4, 1.05), (1, 0.55))
    voice = voiced(
        draw,
        path,
        (scaled((520, 1100, 2500), size), (150, 250, 400), (1, 0.6, 0.3)),
        (scaled((800, 1400, 2700), size), (150, 250, 400), (1, 0.8, 0.4)),
        dsp.arc(n),
        breath=0.35,
        rough=rough,
    )
    return voice * dsp.curve(n, (0, 0), (0.06, 1), (0.4, 0.8), (1, 0)) ** 1.3


def _dog_large(draw: Draw) -> dsp.Wave:
    """A deep hoarse 'woof', one to four times, sometimes out of a growl."""
    pitch, seconds = draw.log_uniform(150, 330), draw.uniform(0.2, 0.32)
    size, rough = draw.uniform(0.7, 1.05), draw.uniform(0.08, 0.2)
    calls = [_bark(draw, pitch, seconds, size, rough) for _ in range(draw.integer(1, 4))]
    out = repeated(draw, calls, draw.uniform(0.15, 0.5))
    if draw.chance(0.25):
        n = dsp.samples(0.5)
        growl = voiced(draw, np.full(n, 45.0), ((450, 1000), (200, 300), (1, 0.4)), rough=0.2)
        out = np.concatenate([0.5 * growl * dsp.arc(n), out])
    return out


def _dog_small(draw: Draw) -> dsp.Wave:
    """Yaps: short, high, tonal, in quick succession."""
    pitch, seconds = draw.log_uniform(450, 950), draw.uniform(0.08, 0.16)
    size, rough = draw.uniform(1.2, 1.7), draw.uniform(0.02, 0.08)
    calls = [_bark(draw, pitch, seconds, size, rough) for _ in range(draw.integer(2, 6))]
    return repeated(draw, calls, draw.uniform(0.12, 0.4))


def _cat(draw: Draw) -> dsp.Wave:
    """'Mee-ow': the mouth opens and closes over an arch of pitch."""
    pitch = draw.log_uniform(380, 750)
    size = draw.uniform(0.9, 1.2)
    calls = []
    for _ in range(draw.integer(1, 3)):
        n = dsp.samples(draw.uniform(0.5, 1.1))
        path = pitch * dsp.curve(n, (0, 0.8), (0.3, 1.1), (0.6, 1.05), (1, 0.7))
        path *= 1 + 0.012 * dsp.sine(draw.uniform(6, 9), n)
        front = (scaled((500, 2300, 3400), size), (120, 250, 400), (0.7, 1, 0.5))
        back = (scaled((950, 1500, 3000), size), (180, 250, 400), (1, 0.8, 0.2))
        opening = dsp.curve(n, (0, 0), (0.2, 0.05), (0.6, 1), (1, 0.9))
        meow = voiced(draw, path, front, back, opening, breath=0.05, rough=0.01)
        calls.append(meow * dsp.curve(n, (0, 0), (0.2, 0.8), (0.5, 1), (1, 0)))
    return repeated(draw, calls, draw.uniform(0.2, 0.6))


def _cow(draw: Draw) -> dsp.Wave:
    """'Mmm-ooo': a closed hum that opens into a long low call and sags at the end."""
    n = dsp.samples(draw.uniform(1.2, 2.6))
    pitch = draw.log_uniform(90, 190)
    path = pitch * dsp.curve(n, (0, 0.8), (0.25, 1), (0.7, 1.08), (1, 0.75))
    size = draw.uniform(0.85, 1.15)
    closed = (scaled((240, 900), size), (80, 250), (1, 0.1))
    open_ = (scaled((420, 850, 2300), size), (90, 150, 400), (1, 0.8, 0.2))
    opening = dsp.curve(n, (0, 0), (0.15, 0.1), (0.4, 1), (0.85, 0.8), (1, 0.3))
    out = voiced(draw, path, closed, open_, opening, breath=0.12, rough=draw.uniform(0.015, 0.05))
    return dsp.fade(
        out * dsp.curve(n, (0, 0), (0.15, 0.6), (0.4, 1), (0.8, 0.9), (1, 0)), 0.03, 0.1
    )


def _sheep(draw: Draw) -> dsp.Wave:
    """'Baa': a nasal bleat whose pitch and loudness shake together."""
    pitch = draw.log_uniform(190, 420)
    rate = draw.uniform(6.5, 11)
    size = draw.uniform(0.9, 1.15)
    calls = []
    for _ in range(draw.integer(1, 2)):
        n = dsp.samples(draw.uniform(0.6, 1.3))
        shake = dsp.sine(rate * (1 + 0.05 * dsp.wander(draw, n, 5)))
        path = pitch * dsp.curve(n, (0, 0.9), (0.15, 1.08), (1, 0.9)) * (1 + 0.05 * shake)
        bleat = voiced(
            draw,
            path,
            (scaled((720, 1650, 2700), size), (120, 200, 350), (1, 0.9, 0.5)),
            breath=0.1,
            rough=0.03,
            open_part=0.35,
        )
        envelope = dsp.curve(n, (0, 0), (0.08, 1), (0.7, 0.8), (1, 0))
        calls.append(bleat * (0.6 + 0.4 * shake) * envelope)
    return repeated(draw, calls, draw.uniform(0.3, 0.7))


def _wolf(draw: Draw) -> dsp.Wave:
    """A howl: a slide up, a long hold with slight bends, a slow fall; the valley answers."""
    n = dsp.samples(draw.uniform(2.2, 3.9))
    pitch = draw.log_uniform(330, 680)
    path = pitch * dsp.curve(n, (0, 0.55), (0.12, 0.8), (0.25, 1.0), (0.7, 0.97), (1, 0.6))
    path = path * (1 + 0.01 * dsp.wander(draw, n, 4))
    tone = dsp.harmonics(path, (1.0, 0.45, 0.18, 0.08, 0.03))
    tone += 0.04 * dsp.moving_band(draw, path, 90)
    out = tone * dsp.curve(n, (0, 0), (0.15, 0.7), (0.4, 1), (0.8, 0.8), (1, 0))
    return dsp.room(draw, dsp.fade(out, 0.05, 0.2), 1.0, 0.3, 2500)


def _hooves(draw: Draw) -> dsp.Wave:
    """Clip-clop: hollow knocks in the beat of a walk, a trot or a gallop."""
    gait = draw.choice(
        (
            (0.0, 0.25, 0.5, 0.75),
            (0.0, 0.5),
            (0.0, 0.22, 0.42),
        )
    )
    stride_s = {4: 1.15, 2: 0.68, 3: 0.52}[len(gait)] * draw.uniform(0.85, 1.2)
    seconds = draw.uniform(1.6, 4.0)
    pitch = draw.log_uniform(480, 1150)
    hard = draw.uniform(0.3, 1.0)
    hooves = []
    for ratio in (1.0, 1.22, 0.92, 1.12):
        f = pitch * ratio
        knock = dsp.modes(2600, [f, 2.1 * f, 3.4 * f], [0.012, 0.007, 0.004], [1, 0.5, 0.3 * hard])
        thud = dsp.burst(draw, 0.05, 90, 300, 0.012)
        hooves.append(
            dsp.mix(knock, 0.25 * thud, 0.2 * hard * dsp.burst(draw, 0.02, 1500, 8000, 0.003))
        )
    out = dsp.silence(seconds)
    for at in np.arange(0.01, seconds - 0.1, stride_s):
        for k, offset in enumerate(gait):
            jitter = 0.006 * draw.rng.standard_normal()
            dsp.place(
                out, hooves[k], at + offset * stride_s + jitter, 0.7 + 0.3 * draw.rng.random()
            )
    return out


# --- small creatures ---------------------------------------------------------------------------


def _cricket_chirps(draw: Draw) -> dsp.Wave:
    """Chirps of three to five wing strokes near 4.5 kHz, at a steady rate."""
    f = draw.log_uniform(3600, 5600)
    strokes, stroke_s = draw.integer(3, 5), draw.uniform(0.016, 0.028)
    n = dsp.samples(0.7 * stroke_s)
    stroke = dsp.harmonics(np.linspace(1.02 * f, 0.97 * f, n), (1.0, 0.1)) * dsp.arc(n)
    period_s = draw.uniform(0.25, 0.7)
    out = dsp.silence(draw.uniform(1.5, 3.5))
    for at in np.arange(0.0, len(out) / dsp.RATE_HZ, max(period_s, (strokes + 2) * stroke_s)):
        for k in range(strokes):
            dsp.place(out, stroke, at + k * stroke_s, 0.6 + 0.4 * k / strokes)
    return out


def _cricket_field(draw: Draw) -> dsp.Wave:
    """A summer night: several insects trill without pause, each at its own pitch and rate."""
    seconds = draw.uniform(1.5, 3.0)
    n = dsp.samples(seconds)
    out = np.zeros(n)
    for _ in range(draw.integer(1, 3)):
        f = draw.log_uniform(3200, 6500)
        trill = np.maximum(dsp.sine(draw.uniform(28, 65), n), 0.0) ** 1.5
        out += (
            (0.3 + draw.rng.random()) * dsp.sine(f * (1 + 0.002 * dsp.wander(draw, n, 20))) * trill
        )
    return dsp.fade(out, 0.05, 0.05)


def _frog(draw: Draw) -> dsp.Wave:
    """'Ribbit': two-part croaks, each a train of slow pulses that ring in the vocal sac."""
    sac = draw.log_uniform(550, 1300)
    rate = draw.log_uniform(38, 90)
    calls = []
    for _ in range(draw.integer(2, 4)):
        n = dsp.samples(draw.uniform(0.22, 0.4))
        pulses = rate * dsp.curve(n, (0, 0.9), (0.45, 1.0), (0.5, 1.3), (1, 1.6))
        lift = np.linspace(0, 1, n) ** 2
        croak = voiced(
            draw,
            pulses,
            ((sac, 2.4 * sac), (90, 200), (1, 0.5)),
            ((1.35 * sac, 3.0 * sac), (110, 200), (1, 0.6)),
            lift,
            breath=0.05,
            rough=0.02,
            open_part=0.2,
        )
        gate = dsp.curve(
            n, (0, 0), (0.1, 0.8), (0.4, 0.7), (0.48, 0.1), (0.6, 1), (0.85, 0.9), (1, 0)
        )
        calls.append(croak * gate)
    return repeated(draw, calls, draw.uniform(0.2, 0.6))


def _bullfrog(draw: Draw) -> dsp.Wave:
    """'Jug-o-rum': long low croaks with a hollow body."""
    pitch = draw.log_uniform(85, 160)
    calls = []
    for _ in range(draw.integer(1, 3)):
        n = dsp.samples(draw.uniform(0.5, 0.8))
        path = pitch * dsp.curve(n, (0, 0.9), (0.3, 1.05), (1, 0.9))
        croak = voiced(
            draw,
            path,
            ((220, 620, 1500), (60, 150, 300), (1, 0.6, 0.4)),
            breath=0.1,
            rough=0.06,
            open_part=0.3,
        )
        trill = 0.6 + 0.4 * dsp.sine(draw.uniform(16, 28), n)
        calls.append(croak * trill * dsp.arc(n, 0.5))
    return repeated(draw, calls, draw.uniform(0.3, 0.7))


def _bee(draw: Draw) -> dsp.Wave:
    """Wings at 150 to 300 beats a second: a buzz that wavers and passes the ear."""
    n = dsp.samples(draw.uniform(1.5, 3.5))
    pitch = draw.log_uniform(150, 300)
    near = np.exp(0.7 * dsp.wander(draw, n, draw.uniform(0.6, 2.5)))
    path = pitch * (1 + 0.05 * dsp.wander(draw, n, 3) + 0.01 * dsp.wander(draw, n, 40))
    buzz = dsp.saw(path) * (1 + 0.2 * dsp.wander(draw, n, 60))
    out = dsp.resonate(buzz, (2.2 * pitch, 1400, 3600), (250, 900, 1500), (1, 0.5, 0.4), dry=0.1)
    return dsp.fade(out * near, 0.1, 0.15)


def _woodpecker(draw: Draw) -> dsp.Wave:
    """A roll of blows on a dead branch, quickening and fading, once to three times."""
    rate = draw.uniform(14, 26)
    pitch = draw.log_uniform(650, 1700)
    knock = dsp.modes(2000, [pitch, 1.7 * pitch, 2.9 * pitch], [0.011, 0.007, 0.004], [1, 0.6, 0.3])
    knock = dsp.mix(knock, 0.3 * dsp.burst(draw, 0.01, 1500, 8000, 0.0015))
    rolls = []
    for _ in range(draw.integer(1, 3)):
        blows = draw.integer(9, 20)
        times = np.cumsum((1 / rate) * np.linspace(1.1, 0.8, blows))
        roll = dsp.silence(float(times[-1]) + 0.08)
        for at, gain in zip(times - times[0], np.linspace(1, 0.4, blows), strict=False):
            dsp.place(roll, knock, float(at), float(gain) * (0.85 + 0.15 * draw.rng.random()))
        rolls.append(roll)
    return dsp.room(
        draw, repeated(draw, rolls, draw.uniform(0.3, 0.7))[: 4 * dsp.RATE_HZ], 0.6, 0.2
    )


def _snake(draw: Draw) -> dsp.Wave:
    """Hisses: breath with most of its energy above 3 kHz, swelling and stopping."""
    calls = []
    low = draw.log_uniform(2200, 4500)
    for _ in range(draw.integer(1, 2)):
        n = dsp.samples(draw.uniform(0.6, 1.6))
        hiss = dsp.band_noise(draw, n, low, 2.6 * low, 1.5) * (1 + 0.15 * dsp.wander(draw, n, 30))
        calls.append(hiss * dsp.curve(n, (0, 0), (0.25, 0.8), (0.6, 1), (0.9, 0.6), (1, 0)))
    return repeated(draw, calls, draw.uniform(0.2, 0.5))


def _rattlesnake(draw: Draw) -> dsp.Wave:
    """A tail rattle under a hiss: dry bursts at 40 to 90 a second."""
    n = dsp.samples(draw.uniform(1.2, 2.8))
    rate = draw.uniform(40, 90) * dsp.curve(n, (0, 0.75), (0.2, 1), (1, 0.95))
    shake = np.maximum(dsp.sine(rate), 0.0) ** 3
    rattle = dsp.band_noise(draw, n, draw.log_uniform(3000, 6000), 14000, 1.5) * shake
    hiss = dsp.band_noise(draw, n, 2500, 9000, 1.0)
    swell = dsp.curve(n, (0, 0), (0.15, 1), (0.85, 0.9), (1, 0))
    return (rattle + draw.uniform(0.1, 0.35) * hiss) * swell


GENERATORS: dict[str, tuple[Generator, ...]] = {
    "dog_bark": (_dog_large, _dog_small),
    "cat_meow": (_cat,),
    "cow": (_cow,),
    "sheep": (_sheep,),
    "cricket": (_cricket_chirps, _cricket_field),
    "frog": (_frog, _bullfrog),
    "bee_buzz": (_bee,),
    "wolf_howl": (_wolf,),
    "horse_hooves": (_hooves,),
    "woodpecker": (_woodpecker,),
    "snake_hiss": (_snake, _rattlesnake),
    **BIRDS,
    **PEOPLE,
}
