"""The caption graphs of a bundle: mapper and decoder by precision.

In:  a `CaptionSource`, the precisions wanted, native embeddings of sounds, a gate.
Out: the manifest's caption section, the files, what was measured.
Knows nothing about beams or sentences.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from clap_engine.arrays import Float32, l2_normalize
from clap_engine.manifest import CaptionSpec, GraphSpec
from clap_export import parts, quantize_captions
from clap_export.embedder import Embedder
from clap_export.parity import Gate, GateError
from clap_export.source import CaptionSource

# Frozen towers are the same but for statistics that training may have moved on.
LEAST_COSINE = 0.99
COMPARED = 8  # sounds


@dataclass(frozen=True)
class CaptionParts:
    """Nothing at all for a model without captions."""

    spec: CaptionSpec | None = None
    files: dict[str, bytes] = field(default_factory=dict)
    parity: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Heard:
    """Sounds as the bundle's own audio tower has them, which is what the mapper will read."""

    native: Float32  # [N, S]
    cosine: float  # the least one to what captions were trained on


def listen(source: CaptionSource | None, audio: Embedder, log_mel: Float32) -> Heard | None:
    """None without captions; GateError where they were trained on another audio tower."""
    if source is None:
        return None
    native = audio.windows(log_mel, "native")
    if source.reference is None:
        return Heard(native, 1.0)
    own = l2_normalize(source.reference(log_mel[:COMPARED]))
    cosine = float(np.sum(own * l2_normalize(native[:COMPARED]), axis=1).min())
    if not cosine >= LEAST_COSINE:
        raise GateError(
            f"the captions' audio tower is another one than the texts': cosine {cosine:.4f} (at "
            f"least {LEAST_COSINE}) between what the two make of the same sounds; give the "
            "checkpoint that the captions were trained on as --text-checkpoint"
        )
    return Heard(native, cosine)


def build(
    source: CaptionSource | None,
    precisions: Sequence[str],
    heard: Heard | None,
    gate: Gate | None,
    say: Callable[[str], None],
) -> CaptionParts:
    """Float32 graphs of the mapper and the decoder; int8 ones where a form passes the gate."""
    if source is None or heard is None:
        return CaptionParts()
    models = {"fp32": (source.build_mapper(), source.build_decoder())}
    parity: dict[str, Any] = {"caption": {"audio_cosine": round(heard.cosine, 5)}}
    if "int8" in precisions:
        try:
            spoken = quantize_captions.quantize(*models["fp32"], heard.native, gate)
        except GateError as error:
            say(f"captions stay in float32: {error}")
        else:
            models["int8"] = (spoken.mapper, spoken.decoder)
            parity["caption"]["int8"] = {"form": spoken.form, **spoken.parity.as_json()}
            say(f"captions int8 by {spoken.form}: {spoken.parity.line()}")
    files: dict[str, bytes] = {}
    specs: dict[str, dict[str, GraphSpec]] = {"mapper": {}, "decoder": {}}
    for precision, pair in models.items():
        for part, model in zip(specs, pair, strict=True):
            name = f"caption_{part}.{precision}.onnx"
            files[name] = model.SerializeToString()
            specs[part][precision] = GraphSpec(name, parts.is_dynamic(files[name]))
    spec = replace(source.spec, mapper=specs["mapper"], decoder=specs["decoder"])
    return CaptionParts(spec, files, parity)
