"""A source model -> a gated bundle.

In:  a `Source`, a `Plan`.
Out: a bundle directory, written whole or not at all; its manifest.
Knows nothing about checkpoints: each kind of source has its own module for that.

The steps: float32 graphs compared with the source in torch; the head; the lower precisions, each
form tried against the gate; goldens; files.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from clap_engine import __version__
from clap_engine.arrays import Float32
from clap_engine.goldens import golden_waveform
from clap_engine.manifest import (
    GOLDEN_KINDS,
    MIN_RUNTIME,
    SCHEMA,
    AudioGolden,
    AudioSpec,
    Goldens,
    GraphSpec,
    Manifest,
)
from clap_engine.mel import LogMel
from clap_engine.text import TextFrontEnd
from clap_export import captions_part, card, probes, rotation, tower_set
from clap_export.embedder import Embedder, pad
from clap_export.errors import OutputError
from clap_export.finish import background_scores
from clap_export.graphs.projection import HeadGraph
from clap_export.head_choice import Chosen, HeadPlan, Native, check_sounds, choose
from clap_export.pack import GOLDEN_TEXTS, GOLDEN_WAVEFORMS, npz, tolerance, write_bundle
from clap_export.parity import Gate
from clap_export.probes import Probes, Sizes
from clap_export.source import Source
from clap_export.tower_parity import check_exact
from clap_export.tower_set import Say, TowerSet

PRECISIONS = ("fp32", "int8", "fp16")
# Two batch sizes: a graph that baked its dummy batch in is right at one of them only.
BATCHES = (1, 5)
NO_TOKEN = -1  # fills the shorter rows of the golden ids


@dataclass(frozen=True)
class Plan:
    """How to convert; `gate` None keeps what differs too much, for looking at it."""

    precisions: tuple[str, ...] = ("fp32", "int8")
    head: HeadPlan = field(default_factory=HeadPlan)
    sizes: Sizes = field(default_factory=Sizes)
    gate: Gate | None = field(default_factory=Gate)
    threads: int = 1
    force: bool = False


def check_out(out: Path, force: bool) -> None:
    """OutputError, before any work, for a folder that is there."""
    if os.path.lexists(out) and not force:
        raise OutputError(f"{out} exists; give another --out, or --force to replace it")


def convert(source: Source, out: Path, plan: Plan, say: Say = lambda line: None) -> Manifest:
    """Build, compare and write the bundle; GateError where float32 is another function."""
    check_out(out, plan.force)
    check_sounds(plan.head)
    front_end = TextFrontEnd(source.text.spec, source.text.tokenizer_json)
    samples = probes.make(source.audio.spec, source.audio.frontend, plan.sizes)
    say(f"compared on {len(samples.texts)} texts and {len(samples.log_mel)} sounds")
    own = {"text": source.text.build(HeadGraph()), "audio": source.audio.build(HeadGraph())}
    native = Native(
        Embedder(own["text"], "text in its own space", plan.threads),
        front_end,
        Embedder(own["audio"], "audio in its own space", plan.threads),
        source.audio.spec,
        source.audio.frontend,
        source.digest,
    )
    errors = exactness(source, native, samples)
    say("fp32 against torch: " + ", ".join(f"{name} {e:.2g}" for name, e in errors.items()))
    for name, error in errors.items():
        check_exact(error, f"the float32 graph ({name})", plan.gate or Gate())
    chosen = choose(plan.head, source.native_dim, native, say)
    heard = captions_part.listen(source.caption, native.audio, samples.log_mel)
    if chosen.head is not None:
        # Half a gigabyte each: the graphs without the head go before those with it are made.
        own = {}
        del native
        own = {"text": source.text.build(chosen.text), "audio": source.audio.build(chosen.audio)}
    towers = tower_set.make(
        own, front_end, samples, chosen.ladder, plan.precisions, plan.gate, say, plan.threads
    )
    caption = captions_part.build(source.caption, plan.precisions, heard, plan.gate, say)
    parity: dict[str, Any] = {
        "measured_on": {"texts": len(samples.texts), "sounds": len(samples.log_mel)},
        "fp32": {
            "against": "the source in torch, native outputs",
            "batches": list(BATCHES),
            "max_error": {name: float(f"{error:.3g}") for name, error in errors.items()},
        },
        **towers.rows,
        **chosen.facts,
        **source.parity,
        **caption.parity,
    }
    manifest, files = _bundle(source, chosen, towers, parity)
    manifest = replace(manifest, caption=caption.spec)
    files |= {**caption.files, "README.md": card.converted_card(manifest).encode()}
    manifest = write_bundle(out, manifest, files)
    say(f"{manifest.id} {manifest.revision[:12]} at {out}: {', '.join(towers.embedded)}")
    return manifest


def exactness(source: Source, native: Native, samples: Probes) -> dict[str, float]:
    """Float32 graphs against the source in torch, at two batch sizes: the largest differences."""
    tokens = native.front_end.tokenize(samples.texts)
    log_mel = samples.log_mel
    text, audio = [], []
    for batch in BATCHES:
        pairs = [pad(part, source.text.spec.pad_id) for part in _parts(tokens, batch)]
        text.append(
            max(
                _error(native.text.run("native", **ids._asdict()), source.text.reference(*ids))
                for ids in pairs
            )
        )
        # In torch a window costs as much in company: a fifth is enough for the larger batch.
        rows = log_mel if batch == 1 else log_mel[: max(batch, len(log_mel) // 5)]
        audio.append(
            max(
                _error(native.audio.run("native", log_mel=part), source.audio.reference(part))
                for part in _parts(rows, batch)
            )
        )
    return {
        "text": text[0],
        "text in batches": text[1],
        "audio": audio[0],
        "audio in batches": audio[1],
    }


def _bundle(
    source: Source, chosen: Chosen, towers: TowerSet, parity: dict[str, Any]
) -> tuple[Manifest, dict[str, bytes]]:
    """The manifest and files of the towers; captions come on top."""
    spec = source.audio.spec
    kept = [p for p in PRECISIONS if p in towers.embedded]
    front_end = TextFrontEnd(source.text.spec, source.text.tokenizer_json)
    goldens, golden_file = make_goldens(
        front_end, LogMel(spec, source.audio.frontend), spec, towers, kept
    )
    head = b"" if chosen.head is None else rotation.save(chosen.head)
    files = {
        "frontend.npz": source.audio.frontend,
        "tokenizer.json": source.text.tokenizer_json,
        "NOTICE": source.notice.encode(),
        **source.files,
        goldens.file: golden_file,
        **({"head.npz": head} if head else {}),
        **{f"text.{p}.onnx": towers.text[p].graph for p in kept},
        **{f"audio.{p}.onnx": towers.audio[p].graph for p in kept},
    }
    fp32 = towers.embedded["fp32"]
    learned = None if chosen.head is None else chosen.head.logit_scale
    licences = source.licences if chosen.head is None else chosen.head.licences(source.licences)
    manifest = Manifest(
        schema=SCHEMA,
        id=source.id,
        revision="",
        space_id=hashlib.sha256(
            source.digest.encode()
            + source.audio.frontend
            + (chosen.head.of_sounds() if chosen.head else b"")
        ).hexdigest(),
        dim=chosen.ladder[-1],
        ladder=chosen.ladder,
        description=source.description,
        demonstration=False,
        licences=licences,
        producer={"clap_export": __version__, "onnx": onnx.__version__, **source.producer},
        min_runtime=MIN_RUNTIME,
        files={},
        audio=replace(spec, graphs=graph_specs("audio", towers, kept)),
        text=replace(source.text.spec, graphs=graph_specs("text", towers, kept)),
        logit_scale=learned or source.logit_scale,
        logit_bias=source.logit_bias,
        templates={"classify": source.templates},
        calibration={**background_scores(fp32.text, fp32.audio), **chosen.calibration},
        parity=parity,
        goldens=goldens,
    )
    return manifest, files


def graph_specs(name: str, towers: TowerSet, precisions: list[str]) -> dict[str, GraphSpec]:
    """The manifest's entries of one tower, "text" or "audio"."""
    embedders = {"text": towers.text, "audio": towers.audio}[name]
    return {
        p: GraphSpec(f"{name}.{p}.onnx", embedders[p].is_dynamic, (name, p) in towers.slow)
        for p in precisions
    }


