"""The trained weights beside a bundle: one safetensors file in float16, scalars in its metadata.

In:  audio tower, text head, anchors and scalars as the trainer has them; or the file.
Out: the file; or `Weights`.
Knows nothing about graphs or bundles.

Tensors: `audio.*` (state dict of the audio tower), `text.head.weight` [H, D], `text.head.bias`
[D], `text.anchors.keys` int8 [P, H] in units of `text.anchors.scales` [P, 1],
`text.anchors.values`, `calibration.log_mel` uint8 [N, F, M] (0 is -80 dB, 255 is 0 dB): training
windows on which int8 is calibrated and compared, so that the file alone rebuilds every precision.
float16 halves the file and costs a cosine of 1e-7; statistics of batch norms stay float32, because
a small variance would underflow.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from clap_engine.arrays import Float32, l2_normalize
from clap_engine.errors import IntegrityError, NotFoundError
from clap_engine.storage import write_atomic
from clap_export.graphs.text_graph import Anchors, TextHead

if TYPE_CHECKING:
    from clap_export.tower import AudioTower

AUDIO = "audio."
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")

# Calibration windows are kept in steps of 0.3 dB over this range.
FLOOR_DB = 80.0

UInt8 = npt.NDArray[np.uint8]
Tensors = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Weights:
    """What training made: arrays float32 (counters int64), `scalars` plain JSON values."""

    audio: Tensors  # state dict of the audio tower
    head: TextHead
    anchors: Anchors | None
    calibration: UInt8  # [N, F, M], see pack_log_mel
    scalars: Mapping[str, Any] = field(default_factory=dict)

    @property
    def log_mels(self) -> Float32:
        """The calibration windows in dB: float32 [N, F, M]."""
        return unpack_log_mel(self.calibration)

    def tower(self) -> AudioTower:
        """The audio tower, in eval mode."""
        import torch

        from clap_export.tower import AudioTower, TowerShape

        shape: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in self.scalars.get("tower", {}).items()
        }
        try:
            tower = AudioTower(TowerShape(**shape))
            tower.load_state_dict({n: torch.from_numpy(v) for n, v in self.audio.items()})
        except (TypeError, RuntimeError) as error:
            raise IntegrityError(f"the weights don't fit the audio tower: {error}") from error
        return tower.eval()

    @property
    def audio_digest(self) -> str:
        """sha256 over names, shapes and values of the audio tower: what defines its space."""
        digest = hashlib.sha256()
        for name, value in sorted(self.audio.items()):
            digest.update(f"{name}{value.dtype}{value.shape}".encode())
            digest.update(np.ascontiguousarray(value).tobytes())
        return digest.hexdigest()


def pack_log_mel(log_mel: Float32) -> UInt8:
    """[N, F, M] in -80..0 dB -> uint8, 0.3 dB a step."""
    steps = np.rint((np.clip(log_mel, -FLOOR_DB, 0) + FLOOR_DB) * (255 / FLOOR_DB))
    return np.asarray(steps, np.uint8)


def unpack_log_mel(steps: UInt8) -> Float32:
    """What pack_log_mel made, in dB again."""
    return steps * np.float32(FLOOR_DB / 255) - np.float32(FLOOR_DB)


def random_weights(seed: int = 0, n_anchors: int = 500) -> Weights:
    """Untrained weights, for work on everything else: a bundle of them finds nothing by words."""
    import torch

    from clap_export.tower import AudioTower

    random = np.random.default_rng(seed)
    # Smooth random spectrograms: windows of noise alone would all look the same.
    coarse = random.uniform(-70, 0, (64, 17, 9, 1, 1)).astype(np.float32)
    fine = np.broadcast_to(coarse[:, :16, :8], (64, 16, 8, 8, 8)).transpose(0, 1, 3, 2, 4)
    noisy = fine.reshape(64, 128, 64) + random.normal(0, 6, (64, 128, 64))
    log_mel = np.asarray(np.clip(noisy, -FLOOR_DB, 0), np.float32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tower = AudioTower().train()
        for layer in tower.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.momentum = None  # its statistics are those of this one batch
        with torch.no_grad():
            tower(torch.from_numpy(log_mel[::2]))
    keys = random.standard_normal((n_anchors, 384)).astype(np.float32)
    return Weights(
        audio={name: value.numpy() for name, value in tower.state_dict().items()},
        head=TextHead(random.normal(0, 384**-0.5, (384, 512)).astype(np.float32)),
        anchors=Anchors(l2_normalize(keys), None, blend=0.3, tau=0.05),
        calibration=pack_log_mel(log_mel),
    )


def save_weights(path: Path, weights: Weights) -> None:
    """Write the file atomically; the same weights give the same bytes."""
    tensors = {AUDIO + name: _stored(name, value) for name, value in weights.audio.items()}
    tensors["text.head.weight"] = _stored("", weights.head.weight)
    if weights.head.bias is not None:
        tensors["text.head.bias"] = _stored("", weights.head.bias)
    tensors["calibration.log_mel"] = weights.calibration
    scalars = dict(weights.scalars)
    if weights.anchors is not None:
        keys, scales = coded(weights.anchors.keys)
        tensors["text.anchors.keys"], tensors["text.anchors.scales"] = keys, scales
        if weights.anchors.values is not None:
            tensors["text.anchors.values"] = _stored("", weights.anchors.values)
        scalars["anchors"] = {"blend": weights.anchors.blend, "tau": weights.anchors.tau}
    text = json.dumps(scalars, sort_keys=True, allow_nan=False)
    write_atomic(path, save(dict(sorted(tensors.items())), metadata={"scalars": text}))


def load_weights(path: Path) -> Weights:
    """Read the file; everything comes back as float32."""
    if not path.is_file():
        raise NotFoundError(f"{path} is not there; train first: clap-export train mini")
    data = path.read_bytes()
    try:
        tensors: Tensors = {name: _loaded(value) for name, value in load(data).items()}
        length = int.from_bytes(data[:8], "little")
        metadata = json.loads(data[8 : 8 + length])["__metadata__"]
        scalars: dict[str, Any] = json.loads(metadata["scalars"])
        anchors = None
        if "text.anchors.keys" in tensors:
            anchors = Anchors(
                keys=np.multiply(
                    tensors["text.anchors.keys"], tensors["text.anchors.scales"], dtype=np.float32
                ),
                values=tensors.get("text.anchors.values"),
                blend=float(scalars["anchors"]["blend"]),
                tau=float(scalars["anchors"]["tau"]),
            )
        return Weights(
            audio={n.removeprefix(AUDIO): v for n, v in tensors.items() if n.startswith(AUDIO)},
            head=TextHead(tensors["text.head.weight"], tensors.get("text.head.bias")),
            anchors=anchors,
            calibration=tensors["calibration.log_mel"],
            scalars=scalars,
        )
    except (SafetensorError, KeyError, ValueError) as error:
        raise IntegrityError(f"{path} is not a file of trained weights: {error!r}") from error


def coded(rows: Float32) -> tuple[npt.NDArray[np.int8], Float32]:
    """[P, H] -> int8 [P, H] and the unit of each row [P, 1]: half the bytes of float16. The graph
    has them in eight bits anyway."""
    units = np.maximum(np.abs(rows).max(axis=1, keepdims=True) / 127, 1e-12).astype(np.float32)
    return np.rint(rows / units).astype(np.int8), units


def _stored(name: str, value: npt.NDArray[Any]) -> npt.NDArray[Any]:
    value = np.ascontiguousarray(value)
    if value.dtype.kind != "f" or name.endswith(STATISTICS):
        return value
    return value.astype(np.float16)


def _loaded(value: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return value.astype(np.float32) if value.dtype == np.float16 else value
