"""Each label for itself: precision and recall of `multi_label` among twenty labels of a kind.

In:  a folder for rendered clips (made where it is missing); a bundle.
Out: one JSON line a kind and one for all: recall and precision at a probability of .5, and the
     curve; with --fit, the level and slope of the border, a logistic regression on validation
     clips.
Knows nothing about training: figures are the held-out gallery's.

Each clip is asked for its own class and nineteen others of its kind (of all kinds together where
there are fewer), drawn by the seed; so one label in twenty is true.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

import clap_engine
from clap_engine.arrays import Float64, Int64
from clap_engine.tasks.scores import Background
from clap_export.corpus.classes import CLASSES
from label_sets import embed, rendered

LABELS = 20
BORDERS = (0.1, 0.3, 0.5, 0.7, 0.9)


def asked(clips: list[dict[str, str]], names: list[str], seed: int) -> Int64:
    """[N, 20] numbers of labels for each clip, its own first."""
    place = {name: number for number, name in enumerate(names)}
    rng = np.random.default_rng(seed)
    drawn = []
    for clip in clips:
        true = {clip.get(part) for part in ("class", "then", "with")}
        among = [name for name in CLASSES[clip["kind"]] if name not in true]
        if len(among) < LABELS - 1:
            among = [name for name in names if name not in true]
        others = rng.permutation(len(among))[: LABELS - 1]
        drawn.append([place[clip["class"]], *(place[among[i]] for i in others)])
    return np.array(drawn, np.int64)


def figures(probabilities: Float64) -> dict[str, Any]:
    """[N, 20], the true label first."""
    found: dict[str, Any] = {"clips": len(probabilities)}
    curve = {}
    for border in BORDERS:
        heard = probabilities >= border
        hits, told = float(heard[:, 0].sum()), float(heard.sum())
        one = {"recall": round(hits / len(heard), 3),
               "precision": round(hits / told, 3) if told else None}  # fmt: skip
        curve[border] = one
        if border == 0.5:
            found |= one
    return {**found, "curve": curve}


def fitted(deviations: Float64) -> dict[str, float]:
    """[N, 20], the true label first -> `label_level` and `label_slope` of a calibration."""
    x = np.stack([np.ones(deviations.size), deviations.ravel()], axis=1)
    y = np.zeros(deviations.shape)
    y[:, 0] = 1
    weights = np.zeros(2)
    for _ in range(50):
        p = 1 / (1 + np.exp(-np.clip(x @ weights, -30, 30)))
        curve = (x * (p * (1 - p))[:, None]).T @ x + 1e-6 * np.eye(2)
        weights += np.linalg.solve(curve, x.T @ (y.ravel() - p))
    return {"label_level": round(float(-weights[0] / weights[1]), 2),
            "label_slope": round(float(weights[1]), 2)}  # fmt: skip


def main() -> None:
    """Fit or measure."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--corpus", type=Path, required=True, help="clips are rendered into it")
    options.add_argument("--clips", type=int, default=1000)
    options.add_argument("--seed", type=int, default=0, help="of the labels that are asked for")
    options.add_argument("--bundle", help="default: the one that ships")
    options.add_argument("--fit", action="store_true", help="on validation clips")
    arguments = options.parse_args()
    split = "validation" if arguments.fit else "held_out"
    folder = rendered(arguments.corpus, split, arguments.clips)
    with clap_engine.load(arguments.bundle, threads=1) as engine:
        rows, clips = embed(engine, folder)
        names = sorted({name for some in CLASSES.values() for name in some})
        texts = tuple(name.replace("_", " ") for name in names)
        cosines = rows @ engine._prompts.rows(texts, "classify").T
        background = Background.of(engine.calibration)
    chosen = asked(clips, names, arguments.seed)
    cosines = np.take_along_axis(cosines, chosen, axis=1)
    if arguments.fit:
        print(json.dumps(fitted(background.deviations(cosines))))
        return
    probabilities = background.probabilities(cosines)
    kinds = np.array([clip["kind"] for clip in clips])
    for kind in ("all", *sorted(set(kinds.tolist()))):
        used = np.ones(len(kinds), bool) if kind == "all" else kinds == kind
        print(json.dumps({"kind": kind, "labels": LABELS, **figures(probabilities[used])}))


if __name__ == "__main__":
    main()
