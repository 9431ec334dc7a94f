"""Between two sets of weights of one tower: what was learned last, without losing what came before.

In:  a learner, the one that it went on from, how much of that one to keep; training clips.
Out: a learner with the weighted mean of both weights and batch norms of its own.
Knows nothing about how either was trained.

A tower on the way from weights before fine-tuning to those after it often does as well as the
latter on the clips of that training, and better on others (Wortsman et al. 2022, "Robust
fine-tuning of zero-shot models", arXiv:2109.01903). Statistics of batch norms don't average: the
mean's own are taken from training clips (Izmailov et al. 2018, arXiv:1803.05407, section 3.2).
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch.optim.swa_utils import update_bn

from clap_export.train import Learner, to_decibels, update_average
from clap_export.weights import UInt8

NORM_CLIPS = 16_384
BATCH = 256


def interpolated(
    learner: Learner, first: Learner, share: float, log_mel: UInt8, seed: int = 0
) -> Learner:
    """A new learner with `share` of the weights of `first`; heads of attributes stay as they are.

    `log_mel` are training clips, uint8 [N, F, M]; a seeded draw of NORM_CLIPS of them sets the
    batch norms. ValueError unless 0 < share < 1, and where the shapes differ.
    """
    if not 0 < share < 1:
        raise ValueError(f"share is {share}; give one between 0 and 1")
    if first.audio.shape != learner.audio.shape:
        raise ValueError(f"the shapes differ: {first.audio.shape}, {learner.audio.shape}")
    mixed = copy.deepcopy(learner)
    device = next(mixed.parameters()).device
    update_average(mixed.audio, first.audio.to(device), 1 - share)
    update_average(mixed.text, first.text.to(device), 1 - share)
    drawn = np.random.default_rng(seed).permutation(len(log_mel))[:NORM_CLIPS]
    parts = np.array_split(drawn, -(-len(drawn) // BATCH))
    with torch.autocast(device.type, torch.bfloat16):
        update_bn((to_decibels(log_mel[np.sort(rows)]) for rows in parts), mixed.audio, device)
    return mixed.eval()
