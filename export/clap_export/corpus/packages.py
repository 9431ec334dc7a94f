"""Files out of other people's packages, fetched by the tools that these packages are for.

In:  a command of apt-get, npm or pip; the folder that it works in.
Out: the files there; RuntimeError where the tool is missing or fails.
Knows nothing about fonts, recordings or digests.
"""

from __future__ import annotations

import subprocess
from pathlib import Path


def run(command: list[str], at: Path) -> None:
    """The command in folder `at`; RuntimeError that ends with what it complained of."""
    try:
        done = subprocess.run(command, cwd=at, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise RuntimeError(f"{command[0]} is not installed; it fetches packages") from error
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr.strip()[-500:]}")


def unpack_deb(archive: Path) -> None:
    """A Debian package's files beside it, without installing it, so that no rights are needed."""
    run(["dpkg-deb", "-x", archive.name, "."], archive.parent)
