"""Texts and sounds to fit, calibrate and compare converted models on.

In:  an audio front end; how many of what; perhaps a folder of sounds and captions.
Out: texts; log-mels of windows.
Knows nothing about towers.

The default sounds need no file but those of this package: its sample clips, and effects that its
corpus renders in DSP code. Fitting a head takes the whole corpus, which needs its SoundFonts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np

from clap_engine import audio
from clap_engine.arrays import Float32
from clap_engine.errors import AudioError
from clap_engine.limits import DEFAULT_LIMITS
from clap_engine.manifest import AudioSpec
from clap_engine.mel import LogMel
from clap_export.corpus import captions, lexicon, render
from clap_export.corpus.classes import CLASSES, KIND_OF
from clap_export.corpus.synth import RATE_HZ
from clap_export.errors import SourceError

SEED = 11  # of everything drawn here; training draws from 0
LABELS = 50  # of the texts are plain names, for zero-shot decisions
_BATCH = 16


@dataclass(frozen=True)
class Sizes:
    """How many texts and sounds a conversion is measured on, and calibrated on."""

    texts: int = 200
    sounds: int = 100
    calibration: int = 64  # of each, others than those measured


@dataclass(frozen=True)
class Probes:
    """What towers are compared on; the first `labels` texts are names of sounds."""

    texts: list[str]
    log_mel: Float32  # [M, F, mels]
    labels: int
    calibration_texts: list[str]
    calibration_log_mel: Float32


def make(spec: AudioSpec, frontend: bytes, sizes: Sizes) -> Probes:
    """Half of the names and phrases, every other sound; the rest calibrates."""
    words = lexicon.load()
    labels = min(LABELS, sizes.texts // 2)
    names = [words.known[name][0] for name in sorted(words.known)]
    phrases = caption_texts(sizes.texts + 2 * sizes.calibration, seed=SEED)
    mels = log_mels(
        spec, frontend, _interleaved(2 * max(sizes.sounds, sizes.calibration)),
    )  # fmt: skip
    step = max(1, len(names) // labels)
    return Probes(
        texts=[*names[::step][:labels], *phrases[: sizes.texts - labels]],
        log_mel=mels[::2][: sizes.sounds],
        labels=labels,
        calibration_texts=[
            *names[1::step][: sizes.calibration // 4],
            *phrases[sizes.texts :][: sizes.calibration - sizes.calibration // 4],
        ],
        calibration_log_mel=mels[1::2][: sizes.calibration],
    )


def caption_texts(n: int, seed: int) -> list[str]:
    """`n` different captions of the kind that the corpus has, half of them of two sounds."""
    rng = np.random.default_rng(seed)
    words = lexicon.load()
    classes = sorted(words.known)

    def one() -> str:
        name = classes[int(rng.integers(len(classes)))]
        return captions.known(rng, words, {"class": name, "kind": KIND_OF[name]}).text

    found: dict[str, None] = {}
    while len(found) < n:
        found[f"{one()} with {one()}" if rng.random() < 0.5 else one()] = None
    return list(found)


def corpus_clips(n: int, seed: int) -> Iterator[Float32 | Path]:
    """Waveforms of the training corpus, any class; needs its SoundFonts and voices."""
    for i, name in enumerate(render.schedule(n, seed, "train")):
        yield render.render_clip(name, i, seed, "train").waveform


def folder(root: Path) -> tuple[Iterator[Float32 | Path], list[str]]:
    """The sounds under `root`, and the lines of its captions.txt."""
    path = root / "captions.txt"
    if not path.is_file():
        raise SourceError(f"{path} is missing; write one caption a line there, in any order")
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    return iter(audio.sound_files(root)), [line for line in lines if line]


def log_mels(spec: AudioSpec, frontend: bytes, sounds: Iterable[Float32 | Path]) -> Float32:
    """[N, F, M]: the first window of each sound (a waveform at the corpus' rate, or a file)."""
    front_end = LogMel(spec, frontend)
    rows: list[Float32] = []
    batch: list[Float32] = []
    for sound in sounds:
        source = sound if isinstance(sound, Path) else (sound, RATE_HZ)
        batch.append(next(audio.windows(source, spec, DEFAULT_LIMITS))[0][0])
        if len(batch) == _BATCH:
            rows.append(front_end(np.stack(batch)))
            batch = []
    if batch:
        rows.append(front_end(np.stack(batch)))
    if not rows:
        raise AudioError("no sounds; give a folder of wav, flac, ogg or mp3")
    return np.asarray(np.concatenate(rows), np.float32)


def _interleaved(n: int) -> Iterator[Float32 | Path]:
    """`n` sounds: sample clips of this package and rendered effects, so that halves have both."""
    samples = sorted(
        Path(str(p)) for p in files("clap_engine.samples").iterdir() if p.name.endswith(".ogg")
    )
    drawn = _effects()
    order = np.random.default_rng(SEED).permutation(max(n, len(samples)))[:n]
    for i in order:
        yield samples[i] if i < len(samples) else next(drawn)


def _effects() -> Iterator[Float32]:
    """Clips of the effect classes that no SoundFont serves, without end."""
    names = [name for name in CLASSES["effect"] if name not in render.SAMPLED_EFFECTS]
    index = 0
    while True:
        yield render.render_clip(names[index % len(names)], index, SEED, "train").waveform
        index += 1


def stacked(rows: Iterable[Float32]) -> Float32:
    """Rows [D] -> [N, D]."""
    return np.asarray(np.stack(list(rows)), np.float32)
