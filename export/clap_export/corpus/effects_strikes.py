"""Blows, clicks and bursts: by waveguides, and by painted spectra, over rhythms of their own.

In:  a Draw.
Out: mono float64 [n] at RATE_HZ, 0.1 to 5 s, of any level; `SOURCES`: class -> (principle,
     generator) pairs.
Knows nothing about the struck bodies of `effects_impacts`, which are sums of modes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from clap_export.corpus import dsp
from clap_export.corpus import principles as by
from clap_export.corpus.draw import Draw

Generator = Callable[[Draw], np.ndarray]
Source = tuple[str, Generator]
Rhythm = Callable[[Draw], tuple[np.ndarray, np.ndarray]]


# --- rhythms: instants in seconds and gains ----------------------------------------------------


def _once(draw: Draw) -> tuple[np.ndarray, np.ndarray]:
    return np.array([0.0]), np.array([1.0])


def _few(lo_hz: float, hi_hz: float, least: int, most: int, jitter: float = 0.06) -> Rhythm:
    """A handful of blows at a nearly steady pace."""

    def rhythm(draw: Draw) -> tuple[np.ndarray, np.ndarray]:
        period = 1 / draw.log_uniform(lo_hz, hi_hz)
        count = min(draw.integer(least, most), max(1, int(4.4 / period)))
        times = np.arange(count) * period + jitter * period * draw.noise(count)
        return np.clip(times - times.min(), 0, 4.8), np.exp(0.25 * draw.noise(count))

    return rhythm


def _bouncing(draw: Draw) -> tuple[np.ndarray, np.ndarray]:
    """Each bounce comes sooner and softer, until they run together."""
    keep, gap = draw.uniform(0.6, 0.88), draw.uniform(0.35, 0.8)
    gaps = gap * keep ** np.arange(40)
    times = np.concatenate([[0.0], np.cumsum(gaps[gaps > 0.012])])
    return times[times < 4.7], (keep ** (1.3 * np.arange(len(times))))[times < 4.7]


def _dribbled(draw: Draw) -> tuple[np.ndarray, np.ndarray]:
    return _bouncing(draw) if draw.chance(0.6) else _few(1.2, 2.4, 3, 8, 0.04)(draw)


def _gait(lo_hz: float, hi_hz: float, beats: tuple[tuple[float, ...], ...]) -> Rhythm:
    """Strides of several feet: where in the stride each one lands."""

    def rhythm(draw: Draw) -> tuple[np.ndarray, np.ndarray]:
        period, feet = 1 / draw.uniform(lo_hz, hi_hz), draw.choice(beats)
        strides = np.arange(0, draw.uniform(2.5, 4.6), period)
        times = (strides[:, None] + period * np.asarray(feet)).ravel()
        times = times + 0.02 * period * draw.noise(len(times))
        order = np.tile(np.exp(0.25 * draw.noise(len(feet))), len(strides))
        return np.clip(times, 0, 4.8), order * np.exp(0.15 * draw.noise(len(times)))

    return rhythm


def _busy(lo_hz: float, hi_hz: float) -> Rhythm:
    """Fingers at keys: bursts of strokes and pauses to think."""

    def rhythm(draw: Draw) -> tuple[np.ndarray, np.ndarray]:
        rate, at, times = draw.uniform(lo_hz, hi_hz), 0.0, []
        while at < 4.6:
            times.append(at)
            pause = 0.5 if draw.chance(0.1) else 0.0
            at += float(draw.rng.gamma(4, 1 / (4 * rate))) + pause * draw.rng.random()
        return np.array(times), np.exp(0.4 * draw.noise(len(times)))

    return rhythm


def _drumming(draw: Draw) -> tuple[np.ndarray, np.ndarray]:
    """A woodpecker's rolls: half a second of very fast blows, a rest, another."""
    rate, roll = draw.uniform(11, 26), draw.uniform(0.35, 1.1)
    one = np.arange(0, roll, 1 / rate)
    starts = np.arange(draw.integer(1, 3)) * (roll + draw.uniform(0.5, 1.6))
    times = (starts[:, None] + one).ravel()
    gains = np.tile(0.6 + 0.4 * np.sin(np.pi * (np.arange(len(one)) + 0.5) / len(one)), len(starts))
    return times[times < 4.8], gains[times < 4.8]


def _beating(draw: Draw) -> tuple[np.ndarray, np.ndarray]:
    """Lub-dub, lub-dub."""
    period = 60 / draw.uniform(48, 150)
    starts = np.arange(0, 4.6, period) * (1 + 0.01 * float(draw.noise(1)[0]))
    times = np.stack([starts, starts + 0.33 * period**0.5], axis=1).ravel()
    return times, np.tile([1.0, draw.uniform(0.4, 0.8)], len(starts))


