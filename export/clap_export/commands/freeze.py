"""`clap-export freeze`: writes the committed held-out clips, and what a bundle finds among them.

In:  the command line.
Out: `DIR/held_out.npz` and `DIR/held_out.json`, which a test compares with the shipped bundle.
Knows nothing about the questions: `clap_export.frozen` has them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from clap_engine import bundle
from clap_export import frozen
from clap_export.bundle_towers import towers


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `clap-export freeze`."""
    parser.add_argument("--corpus", type=Path, help="take clips of it; else those that are there")
    parser.add_argument("--bundle", type=Path, default=Path("models/clap-mini"), help="%(default)s")
    parser.add_argument("--precision", default="int8", help="of both graphs (%(default)s)")
    parser.add_argument("--clips", type=int, default=frozen.CLIPS, help="(%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("tests/frozen"), help="%(default)s")


def run(args: argparse.Namespace, say: Callable[[str], None]) -> int:
    """Choose, measure, write."""
    clips = args.out / "held_out.npz"
    if args.corpus:
        frozen.save(clips, frozen.choose(args.corpus, args.clips))
        say(f"wrote {clips} ({clips.stat().st_size / 1e6:.2f} MB)")
    opened = bundle.open(args.bundle)
    figures = frozen.measure(frozen.load(clips), towers(opened, args.precision))
    text = frozen.figures_text(figures, opened.manifest.revision, args.precision)
    (args.out / "held_out.json").write_text(text, encoding="utf-8")
    say(text)
    return 0
