"""`clap-export report heads`: plain truncation, rotations and trained heads, rung by rung.

In:  the command line: a model, heads of it, pairs that none of them was made from.
Out: a table on stdout, and in a file with --out.
Knows nothing about how to measure: `clap_export.head_report` does.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from clap_engine.storage import write_atomic
from clap_export import features, head_choice, head_report, rotation
from clap_export.commands import heads_args
from clap_export.head_choice import DIM, ladder_of
from clap_export.head_plan import random_rotation
from clap_export.rotation import Head

Say = Callable[[str], None]

EPILOG = """\
For each rung d: the share of the ten best by all dims that a shortlist of the K best by d dims
holds, so what an exact rerank can find; and how often a right clip is among the ten best by d dims
alone: a caption's own clip (R@10), or with --corpus any clip that has what it claims (hit@10). Of
many captions 4,000 are drawn.
A model whose space is trained for prefixes already, such as clap-mini, is also shown turned at
random: the same scores, and what plain truncation of a space that nobody ordered looks like."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `clap-export report heads`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    heads_args.add_source(parser)
    heads_args.add_pairs(parser, "held_out")
    parser.add_argument("--heads", type=Path, nargs="*", default=[], help="head files to compare")
    parser.add_argument("--ladder", type=heads_args.ladder, help="rungs; default: the usual ones")
    parser.add_argument(
        "--shortlists", type=heads_args.ladder, default=(10, 50, 100, 200), help="lengths, K"
    )
    parser.add_argument("--out", type=Path, help="also write the table to this file (.md)")
    parser.add_argument("--force", action="store_true", help="replace --out if it exists")


def run(args: argparse.Namespace, say: Say) -> int:
    """Embed, measure, print."""
    if args.out is not None:
        heads_args.check_out(args.out, args.force)
    towers = heads_args.source(args, say)
    heads: dict[str, Head | None] = {"plain truncation": None}
    if len(towers.ladder) > 1:
        heads["turned at random"] = Head(random_rotation(towers.dim, 0), "random")
    pairs, corpus = heads_args.clips(args, towers, say)
    for path in args.heads:
        head = rotation.load(path, towers.dim)
        head_choice.check_origin(head, towers.digest, path)
        if head.provenance.get("pairs", {}).get("sha256") == pairs.sha256:
            say(f"note: {path} was made from these very pairs; its rows flatter it")
        heads[f"{head.kind}: {path.stem}"] = head
    cache = args.cache or Path("work") / "features"
    embedded = features.embed(pairs.clips, towers, cache, say)
    relevant = None if corpus is None else corpus.relevance()
    ladder = args.ladder or ladder_of(min(DIM, towers.dim))
    rows = head_report.compare(embedded, heads, ladder, args.shortlists, relevant)
    shown = head_report.table(rows, args.shortlists, "R@10" if corpus is None else "hit@10")
    say(f"{len(embedded)} clips, {len(embedded.texts)} captions\n\n{shown}")
    if args.out is not None:
        write_atomic(args.out, shown.encode())
    return 0
