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
from dataclasses import dataclass, field, replace
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
from clap_export.errors import HeadError, SourceError
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
    """A head as parts of both graphs, its ladder, and what the manifest says of it."""

    text: HeadGraph
    audio: HeadGraph
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
    digest: str = ""  # sha256 of the weights' file, which a head may be bound to


def choose(plan: HeadPlan, native_dim: int, native: Native, say: Callable[[str], None]) -> Chosen:
    """The head of the plan; a source of 512 dims or fewer may keep its own space."""
    if plan.file is not None:
        head = rotation.load(plan.file, native_dim)
        check_origin(head, native.digest, plan.file)
        return _given(head)
    if not plan.fit:
        # Nothing is known about prefixes, so the space's own width is its only rung.
        return Chosen(
            HeadGraph(),
            HeadGraph(),
            (native_dim,),
            None,
            {"head": {"kind": "none", "dims": native_dim}},
            {"shortlist_per_sqrt_row": EXACT},
        )
    return _fitted(plan, native_dim, native, say)


def _given(head: Head) -> Chosen:
    dim = int(head.matrix.shape[1])
    facts: dict[str, Any] = {"kind": head.kind, "dims": dim}
    if head.provenance:
        facts["provenance"] = dict(head.provenance)
    text = HeadGraph(head.matrix if head.text is None else head.text)
    ladder = head.ladder or ladder_of(dim)
    return Chosen(text, HeadGraph(head.matrix), ladder, head, {"head": facts}, head.calibration())


def ladder_of(dim: int) -> tuple[int, ...]:
    """The usual rungs of a space of `dim` dims."""
    return (*(rung for rung in LADDER if rung < dim), dim)


def check_origin(head: Head, digest: str, path: Path) -> None:
    """HeadError for a head that says it was made for other weights: of the same width, it would
    fit, and every score would be noise."""
    made_for = head.provenance.get("source", {}).get("sha256")
    if made_for and digest and made_for != digest:
        raise HeadError(
            f"{path} was {head.kind} on weights of sha256 {made_for[:12]}; these have "
            f"{digest[:12]}: make one for them with clap-export fit rotation or train heads"
        )


def _fitted(plan: HeadPlan, native_dim: int, native: Native, say: Callable[[str], None]) -> Chosen:
    """Fitted on three quarters of the data, its loss measured on the rest."""
    text, audio = _data(plan, native, say)
    head, facts = fitted(text, audio, min(DIM, native_dim), say)
    chosen = _given(head)
    return replace(chosen, facts={"head": facts})


def fitted(
    text: Float32, audio: Float32, dim: int, say: Callable[[str], None]
) -> tuple[Head, dict[str, Any]]:
    """Native rows [N, S], [M, S], unpaired -> the rotation's first `dim` columns, and facts.

    Three quarters of each are fitted on; what each rung loses is measured on the rest, and how
    long shortlists must be.
    """
    if min(len(text), len(audio)) < 16:
        raise ArrayError(
            f"{len(text)} captions and {len(audio)} sounds to fit a head on; "
            f"{CLIPS} of each are wanted, or give --heads none"
        )
    cuts = [len(x) - max(4, round(HELD_OUT * len(x))) for x in (text, audio)]
    matrix = rotation.fit(text[: cuts[0]], audio[: cuts[1]])[:, :dim].copy()
    ladder = ladder_of(dim)
    held_out = text[cuts[0] :], audio[cuts[1] :]
    facts: dict[str, Any] = {
        "kind": "fitted",
        "dims": dim,
        "texts": cuts[0],
        "sounds": cuts[1],
        "is_enough": min(cuts) >= rotation.LEAST_ITEMS,
        "held_out": [len(x) for x in held_out],
        "loss": rotation.loss(matrix, *held_out, ladder),
    }
    turned = [x @ matrix for x in held_out]
    factor = rotation.shortlist_factor(turned[0], turned[1], min(32, dim))
    kept = facts["loss"][str(dim)]["top10"]
    say(f"head: {text.shape[1]} dims to {dim}; top-10 of the whole space kept: {kept:.3f}")
    if not facts["is_enough"]:
        say(f"head: fitted on {min(cuts)} items; {rotation.LEAST_ITEMS} are wanted for real use")
    return Head(matrix, "fitted", ladder=ladder, shortlist_per_sqrt_row=factor), facts


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