def _spilled(draw: Draw) -> tuple[np.ndarray, np.ndarray]:
    """A handful let fall: many blows at once, then the last ones settling."""
    count = draw.integer(5, 40)
    times = np.sort(draw.rng.exponential(draw.uniform(0.1, 0.5), count))
    return np.clip(times, 0, 4.2), np.exp(0.6 * draw.noise(count)) * np.exp(-times)


def _rallies(lo_hz: float, hi_hz: float) -> Rhythm:
    """Bursts of shots at a machine's pace, with pauses between."""

    def rhythm(draw: Draw) -> tuple[np.ndarray, np.ndarray]:
        period, at, times = 1 / draw.uniform(lo_hz, hi_hz), 0.0, []
        while at < 4.3:
            for _ in range(draw.integer(3, 16)):
                times.append(at)
                at += period * (1 + 0.02 * float(draw.noise(1)[0]))
            at += draw.uniform(0.2, 1.2)
        kept = np.array([t for t in times if t < 4.5])
        return kept, np.exp(0.1 * draw.noise(len(kept)))

    return rhythm


@dataclass(frozen=True)
class Blow:
    """What is heard of one blow: bands (Hz, dB, decay s) for the painted one; lowest mode in Hz,
    its ring in seconds, modes over it and brightness in Hz for the guided one; and the rhythm."""

    bands: tuple[tuple[float, float, float], ...]
    low_hz: tuple[float, float]
    ring_s: tuple[float, float]
    modes: tuple[float, ...]
    bright_hz: float
    rhythm: Rhythm
    contact_s: float = 0.002
    click: float = 0.3
    tail_s: float = 0.0  # an outdoor echo or a large room


_WOOD = (1.0, 2.4, 3.9, 5.7)
_STEEL = (1.0, 1.51, 2.32, 2.76, 3.7, 5.4, 6.3, 8.9)
_CUP = (1.0, 1.58, 2.24, 2.92, 4.1, 5.6)
_TUBE = (1.0, 2.0, 3.0)

