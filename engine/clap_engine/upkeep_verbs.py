"""The verbs that keep a collection in shape: compact, backup, migrate.

In:  parsed arguments.
Out: text on standard output, progress on standard error, an exit code.
Knows nothing about argument syntax, graphs, audio or storage.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from clap_engine import report
from clap_engine.invocation import INTERRUPTED, OK, SOME_FAILED, engine_of
from clap_engine.progress import ProgressLine

if TYPE_CHECKING:
    from clap_engine.migration import MigrateReport


def compact(arguments: argparse.Namespace) -> int:
    """Give the space of removed clips back to the file system."""
    from clap_engine.collection import Collection

    with Collection.open(arguments.collection) as sounds:
        found = sounds.compact()
    if arguments.json:
        report.print_json({"collection": arguments.collection, **asdict(found)})
    else:
        print(
            f"{_megabytes(found.before_bytes)} before, {_megabytes(found.after_bytes)} after; "
            f"{found.dropped_windows} removed windows left the derived files"
        )
    return OK


def backup(arguments: argparse.Namespace) -> int:
    """Copy a collection while it is in use."""
    from clap_engine.collection import Collection

    with Collection.open(arguments.collection, read_only=True) as sounds:
        made = sounds.backup(arguments.folder)
    if arguments.json:
        report.print_json({"collection": arguments.collection, **asdict(made)})
    else:
        print(
            f"{made.clips} clips with {made.windows} windows, {_megabytes(made.size_bytes)}, are "
            f"in {report.printable(made.path)}, each byte checked"
        )
    return OK


def migrate(arguments: argparse.Namespace) -> int:
    """Embed the clips of a collection anew, in the space of another bundle."""
    from clap_engine import migration
    from clap_engine.collection import Collection

    with Collection.open(arguments.collection, read_only=True) as sounds:
        clips = len(sounds)
    with engine_of(arguments) as engine, ProgressLine(clips) as line:
        engine.warm(text=False)  # a damaged bundle ends here, not once for every file
        try:
            found = migration.migrate(
                arguments.collection, engine, into=arguments.into,
                drop_missing=arguments.drop_missing, progress=line, limits=engine.limits,
            )  # fmt: skip
        except KeyboardInterrupt:
            print(
                "interrupted: what was embedded is kept, and the collection is as it was; run the "
                "same command to go on",
                file=sys.stderr,
            )
            return INTERRUPTED
    if arguments.json:
        report.print_json({"collection": arguments.collection, **asdict(found)})
    else:
        _tell(found, arguments.drop_missing)
    return OK if found.is_switched else SOME_FAILED


def _tell(found: MigrateReport, drop_missing: bool) -> None:
    fate = "left out" if drop_missing else "missing"
    for key, why in found.missing:
        print(report.printable(f"clap-engine: {fate}: {key}: {why}"), file=sys.stderr)
    for key in found.changed:
        line = f"clap-engine: {key}: its file changed since it was indexed; taken as it is now"
        print(report.printable(line), file=sys.stderr)
    print(f"{found.embedded} clips embedded anew, {found.clips} are in the new space", end="; ")
    if found.is_switched:
        print(f"{report.printable(found.path)} serves them")
    else:
        print(
            f"nothing was switched: {len(found.missing)} clips can't be read; bring their files "
            "back and run the same command, or give --drop-missing"
        )


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.1f} MB"
