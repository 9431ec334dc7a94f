"""Class anchors: which training class a sentence speaks of, learned from text alone.

In:  sentence vectors of phrases and captions with their classes.
Out: `keys`, as many for each class: softmax(x keys^T), summed over those of a class, is the share
     of that class in a sentence.
Knows nothing about sounds, towers or graphs.

A linear classifier under noise reaches further than the nearest phrases do, and both together
further than either: of unseen phrases the first class was right in 37 % by one key a class, in 39 %
by 24, each drawn towards other phrases of its class (docs/decisions.md).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from clap_engine.arrays import Float32
from clap_engine.index import kmeans

EPOCHS = 6
BATCH = 1024
NOISE = 0.05  # per entry of a unit sentence vector: about its own length in all
SCALE = 12.0
SMOOTHING = 0.1
PER_CLASS = 24  # keys: 2.8 MB of int8
NEARNESS = 0.05  # how far a phrase is from a key's own phrases, in cosine, to count e times less


def near_phrases(
    vectors: Float32, classes: Sequence[int], keys: Float32, per_class: int = PER_CLASS
) -> Float32:
    """Phrases' sentence vectors [N, H] with their classes, and a key a class [C, H] -> keys
    [C * per_class, H], those of a class side by side.

    Each is its class's key plus the centre of some of the class's phrases (k-means, seeded) over
    NEARNESS; a class of fewer phrases repeats them. ValueError for a class without any.
    """
    which = np.asarray(classes)
    grown: list[Float32] = []
    for number, key in enumerate(keys):
        own = np.asarray(vectors[which == number], dtype=np.float32)
        if not len(own):
            raise ValueError(f"class {number} has no phrases; each needs one at least")
        centres = _centres(own, per_class)
        grown.append(centres[np.arange(per_class) % len(centres)] / NEARNESS + key)
    return np.asarray(np.concatenate(grown), np.float32)


def _centres(rows: Float32, count: int) -> Float32:
    """Means of the rows of at most `count` groups; shorter than the rows where these differ."""
    units = np.maximum(np.abs(rows).max(axis=0) / np.float32(127), np.float32(1e-12))
    codes = np.rint(rows / units).astype(np.int8)
    nearest, _ = kmeans.assign(
        codes, units, kmeans.train(codes, units, count, 0, _go_on), _go_on
    )  # fmt: skip
    means: Float32 = np.stack([rows[nearest == group].mean(axis=0) for group in np.unique(nearest)])
    return means


def _go_on() -> None:
    """Nobody stops it: it takes milliseconds."""


def fit_keys(vectors: Float32, classes: Sequence[int], count: int, seed: int = 0) -> Float32:
    """Sentence vectors [N, H] and class indices [N] -> keys [count, H]; repeats with the seed."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.from_numpy(np.asarray(vectors, dtype=np.float32))
    y = torch.from_numpy(np.asarray(classes, dtype=np.int64))
    linear = nn.Linear(x.shape[1], count, bias=False)
    nn.init.normal_(linear.weight, std=0.02, generator=generator)
    optimizer = torch.optim.AdamW(linear.parameters(), lr=3e-3, weight_decay=0.01)
    for epoch in range(EPOCHS):
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * (1 - epoch / EPOCHS)
        order = torch.randperm(len(x), generator=generator)
        for rows in torch.split(order, BATCH):
            noise = NOISE * torch.randn(len(rows), x.shape[1], generator=generator)
            logits = SCALE * linear(functional.normalize(x[rows] + noise, dim=-1))
            loss = functional.cross_entropy(logits, y[rows], label_smoothing=SMOOTHING)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return np.ascontiguousarray(linear.weight.detach().numpy() * SCALE)
