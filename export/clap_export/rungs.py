"""A rotation by which the first dims of a finished space rank sounds as all of them do.

In:  embeddings of captions and of their clips; how sharply scores are read.
Out: an orthogonal matrix [D, D].
Knows nothing about towers, corpora or files.

A rotation changes no score of all dims, so nothing that was learned is at stake. What its prefixes
learn is to answer as all dims do (distillation: Hinton et al. 2015), asked in words and by clips:
learning from the captions themselves makes them better at captions than they are at unseen words
(docs/decisions.md). `rotation` orders dims by their energy alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import orthogonal

from clap_engine.arrays import Float32, check_array
from clap_export.heads import LADDER


@dataclass(frozen=True)
class Distillation:
    """How long and how fast, and what counts how much."""

    steps: int = 200
    batch: int = 2048
    rate: float = 6e-3
    first: float = 1.0  # the shortest rung, on which every shortlist hangs
    others: float = 0.3
    clips: float = 0.3  # asking by clips, beside asking in words
    seed: int = 0


def distilled(
    text: Float32,
    audio: Float32,
    logit_scale: float,
    ladder: Sequence[int] = LADDER,
    plan: Distillation | None = None,
) -> Float32:
    """text and audio [N, D], unit rows, captions and their clips -> orthogonal [D, D], to be
    multiplied from the right. The last rung of `ladder` is D.

    ArrayError unless both have the same shape.
    """
    plan = plan or Distillation()
    text = check_array(text, shape=(None, ladder[-1]), name="text")
    audio = check_array(audio, shape=text.shape, name="audio")
    generator = torch.Generator().manual_seed(plan.seed)
    captions, clips = torch.from_numpy(text), torch.from_numpy(audio)
    turn = orthogonal(nn.Linear(ladder[-1], ladder[-1], bias=False), orthogonal_map="matrix_exp")
    with torch.no_grad():
        turn.weight = torch.eye(ladder[-1])
    optimizer = torch.optim.Adam(turn.parameters(), lr=plan.rate)
    for step in range(plan.steps):
        for group in optimizer.param_groups:
            group["lr"] = plan.rate * (1 - step / plan.steps)
        drawn = torch.randint(len(text), (min(plan.batch, len(text)),), generator=generator)
        whole = captions[drawn], clips[drawn]
        turned = [turn(rows) for rows in whole]
        loss = torch.zeros(())
        for rung in ladder[:-1]:
            said, heard = (functional.normalize(rows[:, :rung], dim=-1) for rows in turned)
            one = surprise(whole[0], whole[1], said, heard, logit_scale)
            one = one + plan.clips * surprise(whole[1], whole[1], heard, heard, logit_scale)
            loss = loss + (plan.first if rung == ladder[0] else plan.others) * one
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return turn.weight.detach().numpy().T.copy()


def surprise(
    queries: Tensor, clips: Tensor, short_queries: Tensor, short_clips: Tensor, logit_scale: float
) -> Tensor:
    """Cross-entropy of the shares that prefixes give the clips, where all dims' are the truth."""
    shares = torch.softmax(logit_scale * queries @ clips.T, dim=-1)
    return functional.cross_entropy(logit_scale * short_queries @ short_clips.T, shares)
