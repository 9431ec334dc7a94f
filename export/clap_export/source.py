"""A model to convert: two towers as functions of a head, and what the manifest says of them.

In:  what `clap_export.msclap.source` and its like for other checkpoints know.
Out: `Source`.
Knows nothing about checkpoints, bundles or precisions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import onnx

from clap_engine.arrays import Float32, Int64
from clap_engine.manifest import AudioSpec, CaptionSpec, TextSpec
from clap_export.graphs.projection import HeadGraph


@dataclass(frozen=True)
class TextSource:
    """The text tower; `spec` has no graphs yet."""

    spec: TextSpec
    tokenizer_json: bytes
    build: Callable[[HeadGraph], onnx.ModelProto]
    reference: Callable[[Int64, Int64], Float32]  # ids, mask [B, L] -> native [B, S], in torch


@dataclass(frozen=True)
class AudioSource:
    """The audio tower; `spec` has no graphs yet."""

    spec: AudioSpec
    frontend: bytes  # frontend.npz
    build: Callable[[HeadGraph], onnx.ModelProto]
    reference: Callable[[Float32], Float32]  # log-mel [B, F, M] -> native [B, S], in torch


@dataclass(frozen=True)
class CaptionSource:
    """What turns native embeddings into words; `spec` has no graphs yet."""

    spec: CaptionSpec
    build_mapper: Callable[[], onnx.ModelProto]
    build_decoder: Callable[[], onnx.ModelProto]
    # Log-mel -> native of the tower that captions were trained on, where it is another one.
    reference: Callable[[Float32], Float32] | None = None


@dataclass(frozen=True)
class Source:
    """Everything a conversion needs."""

    id: str
    description: str
    digest: str  # sha256 of the weights' file
    native_dim: int
    text: TextSource
    audio: AudioSource
    logit_scale: float
    licences: dict[str, str]  # code, weights, training_data
    notice: str
    producer: dict[str, str]
    templates: tuple[str, ...] = ("{}",)
    logit_bias: float = 0.0
    caption: CaptionSource | None = None
    files: dict[str, bytes] = field(default_factory=dict)  # texts of licences
    parity: dict[str, object] = field(default_factory=dict)  # what was measured before

    def under(self, licence: str) -> Source:
        """The same with another licence of its weights."""
        return replace(self, licences={**self.licences, "weights": licence})
