"""`clap-export exam`: what a bundle finds on a rendered corpus, row by row, with intervals.

In:  the command line.
Out: a table, or JSON; the accuracy of every class.
Knows nothing about the questions: `clap_export.exam` has them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from clap_engine import bundle
from clap_export import exam
from clap_export.bundle_towers import towers

WORST = 12


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `clap-export exam`."""
    parser.add_argument("--corpus", type=Path, default=Path("work/corpus"), help="%(default)s")
    parser.add_argument("--bundle", type=Path, default=Path("models/clap-mini"), help="%(default)s")
    parser.add_argument("--precision", default="int8", help="of both graphs (%(default)s)")
    parser.add_argument(
        "--recordings", type=Path, metavar="FILE",
        help="also what `clap-engine evaluate --set DIR --json` found on recorded sounds",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args: argparse.Namespace, say: Callable[[str], None]) -> int:
    """Ask everything, and say what was found."""
    opened = bundle.open(args.bundle)
    report = exam.examine(args.corpus, towers(opened, args.precision))
    if args.recordings:
        found = json.loads(args.recordings.read_text(encoding="utf-8"))
        heard = exam.of_recordings(found, opened.manifest.revision, args.precision)
        report = replace(report, marks=(*report.marks, *heard))
    if args.json:
        say(json.dumps(report.as_json(), indent=1))
        return 0
    say(exam.table(report))
    ranked = sorted(report.by_class.items(), key=lambda item: item[1])
    for title, rows in (("weakest", ranked[:WORST]), ("strongest", ranked[::-1][:WORST])):
        say(f"{title}: " + ", ".join(f"{name} {value:.2f}" for name, value in rows))
    return 0
