"""Building blocks of synthesized sound: noise, oscillators, envelopes, filters, resonators.

In:  numbers in Hz, seconds and decibels, arrays of samples, and a Draw for grain.
Out: mono float64 arrays [n] at RATE_HZ; no function writes to an argument unless it says so.
Knows nothing about classes.

Every filter is one multiplication in the frequency domain, over a zero-padded transform of a
length that factors into 2, 3 and 5, so that no loop runs over samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from clap_export.corpus.draw import Draw

RATE_HZ = 32000
NYQUIST_HZ = RATE_HZ / 2

Wave = npt.NDArray[np.float64]
Generator = Callable[[Draw], Wave]


# --- lengths, time and placing -----------------------------------------------------------------


def samples(seconds: float) -> int:
    """Samples in a time, at least one."""
    return max(1, round(seconds * RATE_HZ))


def seconds_axis(n: int) -> Wave:
    """[n] times from 0, in seconds."""
    return np.arange(n) / RATE_HZ


def fast_length(n: int) -> int:
    """The smallest length of at least n that is 2^k times 1, 9/8, 5/4 or 3/2."""
    power = 1 << max(4, (max(n, 1) - 1).bit_length() - 1)
    for numerator in (8, 9, 10, 12, 16):
        if power * numerator // 8 >= n:
            return power * numerator // 8
    return power * 2


def silence(seconds: float) -> Wave:
    return np.zeros(samples(seconds))


def place(out: Wave, sound: Wave, at_s: float, gain: float = 1.0) -> None:
    """Add sound into out (in place) from at_s on; what does not fit is cut."""
    start = max(0, round(at_s * RATE_HZ))
    n = min(len(sound), len(out) - start)
    if n > 0:
        out[start : start + n] += gain * sound[:n]


def join(parts: Sequence[Wave], gap_s: float = 0.0) -> Wave:
    """Parts one after another with the same silence between them."""
    gap = np.zeros(max(0, round(gap_s * RATE_HZ)))
    pieces: list[Wave] = []
    for index, part in enumerate(parts):
        if index:
            pieces.append(gap)
        pieces.append(part)
    return np.concatenate(pieces)


def mix(*parts: Wave) -> Wave:
    """Sum of sounds that start together; as long as the longest."""
    out = np.zeros(max(len(part) for part in parts))
    for part in parts:
        out[: len(part)] += part
    return out


def peak(x: Wave, level: float = 1.0) -> Wave:
    """x scaled so that its largest magnitude is level; silence stays silent."""
    top = float(np.max(np.abs(x))) if len(x) else 0.0
    return x * (level / top) if top > 0 else x.copy()


def rms(x: Wave, level: float = 1.0) -> Wave:
    """x scaled to a root mean square of level; silence stays silent."""
    value = float(np.sqrt(np.mean(x * x))) if len(x) else 0.0
    return x * (level / value) if value > 0 else x.copy()


def saturate(x: Wave, drive: float = 1.0) -> Wave:
    """Soft clipping; small signals pass with a gain of drive."""
    return np.tanh(drive * x)


def tame(x: Wave, crest: float) -> Wave:
    """x with its peaks softly held to crest times its root mean square."""
    top = crest * float(np.sqrt(np.mean(x * x)))
    return top * np.tanh(x / top) if top > 0 else x.copy()


# --- envelopes and slow control ----------------------------------------------------------------


def fade(x: Wave, in_s: float = 0.005, out_s: float = 0.01) -> Wave:
    """x with raised-cosine ends."""
    out = np.array(x, dtype=float)
    a, b = min(samples(in_s), len(out)), min(samples(out_s), len(out))
    out[:a] *= 0.5 - 0.5 * np.cos(np.pi * np.arange(a) / a)
    out[len(out) - b :] *= 0.5 + 0.5 * np.cos(np.pi * np.arange(1, b + 1) / b)
    return out


def decay(n: int, time_s: float, attack_s: float = 0.0) -> Wave:
    """[n] exponential fall to 1/e in time_s, after a linear rise of attack_s."""
    t = seconds_axis(n)
    out = np.exp(-np.maximum(t - attack_s, 0.0) / time_s)
    return out * np.minimum(t / attack_s, 1.0) if attack_s > 0 else out


def curve(n: int, *points: tuple[float, float]) -> Wave:
    """[n] straight lines through (position 0..1, value) points."""
    return np.interp(np.linspace(0.0, 1.0, n), [p for p, _ in points], [v for _, v in points])


def arc(n: int, power: float = 1.0) -> Wave:
    """[n] half a sine, 0 to 1 to 0, raised to power."""
    return np.sin(np.pi * (np.arange(n) + 0.5) / n) ** power


# Slow curves are drawn on every 32nd sample (1 kHz) and joined by straight lines.
_CONTROL_STEP = 32


def wander(draw: Draw, n: int, rate_hz: float) -> Wave:
    """[n] smooth random curve of about unit variance with rate_hz turns a second."""
    knots = max(4, int(n / RATE_HZ * rate_hz) + 3)
    values = draw.noise(knots)
    step = _CONTROL_STEP if rate_hz <= 100 else 1
    x = np.linspace(0.0, knots - 1.001, n // step + 2)
    i = x.astype(np.intp)
    w = x - i
    w = w * w * (3 - 2 * w)
    out = values[i] * (1 - w) + values[i + 1] * w
    if step > 1:
        out = (out[:-1, None] + np.diff(out)[:, None] * (np.arange(step) / step)).ravel()
    return out[:n]


def poisson_times(draw: Draw, rate_hz: float, seconds: float) -> Wave:
    """Sorted random instants, rate_hz of them a second on average and never none."""
    count = max(1, int(draw.rng.poisson(rate_hz * seconds)))
    return np.sort(draw.rng.random(count) * seconds)


def regular_times(draw: Draw, rate_hz: float, seconds: float, jitter: float = 0.0) -> Wave:
    """Instants at a steady rate, each moved by jitter times the period (one sigma)."""
    steps = np.arange(0.0, seconds * rate_hz)
    times = (steps + jitter * draw.noise(len(steps))) / rate_hz
    return np.clip(times, 0.0, max(seconds - 1 / RATE_HZ, 0.0))


# --- oscillators -------------------------------------------------------------------------------


def cycles(freq_hz: Wave | float, n: int | None = None) -> Wave:
    """Phase in cycles of an oscillator of a constant (with n) or changing frequency."""
    if isinstance(freq_hz, np.ndarray):
        return np.cumsum(freq_hz) / RATE_HZ
    return np.arange(n or 0) * (freq_hz / RATE_HZ)


def sine(freq_hz: Wave | float, n: int | None = None, phase: float = 0.0) -> Wave:
    return np.sin(2 * np.pi * (cycles(freq_hz, n) + phase))


def _wrap(phase: np.ndarray) -> np.ndarray:
    """Phase in cycles, brought into [0, 1); several times faster than `% 1.0`."""
    return phase - np.floor(phase)


def _smooth_step(out: np.ndarray, phase: np.ndarray, step: np.ndarray | float, gain: float) -> None:
    """Add to out, in place, the two-sample polynomial that takes most aliasing off a unit step at
    phase 0 (polyBLEP); only the samples beside a step are visited."""
    width = np.broadcast_to(np.maximum(step, 1e-9), phase.shape)
    after = np.flatnonzero(phase < width)
    x = phase[after] / width[after]
    out[after] += gain * (x + x - x * x - 1)
    before = np.flatnonzero(phase > 1 - width)
    x = (phase[before] - 1) / width[before]
    out[before] += gain * (x * x + x + x + 1)


def saw(freq_hz: np.ndarray | float, n: int | None = None, phase: float = 0.0) -> np.ndarray:
    p = _wrap(cycles(freq_hz, n) + phase)
    out = 2 * p - 1
    _smooth_step(out, p, np.asarray(freq_hz) / RATE_HZ, -1.0)
    return out


def square(
    freq_hz: np.ndarray | float, n: int | None = None, duty: float = 0.5, phase: float = 0.0
) -> np.ndarray:
    step = np.asarray(freq_hz) / RATE_HZ
    p = _wrap(cycles(freq_hz, n) + phase)
    out = np.where(p < duty, 1.0, -1.0)
    _smooth_step(out, p, step, 1.0)
    _smooth_step(out, _wrap(p + (1 - duty)), step, -1.0)
    return out


def triangle(freq_hz: Wave | float, n: int | None = None, phase: float = 0.0) -> Wave:
    return 4 * np.abs(_wrap(cycles(freq_hz, n) + phase) - 0.5) - 1


def glottis(freq_hz: Wave | float, n: int | None = None, open_part: float = 0.6) -> Wave:
    """Flow derivative of vocal folds: a slow opening and one sharp closing per period."""
    p = cycles(freq_hz, n) % 1.0
    q = p / open_part
    return np.where(q < 1, 2 * q - 3 * q * q, 0.0)


def harmonics(freq_hz: Wave | float, gains: Sequence[float], n: int | None = None) -> Wave:
    """Harmonic k+1 at gains[k]; those above 0.95 of Nyquist anywhere are left out."""
    p = 2 * np.pi * cycles(freq_hz, n)
    top = float(np.max(freq_hz))
    out = np.zeros(len(p))
    for k, gain in enumerate(gains, start=1):
        if gain and top * k < 0.95 * NYQUIST_HZ:
            out += gain * np.sin(k * p)
    return out


def modes(
    n: int, freqs_hz: Sequence[float], decays_s: Sequence[float], gains: Sequence[float]
) -> Wave:
    """[n] sum of decaying sinusoids: a struck body. Modes outside of the band are left out."""
    kept = [
        (freq, time_s, gain)
        for freq, time_s, gain in zip(freqs_hz, decays_s, gains, strict=True)
        if 0 < freq < 0.97 * NYQUIST_HZ
    ]
    if not kept:
        return np.zeros(n)
    freqs, times, levels = np.array(kept, dtype=float).T
    pole = (2j * np.pi * freqs - 1 / times) / RATE_HZ
    # exp(pole * (block * size + i)) is a product: one small matrix product makes every sample.
    size = 256
    blocks = np.exp(np.outer(np.arange(-(-n // size)) * size, pole)) * levels
    within = np.exp(np.outer(pole, np.arange(size)))
    return (blocks.real @ within.imag + blocks.imag @ within.real).reshape(-1)[:n]


# --- noise -------------------------------------------------------------------------------------


def white(draw: Draw, n: int) -> Wave:
    return draw.noise(n)


def sloped(draw: Draw, n: int, db_per_octave: float) -> Wave:
    """[n] unit-variance noise with a spectral slope: -3 is pink, -6 brown. Flat below 20 Hz."""
    m = fast_length(n)
    freqs = np.maximum(np.fft.rfftfreq(m, 1 / RATE_HZ), 20.0)
    spectrum = draw.noise(2 * len(freqs)).view(complex) * freqs ** (db_per_octave / 6.0206)
    spectrum[0] = 0
    return rms(np.fft.irfft(spectrum, m)[:n])


def band_noise(
    draw: Draw, n: int, low_hz: float, high_hz: float, order: float = 2.0, tilt_db: float = 0.0
) -> Wave:
    """[n] unit-variance noise between two edges, with tilt_db per octave inside the band."""
    m = fast_length(n)
    freqs = np.fft.rfftfreq(m, 1 / RATE_HZ)
    response = _band_response(freqs, low_hz, high_hz, order)
    if tilt_db:
        response = response * (np.maximum(freqs, 20.0) / 1000.0) ** (tilt_db / 6.0206)
    return rms(np.fft.irfft(draw.noise(2 * len(freqs)).view(complex) * response, m)[:n])


def moving_band(draw: Draw, freq_hz: Wave, width_hz: float) -> Wave:
    """[n] narrow noise whose centre follows freq_hz: a whistle that breathes, not a sine."""
    n = len(freq_hz)
    phase = cycles(freq_hz) + 0.2 * wander(draw, n, width_hz)
    return wander(draw, n, width_hz) * np.sin(2 * np.pi * phase)


def burst(
    draw: Draw,
    seconds: float,
    low_hz: float,
    high_hz: float,
    decay_s: float,
    attack_s: float = 0.001,
) -> Wave:
    """Band noise that rises in attack_s and falls to 1/e in decay_s."""
    n = samples(seconds)
    return fade(band_noise(draw, n, low_hz, high_hz) * decay(n, decay_s, attack_s), 0.0002, 0.005)


def impulses(n: int, times_s: Wave, gains: Wave | float = 1.0) -> Wave:
    """[n] zeros with an impulse at each time that falls inside."""
    index = np.round(np.asarray(times_s) * RATE_HZ).astype(np.intp)
    inside = (index >= 0) & (index < n)
    weights = np.broadcast_to(np.asarray(gains, dtype=float), index.shape)
    return np.bincount(index[inside], weights=weights[inside], minlength=n)[:n].astype(float)


def scatter(n: int, times_s: Wave, gains: Wave | float, grains: Sequence[Wave], draw: Draw) -> Wave:
    """[n] each instant sounds one of a few grains, picked at random."""
    out = np.zeros(n)
    weights = np.broadcast_to(np.asarray(gains, dtype=float), times_s.shape)
    pick = draw.rng.integers(len(grains), size=len(times_s))
    if len(times_s) <= 800:  # above, a convolution per grain is the faster way
        for at, gain, k in zip(times_s, weights, pick, strict=False):
            place(out, grains[int(k)], float(at), float(gain))
        return out
    for k, grain in enumerate(grains):
        chosen = pick == k
        if chosen.any():
            out += convolve(impulses(n, times_s[chosen], weights[chosen]), grain)[:n]
    return out


def struck(
    draw: Draw,
    seconds: float,
    low_hz: float,
    ratios: Sequence[float],
    ring_s: float,
    contact: float,
    damping: float = 0.7,
) -> Wave:
    """A blow on a body: modes at low_hz times ratios, higher ones dying sooner, and a contact."""
    r = np.asarray(ratios)
    gains = (0.4 + 0.6 * draw.rng.random(len(r))) * r**-0.4
    signs = np.where(draw.rng.random(len(r)) < 0.5, -1.0, 1.0)
    body = modes(
        samples(seconds),
        (low_hz * r).tolist(),
        (ring_s * r**-damping).tolist(),
        (gains * signs).tolist(),
    )
    click = peak(burst(draw, 0.012, 1200, 11000, 0.002))
    return fade(mix(body, contact * click), 0.0003, 0.01)


# --- filters -----------------------------------------------------------------------------------


def convolve(x: Wave, kernel: Wave) -> Wave:
    """Full convolution, len(x) + len(kernel) - 1."""
    n = len(x) + len(kernel) - 1
    m = fast_length(n)
    return np.fft.irfft(np.fft.rfft(x, m) * np.fft.rfft(kernel, m), m)[:n]


def _power(x: np.ndarray, order: float) -> np.ndarray:
    """x to the power of 2 * order, without the slow general power where order is 1 or 2."""
    squared = x * x
    return squared if order == 1 else squared * squared if order == 2 else squared**order


def _band_response(freqs: Wave, low_hz: float, high_hz: float, order: float) -> Wave:
    """Butterworth magnitudes; an edge at 0, or at Nyquist or above, is open."""
    response = np.ones(len(freqs))
    if low_hz > 0:
        ratio = _power(freqs / low_hz, order)
        response *= np.sqrt(ratio / (1 + ratio))
    if high_hz < NYQUIST_HZ:
        response /= np.sqrt(1 + _power(freqs / high_hz, order))
    return response


def bandpass(x: Wave, low_hz: float, high_hz: float, order: float = 2.0) -> Wave:
    """Zero-phase Butterworth magnitudes of an order (6 dB per octave each)."""
    m = fast_length(len(x) + RATE_HZ // 100)
    response = _band_response(np.fft.rfftfreq(m, 1 / RATE_HZ), low_hz, high_hz, order)
    return np.fft.irfft(np.fft.rfft(x, m) * response, m)[: len(x)]


def lowpass(x: Wave, high_hz: float, order: float = 2.0) -> Wave:
    return bandpass(x, 0.0, high_hz, order)


def highpass(x: Wave, low_hz: float, order: float = 2.0) -> Wave:
    return bandpass(x, low_hz, NYQUIST_HZ, order)


def tilt(x: Wave, db_per_octave: float) -> Wave:
    """A constant spectral slope around 1 kHz, flat below 50 Hz."""
    m = fast_length(len(x) + RATE_HZ // 100)
    gains = (np.maximum(np.fft.rfftfreq(m, 1 / RATE_HZ), 50.0) / 1000.0) ** (db_per_octave / 6.0206)
    return np.fft.irfft(np.fft.rfft(x, m) * gains, m)[: len(x)]


def resonate(
    x: Wave,
    freqs_hz: Sequence[float],
    widths_hz: Sequence[float],
    gains: Sequence[float] | None = None,
    dry: float = 0.0,
) -> Wave:
    """Parallel second-order band-passes (formants, bodies), causal, each of unit peak gain."""
    m = fast_length(len(x) + samples(0.05))
    f = np.fft.rfftfreq(m, 1 / RATE_HZ)
    real, imaginary, squares = np.full(len(f), dry), np.zeros(len(f)), f * f
    for index, (freq, width) in enumerate(zip(freqs_hz, widths_hz, strict=False)):
        gain = 1.0 if gains is None else gains[index]
        # j b / (a + j b), in real arithmetic, which is four times as fast.
        a, b = freq * freq - squares, f * width
        # Alternating signs keep the valley between two neighbours from cancelling to a notch.
        share = ((-1) ** index * gain) * b / (a * a + b * b)
        real += share * b
        imaginary += share * a
    response = real + 1j * imaginary
    return np.fft.irfft(np.fft.rfft(x, m) * response, m)[: len(x)]


def morph(a: Wave, b: Wave, position: Wave) -> Wave:
    """Cross-fade of two equally long signals: a where position is 0, b where it is 1."""
    return a + (b - a) * position


def comb(x: Wave, delay_s: float, gain: float, taps: int = 6) -> Wave:
    """x with a few fading echoes at multiples of one delay; same length."""
    out = np.array(x, dtype=float)
    step = samples(delay_s)
    for k in range(1, taps + 1):
        if k * step < len(x):
            out[k * step :] += gain**k * x[: len(x) - k * step]
    return out


def room(draw: Draw, x: Wave, time_s: float, wet: float, high_hz: float = 6000.0) -> Wave:
    """x with a diffuse tail of time_s (to -60 dB), that much longer; wet is the tail's share."""
    n = samples(time_s)
    tail = lowpass(draw.noise(n), high_hz, 1.0) * decay(n, time_s / 6.9)
    tail /= np.sqrt(np.sum(tail * tail))
    out = wet * convolve(x, tail)
    out[: len(x)] += x
    return out


