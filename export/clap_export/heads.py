"""Matryoshka heads and their loss: prefixes that work on their own.

In:  audio and text embeddings [B, D].
Out: the symmetric contrastive loss, averaged over the ladder.
Knows nothing about towers, corpora or files.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

LADDER = (32, 64, 128, 256, 512)
# exp(logit_scale) is clamped here, as CLIP does (Radford et al. 2021, section 2.5).
MAX_LOGIT_SCALE = math.log(100.0)


class TextHead(nn.Module):
    """One linear map from sentence vectors to the shared space; [B, 384] -> [B, D] unit rows."""

    def __init__(self, width: int = 384, dim: int = 512) -> None:
        super().__init__()
        self.linear = nn.Linear(width, dim, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(14.0)))

    def forward(self, sentences: Tensor) -> Tensor:
        return functional.normalize(self.linear(sentences), dim=-1)


def matryoshka_loss(
    audio: Tensor, text: Tensor, logit_scale: Tensor, ladder: Sequence[int] = LADDER
) -> Tensor:
    """Symmetric InfoNCE (van den Oord et al. 2018; Radford et al. 2021), mean over the ladder.

    Each prefix is normalised before its logits (Kusupati et al. 2022, Matryoshka Representation
    Learning); row i of `audio` belongs to row i of `text`.
    """
    scale = logit_scale.clamp(max=MAX_LOGIT_SCALE).exp()
    target = torch.arange(len(audio), device=audio.device)
    total = audio.new_zeros(())
    for dim in ladder:
        a = functional.normalize(audio[:, :dim], dim=-1)
        t = functional.normalize(text[:, :dim], dim=-1)
        logits = scale * a @ t.T
        total = total + functional.cross_entropy(logits, target)
        total = total + functional.cross_entropy(logits.T, target)
    return total / (2 * len(ladder))
