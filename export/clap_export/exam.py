"""The exam of clap-mini: everything that is asked of it, in one table with intervals.

In:  a rendered corpus, the towers of one precision.
Out: `Mark`s: a figure each, what was due and what was aimed at; strengths and weaknesses by class.
Knows nothing about bundles, graphs or training.

Asked are clips of another SoundFont, other voices and other parameters of effects ("held_out"),
effects by generators that training never heard ("unseen_generator"), and music through one font
more ("another_font"). A row whose clips or
attributes a corpus lacks is left out. Intervals: percentile bootstrap over clips.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clap_engine.arrays import Float32, Float64
from clap_engine.evaluation.bootstrap import estimates
from clap_export import retrieval
from clap_export.corpus import lexicon, render
from clap_export.exam_tasks import answer, tasks
from clap_export.held_out import Towers
from clap_export.weights import unpack_log_mel

SEED = 5
BATCH = 256  # windows that are float32 at a time
WORDINGS = ("known", "held", "report", "dictionary", "names")
SHORTLIST, SHORTLIST_ROWS = 200, 10_000
# (due, aimed at)
BARS: dict[str, tuple[float, float]] = {
    "known hit@1": (0.60, 0.75),
    "known hit@10": (0.88, 0.95),
    "report hit@1": (0.35, 0.50),
    "report hit@10": (0.62, 0.80),
    "families": (0.60, 0.75),
    "programs": (0.30, 0.45),
    "programs top-5": (0.65, 0.80),
    "effects": (0.85, 0.92),
    "effects, unseen generator": (0.45, 0.65),
    "genres": (0.70, 0.85),
    "drum patterns": (0.80, 0.90),
    "single drums": (0.80, 0.90),
    "speech, music, effect": (0.95, 0.99),
    "slow or fast": (0.75, 0.90),
    "major or minor": (0.60, 0.75),
    "d=32 of d=512, hit@10": (0.97, 0.99),
    "shortlist of 200 holds the top ten": (0.98, 0.995),
}


@dataclass(frozen=True)
class Mark:
    """One figure over `clips` clips with its interval; bars are None where none was set."""

    name: str
    value: float
    low: float | None
    high: float | None
    clips: int
    due: float | None
    aim: float | None

    def as_json(self) -> dict[str, Any]:
        return {
            key: round(item, 4) if isinstance(item, float) else item
            for key, item in asdict(self).items()
        }


@dataclass(frozen=True)
class Report:
    marks: tuple[Mark, ...]
    by_class: dict[str, float]  # share of a class's clips that its kind's names find

    def as_json(self) -> dict[str, Any]:
        said = labels()
        return {
            "marks": [
                {**mark.as_json(), "label": said.get(mark.name, mark.name)} for mark in self.marks
            ],
            "by_class": {name: round(value, 3) for name, value in self.by_class.items()},
        }


def examine(corpus: Path, towers: Towers) -> Report:
    """All of the exam that `corpus` has clips for."""
    log_mel, clips = render.load(corpus / "held_out")
    audio = embed(towers, log_mel)
    marks = wordings(audio, clips, towers)
    found, by_class = zero_shot(audio, clips, towers, "held_out")
    marks += found
    for split in ("unseen_generator", "another_font"):
        if any((corpus / split).glob("*.npz")):
            log_mel, others = render.load(corpus / split)
            marks += zero_shot(embed(towers, log_mel), others, towers, split)[0]
    if any((corpus / "train").glob("*.npz")):
        marks += shortlists(corpus, clips, towers)
    return Report(tuple(marks), by_class)


def embed(towers: Towers, log_mel: npt.NDArray[np.uint8]) -> Float32:
    """uint8 [N, F, M] -> float32 [N, D]."""
    parts = [
        towers.embed_windows(unpack_log_mel(log_mel[i : i + BATCH]))
        for i in range(0, len(log_mel), BATCH)
    ]
    return np.concatenate(parts)


def wordings(audio: Float32, clips: Sequence[Mapping[str, str]], towers: Towers) -> list[Mark]:
    """hit@1 and hit@10 in every wording, and what the first 32 dims keep of known hit@10."""
    words = lexicon.load()
    sums: dict[str, tuple[Float64, Float64]] = {}
    for wording in WORDINGS:
        drawn = retrieval.asked(words, clips, wording)
        owners = [i for i, caption in enumerate(drawn) if caption is not None]
        captions = [caption for caption in drawn if caption is not None]
        if not captions:
            continue
        text = towers.embed_texts([caption.text for caption in captions])
        relevant = retrieval.relevance(captions, clips)
        for dim in (512, 32):
            scores = retrieval.unit_prefix(text, dim) @ retrieval.unit_prefix(audio, dim).T
            for k in (1, 10):
                hits = retrieval.found_within(scores, relevant, k)
                name = f"{wording} hit@{k}" + ("" if dim == 512 else " d=32")
                sums[name] = by_clip(hits, owners, len(clips))
    few, all_dims = sums.pop("known hit@10 d=32"), sums["known hit@10"]
    sums["d=32 of d=512, hit@10"] = (few[0], all_dims[0])
    kept = ("hit@1", "hit@10", "d=32 of d=512, hit@10")
    return marked({name: pair for name, pair in sums.items() if name.endswith(kept)})


def zero_shot(
    audio: Float32, clips: Sequence[Mapping[str, str]], towers: Towers, split: str
) -> tuple[list[Mark], dict[str, float]]:
    """Every task that the clips have truths for; the accuracy of each class among its kind's."""
    sums: dict[str, tuple[Float64, Float64]] = {}
    right: dict[str, list[bool]] = {}
    for task in tasks(split):
        owners = [i for i, clip in enumerate(clips) if task.truth(clip) is not None]
        if not owners:
            continue
        places = answer(task, audio[owners], [clips[i] for i in owners], towers.embed_texts)
        for k in task.ks:
            name = task.name if k == 1 else f"{task.name} top-{k}"
            sums[name] = by_clip(places < k, owners, len(clips))
        if task.is_of_classes:
            for owner, place in zip(owners, places, strict=True):
                right.setdefault(clips[owner]["class"], []).append(bool(place == 0))
    return marked(sums), {name: float(np.mean(hits)) for name, hits in sorted(right.items())}


