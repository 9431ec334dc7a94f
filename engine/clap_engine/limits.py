"""What one request may cost: the bounds that hold before any native code sees the input.

In:  numbers with their units in their names.
Out: a frozen `Limits`.
Knows nothing about files, audio or text.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds for one clip or one text; every error that names a limit names its field here.

    `max_in_flight` calls of a kind (text, audio, caption, search) run at once, None for what suits
    the engine's threads; `max_waiting` more wait for their turn, beyond that OverloadedError.
    """

    max_duration_s: float = 4 * 3600.0
    max_bytes: int = 2 * 1024**3
    min_rate_hz: int = 4_000
    max_rate_hz: int = 384_000
    max_channels: int = 8
    max_text_chars: int = 10_000
    max_k: int = 10_000
    max_in_flight: int | None = None
    max_waiting: int = 1024

    def __post_init__(self) -> None:
        if self.max_in_flight is not None and self.max_in_flight < 1:
            raise ValueError(f"max_in_flight is {self.max_in_flight}; give 1 or more, or None")
        if self.max_waiting < 0:
            raise ValueError(f"max_waiting is {self.max_waiting}; give 0 or more")


DEFAULT_LIMITS = Limits()
