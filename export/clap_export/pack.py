"""Trained weights + sentence encoder -> a bundle directory.

In:  `Weights`, or a seed for random ones; the precisions wanted.
Out: a directory that clap_engine.bundle opens, written whole or not at all.
Knows nothing about training or corpora.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from clap_engine import __version__
from clap_engine.arrays import Float32
from clap_engine.manifest import (
    GOLDEN_KINDS,
    MIN_RUNTIME,
    SCHEMA,
    AudioGolden,
    AudioSpec,
    Goldens,
    GraphSpec,
    Manifest,
    TextSpec,
    dump,
    file_entry,
    needed_runtime,
    parse,
    seal,
)
from clap_engine.storage import fsync_dir, make_dir, remove_tree, rename, write_file
from clap_engine.text import TextFrontEnd
from clap_export import card, held_out, minilm, parts
from clap_export.frontend import CLAP_MINI_FRONT_END, make_frontend_npz
from clap_export.held_out import Gallery, Towers
from clap_export.minilm import SentenceEncoder
from clap_export.parity import Gate
from clap_export.weights import Weights

LADDER = (32, 64, 128, 256, 512)
GOLDEN_TEXTS = (
    "a banjo",
    "slow sad violin melody",
    "rain on a tin roof with distant thunder",
    "a man speaking, then a door slams",
    "bright synth arpeggio in a minor key at a fast tempo",
    "dog barking",
)
GOLDEN_WAVEFORMS = 6
# The golden check allows this much less cosine than packing saw: other CPUs add up in another
# order. A broken kernel is off by 0.1 and more.
GOLDEN_MARGIN = 0.01


def pack(
    weights: Weights,
    out: Path,
    *,
    precisions: Sequence[str] = ("int8",),
    encoder: SentenceEncoder | None = None,
    gate: Gate | None = None,
    gallery: Gallery | None = None,
) -> Manifest:
    """Build every part and write the bundle to `out`, replacing one that is there.

    With `gallery` the graphs are also measured on it, and gated by what they find.
    """
    parts.check_precisions(precisions)
    encoder = minilm.load() if encoder is None else encoder
    frontend = make_frontend_npz()
    audio_spec, text_spec = _audio_spec(precisions), _text_spec(precisions)
    audio = parts.audio_part(weights, precisions, gate)
    text = parts.text_part(weights, encoder, text_spec, precisions, gate)
    scalars = weights.scalars
    parity = {**scalars.get("parity", {}), **parity_rows(audio, text)}
    if gallery is not None:
        parity["held_out"] = _on_gallery(gallery, audio, text, text_spec, encoder.tokenizer_json)
        if gate is not None:
            held_out.check(parity["held_out"], gate)
    texts = parts.golden_texts(text, text_spec, encoder.tokenizer_json, GOLDEN_TEXTS)
    waves = parts.golden_audio(audio, audio_spec, frontend, GOLDEN_WAVEFORMS)
    files = {
        "frontend.npz": frontend,
        "tokenizer.json": encoder.tokenizer_json,
        "goldens.npz": npz(text=texts["fp32"], audio=waves["fp32"]),
        "NOTICE": card.notice("facts" in scalars).encode(),
    }
    files |= {spec.file: audio.graphs[p] for p, spec in audio_spec.graphs.items()}
    files |= {spec.file: text.graphs[p] for p, spec in text_spec.graphs.items()}
    manifest = Manifest(
        schema=SCHEMA,
        id="clap-mini",
        revision="",
        # The audio side alone: a better text graph for the same space needs no re-embedding.
        space_id=hashlib.sha256(weights.audio_digest.encode() + frontend).hexdigest(),
        dim=LADDER[-1],
        ladder=LADDER,
        description=str(scalars.get("description", "Random heads: for tests only.")),
        demonstration=True,
        licences={
            "code": "MIT",
            "weights": f"MIT; sentence encoder {minilm.LICENCE}",
            "training_data": str(scalars.get("training_data", "none")),
        },
        producer={
            "clap_export": __version__,
            "onnx": onnx.__version__,
            "sentence_encoder": f"{minilm.SOURCE}, sha256 {encoder.digest}",
        },
        min_runtime=MIN_RUNTIME,
        files={},
        audio=audio_spec,
        text=with_scales(text_spec, text),
        logit_scale=float(scalars.get("logit_scale", 20.0)),
        logit_bias=float(scalars.get("logit_bias", 0.0)),
        templates={
            task: tuple(forms)
            for task, forms in scalars.get("templates", {"classify": ["{}"]}).items()
        },
        calibration=dict(scalars.get("calibration", {})),
        parity=parity,
        goldens=Goldens(
            texts=GOLDEN_TEXTS,
            audio=tuple(AudioGolden(GOLDEN_KINDS[i % 3], i) for i in range(GOLDEN_WAVEFORMS)),
            file="goldens.npz",
            tolerance={p: tolerance(texts, waves, p) for p in precisions},
        ),
    )
    files["README.md"] = card.model_card(manifest, scalars).encode()
    return write_bundle(out, manifest, files)


def parity_rows(audio: parts.Part, text: parts.Part) -> dict[str, Any]:
    """The manifest's rows of how each precision compares with float32."""
    named = (("audio", audio), ("text", text))
    return {f"{name}.{p}": row.as_json() for name, part in named for p, row in part.parity.items()}