def make_goldens(
    front_end: TextFrontEnd, log_mel: LogMel, spec: AudioSpec, towers: TowerSet, kept: list[str]
) -> tuple[Goldens, bytes]:
    """Golden inputs, the tolerance of each precision, and the file of float32 embeddings."""
    tokens = front_end.tokenize(GOLDEN_TEXTS)
    waves = [golden_waveform(i, spec.rate_hz, spec.window_samples) for i in range(GOLDEN_WAVEFORMS)]
    windows = log_mel(np.stack(waves))
    texts = {p: towers.text[p].texts(tokens) for p in kept}
    sounds = {p: towers.audio[p].windows(windows) for p in kept}
    goldens = Goldens(
        texts=GOLDEN_TEXTS,
        audio=tuple(AudioGolden(GOLDEN_KINDS[i % 3], i) for i in range(GOLDEN_WAVEFORMS)),
        file="goldens.npz",
        tolerance={p: tolerance(texts, sounds, p) for p in kept},
    )
    ids = pad(tokens, NO_TOKEN).input_ids
    return goldens, npz(text=texts["fp32"], audio=sounds["fp32"], ids=ids)


def _parts(items: Any, size: int) -> Iterator[Any]:
    """`size` items at a time, the last ones perhaps fewer."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _error(found: Float32, wanted: Float32) -> float:
    return float(np.abs(found - wanted).max())
