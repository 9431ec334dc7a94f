"""The verbs that deliver a collection to those who only read it: snapshot.

In:  parsed arguments.
Out: text on standard output, an exit code.
Knows nothing about argument syntax, graphs, audio or storage.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict

from clap_engine import report
from clap_engine.invocation import OK


def snapshot(arguments: argparse.Namespace) -> int:
    """Copy a collection as one that never changes, and perhaps switch a link to it."""
    from clap_engine.collection import Collection

    with Collection.open(arguments.collection, read_only=True) as sounds:
        made = sounds.snapshot(arguments.folder, link=arguments.link)
    if arguments.json:
        report.print_json({"collection": arguments.collection, **asdict(made)})
        return OK
    print(
        f"{made.clips} clips with {made.windows} windows, {made.size_bytes / 1e6:.1f} MB, are in "
        f"{report.printable(made.path)}, which never changes"
    )
    if made.link is not None:
        print(f"{report.printable(made.link)} leads to it")
    return OK
