"""The verbs that carry models: pull, pack.

In:  parsed arguments.
Out: text on standard output, progress on standard error, an exit code.
Knows nothing about argument syntax, graphs or storage.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict

from clap_engine import report
from clap_engine.invocation import OK
from clap_engine.progress import ProgressLine


def pull(arguments: argparse.Namespace) -> int:
    """Fetch an archive, check it, install it."""
    from clap_engine import install

    with ProgressLine(0, unit="MB") as line:
        found = install.pull(
            arguments.url, arguments.sha256, name=arguments.name, replace=arguments.replace,
            models_dir=arguments.models_dir, max_bytes=arguments.max_mb * 1_000_000,
            timeout_s=arguments.timeout_s,
            progress=lambda done, total: line.of(done // 1_000_000, total // 1_000_000),
        )  # fmt: skip
    if arguments.json:
        report.print_json(asdict(found))
        return OK
    how = "is installed" if found.is_new else "was installed already"
    where = report.printable(found.path)
    print(f"{found.name} {how}, {found.size / 1e6:.1f} MB, {where}; load it by that name")
    return OK


def pack(arguments: argparse.Namespace) -> int:
    """Write a bundle as one file."""
    from clap_engine import bundle

    opened = bundle.open(bundle.find(arguments.bundle, models_dir=arguments.models_dir))
    digest = bundle.pack(opened, arguments.file)
    if arguments.json:
        report.print_json({"id": opened.manifest.id, "path": arguments.file, **asdict(digest)})
        return OK
    where = report.printable(arguments.file)
    print(f"{opened.manifest.id}, {digest.size / 1e6:.1f} MB, is in {where}")
    print(f"clap-engine pull URL --sha256 {digest.sha256}")
    return OK
