"""Birds: whistles, caws, hoots, crows and quacks.

In:  a Draw.
Out: mono float64 [n] at RATE_HZ, 0.2 to 5 s, at any level.
Knows nothing about captions or files.
"""

from __future__ import annotations

import numpy as np

from clap_export.corpus import dsp
from clap_export.corpus.draw import Draw
from clap_export.corpus.throat import repeated, scaled, voiced

Generator = dsp.Generator


def _syllable(draw: Draw, low_hz: float, high_hz: float, seconds: float, shape: str) -> dsp.Wave:
    """One whistled note: a fast sweep, an arch, or a warble, with little second harmonic."""
    n = dsp.samples(seconds)
    x = np.linspace(0, 1, n)
    paths = {
        "up": x,
        "down": 1 - x,
        "arch": np.sin(np.pi * x),
        "dip": 1 - np.sin(np.pi * x),
        "warble": 0.5 + 0.5 * np.sin(2 * np.pi * x * seconds * 38),
        "flat": np.full(n, 0.5),
    }
    pitch = low_hz * (high_hz / low_hz) ** paths[shape]
    return dsp.harmonics(pitch, (1.0, 0.06)) * dsp.arc(n, 0.6)


def _song_phrases(draw: Draw) -> dsp.Wave:
    """A songbird: motifs of differing notes, each motif said a few times."""
    low = draw.log_uniform(2000, 3800)
    span = draw.uniform(1.3, 1.9)
    note_s = draw.log_uniform(0.05, 0.16)
    parts: list[dsp.Wave] = []
    total_s = 0.0
    while total_s < draw.uniform(1.5, 3.2):
        motif = [
            (
                low * (0.85 + 0.4 * draw.rng.random()),
                note_s * (0.6 + 0.8 * draw.rng.random()),
                draw.choice(("up", "down", "arch", "dip", "warble", "flat")),
            )
            for _ in range(draw.integer(1, 4))
        ]
        for _ in range(draw.integer(2, 4)):
            for f, seconds, shape in motif:
                note = _syllable(draw, f, f * span, seconds, shape)
                parts += [note, dsp.silence(0.35 * note_s)]
                total_s += seconds + 0.35 * note_s
        parts.append(dsp.silence(0.1))
    return dsp.room(draw, np.concatenate(parts)[: 4 * dsp.RATE_HZ], 0.5, 0.15)


def _song_chirps(draw: Draw) -> dsp.Wave:
    """A sparrow: single chirps, well apart, each a quick fall."""
    high = draw.log_uniform(3500, 6800)
    seconds = draw.log_uniform(0.04, 0.14)
    shape = draw.choice(("down", "arch", "up"))
    calls = []
    for _ in range(draw.integer(4, 10)):
        f = high * np.exp(0.06 * draw.rng.standard_normal())
        calls.append(_syllable(draw, 0.55 * f, f, seconds, shape))
    return repeated(draw, calls, draw.log_uniform(0.1, 0.35), 0.3)


def _song_trill(draw: Draw) -> dsp.Wave:
    """A canary or a cricket-like warbler: one note repeated fast, then a flourish."""
    low = draw.log_uniform(2200, 5000)
    period_s = 1 / draw.uniform(10, 26)
    note = _syllable(draw, low, low * draw.uniform(1.15, 1.6), 0.7 * period_s, "down")
    out = [np.concatenate([note, dsp.silence(0.3 * period_s)])] * draw.integer(10, 26)
    out.append(_syllable(draw, low, 1.7 * low, 0.18, "up"))
    trill = np.concatenate(out)
    return trill * dsp.curve(len(trill), (0, 0.4), (0.4, 1), (1, 0.8))


def _crow(draw: Draw) -> dsp.Wave:
    """Caws: hoarse, half noise, the mouth opening and closing."""
    pitch = draw.log_uniform(330, 560)
    seconds = draw.uniform(0.22, 0.42)
    size = draw.uniform(0.85, 1.2)
    calls = []
    for _ in range(draw.integer(2, 4)):
        n = dsp.samples(seconds * (0.9 + 0.2 * draw.rng.random()))
        path = pitch * dsp.curve(n, (0, 0.85), (0.25, 1.1), (1, 0.75))
        caw = voiced(
            draw,
            path,
            (scaled((1150, 1750, 3100), size), (250, 350, 600), (1, 0.9, 0.5)),
            breath=0.5,
            rough=0.18,
        )
        calls.append(caw * dsp.curve(n, (0, 0), (0.12, 1), (0.7, 0.8), (1, 0)))
    return repeated(draw, calls, draw.uniform(0.15, 0.45))