def shortlists(corpus: Path, clips: Sequence[Mapping[str, str]], towers: Towers) -> list[Mark]:
    """Of the top ten of known captions among 10,000 clips by all dims, the share in the first 200
    by 32 dims."""
    gallery = embed(towers, first_rows(corpus / "train", SHORTLIST_ROWS))
    if len(gallery) <= SHORTLIST:
        return []
    drawn = [c for c in retrieval.asked(lexicon.load(), clips, "known") if c is not None]
    text = towers.embed_texts([caption.text for caption in drawn])
    best = np.argsort(-(text @ gallery.T), axis=1)[:, :10]
    scores = retrieval.unit_prefix(text, 32) @ retrieval.unit_prefix(gallery, 32).T
    short = np.argpartition(-scores, SHORTLIST, axis=1)[:, :SHORTLIST]
    held = [len(np.intersect1d(a, b)) / 10 for a, b in zip(best, short, strict=True)]
    pair = by_clip(np.array(held), range(len(clips)), len(clips))
    return marked({f"shortlist of {SHORTLIST} holds the top ten": pair})


def of_recordings(found: Mapping[str, Any], revision: str, precision: str) -> list[Mark]:
    """Zero-shot figures of a labelled set, by all dims: what `clap-engine evaluate --json` found.

    ValueError where that was another bundle, or has no figures of this precision.
    """
    if found.get("revision") != revision:
        raise ValueError(
            f"the recordings were named by revision {str(found.get('revision'))[:12]}, the exam is "
            f"of {revision[:12]}; run `clap-engine evaluate` on this bundle"
        )
    results = [one for one in found["precisions"] if one["precision"] == precision]
    if not results:
        raise ValueError(f"the recordings were not named in {precision}; evaluate that as well")
    return [
        Mark(
            f"recorded sounds, {found['classes'][task]} classes, {name}", figure["value"],
            figure["low"], figure["high"], figure["clips"], None, None,
        )
        for task, figures in results[0]["rungs"][-1]["tasks"].items()
        for name, figure in figures.items()
    ]  # fmt: skip


def first_rows(folder: Path, count: int) -> npt.NDArray[np.uint8]:
    """uint8 [at most count, F, M]: as many chunks as that takes, of a split that may be large."""
    parts: list[npt.NDArray[np.uint8]] = []
    for path in sorted(folder.glob("*.npz")):
        if sum(map(len, parts)) >= count:
            break
        with np.load(path, allow_pickle=False) as chunk:
            parts.append(chunk["log_mel"])
    return np.asarray(np.concatenate(parts)[:count], np.uint8)


def by_clip(values: npt.NDArray[Any], owners: Sequence[int], n: int) -> tuple[Float64, Float64]:
    """One value for each of `owners` -> (sums [N], counts [N])."""
    sums, counts = np.zeros(n), np.zeros(n)
    sums[list(owners)] = values
    counts[list(owners)] = 1
    return sums, counts


def marked(sums: Mapping[str, tuple[Float64, Float64]]) -> list[Mark]:
    none = (None, None)
    return [
        Mark(name, e.value, e.low, e.high, e.clips, *(BARS.get(name, none)))
        for name, e in estimates(sums, seed=SEED).items()
    ]


def table(report: Report) -> str:
    """The marks as markdown."""
    lines = ["| | figure | 95 % | clips | due | aim |", "|---|---|---|---|---|---|"]
    said = labels()
    for mark in report.marks:
        span = "" if mark.low is None or mark.high is None else f"{mark.low:.3f}-{mark.high:.3f}"
        due, aim = ("" if bar is None else f"{bar:g}" for bar in (mark.due, mark.aim))
        name = said.get(mark.name, mark.name)
        lines.append(f"| {name} | {mark.value:.3f} | {span} | {mark.clips} | {due} | {aim} |")
    return "\n".join(lines)


def labels() -> dict[str, str]:
    """What the marks are called where people read them."""
    said = {
        "known": "known wording",
        "held": "unseen phrasings",
        "report": "unseen words",
        "dictionary": "unseen words of a dictionary",
        "names": "unseen names",
    }
    return {
        **{f"{name} hit@{k}": f"{label}, hit@{k}" for name, label in said.items() for k in (1, 10)},
        **{
            task.name: task.label for split in ("held_out", "another_font") for task in tasks(split)
        },
    }
