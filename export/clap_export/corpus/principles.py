"""Ways to make a sound: each function is one principle of synthesis, and shares code with no other.

In:  a Draw, paths of pitch or level, and the few numbers that describe a body.
Out: mono float64 [n] at RATE_HZ, at any level.
Knows nothing about classes.

The modules named `effects_*` that came first filter noise and oscillators (`dsp`); the ones built
on this module use additive partials, frequency modulation, waveguides, painted spectra, grains,
wavetables and firing pulses, so that one class can be heard from sources that have nothing in
common but what is heard.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from clap_export.corpus import dsp
from clap_export.corpus.draw import Draw

Bands = Sequence[tuple[float, float, float]]  # Hz, level in dB, decay to 1/e in seconds
Formants = Sequence[tuple[float, float, float]]  # Hz, width in Hz, gain

_TOP_HZ = 14000.0


def spread(values: dsp.Wave, n: int) -> dsp.Wave:
    """[k] values at equal distances -> [n] straight lines between them."""
    return np.interp(np.arange(n), np.linspace(0, n - 1, len(values)), values)


# --- additive ----------------------------------------------------------------------------------


def partials(
    draw: Draw,
    pitch_hz: dsp.Wave,
    formants: Formants,
    slope: float,
    shimmer: float,
    opening: tuple[float, float] = (1.0, 1.0),
    count: int = 32,
) -> dsp.Wave:
    """[n] harmonics of a pitch path, each as loud as the formants are where it passes.

    slope is the fall of the source (1 is -6 dB an octave); shimmer the swing of every harmonic
    on its own, in nepers; the formants open from one factor to another over the call.
    """
    n = len(pitch_hz)
    at = np.linspace(0, n - 1, max(6, n // 400)).astype(int)
    coarse = pitch_hz[at]
    throat = np.linspace(*opening, len(at))
    turn = np.exp(2j * np.pi * dsp.cycles(pitch_hz)).astype(np.complex64)
    z, out = turn.copy(), np.zeros(n)
    for k in range(1, min(count, int(_TOP_HZ / coarse.min())) + 1):
        hz = k * coarse
        gain = sum(g / (1 + ((hz - f * throat) / w) ** 2) for f, w, g in formants) + 0.01
        gain = gain * k**-slope * (hz < _TOP_HZ) * np.exp(shimmer * draw.noise(len(at)))
        out += spread(np.asarray(gain), n) * z.imag
        z *= turn
    return out


# --- frequency modulation ----------------------------------------------------------------------


def fm(pitch_hz: dsp.Wave, ratio: float, index: dsp.Wave | float, phase: float = 0.0) -> dsp.Wave:
    """[n] a sine whose phase is swung by another, ratio times as fast, by index radians."""
    turns = 2 * np.pi * (dsp.cycles(pitch_hz) + phase)
    return np.sin(turns + index * np.sin(ratio * turns))


def fm_voice(
    draw: Draw, pitch_hz: dsp.Wave, formants: Formants, index: float, rough: float
) -> dsp.Wave:
    """[n] a carrier on the harmonic nearest to each formant, all modulated by the pitch.

    rough lets noise and a subharmonic into the modulator: 0 sings, 1 rasps.
    """
    n = len(pitch_hz)
    turns = 2 * np.pi * dsp.cycles(pitch_hz * (1 + 0.3 * rough * dsp.wander(draw, n, 60) / 3))
    swing = np.sin(turns) + rough * (np.sin(0.5 * turns) + dsp.wander(draw, n, 900))
    middle = float(np.mean(pitch_hz))
    out = 0.5 * np.sin(turns + 0.5 * index * swing)
    for hz, width, gain in formants:
        k = max(1, round(hz / middle))
        depth = index * (0.5 + 1.5 * width / middle)
        out += gain * np.sin(k * turns + min(depth, 4.0) * swing)
    return out


# --- waveguides --------------------------------------------------------------------------------


def guide(
    x: dsp.Wave, freq_hz: float, ring_s: float, bright_hz: float, closed: bool = False
) -> dsp.Wave:
    """[n] x in a tube or on a string: it comes back every period, duller each time."""
    n = len(x)
    m = dsp.fast_length(n + dsp.samples(min(6 * ring_s, 4.0)))
    hz = np.fft.rfftfreq(m, 1 / dsp.RATE_HZ)
    back = np.exp(-1 / (freq_hz * ring_s)) / np.sqrt(1 + (hz / bright_hz) ** 2)
    loop = back * np.exp(-2j * np.pi * hz / (2 * freq_hz if closed else freq_hz))
    return np.fft.irfft(np.fft.rfft(x, m) / (1 + loop if closed else 1 - loop), m)[:n]


def bar(
    draw: Draw, x: dsp.Wave, freqs_hz: Sequence[float], ring_s: float, width: float = 0.12
) -> dsp.Wave:
    """[n] x through banded waveguides: one narrow closed loop for each mode of a stiff body."""
    n = len(x)
    m = dsp.fast_length(n + dsp.samples(min(5 * ring_s, 4.0)))
    hz = np.fft.rfftfreq(m, 1 / dsp.RATE_HZ)
    total = np.zeros(len(hz), dtype=complex)
    for k, freq in enumerate(freqs_hz):
        if freq >= 0.95 * dsp.NYQUIST_HZ:
            continue
        ring = max(ring_s * (freqs_hz[0] / freq) ** 0.6, 2 / freq)
        near = slice(*np.searchsorted(hz, (freq * (1 - 3.5 * width), freq * (1 + 3.5 * width))))
        band = np.exp(-0.5 * ((hz[near] - freq) / (width * freq)) ** 2)
        loop = np.exp(-1 / (freq * ring)) * band * np.exp(-2j * np.pi * hz[near] / freq)
        total[near] += band * (0.5 + draw.rng.random()) / (1 + 0.35 * k) / (1 - loop)
    return np.fft.irfft(np.fft.rfft(x, m) * total, m)[:n]


# --- painted spectra ---------------------------------------------------------------------------

_FRAME = 1024


def painted(draw: Draw, n: int, levels_db: np.ndarray, hz: Sequence[float]) -> dsp.Wave:
    """[n] noise whose spectrum follows a picture: levels_db [time, band] at the bands' hz.

    Bands are joined by straight lines over log frequency, times by straight lines; phases are
    random, so that nothing of a filter or an oscillator is left.
    """
    hop = _FRAME // 2
    count = n // hop + 2
    bins = np.log(np.maximum(np.fft.rfftfreq(_FRAME, 1 / dsp.RATE_HZ), 20.0))
    position = np.linspace(0, len(levels_db) - 1.001, count)
    first = position.astype(int)
    part = (position - first)[:, None]
    after = np.minimum(first + 1, len(levels_db) - 1)
    rows = levels_db[first] * (1 - part) + levels_db[after] * part
    weights = np.zeros((rows.shape[1], len(bins)))
    knots = np.log(np.asarray(hz))
    for k in range(len(knots)):
        weights[k] = np.interp(bins, knots, np.eye(len(knots))[k])
    grid = 10 ** (rows @ weights / 20)
    spectrum = grid * draw.noise(2 * grid.size).view(complex).reshape(grid.shape)
    frames = np.fft.irfft(spectrum, _FRAME, axis=1)
    frames *= np.sin(np.pi * (np.arange(_FRAME) + 0.5) / _FRAME)
    out = np.zeros((count + 1, hop))
    out[:-1] += frames[:, :hop]
    out[1:] += frames[:, hop:]
    return out.reshape(-1)[hop : hop + n]


def printed(draw: Draw, bands: Bands, seconds: float) -> dsp.Wave:
    """[n] one blow, as a recording's spectrum shows it: every band falls at its own speed.

    Painted in frames of 4 ms, so that a hit keeps its edge.
    """
    size, hop = 128, 64
    n = dsp.samples(seconds)
    count = n // hop + 2
    hz = np.log(np.maximum(np.fft.rfftfreq(size, 1 / dsp.RATE_HZ), 60.0))
    knots = np.log([band[0] for band in bands])
    level = np.interp(hz, knots, [band[1] for band in bands])
    level = level + 1.5 * draw.noise(len(hz))
    fall = np.exp(np.interp(hz, knots, np.log([band[2] for band in bands])))
    t = np.arange(count)[:, None] * (hop / dsp.RATE_HZ)
    grid = 10 ** (level / 20) * np.exp(-t / fall)
    frames = np.fft.irfft(
        grid * draw.noise(2 * grid.size).view(complex).reshape(grid.shape), size, axis=1
    )
    frames *= np.sin(np.pi * (np.arange(size) + 0.5) / size)
    out = np.zeros((count + 1, hop))
    out[:-1] += frames[:, :hop]
    out[1:] += frames[:, hop:]
    return dsp.fade(out.reshape(-1)[hop : hop + n], 0.0002, min(0.02, seconds / 4))


# --- grains ------------------------------------------------------------------------------------


def grains(
    draw: Draw,
    n: int,
    times_s: dsp.Wave,
    freqs_hz: dsp.Wave,
    lengths_s: dsp.Wave,
    gains: dsp.Wave,
    glide: float = 0.0,
    noisy: float = 0.0,
    sharp: bool = True,
) -> dsp.Wave:
    """[n] a cloud of short tones: sharp ones are struck and die away, others swell and fade.

    glide is the rise of each in octaves over its length; noisy swings its phase at random.
    """
    size = min(dsp.samples(float(np.max(lengths_s)) * (3 if sharp else 1)), 6400)
    keep = max(1, min(len(times_s), 1_200_000 // size))
    if keep < len(times_s):
        chosen = draw.rng.permutation(len(times_s))[:keep]
        times_s, freqs_hz, lengths_s = times_s[chosen], freqs_hz[chosen], lengths_s[chosen]
        gains = gains[chosen]
    t = np.arange(size, dtype=np.float32)[None, :] / dsp.RATE_HZ
    span = lengths_s[:, None].astype(np.float32)
    bend = 1 + (2.0**glide - 1) * 0.5 * np.minimum(t / span, 1.0) if glide else 1.0
    turns = freqs_hz[:, None].astype(np.float32) * t * bend
    turns = turns + draw.rng.random((len(times_s), 1), dtype=np.float32)
    if noisy:
        turns = turns + noisy * draw.rng.standard_normal(turns.shape, dtype=np.float32)
    shape = np.exp(-t / span) if sharp else np.sin(np.pi * np.clip(t / span, 0, 1)) ** 2
    body = np.sin(np.float32(2 * np.pi) * turns) * shape * gains[:, None].astype(np.float32)
    start = np.round(times_s * dsp.RATE_HZ).astype(np.intp)[:, None] + np.arange(size)[None, :]
    inside = (start >= 0) & (start < n)
    return np.bincount(start[inside], weights=body[inside], minlength=n)[:n].astype(float)


# --- wavetables --------------------------------------------------------------------------------


def table(draw: Draw, harmonics: int, slope: float, odd: float = 1.0) -> dsp.Wave:
    """[2048] one cycle with random phases; even harmonics count odd times less."""
    k = np.arange(1, harmonics + 1)
    level = k**-slope * np.exp(0.4 * draw.noise(harmonics)) * np.where(k % 2, 1.0, 1 / odd)
    spectrum = np.zeros(1025, dtype=complex)
    spectrum[1 : harmonics + 1] = level * np.exp(2j * np.pi * draw.rng.random(harmonics))
    return dsp.peak(np.fft.irfft(spectrum, 2048))


def scanned(cycle: dsp.Wave, freq_hz: dsp.Wave) -> dsp.Wave:
    """[n] the cycle read at a changing speed, with straight lines between its points."""
    position = dsp.cycles(freq_hz) % 1.0 * len(cycle)
    first = position.astype(np.intp)
    part = position - first
    longer = np.append(cycle, cycle[0])
    return longer[first] * (1 - part) + longer[first + 1] * part


# --- pulses ------------------------------------------------------------------------------------


def fired(
    draw: Draw, rate_hz: dsp.Wave, grain: dsp.Wave, cylinders: int = 1, uneven: float = 0.1
) -> dsp.Wave:
    """[n] one blow for every turn of a changing rate; each of the cylinders has its own strength,
    and no two turns are alike."""
    n = len(rate_hz)
    turns = np.floor(dsp.cycles(rate_hz))
    at = np.flatnonzero(np.diff(turns, prepend=-1.0) > 0)
    own = np.exp(1.5 * uneven * draw.noise(cylinders))
    gains = own[np.arange(len(at)) % cylinders] * np.exp(uneven * draw.noise(len(at)))
    out = np.bincount(at, weights=gains, minlength=n)[:n].astype(float)
    return dsp.convolve(out, grain)[:n]


# --- motion ------------------------------------------------------------------------------------


def passing(
    draw: Draw, x: dsp.Wave, closest_s: float, speed_m_s: float, distance_m: float
) -> dsp.Wave:
    """[n] x on something that drives past: pitch, level and brightness change as it does."""
    n = len(x)
    t = dsp.seconds_axis(n)
    metres = np.sqrt(distance_m**2 + (speed_m_s * (t - closest_s)) ** 2)
    source = (t - metres / 343.0) * dsp.RATE_HZ
    source = np.clip(source - source.min(), 0, n - 1.0)
    heard = np.interp(source, np.arange(n), x)
    near = distance_m / metres
    dull = dsp.lowpass(heard, 900.0 + 600 * draw.rng.random(), 1.0)
    return near * dsp.morph(dull, heard, near)
