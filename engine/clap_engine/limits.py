"""What one request may cost: the bounds that hold before any native code sees the input.

In:  numbers with their units in their names.
Out: a frozen `Limits`.
Knows nothing about files, audio or text.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds for one clip or one text; every error that names a limit names its field here."""

    max_duration_s: float = 4 * 3600.0
    max_bytes: int = 2 * 1024**3
    min_rate_hz: int = 4_000
    max_rate_hz: int = 384_000
    max_channels: int = 8
    max_text_chars: int = 10_000
    max_k: int = 10_000


DEFAULT_LIMITS = Limits()
