"""The Matryoshka loss and the tower: what they must be by definition."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from clap_export.heads import LADDER, MAX_LOGIT_SCALE, TextHead, matryoshka_loss
from clap_export.tower import AudioTower

pytestmark = pytest.mark.export


def rows(seed: int, count: int = 16, dim: int = 512) -> torch.Tensor:
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))


def test_one_rung_is_the_symmetric_contrastive_loss_of_the_normalised_prefix() -> None:
    audio, text, scale = rows(1), rows(2), torch.tensor(2.0)
    logits = math.exp(2.0) * (
        functional.normalize(audio[:, :32]) @ functional.normalize(text[:, :32]).T
    )
    target = torch.arange(16)
    expected = (
        functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)
    ) / 2
    assert matryoshka_loss(audio, text, scale, (32,)).item() == pytest.approx(
        expected.item(), rel=1e-6
    )


def test_the_loss_is_the_mean_over_the_ladder() -> None:
    audio, text, scale = rows(3), rows(4), torch.tensor(1.0)
    each = [matryoshka_loss(audio, text, scale, (dim,)).item() for dim in LADDER]
    assert matryoshka_loss(audio, text, scale).item() == pytest.approx(sum(each) / len(each))


def test_the_temperature_is_clamped() -> None:
    audio, text = rows(5), rows(6)
    at_limit = matryoshka_loss(audio, text, torch.tensor(MAX_LOGIT_SCALE))
    beyond = matryoshka_loss(audio, text, torch.tensor(MAX_LOGIT_SCALE + 3))
    assert at_limit.item() == beyond.item()


def test_matching_pairs_lose_less_than_shuffled_ones() -> None:
    audio, scale = rows(7), torch.tensor(2.0)
    matched = matryoshka_loss(audio, audio, scale)
    shuffled = matryoshka_loss(audio, audio.roll(1, 0), scale)
    assert matched.item() < 0.5 * shuffled.item()


def test_the_text_head_gives_unit_rows() -> None:
    norms = TextHead()(rows(8, dim=384)).norm(dim=1)
    assert torch.allclose(norms, torch.ones(16), atol=1e-6)


@pytest.mark.parametrize("batch", [1, 3])
def test_the_tower_gives_unit_rows_of_clips_and_frames(batch: int) -> None:
    tower = AudioTower().eval()
    log_mel = -80 * torch.rand(batch, 128, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        embedding, frames = tower(log_mel)
    assert embedding.shape == (batch, 512)
    assert frames.shape == (batch, 16, 512)
    assert torch.allclose(embedding.norm(dim=-1), torch.ones(batch), atol=1e-5)
    assert torch.allclose(frames.norm(dim=-1), torch.ones(batch, 16), atol=1e-5)
    # The clip is a weighted mean of its frames, so it lies in their span: never opposed to all.
    assert ((frames @ embedding[:, :, None]).amax(dim=1) > 0).all()
