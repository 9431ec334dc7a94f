"""The front end of clap-mini: its numbers, its filters, and the torch reference for its log-mel.

In:  nothing, or windows [B, T] as a torch tensor.
Out: `CLAP_MINI_FRONT_END`, frontend.npz as bytes, log-mels from float64 arithmetic.
Knows nothing about corpora, towers or bundles.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

from clap_engine.arrays import Float32

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class FrontEnd:
    """The audio front end, field for field what the manifest's audio section says about it."""

    rate_hz: int = 32_000
    window_s: float = 5.0
    hop_s: float = 5.0
    n_fft: int = 2_048
    hop: int = 1_250
    # 160,000 + 2 * 399 samples hold exactly 128 frames: 1 + (160,798 - 2,048) / 1,250.
    pad: int = 399
    n_mels: int = 64
    n_frames: int = 128
    # A float32 rfft agrees with float64 to 1e-3 dB only this far under the window's peak.
    floor_db: float = 80.0
    padding: str = "repeat"
    reference: str = "peak"
    amin: float = 1e-10
    pad_mode: str = "zero"
    fmin_hz: float = 40.0
    fmax_hz: float = 14_000.0

    @property
    def n_samples(self) -> int:
        """Samples in a window."""
        return round(self.rate_hz * self.window_s)


CLAP_MINI_FRONT_END = FrontEnd()


def hann_window(n: int) -> Float32:
    """Periodic Hann window [n]."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n)
    return np.asarray(window, dtype=np.float32)


def mel_filters(spec: FrontEnd = CLAP_MINI_FRONT_END) -> Float32:
    """Triangles on Slaney's scale, each of area 1 in Hz: [n_fft/2+1, n_mels]."""
    edges = _edges_hz(spec)
    bins = np.arange(spec.n_fft // 2 + 1)[:, None] * (spec.rate_hz / spec.n_fft)
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    rising = (bins - low) / (centre - low)
    falling = (high - bins) / (high - centre)
    filters = np.maximum(0.0, np.minimum(rising, falling)) * (2.0 / (high - low))
    return np.ascontiguousarray(filters, dtype=np.float32)


def band_hz(n_mels: int = CLAP_MINI_FRONT_END.n_mels) -> Float64:
    """The centre of each band [n_mels], in Hz."""
    return _edges_hz(replace(CLAP_MINI_FRONT_END, n_mels=n_mels))[1:-1]


def make_frontend_npz(spec: FrontEnd = CLAP_MINI_FRONT_END) -> bytes:
    """frontend.npz: `window` float32 [n_fft] and `mel` float32 [n_fft/2+1, n_mels]."""
    buffer = io.BytesIO()
    # savez dates its members 1980, so the same numbers give the same digest.
    np.savez(buffer, window=hann_window(spec.n_fft), mel=mel_filters(spec))
    return buffer.getvalue()


class TorchLogMel:
    """The reference: windows [B, T] -> log-mel float32 [B, F, M], in torch, float64 inside."""

    def __init__(self, spec: FrontEnd = CLAP_MINI_FRONT_END) -> None:
        import torch

        self._spec = spec
        self._window = torch.from_numpy(hann_window(spec.n_fft)).double()
        self._mel = torch.from_numpy(mel_filters(spec)).double()

    def __call__(self, windows: torch.Tensor) -> torch.Tensor:
        """[B, T] -> [B, F, M] in [-floor_db, 0]."""
        import torch

        spec = self._spec
        padded = torch.nn.functional.pad(windows.double(), (spec.pad, spec.pad))
        frames = padded.unfold(-1, spec.n_fft, spec.hop) * self._window
        power = torch.fft.rfft(frames).abs().square() @ self._mel
        peak = power.amax(dim=(1, 2), keepdim=True)
        relative = power / peak.clamp_min(1e-10)
        log_mel = 10 * relative.clamp_min(10 ** (-spec.floor_db / 10)).log10()
        return torch.where(peak > 1e-10, log_mel, -spec.floor_db).float()


def _edges_hz(spec: FrontEnd) -> Float64:
    """[n_mels + 2]: band i reaches from edge i to edge i + 2."""
    return _mel_to_hz(
        np.linspace(_hz_to_mel(spec.fmin_hz), _hz_to_mel(spec.fmax_hz), spec.n_mels + 2)
    )


def _hz_to_mel(hz: float) -> float:
    """Slaney: linear to 1 kHz (15 mel), then 27 mel for each factor of 6.4."""
    return hz * 3 / 200 if hz < 1000 else 15 + 27 * math.log(hz / 1000) / math.log(6.4)


def _mel_to_hz(mel: Float64) -> Float64:
    return np.where(mel < 15, mel * 200 / 3, 1000 * 6.4 ** ((mel - 15) / 27))
