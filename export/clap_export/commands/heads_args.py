"""What the commands about heads share: which model, which sounds and captions.

In:  the command line.
Out: `NativeTowers`; clips with captions.
Knows nothing about what is done with them.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path

from clap_engine import bundle as bundles
from clap_export import clap_model, corpus_pairs, laion_clap, native_towers, pairs
from clap_export.commands import convert
from clap_export.corpus_pairs import CorpusPairs
from clap_export.errors import CheckpointError, OutputError, PairsError, SourceError
from clap_export.msclap import files
from clap_export.native_towers import NativeTowers
from clap_export.pairs import Pairs

Say = Callable[[str], None]
MSCLAP = {"msclap-2022": "2022", "msclap-2023": "2023"}
SOURCES = (
    "clap-mini or the directory of a bundle; msclap-2022 or msclap-2023; the folder of a ClapModel "
    "of transformers, or its name on the hub; ucs-clap"
)


def add_source(parser: argparse.ArgumentParser) -> None:
    """Which model."""
    parser.add_argument("--bundle-source", required=True, metavar="WHAT", help=SOURCES)
    parser.add_argument("--checkpoint", type=Path, help="weights of msclap-... or ucs-clap")
    parser.add_argument("--tokenizer", type=Path, help="folder; default: fetched from the hub")
    parser.add_argument("--layers", type=int, help="depth of cut towers, as tests use them")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)


def add_pairs(parser: argparse.ArgumentParser, split: str) -> None:
    """Which sounds and captions."""
    parser.add_argument(
        "--pairs", type=Path, help="CSV of path,caption; or MusicCaps' own (ytid,start_s,end_s,...)"
    )
    parser.add_argument("--audio", type=Path, help="folder of the sounds that --pairs names")
    parser.add_argument(
        "--corpus", type=Path, help="in place of both, clap-mini only: what clap-export corpus made"
    )
    parser.add_argument("--split", default=split, help="of the corpus (%(default)s)")
    parser.add_argument("--clips", default="", metavar="A:B", help="only these, by their order")
    parser.add_argument(
        "--cache", type=Path, help="folder of features; default: features in the work folder"
    )


def add_maker(parser: argparse.ArgumentParser) -> None:
    """What both commands that make a head take."""
    add_source(parser)
    add_pairs(parser, "train")
    parser.add_argument("--out", type=Path, required=True, help="head file to write (.npz)")
    parser.add_argument("--force", action="store_true", help="replace --out if it exists")


def source(args: argparse.Namespace, say: Say) -> NativeTowers:
    """The towers of --bundle-source."""
    what = args.bundle_source
    known = {path.name for path in bundles.installed()}
    if what in known or (Path(what) / bundles.MANIFEST_NAME).is_file():
        return native_towers.of_bundle(bundles.open(bundles.find(what)), args.threads)
    if what in MSCLAP:
        kind = argparse.Namespace(kind="msclap", version=MSCLAP[what], text_checkpoint=None)
        wanted = argparse.Namespace(**{**vars(args), **vars(kind)})
        return native_towers.of_source(convert.source_of(wanted, say), args.threads)
    if what == "ucs-clap":
        if args.checkpoint is None:
            raise SourceError("ucs-clap needs --checkpoint FILE")
        made = laion_clap.read(args.checkpoint, args.tokenizer, args.layers)
        return native_towers.of_source(made, args.threads)
    if _is_clap_model(Path(what)) or ("/" in what and not Path(what).exists()):
        return native_towers.of_source(clap_model.read(files.model(what)), args.threads)
    raise SourceError(f"--bundle-source {what} is nothing that is known: give {SOURCES}")


def clips(
    args: argparse.Namespace, towers: NativeTowers, say: Say
) -> tuple[Pairs, CorpusPairs | None]:
    """The pairs; those of the corpus also with what is true of each clip."""
    if (args.corpus is None) == (args.pairs is None) or (args.pairs is None) != (
        args.audio is None
    ):
        raise PairsError("give --pairs CSV and --audio DIR, or --corpus DIR for clap-mini")
    chosen = _slice(args.clips)
    if args.corpus is None:
        found = pairs.read(args.pairs, args.audio)
        say(found.line())
        return found.only(chosen), None
    corpus_pairs.check_front_end(towers)
    rendered = corpus_pairs.read(args.corpus, args.split, chosen)
    say(rendered.pairs.line())
    return rendered.pairs, rendered


def check_out(out: Path, force: bool) -> None:
    """OutputError, before any work, for a file that is there."""
    if out.is_dir():
        raise OutputError(f"{out} is a folder; give a file, such as {out / 'head.npz'}")
    if os.path.lexists(out) and not force:
        raise OutputError(f"{out} exists; give another --out, or --force to replace it")


def ladder(text: str) -> tuple[int, ...]:
    """argparse's reader of a ladder or of other lengths: 32,64,128."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}; write whole numbers: 32,64,128") from None


def _slice(text: str) -> slice:
    parts = text.split(":") if text else ["", ""]
    try:
        low, high = (int(part) if part else None for part in parts)
    except ValueError:
        raise PairsError(f"--clips {text!r}; write A:B, as in 0:5000 or 5000:") from None
    if (low or 0) < 0 or (high is not None and high <= (low or 0)):
        raise PairsError(f"--clips {text!r} names no clips; write A:B with A below B")
    return slice(low, high)


def _is_clap_model(folder: Path) -> bool:
    path = folder / "config.json"
    if not path.is_file():
        return False
    try:
        return bool(json.loads(path.read_bytes()).get("model_type"))
    except (ValueError, AttributeError) as error:
        raise CheckpointError(f"{path} is not a model's configuration: {error}") from error
