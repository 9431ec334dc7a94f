"""Seeded weights in the true layout of msclap's checkpoints: stand-ins where no file is at hand.

In:  a version, a seed; plain, or with the outliers of trained transformers.
Out: a state dict of arrays, or a checkpoint file.
Knows nothing about graphs. Says nothing about quality: only speed and numerics.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clap_export.frontend import FrontEnd, hann_window, mel_filters
from clap_export.msclap import layout

State = dict[str, npt.NDArray[Any]]

# What a trained transformer has and a fresh one lacks: gains spread over a factor of ten, and a
# handful of channels that every layer feeds, some 20 times as large as the rest.
GAIN_SPREAD = 0.5
MASSIVE_CHANNELS = 4
MASSIVE_GAIN = 6.0
MASSIVE_SHIFT = 3.0
_RESIDUAL = (
    "attn.c_proj", "mlp.c_proj", "attn.proj", "mlp.fc2", "attention.output.dense",
    "output.dense", "attn.project",
)  # fmt: skip
_NORMS = ("ln_1", "ln_2", "ln_f", "norm", "norm1", "norm2", "LayerNorm", "layer_norm")
_TABLES = {"wte": 0.1, "wpe": 0.02, "word_embeddings": 0.04, "position_embeddings": 0.02,
           "token_type_embeddings": 0.02}  # fmt: skip


def random_state(
    version: str, *, seed: int, layers: int | None = None, outliers: bool = False
) -> State:
    """Every key of `layout.shapes(version, layers)`; float32, buffers of indices int64.

    A weight depends on its name and the seed alone, so a cut tower is the bottom of the full one.
    """
    rate_hz = 44_100 if version == "2022" else 32_000
    return fill(layout.shapes(version, layers), seed=seed, rate_hz=rate_hz, outliers=outliers)


def fill(shapes: layout.Shapes, *, seed: int, rate_hz: int, outliers: bool = False) -> State:
    """Weights of any layout with these names; `rate_hz` is the one that mel filters are for."""
    state: State = {}
    for key, shape in shapes.items():
        if key in layout.TIED:
            state[key] = state[layout.TIED[key]]
            continue
        # clapcap's audio tower is 2023's, frozen.
        name = re.sub(r"^clap\.", "audio_encoder.", key)
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        value = _constant(key, shape, rate_hz)
        state[key] = _drawn(rng, key, shape) if value is None else value
        if outliers and value is None:
            _add_outliers(rng, key, state[key], seed)
    return state


def save(state: Mapping[str, npt.NDArray[Any]], path: Path, version: str) -> None:
    """Write `{"model": state}` as msclap's files are; tied weights are stored once."""
    import torch

    if version not in layout.VERSIONS:
        raise ValueError(f"version {version!r}; {', '.join(layout.VERSIONS)} are known")
    tensors = {key: torch.from_numpy(np.asarray(value)) for key, value in state.items()}
    for key, twin in layout.TIED.items():
        if key in state and state[key] is state[twin]:
            tensors[key] = tensors[twin]
    torch.save({"model": tensors}, path)


def _constant(key: str, shape: tuple[int, ...], rate_hz: int) -> npt.NDArray[Any] | None:
    """What training doesn't touch: STFT kernels, mel filters, indices and masks of windows."""
    owner, _, role = key.rpartition(".")
    if owner.endswith(("conv_real", "conv_imag")):
        return _stft_kernel(imaginary=owner.endswith("conv_imag"))
    if role == "melW":
        front_end = FrontEnd(
            rate_hz=rate_hz, n_fft=layout.N_FFT, n_mels=layout.N_MELS, fmin_hz=50.0
        )
        return mel_filters(front_end)
    if role == "relative_position_index":
        return _relative_places()
    if role == "attn_mask":
        return _shift_mask(round(shape[0] ** 0.5) * layout.HTSAT_WINDOW)
    if role == "num_batches_tracked":
        return np.array(0, np.int64)
    return np.array(np.log(1 / 0.07), np.float32) if key.startswith("logit_scale") else None


