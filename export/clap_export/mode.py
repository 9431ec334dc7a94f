"""Major or minor: learned when the tower is done, and then heard in its embedding.

In:  a learner, training clips some of which are in a major or a minor key.
Out: a learner whose tower has a `ModeScore`, and a direction in which it moves the embedding.
Knows nothing about anchors, graphs or files.

Contrast with captions does not teach it: hardly any says so, and every profile was soon busy
telling instruments apart. So the profiles learn from the mode alone, and the embedding moves by a
fixed length, enough for a question with two answers, too little for anything else to change.
"""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import torch
from torch.nn import functional

from clap_engine.arrays import Int64
from clap_export import choices
from clap_export.choices import Choices
from clap_export.heads import matryoshka_loss
from clap_export.tower import ModeScore, deepened
from clap_export.train import Batchable, Learner, in_batches
from clap_export.weights import UInt8

QUESTION = "mode"
PROFILES = 32
EPOCHS = 40
BATCH = 256
RATE = 5e-3
NOISE = 0.1  # of partials, in units of RELIEF_DB
# Of the embedding's mean length before it is normalised: .25 names the mode no better, and .15
# costs known wording nothing (docs/decisions.md).
LENGTH = 0.15
STEPS = 200
DIRECTION_RATE = 0.05
CLIPS = 8_192  # with a mode, and as many of any kind, on which the direction is learned


def heard(learner: Learner, data: Batchable, seed: int = 0) -> Learner:
    """A new learner that hears the mode, or `learner` itself where not every mode has clips.

    Everything that it had before stays as it was.
    """
    asked = next((each for each in data.asked if each.name == QUESTION), None)
    if asked is None or len(np.unique(asked.truths[asked.truths >= 0])) < len(asked):
        return learner
    torch.manual_seed(seed)
    device = next(learner.parameters()).device
    shape = replace(learner.audio.shape, profiles=PROFILES)
    made = copy.deepcopy(learner)
    made.audio = deepened(learner.audio.state_dict(), learner.audio.shape, shape).to(device)
    made.eval()
    learn_profiles(made.audio.mode, data.log_mel, asked.truths, seed)
    learn_direction(made, data, asked, seed)
    return made


def learn_profiles(score: ModeScore, log_mel: UInt8, truths: Int64, seed: int) -> None:
    """Fits `score` to the clips whose mode is known: `truths` [N] are 0 for major, 1 for minor, -1
    where nobody knows."""
    rng = np.random.default_rng([seed, 5])
    rows = np.flatnonzero(truths >= 0)
    device = score.bias.device
    with torch.no_grad():
        partials = in_batches(score.partials, log_mel[rows], device)
    minor = torch.from_numpy(truths[rows] == 1).to(device, torch.float32)
    optimizer = torch.optim.AdamW(score.parameters(), lr=RATE, weight_decay=0.01)
    for epoch in range(EPOCHS):
        for group in optimizer.param_groups:
            group["lr"] = RATE * (1 - epoch / EPOCHS)
        for drawn in np.array_split(rng.permutation(len(rows)), -(-len(rows) // BATCH)):
            x = partials[drawn]
            logit = score.logit(x + NOISE * torch.randn_like(x))[:, 0]
            loss = functional.binary_cross_entropy_with_logits(logit, minor[drawn])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()


def learn_direction(learner: Learner, data: Batchable, asked: Choices, seed: int) -> None:
    """Turns `minor` to where phrases of the mode tell clips apart and captions of clips are
    disturbed least; LENGTH of the embedding's length long."""
    tower, text = learner.audio, learner.text
    rng = np.random.default_rng([seed, 6])
    device = tower.minor.device
    keyed = np.flatnonzero(asked.truths >= 0)
    keyed = rng.choice(keyed, min(CLIPS, len(keyed)), replace=False)
    others = rng.choice(len(data.log_mel), min(CLIPS, len(data.log_mel)), replace=False)
    rows = np.concatenate([keyed, others])
    with torch.no_grad():
        pooled = in_batches(tower.pooled, data.log_mel[rows], device)
        score = in_batches(tower.mode, data.log_mel[rows], device)
    length = LENGTH * pooled.norm(dim=1).mean()
    truths = torch.from_numpy(asked.truths[rows]).to(device)
    direction = torch.nn.Parameter(torch.randn_like(tower.minor))
    optimizer = torch.optim.AdamW([direction], lr=DIRECTION_RATE, weight_decay=0.0)
    scale = text.logit_scale.detach()
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = DIRECTION_RATE * (1 - step / STEPS)
        drawn = np.concatenate(
            [
                rng.choice(len(keyed), min(BATCH, len(keyed)), replace=False),
                len(keyed) + rng.choice(len(others), min(2 * BATCH, len(others)), replace=False),
            ]
        )
        which = rng.integers(data.sentences.shape[1], size=len(drawn))
        said = data.sentences[rows[drawn], which].astype(np.float32)
        said = np.concatenate([said, asked.drawn(rng)])
        with torch.no_grad():
            captions, answers = torch.split(
                text(torch.from_numpy(said).to(device)), [len(drawn), len(asked)]
            )
        audio = pooled[drawn] + score[drawn] * length * functional.normalize(direction, dim=0)
        loss = matryoshka_loss(audio, captions, scale)
        loss = loss + choices.loss(audio, answers, truths[drawn], scale)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():
        tower.minor.copy_(length * functional.normalize(direction, dim=0))
