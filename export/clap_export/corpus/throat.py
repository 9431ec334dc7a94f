"""The voice shared by animals and people: a pulse train and breath, through formants.

In:  a pitch path in Hz [n], formants, and how breathy and rough the voice is.
Out: mono float64 [n] at RATE_HZ, at any level.
Knows nothing about which creature calls.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from clap_export.corpus import dsp
from clap_export.corpus.draw import Draw

Formants = tuple[Sequence[float], Sequence[float], Sequence[float]]  # Hz, widths in Hz, gains


def voiced(
    draw: Draw,
    pitch_hz: dsp.Wave,
    formants: Formants,
    to: Formants | None = None,
    position: dsp.Wave | None = None,
    breath: float = 0.1,
    rough: float = 0.01,
    open_part: float = 0.5,
) -> dsp.Wave:
    """[n] a voiced call of a pitch path; formants glide to a second set along position.

    rough is the fast random swing of pitch and loudness: 0.01 is a clear voice, 0.2 a hoarse one.
    """
    n = len(pitch_hz)
    wobble = dsp.wander(draw, n, 80)
    source = dsp.glottis(pitch_hz * (1 + rough * wobble), open_part=open_part)
    source *= 1 + min(4 * rough, 0.6) * dsp.wander(draw, n, 80)
    source += breath * draw.noise(n) * (0.5 + np.abs(source))
    out = dsp.resonate(source, *formants, dry=0.02)
    if to is not None and position is not None:
        out = dsp.morph(out, dsp.resonate(source, *to, dry=0.02), position)
    return out


def repeated(draw: Draw, calls: Sequence[dsp.Wave], gap_s: float, jitter: float = 0.15) -> dsp.Wave:
    """Calls one after another, each gap and loudness a little different; at most 5 s."""
    parts: list[dsp.Wave] = []
    for k, call in enumerate(calls):
        if k:
            parts.append(dsp.silence(gap_s * np.exp(jitter * np.clip(draw.noise(1)[0], -2, 2))))
        parts.append(call * (0.75 + 0.25 * draw.rng.random()))
    return np.concatenate(parts)[: 5 * dsp.RATE_HZ]


def scaled(formants: Sequence[float], size: float) -> list[float]:
    """Formants of a throat 1/size as long."""
    return [f * size for f in formants]
