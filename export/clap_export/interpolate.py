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

import numpy as np
import torch
from torch import nn

from clap_export.train import Learner, to_decibels
from clap_export.weights import UInt8

NORM_CLIPS = 16_384
BATCH = 256


@torch.no_grad()
def interpolated(
    learner: Learner, first: Learner, share: float, log_mel: UInt8, seed: int = 0
) -> Learner:
    """A new learner with `share` of the weights of `first`, the heads of attributes aside.

    `log_mel` are training clips, uint8 [N, F, M]; a seeded draw of NORM_CLIPS of them sets the
    batch norms. ValueError unless 0 < share < 1, and where the shapes differ.
    """
    if not 0 < share < 1:
        raise ValueError(f"share is {share}; give one between 0 and 1")
    before, after = first.state_dict(), learner.state_dict()
    if {n: v.shape for n, v in before.items()} != {n: v.shape for n, v in after.items()}:
        raise ValueError("the two learners' weights have different shapes")
    mixed = Learner(learner.audio.shape)
    mixed.load_state_dict(
        {
            name: torch.lerp(value.cpu(), before[name].cpu(), share)
            if value.is_floating_point() and not name.startswith("attributes.")
            else value.cpu()
            for name, value in after.items()
        }
    )
    mixed.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    norms = [module for module in mixed.modules() if isinstance(module, nn.BatchNorm2d)]
    usual = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over batches
    drawn = np.random.default_rng(seed).permutation(len(log_mel))[:NORM_CLIPS]
    mixed.train()
    with torch.autocast("cpu", torch.bfloat16):
        for rows in np.array_split(drawn, -(-len(drawn) // BATCH)):
            mixed.audio.features(to_decibels(log_mel[np.sort(rows)]))
    for norm, momentum in zip(norms, usual, strict=True):
        norm.momentum = momentum
    return mixed.eval()
