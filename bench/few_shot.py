"""Few examples a class: which simple learner on embeddings is worth taking, and against zero-shot.

In:  a folder for rendered clips (made where they are missing); a bundle.
Out: one JSON line a group of classes and number of examples: accuracy of each learner.
Knows nothing about training: all clips have the held-out gallery's sources and parameters.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

import clap_engine
from clap_engine.arrays import Float32
from clap_engine.tasks import learners
from clap_export.corpus import render
from clap_export.corpus.synth import RATE_HZ

SEED, CLIPS = 11, 24
SHOTS = (1, 2, 4, 8, 16)
DECAY, STEPS = 0.001, 400
DRAWS = 20
ONE_SPEAKER = ("man_speaking", "woman_speaking", "child_speaking", "fast_speech", "slow_speech")
# Label -> classes of the corpus. Groups in which names alone are not enough.
GROUPS: dict[str, dict[str, tuple[str, ...]]] = {
    "reeds": {
        name.replace("_", " "): (name,)
        for name in ("soprano_sax", "alto_sax", "tenor_sax", "baritone_sax", "oboe",
                     "english_horn", "bassoon", "clarinet")
    },
    "grooves": {
        name.replace("_", " "): (name,)
        for name in ("rock_beat", "funk_beat", "disco_beat", "house_beat", "hip_hop_beat",
                     "breakbeat", "shuffle_beat", "double_kick_metal_beat")
    },
    "speakers": {
        "one person speaking": ONE_SPEAKER, "conversation": ("conversation",),
        "crowd talking": ("crowd_talking",),
    },
    "effects": {
        name.replace("_", " "): (name,)
        for name in ("rain", "wind", "thunder", "gunshot", "explosion", "scream", "dog_bark",
                     "glass_breaking")
    },
}  # fmt: skip


def rows_of(engine: clap_engine.Engine, folder: Path, name: str, count: int) -> Float32:
    """[count, D] of rendered clips of one class, kept in the folder."""
    path = folder / f"{name}.npy"
    if not path.exists():
        clips = (render.render_clip(name, i, SEED, "held_out") for i in range(count))
        np.save(path, engine.embed_audio([(clip.waveform, RATE_HZ) for clip in clips]))
    return np.asarray(np.load(path), np.float32)


def prototypes(rows: Float32, classes: np.ndarray, count: int) -> learners.Rule:
    """The normalised mean of each class; scores are cosines."""
    means = np.stack([rows[classes == c].mean(axis=0, dtype=np.float64) for c in range(count)])
    return means / np.linalg.norm(means, axis=1, keepdims=True), np.zeros(count)


def logistic(rows: Float32, classes: np.ndarray, count: int) -> learners.Rule:
    """Multinomial logistic regression with weight decay .001, by accelerated gradient steps."""
    x, targets = rows.astype(np.float64), np.eye(count)[classes]
    centre = x.mean(axis=0)
    x = x - centre
    gram = x @ x.T
    step = 1.0 / (0.5 * np.linalg.norm(gram + 1, 2) / len(x) + DECAY)
    a = last = np.zeros((len(x), count))
    bias = last_bias = np.zeros(count)
    for turn in range(STEPS):
        share = turn / (turn + 3.0)
        ahead, ahead_bias = a + share * (a - last), bias + share * (bias - last_bias)
        logits = gram @ ahead + ahead_bias
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        error = (powers / powers.sum(axis=1, keepdims=True) - targets) / len(x)
        last, last_bias = a, bias
        a, bias = ahead - step * (error + DECAY * ahead), ahead_bias - step * error.sum(axis=0)
    weights = a.T @ x
    return weights, bias - weights @ centre


def accuracies(
    rows: Float32, labels: np.ndarray, names: Float32, letters: Float32, shots: int
) -> dict[str, float]:
    """Mean over seeded draws of what is right among the clips that were no examples.

    `names` [C, D] are rows of the classes' names, `letters` of names that say nothing.
    """
    right: dict[str, list[float]] = {}
    for draw in range(DRAWS):
        rng = np.random.default_rng([SEED, shots, draw])
        shown = np.concatenate(
            [
                rng.permutation(np.flatnonzero(labels == label))[:shots]
                for label in range(len(names))
            ]
        )
        asked = np.setdiff1d(np.arange(len(rows)), shown)
        count = len(names)
        rules = {
            "zero-shot": (names.astype(np.float64), np.zeros(count)),
            "prototypes": prototypes(rows[shown], labels[shown], count),
            "logistic": logistic(rows[shown], labels[shown], count),
            "ridge": learners.ridge(rows[shown], labels[shown], count),
            "ridge, words": learners.ridge(rows[shown], labels[shown], count, names),
            "ridge, letters": learners.ridge(rows[shown], labels[shown], count, letters[:count]),
        }
        for name, (weights, bias) in rules.items():
            found = (rows[asked] @ weights.T + bias).argmax(axis=1)
            right.setdefault(name, []).append(float((found == labels[asked]).mean()))
    return {name: round(float(np.mean(some)), 3) for name, some in right.items()}


def main() -> None:
    """All groups, all numbers of examples."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--folder", type=Path, required=True, help="where embeddings are kept")
    options.add_argument("--bundle", help="default: the one that ships")
    arguments = options.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    with clap_engine.load(arguments.bundle, threads=1) as engine:
        for group, classes in GROUPS.items():
            parts = [
                np.concatenate(
                    [
                        rows_of(engine, arguments.folder, name, CLIPS)[: CLIPS // len(names)]
                        for name in names
                    ]
                )
                for names in classes.values()
            ]
            labels = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
            names = engine._prompts.rows(tuple(classes), "classify")
            letters = engine._prompts.rows(tuple("ABCDEFGH"), "classify")
            for shots in SHOTS:
                found = accuracies(np.concatenate(parts), labels, names, letters, shots)
                print(json.dumps({"group": group, "classes": len(parts), "shots": shots, **found}))


if __name__ == "__main__":
    main()