def _hoot(draw: Draw, pitch: dsp.Wave, attack: float = 0.25) -> dsp.Wave:
    n = len(pitch)
    tone = dsp.harmonics(pitch, (1.0, 0.08, 0.03))
    breath = 0.03 * dsp.moving_band(draw, pitch, 80)
    return (tone + breath) * dsp.curve(n, (0, 0), (attack, 1), (0.75, 0.9), (1, 0))


def _owl_pattern(draw: Draw) -> dsp.Wave:
    """'Hoo, hoo-hoo, hooo': soft nearly pure tones in a fixed rhythm."""
    pitch = draw.log_uniform(260, 480)
    pace = draw.uniform(0.8, 1.25)
    out: list[dsp.Wave] = []
    for seconds, gap in ((0.3, 0.35), (0.14, 0.06), (0.22, 0.3), (0.55, 0.0)):
        n = dsp.samples(seconds * pace)
        out.append(_hoot(draw, pitch * dsp.curve(n, (0, 0.93), (0.3, 1.02), (1, 0.94))))
        if gap:
            out.append(dsp.silence(gap * pace))
    return dsp.room(draw, np.concatenate(out), 0.9, 0.25, 2000)


def _owl_tawny(draw: Draw) -> dsp.Wave:
    """One long hoot that quavers, as the tawny owl's."""
    pitch = draw.log_uniform(500, 850)
    n = dsp.samples(draw.uniform(0.8, 1.6))
    x = np.linspace(0, 1, n)
    quaver = 1 + 0.4 * np.sin(2 * np.pi * draw.uniform(9, 14) * x) * (x > 0.25)
    out = _hoot(draw, pitch * dsp.curve(n, (0, 0.9), (0.3, 1.05), (1, 0.88)), 0.1) * quaver
    return dsp.room(draw, out, 0.9, 0.25, 3000)


def _rooster(draw: Draw) -> dsp.Wave:
    """'Cock-a-doodle-doo': three short rising syllables, a long high one that falls."""
    pitch = draw.log_uniform(380, 620)
    pace = draw.uniform(0.85, 1.2)
    points = ((0.0, 0.8), (0.12, 1.0), (0.3, 1.05), (0.42, 1.5), (0.55, 1.75), (0.8, 1.6), (1, 0.9))
    n = dsp.samples(1.9 * pace)
    path = pitch * dsp.curve(n, *points)
    gates = (
        (0, 0),
        (0.02, 0.7),
        (0.09, 0.7),
        (0.12, 0.05),
        (0.15, 0.7),
        (0.2, 0.7),
        (0.23, 0.05),
        (0.26, 0.8),
        (0.36, 0.8),
        (0.39, 0.15),
        (0.43, 1.0),
        (0.8, 0.9),
        (1, 0),
    )
    out = voiced(
        draw,
        path,
        ((1300, 2400, 3600), (350, 500, 700), (1, 0.8, 0.4)),
        breath=0.15,
        rough=draw.uniform(0.02, 0.07),
    )
    return dsp.room(draw, out * dsp.curve(n, *gates), 0.5, 0.12)


def _duck(draw: Draw) -> dsp.Wave:
    """Quacks: a nasal buzz with a fast attack, each a bit lower and softer than the last."""
    pitch = draw.log_uniform(160, 270)
    seconds = draw.uniform(0.12, 0.24)
    size = draw.uniform(0.9, 1.2)
    calls = []
    for k in range(draw.integer(3, 6)):
        n = dsp.samples(seconds)
        path = pitch * 0.97**k * dsp.curve(n, (0, 1.05), (0.2, 1.15), (1, 0.8))
        quack = voiced(
            draw,
            path,
            (scaled((1150, 1900, 2900), size), (130, 180, 300), (1, 0.8, 0.6)),
            (scaled((850, 1650, 2700), size), (150, 200, 300), (1, 0.6, 0.3)),
            np.linspace(0, 1, n),
            breath=0.15,
            rough=0.05,
            open_part=0.25,
        )
        calls.append(0.93**k * quack * dsp.curve(n, (0, 0), (0.06, 1), (0.6, 0.8), (1, 0)))
    return repeated(draw, calls, draw.uniform(0.08, 0.3))


GENERATORS: dict[str, tuple[Generator, ...]] = {
    "bird_song": (_song_phrases, _song_chirps, _song_trill),
    "crow": (_crow,),
    "owl": (_owl_pattern, _owl_tawny),
    "rooster": (_rooster,),
    "duck": (_duck,),
}
