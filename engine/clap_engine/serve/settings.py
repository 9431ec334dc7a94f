"""What one server may do and cost: bounds that hold before anything native sees a request.

In:  numbers with their units in their names.
Out: a frozen `Settings`.
Knows nothing about sockets, models or sound.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from clap_engine.serve.admission import Patience

TEXT_PATIENCE = Patience(crowded=8, most=240, stale_s=2.0)
# A process that decodes may have to be started anew meanwhile.
AUDIO_PATIENCE = Patience(crowded=8, most=8, stale_s=60.0, look_s=5.0)
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Settings:
    """Bounds of one server; an error that names a limit names its field here."""

    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1  # processes that serve
    is_native: bool = True  # by httptools and uvloop where they are installed
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

    # Work under way and waiting, for words and for sounds: see admission.
    text_threads: int = 2
    text_patience: Patience = TEXT_PATIENCE
    audio_threads: int = 1
    audio_patience: Patience = AUDIO_PATIENCE

    decode_workers: int = 1
    decode_timeout_s: float = 20.0
    decode_memory_bytes: int = 768 * 1024**2  # of address space, beyond what the worker starts with

    map_clips: int = 2000
    grace_s: float = 30.0  # for requests that are under way when the server is told to end

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        return self.host in LOOPBACK