BLOWS: dict[str, Blow] = {
    "knocking": Blow(
        ((100, 0, 0.04), (300, 2, 0.04), (900, -6, 0.02), (3000, -18, 0.008), (9000, -34, 0.004)),
        (90, 330), (0.02, 0.08), _WOOD, 2500, _few(2.5, 7, 2, 6),
    ),
    "door_slam": Blow(
        ((60, 4, 0.16), (200, 2, 0.12), (700, -6, 0.07), (2500, -12, 0.05), (8000, -22, 0.03)),
        (50, 130), (0.06, 0.22), _WOOD, 900, _few(1, 14, 1, 2, 0.3), 0.006, 0.5, 0.5,
    ),
    "metal_clang": Blow(
        ((200, -8, 0.3), (700, 0, 0.7), (2200, 0, 0.6), (5500, -5, 0.35), (11000, -16, 0.15)),
        (160, 1100), (0.3, 1.6), _STEEL, 9000, _few(0.4, 3, 1, 4, 0.3), 0.0006, 0.4, 0.3,
    ),
    "hammering": Blow(
        ((120, 0, 0.05), (500, 0, 0.04), (2000, 0, 0.05), (5000, -6, 0.05), (10000, -18, 0.02)),
        (180, 900), (0.03, 0.25), _STEEL, 6000, _few(1.3, 4.5, 4, 14), 0.0008, 0.5, 0.2,
    ),
    "ball_bounce": Blow(
        ((90, 2, 0.06), (250, 0, 0.05), (900, -8, 0.02), (3000, -22, 0.01), (8000, -40, 0.006)),
        (70, 420), (0.015, 0.09), _TUBE, 1200, _dribbled, 0.004, 0.15,
    ),
    "gunshot": Blow(
        ((80, 2, 0.12), (300, 2, 0.12), (1200, 0, 0.09), (4000, -3, 0.06), (11000, -9, 0.03)),
        (60, 160), (0.02, 0.06), _TUBE, 5000, _few(0.5, 3, 1, 3, 0.3), 0.0015, 2.0, 1.6,
    ),
    "machine_gun": Blow(
        ((90, 2, 0.04), (350, 2, 0.04), (1300, 0, 0.03), (4500, -4, 0.02), (11000, -10, 0.012)),
        (70, 200), (0.01, 0.03), _TUBE, 5000, _rallies(7.5, 17), 0.0015, 2.0, 0.9,
    ),
    "explosion": Blow(
        ((45, 8, 0.9), (130, 5, 0.7), (500, -2, 0.45), (2000, -12, 0.25), (8000, -26, 0.1)),
        (28, 60), (0.2, 0.6), _TUBE, 400, _once, 0.03, 2.5, 2.5,
    ),
    "whip_crack": Blow(
        ((400, -20, 0.01), (1500, -4, 0.012), (4000, 2, 0.01), (9000, 0, 0.008),
         (14000, -6, 0.005)),
        (900, 2600), (0.002, 0.006), _TUBE, 12000, _few(0.5, 1.6, 1, 3, 0.2), 0.0004, 3.0, 0.5,
    ),
    "cork_pop": Blow(
        ((150, -6, 0.03), (500, 4, 0.03), (1100, 2, 0.02), (3500, -10, 0.012), (9000, -20, 0.02)),
        (280, 900), (0.008, 0.03), _TUBE, 2500, _once, 0.001, 0.8,
    ),
    "finger_snap": Blow(
        ((300, -18, 0.01), (1200, -2, 0.014), (2500, 3, 0.012), (5000, -6, 0.008),
         (11000, -18, 0.004)),
        (1100, 2700), (0.003, 0.01), _TUBE, 7000, _few(0.8, 3, 1, 6), 0.0006, 0.8, 0.3,
    ),
    "footsteps": Blow(
        ((80, 2, 0.04), (250, 0, 0.03), (1000, -7, 0.03), (3500, -10, 0.035), (9000, -20, 0.02)),
        (70, 230), (0.01, 0.04), _WOOD, 2500, _gait(0.7, 1.5, ((0.0, 0.5),)), 0.004, 0.6,
    ),
    "horse_hooves": Blow(
        ((150, 0, 0.02), (600, 4, 0.025), (1500, 2, 0.018), (4000, -10, 0.01), (9000, -24, 0.005)),
        (420, 1100), (0.008, 0.03), _CUP, 4000,
        _gait(0.8, 2.2, ((0.0, 0.22, 0.5, 0.72), (0.0, 0.5), (0.0, 0.15, 0.35))), 0.0015,
    ),
    "woodpecker": Blow(
        ((250, -6, 0.015), (900, 2, 0.02), (2200, 2, 0.014), (5000, -8, 0.008),
         (10000, -24, 0.004)),
        (500, 1500), (0.008, 0.03), _WOOD, 5000, _drumming, 0.0006, 0.3, 0.6,
    ),
    "heartbeat": Blow(
        ((40, 6, 0.06), (80, 2, 0.05), (160, -10, 0.03), (400, -34, 0.02), (2000, -60, 0.01)),
        (32, 70), (0.03, 0.08), _TUBE, 130, _beating, 0.015, 0.0,
    ),
    "coins": Blow(
        ((1000, -20, 0.05), (3000, -2, 0.15), (6000, 0, 0.16), (9000, 0, 0.12), (13000, -6, 0.06)),
        (2600, 6000), (0.04, 0.25), (1.0, 1.47, 1.78, 2.09, 2.9), 14000, _spilled, 0.0003, 0.3,
    ),
    "clock_ticking": Blow(
        ((400, -16, 0.008), (1500, -4, 0.012), (3500, 0, 0.01), (7000, -4, 0.007),
         (12000, -14, 0.004)),
        (900, 3600), (0.004, 0.02), _CUP, 8000,
        _gait(0.5, 2.5, ((0.0, 0.5), (0.0, 0.48), (0.0, 0.25, 0.5, 0.75))), 0.0004,
    ),
    "typewriter": Blow(
        ((150, -2, 0.02), (600, 0, 0.02), (2000, 2, 0.02), (5000, 0, 0.015), (11000, -12, 0.008)),
        (300, 900), (0.01, 0.05), _STEEL, 7000, _busy(4, 9), 0.0008, 0.8,
    ),
    "keyboard_typing": Blow(
        ((200, -8, 0.01), (900, -2, 0.01), (2500, 0, 0.008), (6000, -6, 0.006),
         (11000, -16, 0.003)),
        (250, 900), (0.004, 0.014), _WOOD, 5000, _busy(5, 12), 0.001, 0.7,
    ),
    "sewing_machine": Blow(
        ((120, 0, 0.02), (450, 2, 0.02), (1500, -2, 0.015), (4500, -8, 0.01), (10000, -20, 0.006)),
        (110, 420), (0.01, 0.04), _STEEL, 4000, _few(7, 19, 25, 70, 0.03), 0.001, 0.6,
    ),
    "camera_shutter": Blow(
        ((300, -8, 0.01), (1200, 0, 0.012), (3500, 2, 0.012), (7000, -3, 0.008),
         (12000, -12, 0.005)),
        (600, 2200), (0.004, 0.015), _CUP, 9000, _few(7, 22, 2, 3, 0.1), 0.0005, 0.8,
    ),
    "church_bell": Blow(
        ((250, 0, 2.5), (600, 2, 1.6), (1300, 0, 0.9), (3000, -10, 0.4), (7000, -26, 0.12)),
        (110, 330), (1.6, 4.0), (1.0, 2.0, 2.4, 3.0, 4.0, 5.3, 6.7), 6000, _few(0.35, 1.2, 2, 5),
        0.002, 0.2, 0.8,
    ),
    "glass_breaking": Blow(
        ((800, -16, 0.02), (2500, -2, 0.06), (5000, 2, 0.1), (9000, 0, 0.09), (14000, -4, 0.05)),
        (1800, 5200), (0.03, 0.16), (1.0, 1.34, 1.91, 2.6), 14000, _spilled, 0.0003, 0.9,
    ),
    "fireworks": Blow(
        ((70, 2, 0.25), (300, 0, 0.2), (1200, -4, 0.12), (4000, -8, 0.15), (10000, -14, 0.2)),
        (40, 110), (0.05, 0.2), _TUBE, 1500, _few(0.6, 5, 2, 8, 0.4), 0.008, 2.0, 1.8,
    ),
}  # fmt: skip


