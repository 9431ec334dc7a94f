"""Between two sets of weights: the mean of both, with batch norms of its own."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest
import torch

from clap_export.commands import train_mini
from clap_export.interpolate import interpolated
from clap_export.tower import TowerShape
from clap_export.train import Learner, to_decibels

pytestmark = pytest.mark.export

SHAPE = TowerShape(channels=(4, 8, 8, 16), blocks=(0, 1, 0, 0), hidden=32)
CLIPS = np.random.default_rng(1).integers(0, 256, (300, 128, 64)).astype(np.uint8)


def learner(seed: int) -> Learner:
    torch.manual_seed(seed)
    made = Learner(SHAPE)
    with torch.no_grad():  # statistics of a training that these clips are not of
        for name, value in made.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                value.copy_(torch.rand_like(value) + 3)
    return made


def test_weights_are_means_and_attributes_the_learners() -> None:
    after, before = learner(1), learner(2)
    mixed = interpolated(after, before, 0.25, CLIPS)
    assert not mixed.training
    count = 0
    for (name, value), a, b in zip(
        mixed.named_parameters(), after.parameters(), before.parameters(), strict=True
    ):
        share = 0 if name.startswith("attributes.") else 0.25
        torch.testing.assert_close(value, (1 - share) * a + share * b)
        count += name.startswith("attributes.")
    assert 0 < count < len(list(after.parameters()))
    for one, seed in ((after, 1), (before, 2)):  # neither is touched
        for value, as_made in zip(
            one.state_dict().values(), learner(seed).state_dict().values(), strict=True
        ):
            torch.testing.assert_close(value, as_made)


def test_norms_are_those_of_the_clips() -> None:
    """The first norm's input mean; and clips pass as they do in a batch of all."""
    mixed = interpolated(learner(1), learner(2), 0.5, CLIPS)
    batch = to_decibels(CLIPS)
    with torch.no_grad():
        plain, _ = mixed.audio.features(batch)
        mixed.train()
        in_batch, _ = mixed.audio.features(batch)
    error = (plain - in_batch).abs().mean() / in_batch.abs().mean()
    assert error < 0.05  # bfloat16, and variances of 300 clips as the mean of two batches
    stale = learner(1).eval()
    with torch.no_grad():
        wrong, _ = stale.audio.features(batch)
        right, _ = stale.train().audio.features(batch)
    assert (wrong - right).abs().mean() / right.abs().mean() > 0.2


def test_what_makes_no_mean_is_refused(tmp_path: Path) -> None:
    for share in (0.0, 1.0, -0.1, float("nan")):
        with pytest.raises(ValueError, match="between 0 and 1"):
            interpolated(learner(1), learner(2), share, CLIPS)
    with pytest.raises(ValueError, match="shapes"):
        interpolated(learner(1), Learner(TowerShape()), 0.5, CLIPS)
    parser = argparse.ArgumentParser()
    train_mini.configure(parser)
    for given in (["--keep", "0.3"], ["--keep", "1", "--begin-with", str(tmp_path / "x")]):
        with pytest.raises(ValueError, match="--begin-with"):
            train_mini.run(parser.parse_args(given), print)
