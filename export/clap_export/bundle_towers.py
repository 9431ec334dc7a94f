"""The towers of a packed bundle, as functions, through the runtime's own code.

In:  an opened bundle, a precision.
Out: `Towers`: texts -> [N, D], log-mels -> [N, D]; windows of a folder of sounds as log-mels.
Knows nothing about weights or training.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from clap_engine import audio
from clap_engine.arrays import Float32
from clap_engine.bundle import Bundle, pick_graph
from clap_engine.errors import NotFoundError
from clap_engine.limits import DEFAULT_LIMITS
from clap_engine.mel import LogMel
from clap_engine.text import TextFrontEnd
from clap_export.held_out import Towers
from clap_export.parts import embed_texts, embed_windows


def towers(bundle: Bundle, precision: str) -> Towers:
    """Both towers of one precision."""
    spec = bundle.manifest
    text = bundle.read(pick_graph(spec.text.graphs, precision).file)
    sound = bundle.read(pick_graph(spec.audio.graphs, precision).file)
    front_end = TextFrontEnd(spec.text, bundle.read(spec.text.tokenizer))
    return Towers(
        embed_texts=lambda texts: embed_texts(text, front_end, texts),
        embed_windows=lambda log_mel: embed_windows(sound, log_mel),
    )


def log_mels(bundle: Bundle, sounds: Path) -> Float32:
    """[N, F, M]: every window of every sound file under `sounds`."""
    spec = bundle.manifest.audio
    front_end = LogMel(spec, bundle.read(spec.frontend))
    rows = [
        front_end(windows)
        for path in audio.sound_files(sounds)
        for windows, _ in audio.windows(path, spec, DEFAULT_LIMITS)
    ]
    if not rows:
        raise NotFoundError(
            f"no sound files under {sounds}; give a folder of wav, flac, ogg or mp3"
        )
    return np.asarray(np.concatenate(rows), np.float32)