def _laid(draw: Draw, blow: Blow, hits: list[dsp.Wave]) -> dsp.Wave:
    times, gains = blow.rhythm(draw)
    n = min(5 * dsp.RATE_HZ, dsp.samples(float(times[-1])) + max(len(hit) for hit in hits))
    out = dsp.scatter(n, times, gains, hits, draw)
    if blow.tail_s and draw.chance(0.7):
        out = dsp.room(
            draw, out, blow.tail_s * draw.uniform(0.5, 1.3), draw.uniform(0.1, 0.5), 3500
        )
    return dsp.fade(out[: 5 * dsp.RATE_HZ], 0.0, 0.02)


def _painted(blow: Blow) -> Generator:
    """Several takes of the blow, each painted anew, laid on the rhythm."""

    def generate(draw: Draw) -> np.ndarray:
        size, hold, bright = (
            draw.log_uniform(0.6, 1.7), draw.log_uniform(0.6, 1.8), draw.uniform(-4, 4)
        )  # fmt: skip
        own = 3.0 * draw.noise(len(blow.bands))
        bands = [
            (hz * size, db + own[k] + bright * np.log2(hz / 1000), decay * hold)
            for k, (hz, db, decay) in enumerate(blow.bands)
        ]
        longest = min(3.5, 7 * max(decay for _, _, decay in bands))
        takes = [by.printed(draw, bands, longest) for _ in range(draw.integer(2, 4))]
        return _laid(draw, blow, takes)

    return generate


def _guided(blow: Blow) -> Generator:
    """A burst of contact noise sent round banded waveguides."""

    def generate(draw: Draw) -> np.ndarray:
        low, ring = draw.log_uniform(*blow.low_hz), draw.log_uniform(*blow.ring_s)
        contact = blow.contact_s * draw.log_uniform(0.5, 2)
        ratios = np.asarray(blow.modes) * np.exp(0.04 * draw.noise(len(blow.modes)))
        click = blow.click * draw.log_uniform(0.5, 2)
        takes = []
        for _ in range(3 if ring < 0.2 else 1):
            n = dsp.samples(min(3.5, 6 * ring + 8 * contact + 0.05))
            push = draw.noise(n) * dsp.decay(n, contact, 0.3 * contact)
            push[: dsp.samples(contact)] += 2.0
            size = float(np.exp(0.03 * draw.noise(1)[0]))
            if len(ratios) > 3:
                body = by.bar(draw, push, (low * size * ratios).tolist(), ring)
            else:
                body = by.guide(push, low * size, ring, blow.bright_hz)
            body = dsp.peak(dsp.lowpass(body, blow.bright_hz, 1.0))
            takes.append(dsp.fade(body + click * dsp.peak(dsp.highpass(push, 200)), 0, 0.01))
        return _laid(draw, blow, takes)

    return generate


_ONE = ("footsteps", "coins", "keyboard_typing", "camera_shutter", "glass_breaking", "fireworks")
_GUIDED_ONLY = ("church_bell", "clock_ticking")

SOURCES: dict[str, tuple[Source, ...]] = {
    name: (
        *(() if name in _GUIDED_ONLY else (("painted", _painted(blow)),)),
        *(() if name in _ONE else (("waveguide", _guided(blow)),)),
    )
    for name, blow in BLOWS.items()
}
