"""`clap-export corpus samples`: renders the clips that come with the package.

In:  the command line.
Out: a folder of OGG files with samples.csv.
Knows nothing about sounds: `clap_export.corpus.samples` makes them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from clap_export.corpus.samples import write_samples


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=Path("samples"), help="%(default)s")
    parser.add_argument("--seed", type=int, default=1)


def run(args: argparse.Namespace, say: Callable[[str], None]) -> int:
    paths = write_samples(args.out, args.seed)
    size = sum(path.stat().st_size for path in paths)
    say(f"{len(paths)} clips, {size / 1e6:.1f} MB, in {args.out}")
    return 0
