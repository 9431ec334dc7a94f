"""Sounds of a few kinds with captions that say which, as files and as CSV.

In:  a folder, a number of clips.
Out: WAV files, `pairs.csv`; clap-mini's towers.
Knows nothing about heads.
"""

from __future__ import annotations

import csv
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile

from clap_engine import bundle
from clap_export import native_towers
from clap_export.corpus import captions, lexicon, render
from clap_export.corpus.synth import RATE_HZ
from clap_export.native_towers import NativeTowers

# Rendered in DSP code alone: no SoundFont, no voices.
CLASSES = ("white_noise", "sine_tone", "mains_hum", "rain")


@lru_cache(maxsize=1)
def mini() -> NativeTowers:
    """The bundle that ships."""
    return native_towers.of_bundle(bundle.open(bundle.find("clap-mini")))


def write(folder: Path, count: int, seconds: float | None = None) -> Path:
    """`count` clips of the corpus' own generator, one caption each; the path of the CSV."""
    folder.mkdir(parents=True, exist_ok=True)
    words = lexicon.load()
    with (folder / "pairs.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["path", "caption"])
        for i in range(count):
            clip = render.render_clip(CLASSES[i % len(CLASSES)], i, 5, "train")
            wave = clip.waveform
            if seconds is not None:
                wave = np.resize(wave, round(seconds * RATE_HZ))
            soundfile.write(folder / f"{i}.wav", wave, RATE_HZ, subtype="PCM_16")
            said = captions.known(np.random.default_rng(i), words, clip.attributes).text
            table.writerow([f"{i}.wav", said])
    return folder / "pairs.csv"
