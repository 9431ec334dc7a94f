"""The machine and the libraries that a figure belongs to.

In:  nothing: they are asked.
Out: a dict of plain values for the benchmark's JSON; this process' peak memory.
Knows nothing about what is measured.
"""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

LIBRARIES = (
    "clap-engine", "hnswlib", "numpy", "onnx", "onnxruntime", "soundfile", "soxr", "tokenizers",
    "torch", "transformers",
)  # fmt: skip
# Read when their libraries load; soxr and libsndfile use one thread anyway.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def facts() -> dict[str, Any]:
    """Processor, cores, system, versions and load."""
    return {
        "cpu_model": cpu_model(),
        "cpu_flags": cpu_flags(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": versions(),
        "threads": 1,
        "load_average_at_start": list(os.getloadavg()),
    }


def cpu_model() -> str:
    """The processor's name, or its architecture where nobody says."""
    return _cpuinfo("model name") or platform.machine()


def cpu_flags() -> list[str]:
    """The instruction sets that decide int8, bf16 and AVX paths."""
    found = set(_cpuinfo("flags").split())
    wanted = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
    return [flag for flag in wanted if flag in found]


def _cpuinfo(field: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    pairs = (line.partition(":") for line in lines)
    return next((value.strip() for name, _, value in pairs if name.strip() == field), "")


def versions() -> dict[str, str]:
    """Of the libraries that are installed."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def line(facts: dict[str, Any], threads: str = "1 thread used") -> str:
    """One line for a table: what a figure must never be quoted without."""
    known = facts["versions"]
    libraries = ", ".join(
        f"{name} {known[name]}"
        for name in ("onnxruntime", "numpy", "torch", "transformers")
        if name in known
    )
    flags = {flag.split("_")[-1].upper() for flag in facts["cpu_flags"] if "vnni" in flag}
    instructions = f" ({', '.join(sorted(flags))})" if flags else ""
    return (
        f"{facts['cpu_model']}{instructions}, {facts['cores']} cores, {threads}, "
        f"Python {facts['python']}, {libraries}; load at start "
        f"{facts['load_average_at_start'][0]:.2f}"
    )


def peak_memory() -> int:
    """Bytes: the most that was ever resident of this process.

    Not getrusage: Linux carries a parent's peak over into the child that it forks for exec.
    """
    status = Path("/proc/self/status").read_text()
    (kilobytes,) = (row.split()[1] for row in status.splitlines() if row.startswith("VmHWM:"))
    return 1024 * int(kilobytes)


def is_one_thread() -> bool:
    """Whether numpy was, or will be, loaded with one thread."""
    return "numpy" not in sys.modules or os.environ.get(THREAD_VARIABLES[1]) == "1"
