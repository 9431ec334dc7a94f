"""`clap-export convert`: real CLAP weights into a bundle.

In:  the command line: which model, where its files are, what to make of it.
Out: a bundle; nothing when a gate fails.
Knows nothing about how a model is converted: `clap_export.convert` does.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path

from clap_engine import bundle as bundles
from clap_export import bundle_heads, clap_model, laion_clap, rotation
from clap_export.convert import PRECISIONS, Plan, check_out, convert
from clap_export.errors import CheckpointError
from clap_export.head_choice import HeadPlan, check_sounds
from clap_export.msclap import checkpoint, files, source
from clap_export.pack import write_bundle
from clap_export.parity import Gate
from clap_export.probes import Sizes
from clap_export.source import Source

Say = Callable[[str], None]

QUICK = Sizes(texts=20, sounds=10, calibration=12)
QUICK_CLIPS = 32


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `clap-export convert`."""
    kinds = parser.add_subparsers(dest="kind", required=True)
    msclap = kinds.add_parser("msclap", help="Microsoft CLAP: 2022, 2023, clapcap")
    msclap.add_argument("--version", choices=list(checkpoint.FILES), default="2023")
    msclap.add_argument("--checkpoint", type=Path, help="default: fetched from the hub")
    msclap.add_argument(
        "--text-checkpoint", type=Path, help="clapcap only: the weights of 2023, for its texts"
    )
    msclap.add_argument("--tokenizer", type=Path, help="folder; default: fetched from the hub")
    msclap.add_argument("--layers", type=int, help="depth of cut towers, as tests use them")
    _common(msclap)
    theirs = kinds.add_parser("transformers", help="a ClapModel, LAION's among them")
    theirs.add_argument("--model", required=True, help="a folder, or a model's name on the hub")
    _common(theirs)
    ucs = kinds.add_parser("ucs-clap", help="laion_clap's checkpoints: HTSAT and RoBERTa")
    ucs.add_argument("--checkpoint", type=Path, required=True, help="file of the weights")
    ucs.add_argument("--tokenizer", type=Path, help="folder with roberta-base's tokenizer.json")
    ucs.add_argument("--layers", type=int, help="depth of cut towers, as tests use them")
    _common(ucs)
    own = kinds.add_parser(
        "bundle", help="clap-mini, or another that has no checkpoint: add a head"
    )
    own.add_argument("--bundle", type=Path, required=True, help="directory of the bundle")
    own.add_argument("--heads", type=Path, required=True, help="a head file of its own space")
    own.add_argument("--out", type=Path, required=True, help="directory of the new bundle")
    own.add_argument("--force", action="store_true", help="replace --out if it exists")
    own.add_argument("--threads", type=int, default=os.cpu_count() or 1)


def _common(parser: argparse.ArgumentParser) -> None:
    """What all kinds of models share."""
    parser.add_argument("--out", type=Path, required=True, help="directory of the new bundle")
    parser.add_argument("--heads", default="fit", help="a head file, 'fit' (the default) or 'none'")
    parser.add_argument(
        "--fit-on", type=Path, help="folder of sounds with captions.txt, to fit a head on"
    )
    parser.add_argument("--precisions", default="fp32,int8", help=f"of {', '.join(PRECISIONS)}")
    parser.add_argument("--quick", action="store_true", help="compare on 20 texts and 10 sounds")
    parser.add_argument("--no-gate", action="store_true", help="keep what differs too much")
    parser.add_argument("--force", action="store_true", help="replace --out if it exists")
    parser.add_argument("--weights-licence", help="if not the one under which the hub lists them")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)


def run(args: argparse.Namespace, say: Say) -> int:
    """Read, build, compare, write."""
    check_out(args.out, args.force)
    if args.kind == "bundle":
        return _with_head(args, say)
    plan = _plan(args)
    check_sounds(plan.head)  # reading the checkpoint can take a download
    made = source_of(args, say)
    if args.weights_licence:
        made = made.under(args.weights_licence)
    convert(made, args.out, plan, say)
    return 0


def _with_head(args: argparse.Namespace, say: Say) -> int:
    bundle = bundles.open(args.bundle)
    head = rotation.load(args.heads, bundle.manifest.dim)
    manifest = write_bundle(args.out, *bundle_heads.with_head(bundle, head, threads=args.threads))
    say(f"{manifest.id} {manifest.revision[:12]} at {args.out}: a {head.kind} head, {manifest.dim} "
        f"dims, ladder {','.join(map(str, manifest.ladder))}")  # fmt: skip
    return 0


def _plan(args: argparse.Namespace) -> Plan:
    precisions = tuple(dict.fromkeys(["fp32", *args.precisions.split(",")]))
    if unknown := sorted(set(precisions) - set(PRECISIONS)):
        raise CheckpointError(f"precisions {unknown}; give some of {', '.join(PRECISIONS)}")
    given = args.heads not in ("fit", "none")
    return Plan(
        precisions=precisions,
        head=HeadPlan(
            file=Path(args.heads) if given else None,
            fit=args.heads == "fit",
            folder=args.fit_on,
            clips=QUICK_CLIPS if args.quick else HeadPlan().clips,
        ),
        sizes=QUICK if args.quick else Sizes(),
        gate=None if args.no_gate else Gate(),
        threads=args.threads,
        force=args.force,
    )


def source_of(args: argparse.Namespace, say: Say) -> Source:
    """The model that the command line names."""
    if args.kind == "transformers":
        return clap_model.read(files.model(args.model))
    if args.kind == "ucs-clap":
        return laion_clap.read(args.checkpoint, args.tokenizer, args.layers)
    return _msclap(args, say)


def _msclap(args: argparse.Namespace, say: Say) -> Source:
    """The checkpoint, the tokenizer and, for clapcap, the text tower's checkpoint."""
    version = args.version
    towers = "2023" if version == "clapcap" else version
    tokenizer = files.tokenizer_json(source.MODELS[version], args.tokenizer)
    path = files.checkpoint(version, args.checkpoint)
    first = checkpoint.read(path, version, layers=args.layers)
    say(f"{path}: {len(first.state)} weights, sha256 {first.digest[:12]}")
    if version == towers:
        return source.make(first, tokenizer)
    other = files.checkpoint(towers, args.text_checkpoint, "--text-checkpoint")
    second = checkpoint.read(other, towers, layers=args.layers)
    say(f"{other}: {len(second.state)} weights, sha256 {second.digest[:12]}")
    if changed := source.changed_audio(second, first):
        say(f"note: {len(changed)} weights of the audio towers differ, {changed[0]} first")
    return source.make(second, tokenizer, first)
