"""Weather, water, fire, rubbing and breath: painted spectra that move, and clouds of grains.

In:  a Draw.
Out: mono float64 [n] at RATE_HZ, 0.1 to 5 s, of any level; `SOURCES`: class -> (principle,
     generator) pairs.
Knows nothing about the filtered noises of `effects_nature` and its kin.
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
Range = tuple[float, float]
HZ = (60.0, 150.0, 350.0, 800.0, 1800.0, 4000.0, 8000.0, 14000.0)


@dataclass(frozen=True)
class Picture:
    """A spectrum in dB at HZ, and how it moves: swells a second, their depth in dB, how far the
    bright end follows, and the shape of its events."""

    levels: tuple[float, ...]
    swell_hz: Range = (0.1, 0.5)
    depth_db: Range = (0.0, 2.0)
    bright: float = 0.3
    events: str = "steady"  # steady, strokes, puffs, burst, breaths
    rate_hz: Range = (0.0, 0.0)
    grainy_db: float = 1.0  # unrest of every band by itself
    seconds: Range = (2.5, 4.9)


PICTURES: dict[str, Picture] = {
    "rain": Picture((-30, -22, -14, -8, -3, 0, -1, -6), (0.1, 0.4), (0, 3), 0.2),
    "wind": Picture((0, 2, 0, -6, -14, -24, -34, -44), (0.15, 0.7), (5, 14), 0.9, grainy_db=2),
    "ocean_waves": Picture((-6, -2, 0, -2, -5, -10, -16, -24), (0.1, 0.28), (8, 18), 0.8),
    "stream": Picture((-30, -20, -6, 0, 0, -5, -12, -22), (1, 4), (0.5, 2), 0.2, grainy_db=3),
    "waterfall": Picture((-8, -4, 0, 0, -2, -5, -9, -15), (0.1, 0.5), (0, 1.5), 0.1),
    "fire_crackling": Picture((-2, 0, -5, -12, -18, -20, -24, -32), (1, 5), (2, 6), 0.5),
    "steam_hiss": Picture((-50, -44, -34, -22, -10, -2, 0, -3), (0.2, 1), (0, 5), 0.2),
    "snake_hiss": Picture(
        (-50, -44, -34, -20, -8, 0, 0, -6), (0.4, 1.5), (2, 6), 0.2, "breaths", (0.4, 1.2)
    ),
    "breathing": Picture(
        (-34, -22, -10, 0, -3, -8, -16, -28), (0.5, 2), (1, 4), 0.4, "breaths", (0.5, 1.5), 2.0
    ),
    "snoring": Picture(
        (-4, 0, 0, -4, -10, -18, -28, -40), (0.5, 2), (1, 4), 0.4, "snores", (0.3, 0.6), 2.0
    ),
    "cough": Picture(
        (-14, -4, 0, 0, -2, -6, -12, -22), (1, 3), (1, 3), 0.5, "coughs", (1.5, 4.0), 2.0,
        (0.9, 2.6),
    ),
    "sawing": Picture(
        (-34, -22, -12, -4, 0, -1, -5, -14), (1, 3), (1, 3), 0.3, "strokes", (1.0, 3.2), 3.0
    ),
    "zipper": Picture(
        (-50, -40, -28, -14, -5, 0, 0, -6), (1, 3), (1, 3), 0.3, "rise", (0.5, 1.5), 3.0, (0.5, 1.4)
    ),
    "paper_crumple": Picture(
        (-50, -38, -26, -12, -4, 0, -1, -8), (1, 3), (1, 4), 0.3, "crackle", (12, 60), 4.0,
        (1.5, 4.5),
    ),
    "scratching": Picture(
        (-46, -36, -22, -10, -2, 0, -3, -10), (1, 3), (1, 4), 0.3, "strokes", (2.0, 7.0), 3.0
    ),
    "applause": Picture((-34, -24, -12, -2, 0, -3, -8, -18), (0.2, 1), (0, 4), 0.2, grainy_db=2),
    "whoosh": Picture(
        (-8, -2, 0, -1, -5, -10, -16, -26), (1, 3), (0, 2), 0.8, "burst", (0, 0), 1.0, (0.35, 1.6)
    ),
    "thunder": Picture(
        (4, 2, -2, -9, -18, -28, -38, -48), (0.6, 2.5), (5, 12), 0.9, "burst", (0, 0), 3.0, (3, 4.9)
    ),
    "splash": Picture(
        (-14, -8, -3, 0, 0, -3, -8, -16), (1, 4), (2, 5), 0.6, "fall", (0, 0), 2.0, (0.6, 2)
    ),
    "radio_static": Picture((-20, -12, -3, 0, 0, -2, -8, -18), (1, 8), (1, 6), 0.1, grainy_db=3),
    "white_noise": Picture((0, 0, 0, 0, 0, 0, 0, 0), (0.1, 0.2), (0, 0.1), 0.0, grainy_db=0.2),
    "pink_noise": Picture(
        (7, 4, 0, -3.6, -7.1, -10.6, -13.6, -16), (0.1, 0.2), (0, 0.1), 0.0, grainy_db=0.2
    ),
    "riser": Picture(
        (-20, -14, -8, -3, 0, 0, -4, -10), (1, 4), (0, 2), 0.3, "climb", (0, 0), 1.0, (2, 4.8)
    ),
}  # fmt: skip


def _swings(draw: Draw, picture: Picture, seconds: float, count: int) -> dsp.Wave:
    """[count] level in dB of the events, on the picture's time grid."""
    t = np.linspace(0, seconds, count)
    kind = picture.events
    if kind in ("steady", "burst", "fall", "climb", "rise"):
        u = t / seconds
        if kind == "steady":
            return np.zeros(count)
        if kind == "climb":
            return -34 * (1 - u) + np.where(u > 0.97, -20, 0)
        if kind == "rise":
            return np.where((u > 0.04) & (u < 0.93), 6 * u, -50)
        top = draw.uniform(0.02, 0.08) if kind == "fall" else draw.uniform(0.15, 0.6)
        fall = draw.uniform(12, 34)
        return np.where(u < top, -45 * (1 - u / top), -fall * (u - top) / (1 - top))
    rate = draw.uniform(*picture.rate_hz)
    if kind == "crackle":
        out = np.full(count, -26.0)
        hits = draw.rng.integers(0, count, max(3, int(rate * seconds)))
        out[hits] = 8 * draw.rng.random(len(hits)) - 4
        return out
    phase = (t * rate * (1 + 0.05 * float(draw.noise(1)[0])) + draw.rng.random()) % 1.0
    if kind == "coughs":
        return np.where(phase < 0.35, -22 * phase / 0.35, -48)
    on = draw.uniform(0.35, 0.5)
    there = np.clip(phase / on, 0, 1)
    back = np.clip((phase - 0.5) / on, 0, 1)
    arch = np.maximum(np.sin(np.pi * there), draw.uniform(0.2, 0.9) * np.sin(np.pi * back))
    return 20 * np.log10(np.maximum(arch, 0.006))


