"""The pieces of a bundle: graphs by precision, how they compare, golden embeddings.

In:  `Weights`, the sentence encoder, the precisions wanted.
Out: `Part` for each tower (serialized graphs, parity rows); golden embeddings by precision.
Knows nothing about directories or manifests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from clap_engine.arrays import Float32
from clap_engine.errors import ManifestError
from clap_engine.goldens import golden_waveform
from clap_engine.manifest import AudioSpec, TextSpec
from clap_engine.mel import LogMel
from clap_engine.session import GraphSession
from clap_engine.text import TextFrontEnd
from clap_export.corpus import lexicon
from clap_export.graphs import audio_graph, text_graph
from clap_export.minilm import SentenceEncoder
from clap_export.parity import Gate, Parity, compare
from clap_export.probe_texts import probe_texts
from clap_export.quantize import quantize_text
from clap_export.quantize_audio import quantize_audio
from clap_export.weights import Weights

PRECISIONS = ("fp32", "int8")
PARITY_TEXTS = 1000
# Peaks of activations settle within some 50 texts of each sort; others than those compared. Short
# names alone and random words alone each leave the other sort with twice the error.
SMOOTHING_TEXTS = 200


@dataclass(frozen=True)
class Part:
    """One tower: its float32 graph, those of the other precisions, and how they compare."""

    graphs: dict[str, bytes]  # precision -> ONNX file; fp32 is always there
    parity: dict[str, Parity]


def check_precisions(precisions: Sequence[str]) -> None:
    """ManifestError for a precision that can't be made."""
    unknown = sorted(set(precisions) - set(PRECISIONS))
    if unknown or not precisions:
        raise ManifestError(f"precisions {unknown or 'none'}; give some of {PRECISIONS}")


def text_part(
    weights: Weights,
    encoder: SentenceEncoder,
    spec: TextSpec,
    precisions: Sequence[str],
    gate: Gate | None,
) -> Part:
    """Text graphs; GateError when int8 differs too much."""
    model = text_graph.build(encoder, weights.head, weights.anchors, max_tokens=spec.max_tokens)
    part = Part({"fp32": model.SerializeToString()}, {})
    if "int8" in precisions:
        add_text_int8(part, spec, encoder.tokenizer_json, gate)
    return part


def audio_part(weights: Weights, precisions: Sequence[str], gate: Gate | None) -> Part:
    """Audio graphs; GateError when int8 differs too much."""
    part = Part({"fp32": audio_graph.build(weights.tower()).SerializeToString()}, {})
    if "int8" in precisions:
        add_audio_int8(part, weights.log_mels, gate)
    return part


def add_text_int8(part: Part, spec: TextSpec, tokenizer_json: bytes, gate: Gate | None) -> None:
    """Quantize the float32 text graph of `part` and compare the two."""
    front_end = TextFrontEnd(spec, tokenizer_json)
    names = [phrase for phrases in lexicon.load().known.values() for phrase in phrases]
    names = names[:: max(1, len(names) // SMOOTHING_TEXTS)]
    probes = probe_texts(tokenizer_json, SMOOTHING_TEXTS, seed=1)
    samples = front_end.tokenize([*names, *probes])
    model = onnx.load_from_string(part.graphs["fp32"])
    quantized = quantize_text(model, [ids._asdict() for ids in samples])
    part.graphs["int8"] = quantized.SerializeToString()
    part.parity["int8"] = compare(
        lambda texts: embed_texts(part.graphs["fp32"], front_end, texts),
        lambda texts: embed_texts(part.graphs["int8"], front_end, texts),
        probe_texts(tokenizer_json, PARITY_TEXTS),
    )
    if gate is not None:
        gate.check(part.parity["int8"], "text.int8.onnx")


def add_audio_int8(part: Part, log_mels: Float32, gate: Gate | None) -> None:
    """Quantize the float32 audio graph, calibrated on every other window, compared on the rest."""
    model = onnx.load_from_string(part.graphs["fp32"])
    part.graphs["int8"] = quantize_audio(model, log_mels[::2]).SerializeToString()
    part.parity["int8"] = compare(
        lambda rows: embed_windows(part.graphs["fp32"], np.stack(rows)),
        lambda rows: embed_windows(part.graphs["int8"], np.stack(rows)),
        list(log_mels[1::2]),
    )
    if gate is not None:
        gate.check(part.parity["int8"], "audio.int8.onnx")


def embed_texts(graph: bytes, front_end: TextFrontEnd, texts: Sequence[str]) -> Float32:
    """N texts -> [N, D], one text a call."""
    session = GraphSession(graph, name="text graph")
    rows = [session.run(["embedding"], dict(ids._asdict()))[0] for ids in front_end.tokenize(texts)]
    return np.asarray(np.concatenate(rows), np.float32)


def embed_windows(graph: bytes, log_mel: Float32) -> Float32:
    """[N, F, M] -> [N, D], sixteen windows a call."""
    session = GraphSession(graph, name="audio graph")
    rows = [
        session.run(["embedding"], {"log_mel": log_mel[i : i + 16]})[0]
        for i in range(0, len(log_mel), 16)
    ]
    return np.asarray(np.concatenate(rows), np.float32)


def golden_texts(
    part: Part, spec: TextSpec, tokenizer_json: bytes, texts: Sequence[str]
) -> dict[str, Float32]:
    """precision -> [n, D]."""
    front_end = TextFrontEnd(spec, tokenizer_json)
    return {name: embed_texts(graph, front_end, texts) for name, graph in part.graphs.items()}


def golden_audio(part: Part, spec: AudioSpec, frontend: bytes, n: int) -> dict[str, Float32]:
    """precision -> [n, D], of the first n golden waveforms."""
    waves = [golden_waveform(i, spec.rate_hz, spec.window_samples) for i in range(n)]
    log_mel = LogMel(spec, frontend)(np.stack(waves))
    return {name: embed_windows(graph, log_mel) for name, graph in part.graphs.items()}


def is_dynamic(graph: bytes) -> bool:
    """Does the graph take an activation scale from the whole batch?"""
    model = onnx.load_from_string(graph)
    return any(node.op_type == "DynamicQuantizeLinear" for node in model.graph.node)
