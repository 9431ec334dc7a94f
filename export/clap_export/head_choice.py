"""Which head a conversion packs: given, fitted, or none.

In:  the float32 towers of a source in its own space; what to fit on.
Out: `Chosen`: the head, what it loses, how long shortlists must be.
Knows nothing about bundles.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any

from clap_engine.arrays import Float32
from clap_engine.errors import ArrayError
from clap_engine.manifest import AudioSpec
from clap_engine.text import TextFrontEnd
from clap_export import probes, rotation
from clap_export.corpus import synth
from clap_export.embedder import Embedder
from clap_export.errors import SourceError
from clap_export.graphs.projection import HeadGraph
from clap_export.rotation import Head

DIM = 512
LADDER = (32, 64, 128, 256, 512)
HELD_OUT = 0.25  # of what a head is fitted on measures its loss instead
# So many that LEAST_ITEMS are left to fit on.
CLIPS = math.ceil(rotation.LEAST_ITEMS / (1 - HELD_OUT))
# The prefix of a space that nobody rotated is no shortlist: search it exactly.
EXACT = 1e6
_CHUNK = 64


@dataclass(frozen=True)
class HeadPlan:
    """`file`: a head to take; else fitted on `clips` of the corpus or on `folder`; else none."""

    file: Path | None = None
    fit: bool = True
    folder: Path | None = None
    clips: int = CLIPS


@dataclass(frozen=True)
class Chosen:
    """A head as a graph part, its ladder, and what the manifest says of it."""

    graph: HeadGraph
    ladder: tuple[int, ...]
    head: Head | None
    facts: dict[str, Any] = field(default_factory=dict)
    calibration: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Native:
    """Both float32 towers in the source's own space."""

    text: Embedder
    front_end: TextFrontEnd
    audio: Embedder
    spec: AudioSpec
    frontend: bytes


def choose(plan: HeadPlan, native_dim: int, native: Native, say: Callable[[str], None]) -> Chosen:
    """The head of the plan; a source of 512 dims or fewer may keep its own space."""
    if plan.file is not None:
        return _given(rotation.load(plan.file, native_dim))
    if not plan.fit:
        # Nothing is known about prefixes, so the space's own width is its only rung.
        return Chosen(
            HeadGraph(),
            (native_dim,),
            None,
            {"head": {"kind": "none", "dims": native_dim}},
            {"shortlist_per_sqrt_row": EXACT},
        )
    return _fitted(plan, native_dim, native, say)


def _given(head: Head) -> Chosen:
    dim = int(head.matrix.shape[1])
    ladder = (*(rung for rung in LADDER if rung < dim), dim)
    facts = {"head": {"kind": head.kind, "dims": dim}}
    return Chosen(HeadGraph(head.matrix), ladder, head, facts)


def _fitted(plan: HeadPlan, native_dim: int, native: Native, say: Callable[[str], None]) -> Chosen:
    """Fitted on three quarters of the data, its loss measured on the rest."""
    text, audio = _data(plan, native, say)
    if min(len(text), len(audio)) < 16:
        raise ArrayError(
            f"{len(text)} captions and {len(audio)} sounds to fit a head on; "
            f"{CLIPS} of each are wanted, or give --heads none"
        )
    cuts = [len(x) - max(4, round(HELD_OUT * len(x))) for x in (text, audio)]
    dim = min(DIM, native_dim)
    matrix = rotation.fit(text[: cuts[0]], audio[: cuts[1]])[:, :dim].copy()
    head = Head(matrix, "fitted")
    chosen = _given(head)
    held_out = text[cuts[0] :], audio[cuts[1] :]
    facts: dict[str, Any] = {
        "kind": "fitted",
        "dims": dim,
        "texts": cuts[0],
        "sounds": cuts[1],
        "is_enough": min(cuts) >= rotation.LEAST_ITEMS,
        "held_out": [len(x) for x in held_out],
        "loss": rotation.loss(matrix, *held_out, chosen.ladder),
    }
    turned = [x @ matrix for x in held_out]
    factor = rotation.shortlist_factor(turned[0], turned[1])
    kept = facts["loss"][str(dim)]["top10"]
    say(f"head: {native_dim} dims to {dim}; top-10 of the whole space kept: {kept:.3f}")
    if not facts["is_enough"]:
        say(f"head: fitted on {min(cuts)} items; {rotation.LEAST_ITEMS} are wanted for real use")
    calibration = {"shortlist_per_sqrt_row": factor}
    return Chosen(chosen.graph, chosen.ladder, head, {"head": facts}, calibration)


def _data(plan: HeadPlan, native: Native, say: Callable[[str], None]) -> tuple[Float32, Float32]:
    """Native embeddings of captions and of clips."""
    sounds: Iterator[Float32 | Path]
    if plan.folder is not None:
        sounds, texts = probes.folder(plan.folder)
    else:
        sounds = _rendered(plan.clips)
        texts = probes.caption_texts(plan.clips, probes.SEED + 1)
    text = native.text.texts(native.front_end.tokenize(texts), "native")
    say(f"head: embedded {len(text)} captions")
    rows: list[Float32] = []
    while chunk := list(islice(sounds, _CHUNK)):
        log_mel = probes.log_mels(native.spec, native.frontend, chunk)
        rows += list(native.audio.windows(log_mel, "native"))
        say(f"head: embedded {len(rows)} sounds")
    if not rows:
        raise ArrayError(f"no sounds under {plan.folder}; give a folder of wav, flac, ogg or mp3")
    return text, probes.stacked(rows)


def check_sounds(plan: HeadPlan) -> None:
    """SourceError, before any work, where the clips that the plan wants can't be rendered here."""
    if plan.file is not None or not plan.fit or plan.folder is not None:
        return
    with _needed():
        import fluidsynth  # noqa: F401  # its import fails where the library is missing

        for font in synth.TRAINING_FONTS:
            if not font.is_file():
                raise FileNotFoundError(
                    f"{font} is not installed; apt-get install fluidsynth fluid-soundfont-gm "
                    "musescore-general-soundfont"
                )
        if shutil.which("espeak-ng") is None:
            raise FileNotFoundError("espeak-ng is not installed; apt-get install espeak-ng")


@contextmanager
def _needed() -> Iterator[None]:
    """What the corpus says of a missing SoundFont, library or voice, with the ways round it."""
    try:
        yield
    except (OSError, ImportError, RuntimeError, CalledProcessError) as error:
        raise SourceError(
            f"the clips to fit a head on can't be rendered here: {error}. Install what is missing, "
            "or fit on your own sounds (--fit-on DIR, with a captions.txt), or keep the model's "
            "own space (--heads none)"
        ) from error


def _rendered(n: int) -> Iterator[Float32 | Path]:
    """Clips of the corpus."""
    with _needed():
        yield from probes.corpus_clips(n, probes.SEED)
