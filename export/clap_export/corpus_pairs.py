"""The project's own corpus as pairs: log-mels that are rendered already, captions drawn for them.

In:  a folder of `clap-export corpus`, one of its splits.
Out: `Pairs`; which clips satisfy which caption.
Knows nothing about towers or heads. Only clap-mini has this corpus' front end.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from clap_engine.arrays import Float32
from clap_engine.manifest import AudioSpec
from clap_engine.mel import LogMel
from clap_export import retrieval
from clap_export.corpus import captions, lexicon, render
from clap_export.corpus.captions import Caption
from clap_export.errors import PairsError
from clap_export.frontend import make_frontend_npz
from clap_export.native_towers import NativeTowers
from clap_export.pairs import Pairs
from clap_export.weights import unpack_log_mel

CAPTIONS = 2  # drawn for each clip


@dataclass(frozen=True)
class RenderedClip:
    """One window of the corpus."""

    name: str
    captions: tuple[str, ...]
    log_mel: npt.NDArray[np.uint8]  # [F, M]

    def identity(self) -> str:
        return "log-mel " + hashlib.sha256(self.log_mel.tobytes()).hexdigest()

    def windows(self, spec: AudioSpec, front_end: LogMel) -> Float32:
        """[1, F, M]."""
        return unpack_log_mel(self.log_mel[None])


@dataclass(frozen=True)
class CorpusPairs:
    """The clips of a split, and what is true of each."""

    pairs: Pairs
    asked: tuple[Caption, ...]  # one for each clip, its first caption
    attributes: tuple[dict[str, str], ...]

    def relevance(self) -> npt.NDArray[np.bool_]:
        """bool [N, N]: whether clip n satisfies the first caption of clip q."""
        return retrieval.relevance(self.asked, self.attributes)


def read(
    corpus: Path, split: str, chosen: slice = slice(None), count: int = CAPTIONS
) -> CorpusPairs:
    """The chosen clips of a split with up to `count` captions in training's wording each."""
    if split not in render.SPLITS:
        raise PairsError(f"split {split!r}; the corpus has {', '.join(render.SPLITS)}")
    folder = corpus / split
    if not folder.is_dir():
        raise PairsError(f"{folder} is not there; render it: clap-export corpus --out {corpus}")
    log_mel, clips = render.load(folder)
    words = lexicon.load()
    places = range(len(clips))[chosen]
    if not places:
        raise PairsError(f"{folder} has {len(clips)} clips; none is in {chosen}")
    drawn = []
    for i in places:
        # Other draws than those that clap-mini's own training made of the same clip.
        rng = np.random.default_rng([17, render.SPLITS.index(split), i])
        drawn.append([captions.known(rng, words, clips[i]) for _ in range(count)])
    rendered = [
        RenderedClip(f"{split}/{i}", tuple(dict.fromkeys(c.text for c in said)), log_mel[i])
        for i, said in zip(places, drawn, strict=True)
    ]
    digest = hashlib.sha256("\n".join(c.text for said in drawn for c in said).encode())
    digest.update(np.ascontiguousarray(log_mel[chosen]).tobytes())
    return CorpusPairs(
        Pairs(rendered, f"{corpus.name}/{split}", digest.hexdigest(), count * len(drawn)),
        tuple(said[0] for said in drawn),
        tuple(clips[chosen]),
    )


def check_front_end(towers: NativeTowers) -> None:
    """PairsError for a model that takes another log-mel than the corpus holds."""
    if towers.native.frontend != make_frontend_npz():
        raise PairsError(
            f"the corpus holds log-mels of clap-mini's front end, which {towers.id} doesn't have; "
            "give it sounds: --pairs CSV --audio DIR"
        )
