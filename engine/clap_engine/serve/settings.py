"""What one server may do and cost: bounds that hold before anything native sees a request.

In:  numbers with their units in their names.
Out: a frozen `Settings`.
Knows nothing about sockets, models or sound.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Settings:
    """Bounds of one server; an error that names a limit names its field here."""

    host: str = "127.0.0.1"
    port: int = 8000
    api_keys: tuple[str, ...] = ()
    sounds_root: Path | None = None  # clips are played from below it, and from nowhere else

    max_body_bytes: int = 32 * 1024**2
    max_buffered_bytes: int = 256 * 1024**2  # of all bodies that are being read or worked on
    body_timeout_s: float = 30.0
    head_timeout_s: float = 10.0
    idle_timeout_s: float = 20.0
    request_timeout_s: float = 60.0  # for the model and the search, once they have begun
    max_connections: int = 512

    max_duration_s: float = 300.0
    max_inputs: int = 128
    max_files: int = 16
    max_hits: int = 1000
    max_labels: int = 256

    # Work under way and waiting, for words and for sounds, and when waiting turns: see admission.
    text_threads: int = 2
    text_waiting: int = 24
    text_crowded_s: float = 0.05
    text_stale_s: float = 0.5
    audio_threads: int = 1
    audio_waiting: int = 8
    audio_crowded_s: float = 10.0  # a process that decodes may have to be started anew meanwhile
    audio_stale_s: float = 60.0

    decode_workers: int = 1
    decode_timeout_s: float = 20.0
    decode_memory_bytes: int = 768 * 1024**2  # of address space, beyond what the worker starts with

    map_clips: int = 2000
    grace_s: float = 30.0  # for requests that are under way when the server is told to end

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        return self.host in LOOPBACK
