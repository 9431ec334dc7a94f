"""The text side once more, against the finished audio tower: head and class keys together.

In:  audio embeddings of the training clips, sentence vectors of their captions, head and anchors;
     questions that the clips answer.
Out: head and anchors that were trained in the form in which the graph computes them.
Knows nothing about towers, corpora or files.

While the tower was trained its embeddings moved under the head, and the anchors were not there
yet. With the audio side frozen a step costs a few products, so batches can be large: held-out
hit@10 rose by five points (docs/decisions.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from clap_engine.arrays import Float32
from clap_export import choices
from clap_export.choices import Choices
from clap_export.graphs.text_graph import Anchors
from clap_export.heads import matryoshka_loss


@dataclass(frozen=True)
class Refinement:
    """How long and how fast; `noise` is per entry of a unit sentence vector, as in training."""

    steps: int = 600
    batch: int = 1024
    head_rate: float = 1e-3
    keys_rate: float = 1e-2
    values_rate: float = 3e-3
    choices: float = 0.3  # of their mean loss beside that of the captions
    noise: float = 0.05
    seed: int = 0


def refine(
    audio: Float32,
    sentences: Float32,
    head: Float32,
    anchors: Anchors,
    logit_scale: float,
    plan: Refinement | None = None,
    asked: Sequence[Choices] = (),
) -> tuple[Float32, Anchors]:
    """audio [N, D] unit rows, sentences [N, C, H], head [H, D] -> head, anchors with new keys.

    Keys that share a value move together. `logit_scale` is the factor itself, not its logarithm.
    The last values are those of the answers of all that is `asked`, in order; these alone are
    learned, since a class's own, the mean of its clips, is right as it is.
    """
    plan = plan or Refinement()
    check_values(anchors)
    rng = np.random.default_rng(plan.seed)
    generator = torch.Generator().manual_seed(plan.seed)
    rows = torch.from_numpy(audio)
    texts = torch.from_numpy(np.asarray(sentences, dtype=np.float32))
    answers = sum(map(len, asked))
    first = torch.from_numpy(np.array(anchors.values))  # [V, D]
    fixed = first[: len(first) - answers]
    learned = torch.nn.Parameter(first[len(fixed) :].clone())
    truths = [torch.from_numpy(each.truths) for each in asked]
    weight = torch.nn.Parameter(torch.from_numpy(head.copy()))
    drawn = torch.from_numpy(anchors.keys).reshape(len(first), -1, texts.shape[2])  # [V, P / V, H]
    moves = torch.nn.Parameter(torch.zeros(len(first), 1, texts.shape[2]))
    scale = torch.tensor(float(np.log(logit_scale)))
    optimizer = torch.optim.AdamW(
        [{"params": [weight]}, {"params": [moves]}, {"params": [learned]}], weight_decay=0.0
    )
    rates = (plan.head_rate, plan.keys_rate, plan.values_rate)

    def values() -> Tensor:
        return torch.cat([fixed, functional.normalize(learned, dim=-1)])

    def embed(x: Tensor, rows: Tensor) -> Tensor:
        y = functional.normalize(x @ weight, dim=-1)
        keys = (drawn + moves).flatten(0, 1)
        shares = torch.softmax(x @ keys.T / anchors.tau, dim=-1)
        classes = shares.reshape(len(x), len(rows), -1).sum(2) @ rows
        return functional.normalize((1 - anchors.blend) * y + anchors.blend * classes, dim=-1)

    for step in range(plan.steps):
        left = 1 - step / plan.steps
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * left
        chosen = torch.randint(len(rows), (plan.batch,), generator=generator)
        which = torch.randint(texts.shape[1], (plan.batch,), generator=generator)
        x = torch.cat([texts[chosen, which], *(torch.from_numpy(a.drawn(rng)) for a in asked)])
        noise = torch.randn(x.shape, generator=generator)
        x = functional.normalize(x + plan.noise * noise, dim=-1)
        embedded = torch.split(embed(x, values()), [plan.batch, *map(len, asked)])
        loss = matryoshka_loss(rows[chosen], embedded[0], scale)
        for text, true in zip(embedded[1:], truths, strict=True):
            one = choices.loss(rows[chosen], text, true[chosen], scale)
            loss = loss + plan.choices / len(asked) * one
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    keys = (drawn + moves).flatten(0, 1).detach()
    return weight.detach().numpy(), replace(
        anchors, keys=keys.numpy(), values=values().detach().numpy()
    )


def check_values(anchors: Anchors) -> None:
    """ValueError unless as many keys share each value."""
    if anchors.values is None or len(anchors.keys) % len(anchors.values):
        raise ValueError("anchors without a value for each key can't be refined")
