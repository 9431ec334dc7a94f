"""How heads are trained: the plan of a run, where it begins, what it sees at each step.

In:  `Features`, the settings of a run.
Out: `Plan`; the clips of both sides of the split; batches; matrices to begin with.
Knows nothing about losses, optimizers or files.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from clap_engine.arrays import Float32, Int64, l2_normalize
from clap_export import rotation
from clap_export.errors import TrainingError
from clap_export.features import Features
from clap_export.rotation import Head

LEAST_CLIPS = 8  # to train on, and 4 to validate on: fewer make no contrastive batch
# The fitted rotation; the source's own dims as they are; or an order of chance, for comparisons.
STARTS = ("rotation", "own", "random")


@dataclass(frozen=True)
class Plan:
    """Everything a run depends on, beside its features."""

    ladder: tuple[int, ...]
    steps: int = 3_000
    batch: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 0.01  # towards the rotation, a step of learning_rate * weight_decay
    warmup_steps: int = 100
    noise: float = 0.3  # length of the noise on a unit row: keeps small sets from being learned
    validation: float = 0.1  # of the clips
    examine_steps: int = 50
    patience: int = 10  # examinations without a better validation loss
    seed: int = 0
    start: str = "rotation"  # one of STARTS, or what names a head that is given
    only_text: bool = False  # sounds stay where they are: collections need no re-embedding


def check(plan: Plan, dim: int, start: Head | None = None) -> None:
    """TrainingError for a plan that no run can follow in a space of `dim` dims."""
    ladder = plan.ladder
    if not ladder or ladder[-1] > dim or not rotation.is_ladder(ladder, ladder[-1]):
        raise TrainingError(
            f"ladder {','.join(map(str, ladder)) or 'empty'}; give rising dims of 1 to {dim}, the "
            "source's own: the last is the width of the new space"
        )
    if plan.start not in STARTS and start is None:
        raise TrainingError(
            f"start {plan.start!r}; give one of {', '.join(STARTS)}, or a head file"
        )
    if start is not None and start.matrix.shape != (dim, ladder[-1]):
        raise TrainingError(
            f"the head to start from maps {start.matrix.shape[0]} dims to {start.matrix.shape[1]}; "
            f"the ladder ends with {ladder[-1]} of {dim}: give --ladder to fit it"
        )
    for name, least in (("steps", 1), ("batch", 2), ("examine_steps", 1), ("patience", 1)):
        if getattr(plan, name) < least:
            raise TrainingError(f"{name} {getattr(plan, name)}; at least {least}")
    if not 0 < plan.validation <= 0.5:
        raise TrainingError(f"validation {plan.validation:g}; above 0 and at most 0.5 of the clips")
    if not 0 < plan.learning_rate < 1:
        raise TrainingError(f"learning_rate {plan.learning_rate:g}; between 0 and 1")


def split(features: Features, plan: Plan) -> tuple[Features, Features]:
    """Clips to train on and clips to validate on, by the plan's seed: a clip's captions stay
    together."""
    count = len(features)
    held = max(4, round(plan.validation * count))
    if count - held < LEAST_CLIPS:
        raise TrainingError(
            f"{count} clips, of which {held} validate; at least {LEAST_CLIPS + 4} that can be "
            "found and read are needed, and some thousands for heads of use"
        )
    order = np.random.default_rng([plan.seed, 1]).permutation(count)
    return features.take(np.sort(order[held:])), features.take(np.sort(order[:held]))


def batch(learn: Features, plan: Plan, step: int) -> tuple[Float32, Float32]:
    """Batch number `step`: of each drawn clip one window and one caption, with noise."""
    rng = np.random.default_rng([plan.seed, 2, step])
    clips = rng.choice(len(learn), min(plan.batch, len(learn)), replace=False)

    def one(rows: Float32, starts: Int64) -> Float32:
        counts = (starts[1:] - starts[:-1])[clips]
        drawn = rows[starts[clips] + (rng.random(len(clips)) * counts).astype(np.int64)]
        noise = rng.standard_normal(drawn.shape, np.float32) / math.sqrt(drawn.shape[1])
        return l2_normalize(np.asarray(drawn + plan.noise * noise, np.float32))

    return one(learn.windows, learn.starts), one(learn.texts, learn.said)


def learning_rate(plan: Plan, step: int) -> float:
    """Linear warm-up, then half a cosine to nothing."""
    warm = min(plan.warmup_steps, plan.steps // 2)
    if step < warm:
        return plan.learning_rate * (step + 1) / warm
    return plan.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / (plan.steps - warm)))


def begun(learn: Features, plan: Plan, start: Head | None) -> tuple[Float32, Float32]:
    """[S, D] of sounds and of texts: where a run begins."""
    dim, source = plan.ladder[-1], learn.texts.shape[1]
    if start is not None:
        return start.matrix, start.matrix if start.text is None else start.text
    if plan.start == "rotation":
        matrix = rotation.fit(learn.texts, learn.windows)
    elif plan.start == "own":
        matrix = np.eye(source, dtype=np.float32)
    else:
        matrix = random_rotation(source, plan.seed)
    return matrix[:, :dim].copy(), matrix[:, :dim].copy()


def random_rotation(dim: int, seed: int) -> Float32:
    """An orthogonal matrix [dim, dim] that orders nothing."""
    normal = np.random.default_rng([seed, 3]).standard_normal((dim, dim))
    return np.asarray(np.linalg.qr(normal)[0], np.float32)
