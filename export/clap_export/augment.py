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


def augment(x: Tensor, rng: torch.Generator, in_order: Tensor | None = None) -> Tensor:
    """Circular shift in time, equalisation, pitch shift of a band or two, a raised noise floor,
    masked bands and masked time; then the peak is 0 dB again.

    `in_order` bool [B] marks windows whose captions say what comes first: they are not shifted.
    """
    batch, frames, mels = x.shape
    device = x.device

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=rng, device=device)

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
