"""Round trips through lossy formats: what a sound has been through before anybody searches it.

In:  waveform float32 [T] at 32 kHz and a Draw.
Out: waveform float32 [T]: encoded at a low or middling rate and decoded again, in step.
Knows nothing about rooms, classes or files on disk.

libsndfile does the encoding (LAME, libopus, libvorbis); where its build lacks a format, the sound
takes the next one. The clip's mel bands lose what the codec throws away; that is the point.
"""

from __future__ import annotations

import io
from functools import cache

import numpy as np
import soundfile
import soxr

from clap_export.corpus.draw import Draw
from clap_export.corpus.synth import RATE_HZ

# (format, subtype, rate in Hz, range of libsndfile's compression level: 1 is the smallest file)
CODECS: dict[str, tuple[str, str, int, tuple[float, float]]] = {
    "mp3": ("MP3", "MPEG_LAYER_III", 32_000, (0.3, 0.97)),
    "vorbis": ("OGG", "VORBIS", 32_000, (0.6, 1.0)),
    "opus": ("OGG", "OPUS", 48_000, (0.6, 0.97)),
    "opus_narrow": ("OGG", "OPUS", 16_000, (0.6, 0.97)),
}
ODDS = ("mp3",) * 6 + ("vorbis",) * 3 + ("opus",) * 2 + ("opus_narrow",)


@cache
def available() -> frozenset[str]:
    """Which of the codecs this build of libsndfile can write."""
    return frozenset(
        name for name, (kind, sub, _, _) in CODECS.items() if soundfile.check_format(kind, sub)
    )


def round_trip(draw: Draw, x: np.ndarray, name: str | None = None) -> np.ndarray:
    """float32 [T] -> float32 [T]; codecs that this machine can't write leave it as it is."""
    name = draw.choice(ODDS) if name is None else name
    kind, subtype, rate_hz, levels = CODECS[name]
    level = draw.uniform(*levels)
    if name not in available():
        return x
    sent = x if rate_hz == RATE_HZ else soxr.resample(x, RATE_HZ, rate_hz)
    buffer = io.BytesIO()
    soundfile.write(buffer, sent, rate_hz, format=kind, subtype=subtype, compression_level=level)
    buffer.seek(0)
    heard, rate = soundfile.read(buffer, dtype="float32")
    if rate != RATE_HZ:
        heard = soxr.resample(heard, rate, RATE_HZ)
    out = np.zeros(len(x), np.float32)
    out[: min(len(x), len(heard))] = heard[: len(x)]
    return out
