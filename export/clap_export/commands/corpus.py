"""`clap-export corpus`: renders the training, validation and held-out clips.

In:  the command line.
Out: `DIR/{train,validation,held_out}/*.npz`; chunks that are already there are kept.
Knows nothing about sounds: `clap_export.corpus.render` makes them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

from clap_export.corpus import render


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Needs: apt-get install fluidsynth fluid-soundfont-gm musescore-general-soundfont "
        "csound-soundfont espeak-ng. Stopped with Ctrl-C, it goes on where it was."
    )
    parser.add_argument("--out", type=Path, default=Path("work/corpus"), help="%(default)s")
    parser.add_argument("--clips", type=int, default=24_576, help="training clips (%(default)s)")
    parser.add_argument("--gallery", type=int, default=1_000, help="held-out clips (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="processes (%(default)s)")


def run(args: argparse.Namespace, say: Callable[[str], None]) -> int:
    counts = {"validation": args.gallery, "held_out": args.gallery, "train": args.clips}
    for split, count in counts.items():
        began = time.monotonic()
        first = None
        for done, total in render.render(args.out / split, split, count, args.seed, args.workers):
            first = done if first is None else first
            rate = (done - first) / max(1e-9, time.monotonic() - began)
            left = f", {(total - done) / rate / 60:.0f} min left" if rate else ""
            say(f"{split}: {done} of {total} clips, {rate:.0f} a second{left}")
    return 0