def tolerance(texts: Mapping[str, Float32], waves: Mapping[str, Float32], precision: str) -> float:
    """The least cosine seen between the goldens of a precision and float32, less the margin."""
    least = [np.sum(x["fp32"] * x[precision], axis=1).min() for x in (texts, waves)]
    return round(float(min(least)) - GOLDEN_MARGIN, 4)


def with_scales(spec: TextSpec, part: parts.Part) -> TextSpec:
    """The same with `dynamic_scale` as the graphs have it."""
    graphs = {
        p: replace(graph, dynamic_scale=parts.is_dynamic(part.graphs[p]))
        for p, graph in spec.graphs.items()
    }
    return replace(spec, graphs=graphs)


def write_bundle(out: Path, manifest: Manifest, files: dict[str, bytes]) -> Manifest:
    """Seal the manifest over `files` and put the directory in place; returns what was written."""
    entries = {name: file_entry(data) for name, data in files.items()}
    manifest = seal(replace(manifest, files=entries, min_runtime=needed_runtime(manifest)))
    data = dump(manifest)
    parse(data)  # what we write, the runtime must be able to read
    out = out.absolute()
    make_dir(out.parent, parents=True)
    draft = out.with_name(f".{out.name}.{os.getpid()}.draft")
    remove_tree(draft)
    try:
        make_dir(draft)
        for name, content in {**files, "manifest.json": data}.items():
            write_file(draft / name, [content])
        fsync_dir(draft)
        _swap(draft, out)
    finally:
        remove_tree(draft)
    return manifest


def _swap(draft: Path, out: Path) -> None:
    """`draft` takes the place of `out`.

    A directory can't be renamed over one that is not empty, so the old one steps aside first,
    and comes back if the new one can't follow.
    """
    old = out.with_name(f".{out.name}.{os.getpid()}.old")
    if not out.exists():
        rename(draft, out)
        return
    try:
        rename(out, old)
        rename(draft, out)
    except BaseException:
        # Where the new one stands already, only its name may not be durable yet.
        if old.exists() and not out.exists():
            rename(old, out)
        _remove(old)
        raise
    _remove(old)


def _remove(old: Path) -> None:
    """A directory, or the file or link that stood in its place."""
    if old.is_symlink() or old.is_file():
        old.unlink(missing_ok=True)
    else:
        remove_tree(old)


def _audio_spec(precisions: Sequence[str]) -> AudioSpec:
    settings = asdict(CLAP_MINI_FRONT_END)
    for name in ("fmin_hz", "fmax_hz"):  # they are in the filters of frontend.npz
        del settings[name]
    graphs = {p: GraphSpec(f"audio.{p}.onnx", dynamic_scale=False) for p in precisions}
    return AudioSpec(**settings, frontend="frontend.npz", graphs=graphs, frame_s=5.0 / 16)


def _text_spec(precisions: Sequence[str]) -> TextSpec:
    return TextSpec(
        tokenizer="tokenizer.json",
        max_tokens=128,
        pad_id=0,
        prefix="",
        suffix="",
        graphs={p: GraphSpec(f"text.{p}.onnx", dynamic_scale=False) for p in precisions},
    )


def _on_gallery(
    gallery: Gallery, audio: parts.Part, text: parts.Part, spec: TextSpec, tokenizer_json: bytes
) -> dict[str, Any]:
    front_end = TextFrontEnd(spec, tokenizer_json)
    towers = {
        p: Towers(
            partial(parts.embed_texts, text.graphs[p], front_end),
            partial(parts.embed_windows, audio.graphs[p]),
        )
        for p in text.graphs
    }
    return held_out.measure(gallery, towers)


def npz(**arrays: npt.NDArray[Any]) -> bytes:
    """Arrays as the bytes of an npz file."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()
