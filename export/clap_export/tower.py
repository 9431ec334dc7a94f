"""The audio tower of clap-mini: log-mel -> one embedding per frame and one per clip.

In:  log_mel float32 [B, 128, 64] in dB below the window's peak (-80..0).
Out: embedding [B, D] and frames [B, 16, D], both with unit rows.
Knows nothing about text, files or training.

Dense 3x3 convolutions, because they run (and train) several times faster than depthwise ones on
CPUs with matrix instructions. Time is reduced eightfold: a frame is 0.3125 s. Beside them may stand
`ModeScore`: convolutions did not learn major from minor out of bands that are a semitone wide at
best (docs/decisions.md).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from clap_engine.arrays import Float32
from clap_export.frontend import band_hz

PITCH_CLASSES = 12
# Bands on either side, itself counted, whose mean a band has to exceed to count as a partial.
RELIEF_BANDS = 5
RELIEF_DB = 5.0  # what a partial rises on average, so that the profiles learn near one
SHARPNESS = 3.0  # of the soft maximum over keys


@dataclass(frozen=True)
class TowerShape:
    """Channels and blocks of the four stages, and the width of a frame's features."""

    channels: tuple[int, int, int, int] = (32, 64, 128, 256)
    blocks: tuple[int, int, int, int] = (0, 2, 2, 1)
    hidden: int = 512
    dim: int = 512
    n_mels: int = 64
    profiles: int = 0  # of keys, by which windows in a minor key are told from those in a major one


class Block(nn.Module):
    """Two 3x3 convolutions with batch norm around a residual path."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.norm1(self.conv1(x)))
        return functional.relu(x + self.norm2(self.conv2(y)))


class Down(nn.Module):
    """A strided 3x3 convolution with batch norm."""

    def __init__(self, before: int, after: int, stride: tuple[int, int]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(after)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.norm(self.conv(x)))


class ModeScore(nn.Module):
    """Major or minor, from how well learned key profiles fit a window in whichever key each does.

    What stands out of its neighbouring bands, averaged over time, is folded onto pitch classes; a
    profile [chromas, 12] is compared with all twelve rotations of them (Krumhansl's key profiles
    are of this form; Temperley 1999), so whatever is learned in one key holds in all.
    """

    relief: Tensor

    def __init__(self, n_mels: int, profiles: int, chromas: int = 2) -> None:
        super().__init__()
        self.register_buffer("relief", torch.from_numpy(relief(n_mels)), persistent=False)
        fold = torch.from_numpy(pitch_classes(n_mels))
        self.fold = nn.Parameter(fold.repeat(1, chromas))  # [M, chromas * 12]
        self.weight = nn.Parameter(0.1 * torch.randn(profiles, chromas, PITCH_CLASSES))
        self.bias = nn.Parameter(torch.zeros(profiles))
        self.judge = nn.Linear(profiles, 1)

    def rotated(self) -> Tensor:
        """[chromas * 12, profiles * 12]: every profile in every key."""
        keys = [self.weight.roll(key, dims=2) for key in range(PITCH_CLASSES)]
        return torch.stack(keys, dim=1).flatten(2).flatten(0, 1).T

    def partials(self, log_mel: Tensor) -> Tensor:
        """[B, F, M] -> how far each band stands out, on average [B, M]."""
        return functional.relu(log_mel @ self.relief).mean(dim=1)

    def logit(self, partials: Tensor) -> Tensor:
        """[B, M] -> the logit of minor against major [B, 1]."""
        fits = partials @ self.fold @ self.rotated()
        fits = fits.reshape(len(fits), -1, PITCH_CLASSES)
        best = torch.logsumexp(SHARPNESS * fits, dim=2) / SHARPNESS
        logit: Tensor = self.judge(functional.relu(best + self.bias))
        return logit

    def forward(self, log_mel: Tensor) -> Tensor:
        """[B, F, M] -> [B, 1]: -1 surely major, 1 surely minor."""
        return torch.tanh(self.logit(self.partials(log_mel)) / 2)


def relief(n_mels: int) -> Float32:
    """[M, M]: dB of bands -> how far each is above the mean of RELIEF_BANDS around it, in units of
    RELIEF_DB."""
    distance = np.abs(np.subtract.outer(np.arange(n_mels), np.arange(n_mels)))
    near = distance <= RELIEF_BANDS // 2
    return np.asarray((np.eye(n_mels) - near / near.sum(axis=0)) / RELIEF_DB, np.float32)


def pitch_classes(n_mels: int) -> Float32:
    """[M, 12]: where a fold of bands onto pitch classes begins to learn: each key of six octaves
    from C2 up reads half of what lies between the two bands next to it."""
    heights = 69 + 12 * np.log2(band_hz(n_mels) / 440)  # MIDI: 69 is 440 Hz
    fold = np.zeros((n_mels, PITCH_CLASSES), np.float32)
    for key in range(36, 108):
        above = int(np.searchsorted(heights, key))
        if 0 < above < n_mels:
            low, high = heights[above - 1 : above + 1]
            fold[above - 1, key % 12] += 0.5 * (high - key) / (high - low)
            fold[above, key % 12] += 0.5 * (key - low) / (high - low)
    return fold


class AudioTower(nn.Module):
    """Convolutional residual network with an attention-weighted mean over frames; the mode's score
    moves the whole window's embedding alone, in a direction of its own."""

    def __init__(self, shape: TowerShape | None = None) -> None:
        super().__init__()
        self.shape = shape or TowerShape()
        strides = ((2, 2), (2, 2), (2, 2), (1, 2))
        layers: list[nn.Module] = []
        before = 1
        for after, count, stride in zip(
            self.shape.channels, self.shape.blocks, strides, strict=True
        ):
            layers.append(Down(before, after, stride))
            layers += [Block(after) for _ in range(count)]
            before = after
        self.stages = nn.Sequential(*layers)
        bins = self.shape.n_mels // 16
        self.hidden = nn.Linear(before * bins, self.shape.hidden)
        self.attention = nn.Linear(self.shape.hidden, 1)
        self.head = nn.Linear(self.shape.hidden, self.shape.dim, bias=False)
        if self.shape.profiles:
            self.mode = ModeScore(self.shape.n_mels, self.shape.profiles)
            self.minor = nn.Parameter(torch.zeros(self.shape.dim))

    @property
    def places(self) -> list[tuple[int, int]]:
        """(stage, place in it) of each of `stages`' modules; place 0 is the strided convolution."""
        return [
            (stage, place)
            for stage, count in enumerate(self.shape.blocks)
            for place in range(count + 1)
        ]

    def features(self, log_mel: Tensor) -> tuple[Tensor, Tensor]:
        """[B, 128, 64] -> hidden frame features [B, 16, H] and their weights [B, 16, 1]."""
        x = (log_mel / 40.0 + 1.0).unsqueeze(1)
        x = self.stages(x)  # [B, C, 16, 4]
        x = x.permute(0, 2, 3, 1).flatten(2)  # [B, 16, 4 * C]
        hidden = functional.relu(self.hidden(x))
        return hidden, torch.softmax(self.attention(hidden), dim=1)

    def pooled(self, log_mel: Tensor) -> Tensor:
        """[B, 128, 64] -> the weighted sum over frames, not normalised and without mode [B, D]."""
        hidden, weights = self.features(log_mel)
        pooled: Tensor = (weights * self.head(hidden)).sum(dim=1)
        return pooled

    def forward(self, log_mel: Tensor) -> tuple[Tensor, Tensor]:
        """[B, 128, 64] -> embedding [B, D], frames [B, 16, D]."""
        hidden, weights = self.features(log_mel)
        frames = self.head(hidden)
        embedding = (weights * frames).sum(dim=1)
        if self.shape.profiles:
            embedding = embedding + self.mode(log_mel) * self.minor
        return functional.normalize(embedding, dim=-1), functional.normalize(frames, dim=-1)