def _drawn(rng: np.random.Generator, key: str, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """A weight by the role that its name says."""
    owner, _, role = key.rpartition(".")
    noise = rng.standard_normal(shape, np.float32)
    part = owner.rpartition(".")[2]
    if part in _TABLES:
        return noise * np.float32(_TABLES[part])
    if role in ("prefix_const", "relative_position_bias_table"):
        return noise * np.float32(1.0 if role == "prefix_const" else 0.5)
    if part.startswith("bn"):
        return _batch_norm(role, noise, first=part == "bn0")
    if part in _NORMS:
        return 1 + np.float32(0.1) * noise if role == "weight" else np.float32(0.05) * noise
    if role == "bias":
        return noise * np.float32(0.02)
    if "c_attn" in owner or "c_fc" in owner or "c_proj" in owner:
        fan_in = shape[0]
    else:
        fan_in = int(np.prod(shape[1:]))
    spread = 1.4 if "conv_block" in owner else 0.6  # ReLU halves the power
    if owner == "clap_project.linear":
        spread = 20.0  # its input is a unit row: entries near 1/32
    return np.asarray(noise * np.float32(spread / fan_in**0.5), np.float32)


def _batch_norm(
    role: str, noise: npt.NDArray[np.float32], *, first: bool
) -> npt.NDArray[np.float32]:
    """`first`: the one over log-mels, whose statistics are decibels."""
    if role == "running_var":
        variance = np.exp(np.float32(0.2) * noise) * np.float32(250 if first else 1)
        return np.asarray(variance, np.float32)
    if role == "running_mean" and first:
        return -25 + 3 * noise
    return np.float32(0.1) * noise + (1 if role == "weight" else 0)


def _add_outliers(
    rng: np.random.Generator, key: str, value: npt.NDArray[np.float32], seed: int
) -> None:
    """Spread the gains; let the layers that write into the residual stream feed few channels."""
    owner, _, role = key.rpartition(".")
    part = owner.rpartition(".")[2]
    if "projection" in owner or owner.endswith("linear"):
        return
    if part in _NORMS and role == "weight":
        value *= np.exp(GAIN_SPREAD * rng.standard_normal(value.shape, np.float32))
    if not owner.endswith(_RESIDUAL):
        return
    # GPT-2's matrices are [in, out]; a bias has one dim, either way.
    rows = value if role == "bias" or "c_proj" not in owner else value.T
    chosen = np.random.default_rng([seed, len(rows)]).choice(len(rows), MASSIVE_CHANNELS, False)
    rows[chosen] *= MASSIVE_GAIN
    if role == "bias":
        rows[chosen] += np.float32(MASSIVE_SHIFT) * np.array([1, -1, 1, -1], np.float32)


def _stft_kernel(imaginary: bool) -> npt.NDArray[np.float32]:
    """Rows of the DFT times the Hann window, as torchlibrosa's convolution has them."""
    n = layout.N_FFT
    angle = -2 * np.pi / n * (np.arange(n // 2 + 1)[:, None] * np.arange(n) % n)
    wave = np.sin(angle) if imaginary else np.cos(angle)
    return np.ascontiguousarray((wave * hann_window(n)).astype(np.float32)[:, None])


def _relative_places() -> npt.NDArray[np.int64]:
    """[64, 64]: which row of the bias table serves two tokens of a window."""
    side = layout.HTSAT_WINDOW
    rows, columns = np.divmod(np.arange(side * side), side)
    down = rows[:, None] - rows + side - 1
    right = columns[:, None] - columns + side - 1
    return np.asarray(down * (2 * side - 1) + right, np.int64)


def _shift_mask(grid: int) -> npt.NDArray[np.float32]:
    """[windows, 64, 64]: -100 between tokens that only the cyclic shift made neighbours."""
    side = layout.HTSAT_WINDOW
    band = np.zeros(grid, np.int64)
    band[grid - side :], band[grid - side // 2 :] = 1, 2
    region = band[:, None] * 3 + band
    windows = region.reshape(grid // side, side, grid // side, side).swapaxes(1, 2)
    windows = windows.reshape(-1, side * side)
    apart = windows[:, None] != windows[:, :, None]
    return np.asarray(np.where(apart, -100, 0), np.float32)
