"""Fresh processes: start alone.py, wait, read what it says.

In:  a contender, a task, its folder and inputs.
Out: `Run`: seconds from its first import to its first answer, its whole life, its peak memory.
Knows nothing about what runs inside.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import clap_engine
import clap_export
import machine

SCRIPT = Path(__file__).with_name("alone.py")
# The child finds both packages where this process found them, installed or not.
ROOTS = [str(Path(str(package.__file__)).parents[1]) for package in (clap_engine, clap_export)]


@dataclass(frozen=True)
class Run:
    """One fresh process."""

    first_s: float  # first import to first answer
    life_s: float  # from its start to its end
    peak_bytes: int
    answers: list[Any]


def start(
    contender: str,
    task: str,
    folder: Path,
    inputs: list[str],
    *,
    threads: int = 1,
    rate_hz: int = 32_000,
) -> Run:
    """Run `task` in a process of its own; its errors are ours. `rate_hz` is that of windows."""
    command = [sys.executable, str(SCRIPT), contender, task, "--folder", str(folder)]
    command += ["--threads", str(threads), "--rate-hz", str(rate_hz), *inputs]
    path = os.pathsep.join([*ROOTS, os.environ.get("PYTHONPATH", "")])
    # No hub: the peer's weights lie in the folder, and a look-up would be charged to it.
    environment = {**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"}
    environment |= dict.fromkeys(machine.THREAD_VARIABLES, str(threads))
    begun = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    life_s = time.perf_counter() - begun
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[1:4])} failed:\n{done.stderr[-2000:]}")
    said = json.loads(done.stdout.splitlines()[-1])
    return Run(said["first_s"], life_s, said["peak"], said["answers"])


def peak_mb(task: str, engine: tuple[Path, list[str]], torch: tuple[Path, list[str]]) -> Any:
    """Peak memory of both on a task, each alone, in MB: {"ours": ..., "peer": ...}."""
    runs = {"ours": start("engine", task, *engine), "peer": start("torch", task, *torch)}
    return {name: round(run.peak_bytes / 1e6, 1) for name, run in runs.items()}
