"""`clap-export pack mini`: builds the bundle clap-mini from its weights.

In:  the command line.
Out: a bundle directory.
Knows nothing about graphs or manifests: `clap_export.pack` has them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from clap_export import held_out
from clap_export.pack import pack
from clap_export.parity import Gate
from clap_export.weights import load_weights, random_weights


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `clap-export pack mini`."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--weights", type=Path, help="trained weights (.safetensors)")
    source.add_argument("--random-heads", action="store_true", help="untrained, for tests")
    parser.add_argument("--seed", type=int, default=0, help="of the random heads")
    parser.add_argument("--precisions", default="int8", help="some of fp32,int8 (%(default)s)")
    parser.add_argument("--corpus", type=Path, help="also measure on its held-out gallery")
    parser.add_argument(
        "--exam", type=Path, help="put this report into the model card (clap-export exam --json)"
    )
    parser.add_argument("--out", type=Path, required=True, help="directory of the bundle")


def run(args: argparse.Namespace, say: Callable[[str], None]) -> int:
    """Pack, and say what was made."""
    weights = random_weights(args.seed) if args.random_heads else load_weights(args.weights)
    if args.exam:
        exam = json.loads(args.exam.read_text(encoding="utf-8"))
        weights = replace(weights, scalars={**weights.scalars, "exam": exam})
    manifest = pack(
        weights,
        args.out,
        precisions=args.precisions.split(","),
        # Random towers put all windows close together, so their rankings are noise.
        gate=None if args.random_heads else Gate(),
        gallery=held_out.load(args.corpus) if args.corpus else None,
    )
    for name, entry in sorted(manifest.files.items()):
        say(f"{entry.size:>12,} {name}")
    for name, row in manifest.parity.items():
        say(f"{name}: {json.dumps(row)}")
    say(f"{manifest.id} {manifest.revision[:12]} at {args.out}")
    return 0
