"""Augmentation of log-mels: what moves from room to room and from file to file.

In:  log_mel float32 [B, F, M] in dB below the window's peak, a torch Generator.
Out: augmented log-mels of the same shape and range.
Knows nothing about captions or towers.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

FLOOR_DB = -80.0
# Steps of slow, moderate and fast clips differ by 1.4 at least: each stays what it is called.
STRETCH = 0.15
STRETCHED = 0.6
# Of two ways of making a sound one rings longer, or has less between its partials.
CONTRAST = 0.25
CONTRASTED = 0.4


def augment(
    x: Tensor,
    rng: torch.Generator,
    in_order: Tensor | None = None,
    steady: Tensor | None = None,
) -> Tensor:
    """Another tempo, circular shift in time, pitch shift of a band or two, equalisation, more or
    less contrast, a raised noise floor, masked bands and masked time; then the peak is 0 dB again.

    `in_order` bool [B] marks windows whose captions say what comes first: they are not shifted.
    `steady` bool [B] marks those that go on as they are, which alone are played slower or faster.
    """
    batch, frames, mels = x.shape
    device = x.device

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=rng, device=device)

    if steady is not None:
        pace = torch.exp(STRETCH * (2 * rand(batch) - 1))
        x = stretch(x, torch.where(steady & (rand(batch) < STRETCHED), pace, torch.ones_like(pace)))

    # Clips are texture or repeat-padded: a circular shift keeps what captions claim.
    shift = (rand(batch) * frames).long()
    if in_order is not None:
        shift = shift.masked_fill(in_order, 0)
    index = (torch.arange(frames, device=device)[None] + shift[:, None]) % frames
    x = torch.gather(x, 1, index[:, :, None].expand(-1, -1, mels))

    bands = (rand(batch) * 5).long() - 2
    bands = torch.where(rand(batch) < 0.5, bands, torch.zeros_like(bands))
    index = (torch.arange(mels, device=device)[None] + bands[:, None]).clamp(0, mels - 1)
    x = torch.gather(x, 2, index[:, None, :].expand(-1, frames, -1))

    knots = torch.randn(batch, 1, 6, generator=rng, device=device) * 5.0
    curve = functional.interpolate(knots, size=mels, mode="linear", align_corners=True)
    x = x + curve * (rand(batch, 1, 1) < 0.8)

    contrast = torch.exp(CONTRAST * (2 * rand(batch, 1, 1) - 1))
    x = torch.where(
        rand(batch, 1, 1) < CONTRASTED, contrast * (x - x.amax(dim=(1, 2), keepdim=True)), x
    )

    # Recordings differ in how far down they reach before noise covers them.
    floor = FLOOR_DB + 50.0 * rand(batch, 1, 1) ** 2
    noise = floor + 3.0 * torch.randn(x.shape, generator=rng, device=device)
    noisy = 10 * torch.log10(10 ** (x / 10) + 10 ** (noise / 10))
    x = torch.where(rand(batch, 1, 1) < 0.4, noisy, x)

    x = x - x.amax(dim=(1, 2), keepdim=True)
    place = torch.arange(mels, device=device)[None]
    start, width = rand(batch, 1) * mels, rand(batch, 1) * 8
    masked = (place >= start) & (place < start + width) & (rand(batch, 1) < 0.4)
    x = torch.where(masked[:, None, :], torch.full_like(x, FLOOR_DB), x)
    place = torch.arange(frames, device=device)[None]
    start, width = rand(batch, 1) * frames, rand(batch, 1) * 20
    masked = (place >= start) & (place < start + width) & (rand(batch, 1) < 0.3)
    x = torch.where(masked[:, :, None], torch.full_like(x, FLOOR_DB), x)
    return x.clamp(FLOOR_DB, 0.0)


def stretch(x: Tensor, pace: Tensor) -> Tensor:
    """[B, F, M] played `pace` [B] times as fast, from its start on; what is missing at the end is
    its beginning again. A pace of 1 changes nothing."""
    frames = x.shape[1]
    place = torch.arange(frames, device=x.device) * pace[:, None]
    first = place.long()
    part = (place - first)[:, :, None]

    def at(index: Tensor) -> Tensor:
        return torch.gather(x, 1, (index % frames)[:, :, None].expand_as(x))

    return at(first) * (1 - part) + at(first + 1) * part