def _painted(picture: Picture) -> Generator:
    """The picture as noise; its own tilt, a few peaks, swells in which brightness follows."""

    def generate(draw: Draw) -> np.ndarray:
        seconds = draw.uniform(*picture.seconds)
        count = max(8, int(seconds * 60))
        n = dsp.samples(seconds)
        own = np.array(picture.levels) + 2.5 * draw.noise(8)
        if picture.grainy_db < 0.5:
            own = np.array(picture.levels)
        swell = dsp.wander(draw, n, draw.uniform(*picture.swell_hz))
        slow = draw.uniform(*picture.depth_db) * swell[:: max(1, n // count)][:count]
        slow = np.pad(slow, (0, count - len(slow)), mode="edge")
        events = _swings(draw, picture, seconds, count)
        follow = 1 + picture.bright * np.linspace(-0.5, 1, 8)
        grid = own + (slow + 0.5 * events)[:, None] * follow + 0.5 * events[:, None]
        grid += picture.grainy_db * draw.noise(count * 8).reshape(count, 8)
        if picture.events == "climb":
            grid += np.linspace(-12, 12, count)[:, None] * np.linspace(-1, 1, 8)
        out = by.painted(draw, n, grid, HZ)
        if picture.events == "snores":
            t = dsp.cycles(draw.uniform(28, 75) * (1 + 0.1 * dsp.wander(draw, n, 5)))
            out = out * np.maximum(np.sin(2 * np.pi * t), 0) ** 2
        return dsp.fade(out, 0.005, 0.03)

    return generate


# --- clouds of grains --------------------------------------------------------------------------


@dataclass(frozen=True)
class Cloud:
    """Grains a second, their pitch in Hz, length in seconds and glide in octaves, and how noisy."""

    rate_hz: Range
    hz: Range
    length_s: Range
    glide: Range = (0.0, 0.0)
    noisy: float = 0.0
    gust: float = 0.3  # how much the rate swings
    spread: float = 0.7  # nepers of loudness between grains
    sharp: bool = True
    bed_db: float = -60.0  # painted noise under the grains
    bed: tuple[float, ...] = (-6, -3, 0, -3, -6, -9, -14, -20)
    seconds: Range = (2.5, 4.9)


CLOUDS: dict[str, Cloud] = {
    "rain": Cloud((150, 1500), (1500, 9000), (0.0006, 0.003), noisy=0.05, bed_db=-24),
    "hail": Cloud((25, 160), (700, 5500), (0.001, 0.006), noisy=0.03, bed_db=-32),
    "stream": Cloud((60, 320), (350, 2600), (0.006, 0.03), (0.1, 0.5), gust=0.6, bed_db=-22),
    "bubbling": Cloud((6, 45), (180, 1100), (0.01, 0.05), (0.3, 1.2), gust=0.5),
    "pouring_liquid": Cloud((50, 220), (300, 1800), (0.008, 0.03), (0.2, 0.8), bed_db=-26),
    "dripping_water": Cloud((0.8, 4.5), (600, 2400), (0.012, 0.05), (0.2, 1.0), gust=0.1),
    "fire_crackling": Cloud((6, 45), (900, 7000), (0.0004, 0.003), noisy=0.15, spread=1.3,
                            bed_db=-28, bed=(0, 0, -6, -14, -20, -24, -28, -34)),
    "waterfall": Cloud((700, 1600), (250, 3500), (0.003, 0.02), (0.0, 0.3), gust=0.1, bed_db=-8),
    "vinyl_crackle": Cloud((4, 40), (900, 6000), (0.0002, 0.0012), noisy=0.1, spread=1.1,
                           bed_db=-36),
    "paper_crumple": Cloud((70, 420), (1500, 9000), (0.0003, 0.002), noisy=0.25, gust=1.2,
                           spread=1.2),
    "applause": Cloud((25, 420), (700, 2400), (0.002, 0.006), noisy=0.2, gust=0.3, bed_db=-30),
    "glitch": Cloud((12, 70), (120, 9000), (0.004, 0.05), (-1.5, 1.5), gust=1.2, sharp=False),
    "radio_static": Cloud((90, 700), (600, 5000), (0.0004, 0.004), noisy=0.3, gust=1.0, bed_db=-14),
    "scratching": Cloud((180, 900), (1500, 8000), (0.0004, 0.002), noisy=0.2, gust=1.6),
    "sawing": Cloud((400, 1200), (700, 5000), (0.0006, 0.004), noisy=0.15, gust=1.6),
    "wood_creak": Cloud((25, 130), (250, 1500), (0.003, 0.012), noisy=0.02, gust=1.0, spread=0.4),
}  # fmt: skip


def _clouded(name: str, cloud: Cloud) -> Generator:
    def generate(draw: Draw) -> np.ndarray:
        seconds = draw.uniform(*cloud.seconds)
        n = dsp.samples(seconds)
        rate = draw.log_uniform(*cloud.rate_hz)
        grid = np.linspace(0, seconds, 400)
        swing = dsp.wander(draw, n, draw.uniform(0.3, 3))[:: max(1, n // 400)][:400]
        density = np.exp(cloud.gust * np.resize(swing, 400))
        if cloud.gust > 1.5:  # strokes to and fro
            density *= np.abs(np.sin(np.pi * draw.uniform(1, 4) * grid)) ** 2 + 1e-3
        total = np.cumsum(density)
        count = max(3, int(rate * seconds))
        if rate < 5:
            at = (np.arange(count) + 0.12 * draw.noise(count) + 0.5) / count * total[-1]
        elif name == "wood_creak":
            at = (np.arange(count) + 0.5) / count * total[-1]
        else:
            at = np.sort(draw.rng.random(count)) * total[-1]
        times = np.interp(at, total, grid)
        low, high = cloud.hz
        middle, octaves = draw.log_uniform(low * 1.3, high / 1.3), draw.uniform(0.15, 0.8)
        freqs = np.clip(middle * 2 ** (octaves * draw.noise(count)), low / 2, 13000.0)
        if name in ("dripping_water", "wood_creak"):
            freqs = middle * np.exp(0.06 * draw.noise(count))
        if name == "pouring_liquid":  # the vessel fills, and the air in it gets shorter
            freqs = freqs * 2 ** (draw.uniform(0.2, 1.1) * times / seconds)
        lengths = draw.log_uniform(*cloud.length_s) * np.exp(0.4 * draw.noise(count))
        gains = np.exp(cloud.spread * draw.noise(count))
        out = by.grains(
            draw, n, times, freqs, lengths, gains, draw.uniform(*cloud.glide), cloud.noisy,
            cloud.sharp,
        )  # fmt: skip
        if cloud.bed_db > -55:
            bed = np.array([cloud.bed, cloud.bed]) + 2 * draw.noise(8)
            level = 10 ** ((cloud.bed_db + draw.uniform(-6, 8)) / 20)
            out = dsp.peak(out) + 3 * level * dsp.rms(by.painted(draw, n, bed, HZ))
        return dsp.fade(out, 0.005, 0.05)

    return generate


SOURCES: dict[str, tuple[Source, ...]] = {
    name: (
        *((("painted", _painted(PICTURES[name])),) if name in PICTURES else ()),
        *((("grains", _clouded(name, CLOUDS[name])),) if name in CLOUDS else ()),
    )
    for name in {**PICTURES, **CLOUDS}
}
