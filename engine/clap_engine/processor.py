"""What this machine's processor multiplies fast.

In:  what the system says about it.
Out: yes or no.
Knows nothing about graphs.
"""

from __future__ import annotations

import platform

# Flags of /proc/cpuinfo: VNNI or AMX on x86-64, the dot-product instructions on aarch64.
FAST_INT8_FLAGS = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"})


def has_fast_int8(cpuinfo: str | None = None) -> bool:
    """Whether this CPU multiplies int8 faster than float32; `cpuinfo`: text of /proc/cpuinfo."""
    if cpuinfo is None and platform.system() == "Darwin":
        return platform.machine() == "arm64"  # every Apple chip since the M1 has dot-product
    return not FAST_INT8_FLAGS.isdisjoint(_cpu_flags(cpuinfo))


def has_amx(cpuinfo: str | None = None) -> bool:
    """Whether this CPU has tiles that multiply bfloat16."""
    return "amx_bf16" in _cpu_flags(cpuinfo)


def _cpu_flags(cpuinfo: str | None) -> list[str]:
    if cpuinfo is None:
        try:
            with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
                cpuinfo = file.read()
        except OSError:
            return []
    lines = (line.partition(":") for line in cpuinfo.splitlines())
    values = (value.split() for key, _, value in lines if key.strip() in ("flags", "Features"))
    return next(values, [])