# --- rhythm and moving filters -----------------------------------------------------------------


def gate(
    n: int, period_s: float, on_s: float, edge_s: float = 0.004, offset_s: float = 0.0
) -> Wave:
    """[n] 1 for the first on_s of every period, else 0, with straight edges of edge_s."""
    t = (seconds_axis(n) + offset_s) % period_s
    return np.clip(np.minimum(t, on_s - t) / edge_s, 0.0, 1.0)


def swept_filter(x: Wave, cutoff_hz: Wave, quality: float = 0.7, band: bool = False) -> Wave:
    """x through a second-order low-pass (or band-pass) whose cutoff [n] moves; magnitudes only."""
    size, hop = 1024, 512
    count = len(x) // hop + 2
    window = np.sin(np.pi * (np.arange(size) + 0.5) / size)
    padded = np.zeros((count + 1) * hop)
    padded[hop : hop + len(x)] = x
    blocks = padded.reshape(count + 1, hop)
    frames = np.concatenate([blocks[:-1], blocks[1:]], axis=1) * window
    centres = np.minimum(np.arange(count) * hop, len(x) - 1)
    r = np.fft.rfftfreq(size, 1 / RATE_HZ)[None, :] / cutoff_hz[centres][:, None]
    top = r / quality if band else 1.0
    response = top / np.sqrt((1 - r * r) ** 2 + (r / quality) ** 2)
    frames = np.fft.irfft(np.fft.rfft(frames, axis=1) * response, size, axis=1) * window
    blocks = np.zeros((count + 1, hop))
    blocks[:-1] += frames[:, :hop]
    blocks[1:] += frames[:, hop:]
    return blocks.reshape(-1)[hop : hop + len(x)]
