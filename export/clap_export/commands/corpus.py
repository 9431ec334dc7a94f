"""`clap-export corpus`: renders the training, validation and held-out clips.

In:  the command line.
Out: `DIR/{train,validation,held_out,another_font,unseen_generator,grooves}/*.npz`; chunks that are
     already there are kept.
Knows nothing about sounds: `clap_export.corpus.render` makes them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

from clap_export.corpus import fonts, recorded, render, sources

DESCRIPTION = """\
Renders five-second clips from committed code and a seed: all General MIDI programs and drum kits
through five SoundFonts, small arrangements in 32 genres, sound effects by signal processing and
from recordings, speech by espeak-ng, sequences and mixtures of them; then room, microphone, noise
and codecs. Log-mels are stored, and what is exactly true of each clip (docs/corpus.md).
"""
EPILOG = """\
Before the first run:
  apt-get install fluidsynth espeak-ng fluid-soundfont-gm musescore-general-soundfont \\
      csound-soundfont
  clap-export corpus --fonts     # other SoundFonts and recordings: by apt, npm and pip, checked
Stopped with Ctrl-C, it goes on where it was; a folder that holds another corpus is refused.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--out", type=Path, default=Path("work/corpus"), help="%(default)s")
    parser.add_argument("--clips", type=int, default=61_440, help="training clips (%(default)s)")
    parser.add_argument(
        "--grooves", type=int, default=6_000, help="training clips of drum patterns (%(default)s)"
    )
    parser.add_argument(
        "--gallery", type=int, default=1_000, help="clips of each other split (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="processes (%(default)s)")
    parser.add_argument(
        "--splits", nargs="+", choices=render.SPLITS, default=None, help="only these (default all)"
    )
    parser.add_argument(
        "--fonts",
        action="store_true",
        help="fetch the SoundFonts and recordings that are missing, and stop",
    )
    parser.add_argument(
        "--font-dir", type=Path, default=None, help=f"where they lie ({fonts.folder()})"
    )


def run(args: argparse.Namespace, say: Callable[[str], None]) -> int:
    folder = args.font_dir or fonts.folder()
    if args.fonts:
        paths = fonts.install(folder, say)
        paths += recorded.install(folder / recorded.FOLDER, say)
        say(f"{len(paths)} SoundFonts and recordings in {folder} and {fonts.SYSTEM}")
        return 0
    fonts.check(fonts.ALL, folder)
    for split in args.splits or ("validation", "held_out", "another_font", *LAST):
        count = {"train": args.clips, "grooves": args.grooves}.get(split, args.gallery)
        if split == "unseen_generator" and not sources.unseen_generators():
            continue
        began = time.monotonic()
        first = None
        progress = render.render(
            args.out / split, split, count, args.seed, args.workers, fonts.TRAINING, folder
        )
        for done, total in progress:
            first = done if first is None else first
            rate = (done - first) / max(1e-9, time.monotonic() - began)
            left = f", {(total - done) / rate / 60:.0f} min left" if rate else ""
            say(f"{split}: {done} of {total} clips, {rate:.0f} a second{left}")
    return 0


LAST = ("unseen_generator", "grooves", "train")
