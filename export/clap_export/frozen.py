"""A few held-out clips that are committed, so that every build can be asked the same questions.

In:  a rendered corpus, or the file that was made of one; the towers of one precision.
Out: `frozen.npz` (log-mels, truths, captions with their claims), figures, and what has fallen.
Knows nothing about bundles, graphs or training.

Clips are taken evenly from every class, captions are written down with them: later changes of the
corpus or of the words move no question.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from clap_export import retrieval
from clap_export.corpus import lexicon, render
from clap_export.corpus.captions import Caption
from clap_export.held_out import Towers
from clap_export.parity import GateError
from clap_export.weights import unpack_log_mel

CLIPS = 300
WORDINGS = {"known": "known", "unseen": "report"}
KS = (1, 10)
LADDER = (32, 512)
MAX_DROP = 0.02
SEED = 23


@dataclass(frozen=True)
class Frozen:
    """N clips and what is asked of them."""

    log_mel: npt.NDArray[np.uint8]  # [N, F, M]
    clips: tuple[dict[str, str], ...]
    captions: Mapping[str, tuple[Caption, ...]]  # wording -> captions


def choose(corpus: Path, count: int = CLIPS) -> Frozen:
    """`count` held-out clips, class by class in turn, with captions in each wording."""
    log_mel, clips = render.load(corpus / "held_out")
    turns: dict[str, int] = {}
    order = []
    for place, clip in enumerate(clips):
        turns[clip["class"]] = turns.get(clip["class"], -1) + 1
        order.append((turns[clip["class"]], place))
    chosen = sorted(place for _, place in sorted(order)[:count])
    kept = tuple(clips[place] for place in chosen)
    words = lexicon.load()
    captions = {
        name: tuple(retrieval.queries(words, kept, wording, SEED))
        for name, wording in WORDINGS.items()
    }
    return Frozen(log_mel[chosen], kept, captions)


def save(path: Path, frozen: Frozen) -> None:
    lines = {
        "clips": list(frozen.clips),
        "captions": {
            name: [[caption.text, caption.claims] for caption in captions]
            for name, captions in frozen.captions.items()
        },
    }
    said = np.frombuffer(json.dumps(lines, sort_keys=True).encode(), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        np.savez_compressed(file, log_mel=frozen.log_mel, said=said)


def load(path: Path) -> Frozen:
    with np.load(path, allow_pickle=False) as file:
        lines = json.loads(file["said"].tobytes())
        log_mel = file["log_mel"]
    captions = {
        name: tuple(Caption(text, claims) for text, claims in rows)
        for name, rows in lines["captions"].items()
    }
    return Frozen(log_mel, tuple(lines["clips"]), captions)


def measure(frozen: Frozen, towers: Towers) -> dict[str, float]:
    """hit@k of every wording and rung."""
    audio = towers.embed_windows(unpack_log_mel(frozen.log_mel))
    figures: dict[str, float] = {}
    for name, captions in frozen.captions.items():
        text = towers.embed_texts([caption.text for caption in captions])
        relevant = retrieval.relevance(captions, frozen.clips)
        found = retrieval.hits(text, audio, relevant, LADDER, KS)
        figures |= {f"{name} {key}": round(value, 4) for key, value in found.items()}
    return figures


def check(figures: Mapping[str, float], recorded: Mapping[str, float]) -> None:
    """GateError where a figure fell by more than MAX_DROP, or is gone."""
    fallen = [
        f"{name} was {before:.3f} and is {figures.get(name, 0.0):.3f}"
        for name, before in recorded.items()
        if not figures.get(name, 0.0) >= before - MAX_DROP
    ]
    if fallen:
        raise GateError(
            f"on the frozen clips {'; '.join(fallen)}: at most {MAX_DROP:.2f} may be lost. Find "
            "what changed; where it is meant to, record anew with clap-export freeze"
        )


def read_figures(path: Path) -> dict[str, float]:
    """The figures that `clap-export freeze` recorded."""
    table: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))["figures"]
    return table


def figures_text(figures: Mapping[str, float], bundle: str, precision: str) -> str:
    """The JSON that lies beside the clips."""
    recorded = {"bundle": bundle, "precision": precision, "figures": dict(figures)}
    return json.dumps(recorded, indent=1) + "\n"
