"""`clap-export parity`: compares the precisions of a bundle, and fails where a gate does.

In:  the command line: a bundle that holds fp32 and another precision.
Out: one line a comparison.
Knows nothing about how to compare: `clap_export.parity` and `clap_export.held_out` do.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path

from clap_engine import bundle as bundles
from clap_engine.errors import NotFoundError
from clap_export import bundle_towers, converted, held_out
from clap_export.parity import Gate, compare
from clap_export.probe_texts import probe_texts
from clap_export.probes import Sizes


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `clap-export parity`."""
    parser.add_argument("bundle", type=Path, help="directory of a bundle that holds fp32")
    parser.add_argument("--sounds", type=Path, help="also compare on every window of this folder")
    parser.add_argument("--corpus", type=Path, help="also compare on its held-out gallery")
    parser.add_argument("--texts", type=int, default=1000, help="probe texts (%(default)s)")


def run(args: argparse.Namespace, say: Callable[[str], None]) -> int:
    """Compare, print, and raise GateError at the first that falls short."""
    bundle = bundles.open(args.bundle)
    shared = bundle.manifest.text.graphs.keys() & bundle.manifest.audio.graphs.keys()
    others = sorted(shared - {"fp32"})
    if "fp32" not in shared or not others:
        raise NotFoundError(
            f"{args.bundle} holds {', '.join(sorted(shared))}; fp32 and another are needed: "
            "clap-export quantize, or pack mini --precisions fp32,int8"
        )
    if converted.is_converted(bundle.manifest):
        made = converted.samples(bundle, Sizes(), args.sounds)
        converted.compare(bundle, made, Gate(), say, os.cpu_count() or 1)
        return 0
    towers = {name: bundle_towers.towers(bundle, name) for name in ("fp32", *others)}
    texts = probe_texts(bundle.read(bundle.manifest.text.tokenizer), args.texts)
    windows = bundle_towers.log_mels(bundle, args.sounds) if args.sounds else None
    for name in others:
        text = compare(towers["fp32"].embed_texts, towers[name].embed_texts, texts)
        say(f"text.{name}: {text.line()}")
        Gate().check(text, f"text.{name}")
        if windows is not None:
            rows = [tower.embed_windows for tower in (towers["fp32"], towers[name])]
            sound = compare(rows[0], rows[1], windows)  # type: ignore[arg-type]
            say(f"audio.{name}: {sound.line()}")
            Gate().check(sound, f"audio.{name}")
    if args.corpus is not None:
        figures = held_out.measure(held_out.load(args.corpus), towers)
        for name, row in figures.items():
            say(f"{name}: {json.dumps(row)}")
        held_out.check(figures)
    return 0