def turned(tower: AudioTower, rotation: Float32) -> AudioTower:
    """A tower whose embeddings are those of `tower` times `rotation` [D, D], orthogonal."""
    made = copy.deepcopy(tower)
    matrix = torch.from_numpy(rotation).to(made.head.weight.device)
    with torch.no_grad():
        made.head.weight.copy_(matrix.T @ made.head.weight)
        if made.shape.profiles:
            made.minor.copy_(made.minor @ matrix)
    return made


def deepened(state: Mapping[str, Tensor], before: TowerShape, after: TowerShape) -> AudioTower:
    """A tower with more blocks that computes what the shallower one with weights `state` does,
    apart from mode: profiles are never taken over, and new ones move nothing yet.

    A new block begins as the identity (its second norm scales by zero: Goyal et al. 2017, section
    5.1), and learns from there. ValueError where more than blocks and profiles differ.
    """
    deeper = all(a >= b for a, b in zip(after.blocks, before.blocks, strict=True))
    if not deeper or replace(after, blocks=before.blocks, profiles=before.profiles) != before:
        raise ValueError(f"{after} is not {before} with more blocks in some stages")
    tower, shallow = AudioTower(after), AudioTower(before)
    shallow.load_state_dict(state)
    for block in tower.stages:
        if isinstance(block, Block):
            nn.init.zeros_(block.norm2.weight)
    for place, module in zip(shallow.places, shallow.stages, strict=True):
        tower.stages[tower.places.index(place)].load_state_dict(module.state_dict())
    for name in ("hidden", "attention", "head"):
        getattr(tower, name).load_state_dict(getattr(shallow, name).state_dict())
    return tower
