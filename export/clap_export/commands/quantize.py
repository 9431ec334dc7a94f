"""`clap-export quantize`: adds int8 graphs to a bundle that holds fp32 ones.

In:  the command line: a bundle, a folder of sounds to calibrate on.
Out: a bundle with both precisions; nothing when a gate fails.
Knows nothing about how to quantize: `clap_export.parts` does.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from clap_engine import bundle as bundles
from clap_engine.bundle import Bundle
from clap_engine.errors import AudioError
from clap_engine.manifest import GraphSpec, Manifest
from clap_export import bundle_towers, converted, parts
from clap_export.pack import parity_rows, tolerance, with_scales, write_bundle
from clap_export.parity import Gate
from clap_export.probes import Sizes

# Fewer leave the ranges of activations open, and rankings over too few rows say nothing.
LEAST_WINDOWS = 32


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `clap-export quantize`."""
    parser.add_argument("bundle", type=Path, help="directory of a bundle that holds fp32")
    parser.add_argument(
        "--sounds", type=Path, help="folder to calibrate on; converted bundles need none"
    )
    parser.add_argument("--out", type=Path, required=True, help="directory of the new bundle")
    parser.add_argument("--no-gate", action="store_true", help="keep what differs too much")


def run(args: argparse.Namespace, say: Callable[[str], None]) -> int:
    """Quantize both towers, compare, write."""
    bundle = bundles.open(args.bundle)
    gate = None if args.no_gate else Gate()
    if converted.is_converted(bundle.manifest):
        made = converted.samples(bundle, Sizes(), args.sounds)
        manifest = converted.with_int8(bundle, made, args.out, gate, say, os.cpu_count() or 1)
    elif args.sounds is None:
        raise AudioError("--sounds is missing: a folder of sounds to calibrate on")
    else:
        manifest = quantized(bundle, args.sounds, args.out, gate)
    for name, row in manifest.parity.items():
        say(f"{name}: {json.dumps(row)}")
    say(f"{manifest.id} {manifest.revision[:12]} at {args.out}")
    return 0


def quantized(bundle: Bundle, sounds: Path, out: Path, gate: Gate | None) -> Manifest:
    """The bundle with int8 graphs, written to `out`."""
    spec = bundle.manifest
    windows = bundle_towers.log_mels(bundle, sounds)
    if len(windows) < LEAST_WINDOWS:
        raise AudioError(f"{sounds} holds {len(windows)} windows; {LEAST_WINDOWS} are needed")
    audio, text = (
        parts.Part({"fp32": bundle.read(bundles.pick_graph(graphs, "fp32").file)}, {})
        for graphs in (spec.audio.graphs, spec.text.graphs)
    )
    tokenizer = bundle.read(spec.text.tokenizer)
    parts.add_audio_int8(audio, windows, gate)
    parts.add_text_int8(text, spec.text, tokenizer, gate)
    texts = parts.golden_texts(text, spec.text, tokenizer, spec.goldens.texts)
    frontend = bundle.read(spec.audio.frontend)
    waves = parts.golden_audio(audio, spec.audio, frontend, len(spec.goldens.audio))
    files = {name: bundle.read(name) for name in spec.files}
    files |= {"audio.int8.onnx": audio.graphs["int8"], "text.int8.onnx": text.graphs["int8"]}
    int8 = {name: GraphSpec(f"{name}.int8.onnx", dynamic_scale=False) for name in ("audio", "text")}
    text_spec = replace(spec.text, graphs={**spec.text.graphs, "int8": int8["text"]})
    manifest = replace(
        spec,
        audio=replace(spec.audio, graphs={**spec.audio.graphs, "int8": int8["audio"]}),
        text=with_scales(text_spec, text),
        parity={**spec.parity, **parity_rows(audio, text)},
        goldens=replace(
            spec.goldens,
            tolerance={**spec.goldens.tolerance, "int8": tolerance(texts, waves, "int8")},
        ),
    )
    return write_bundle(out, manifest, files)
