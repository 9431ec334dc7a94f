"""Does a 2-D picture predict accuracy? Rank correlations over classes of the held-out gallery.

In:  a folder for rendered clips (made where it is missing); a bundle.
Out: one JSON line for all classes and one for each kind: Spearman's correlation of a class' mean
     silhouette in the plane of the two first principal components with how often its clips are
     right, and of the silhouette in all dims, each with its interval; twice: both from the same
     clips, and separation from one half of a class' clips with accuracy from the other.
Knows nothing about training: the clips are the held-out gallery's.

Accuracy is zero-shot among the classes of the line, by plain class names in the bundle's templates,
and that of the nearest class middle.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import clap_engine
from clap_engine.arrays import Float32
from clap_engine.comparison.correlation import correlation, plane_silhouettes
from clap_engine.tasks.separation import separate
from label_sets import embed, rendered

RESAMPLES = 2_000


def figures(rows: Float32, labels: Sequence[str], right: Sequence[bool]) -> dict[str, Any]:
    """One set of clips: who is right, and what tells it."""
    names = np.array(labels)
    # Halves of each class by turns, so that both have clips of every class.
    turn = np.zeros(len(names), int)
    for name in set(labels):
        turn[names == name] = np.arange((names == name).sum()) % 2
    every = np.ones(len(names), bool)
    found: dict[str, Any] = {"classes": len(set(labels)), "clips": len(names)}
    for half, seen, asked in (("same_clips", every, every), ("other_clips", turn == 0, turn == 1)):
        separated = separate(rows[seen], names[seen].tolist())
        plane = plane_silhouettes(separated.plane.points, separated.labels)
        nearest = separate(rows[asked], names[asked].tolist())
        middle = {one.label: one.accuracy for one in nearest.classes if one.count > 1}
        zero_shot = {
            name: float(np.mean(np.array(right)[asked & (names == name)])) for name in middle
        }
        used = [one for one in separated.classes if one.label in middle and one.count > 1]
        found[half] = {"plane_share_of_variance": round(separated.plane.share, 3)}
        for accuracy, of in (("zero_shot", zero_shot), ("nearest_middle", middle)):
            y = np.array([of[one.label] for one in used])
            for told, x in (
                ("plane", [plane[one.label] for one in used]),
                ("all_dims", [one.silhouette for one in used]),
            ):
                one = correlation(np.array(x), y, seed=0, resamples=RESAMPLES)
                said = None if one is None else [round(v, 2) for v in (one.rho, one.low, one.high)]
                found[half][f"{told}_tells_{accuracy}"] = said
            found[half][accuracy] = round(float(y.mean()), 3)
    return found


def main() -> None:
    """Render what is missing, then all classes and each kind."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--corpus", type=Path, required=True, help="held_out/ is made in it")
    options.add_argument("--clips", type=int, default=2960)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--bundle", help="default: the one that ships")
    arguments = options.parse_args()
    folder = rendered(arguments.corpus, "held_out", arguments.clips, arguments.seed)
    with clap_engine.load(arguments.bundle, threads=1) as engine:
        rows, clips = embed(engine, folder)
        alone = [i for i, clip in enumerate(clips) if not {"then", "with"} & clip.keys()]
        rows, clips = rows[alone], [clips[i] for i in alone]  # a clip of two sounds is of no class
        for kind in ("all", *sorted({clip["kind"] for clip in clips})):
            used = [i for i, clip in enumerate(clips) if kind in ("all", clip["kind"])]
            labels = [clips[i]["class"] for i in used]
            names = sorted(set(labels))
            texts = tuple(name.replace("_", " ") for name in names)
            cosines = rows[used] @ engine._prompts.rows(texts, "classify").T
            right = [names[best] == own
                     for best, own in zip(cosines.argmax(axis=1), labels, strict=True)]  # fmt: skip
            print(json.dumps({"kind": kind, **figures(rows[used], labels, right)}))


if __name__ == "__main__":
    main()
