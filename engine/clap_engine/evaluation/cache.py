"""Embeddings of sounds on disk, so that no sound is embedded twice.

In:  a folder; the space, precision and graph that made the embeddings; digests of sound files.
Out: unit rows float32 [D], with the sound's duration in seconds.
Knows nothing about sounds, sets or figures.

One file for each space, precision and graph, in records of one length: sha256 of the sound's file
(32 bytes), duration (float64) and row (float32 [D]), little-endian, CRC-32 of those. A record is
appended by one write as soon as its sound is embedded; one that a kill tore or a disk damaged is
passed over, and its sound embedded again.
"""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path
from types import TracebackType

import numpy as np

from clap_engine import storage
from clap_engine.arrays import Float32
from clap_engine.errors import LockedError

Row = tuple[Float32, float]
_READ = 1 << 22
_HEAD, _TAIL = 40, 4


class EmbeddingCache:
    """Rows by digest; one process at a time writes. Close it, or use it in `with`."""

    def __init__(
        self, folder: str | os.PathLike[str], *, space_id: str, precision: str, graph: str, dim: int
    ) -> None:
        """`graph` is the digest of the audio graph: the same precision may be quantized anew."""
        root = Path(folder)
        storage.make_dir(root, parents=True)
        self.path = root / f"{space_id[:16]}-{precision}-{graph[:16]}.rows"
        self._size = _HEAD + 4 * dim + _TAIL
        self._lock = storage.FileLock(self.path.with_suffix(".lock"))
        try:
            self._lock.acquire()
        except LockedError as error:
            raise LockedError(
                f"{self.path} is being written by another evaluation; wait for it, or take "
                "another cache folder"
            ) from error
        try:
            with storage.translated("open", self.path):
                flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
                self._fd = os.open(self.path, flags, 0o644)
            self._at = self._scan()
        except BaseException:
            self._lock.release()
            raise

    def __len__(self) -> int:
        return len(self._at)

    def get(self, digest: str) -> Row | None:
        """(row, duration in seconds), or None."""
        at = self._at.get(bytes.fromhex(digest))
        if at is None:
            return None
        with storage.translated("read", self.path):
            record = os.pread(self._fd, self._size, at)
        if not _is_whole(record):
            return None
        row = np.frombuffer(record[_HEAD:-_TAIL], "<f4").astype(np.float32)
        return row, struct.unpack("<d", record[32:_HEAD])[0]

    def put(self, digest: str, row: Float32, duration_s: float) -> None:
        """Keep a row; it is in the file when this returns."""
        key = bytes.fromhex(digest)
        body = key + struct.pack("<d", duration_s) + row.astype("<f4").tobytes()
        record = memoryview(body + struct.pack("<I", zlib.crc32(body)))
        with storage.translated("write", self.path):
            at = os.fstat(self._fd).st_size
            while len(record):  # a short write is no error: the next one tells why
                record = record[os.write(self._fd, record) :]
        self._at[key] = at

    def close(self) -> None:
        """Make all durable; a second call does nothing."""
        if self._fd < 0:
            return
        try:
            with storage.translated("fsync", self.path):
                os.fsync(self._fd)
        finally:
            os.close(self._fd)
            self._fd = -1
            self._lock.release()

    def _scan(self) -> dict[bytes, int]:
        """Where the record of each digest begins; what a kill left half is cut off."""
        found: dict[bytes, int] = {}
        step = max(1, _READ // self._size) * self._size
        with storage.translated("read", self.path):
            end = os.fstat(self._fd).st_size // self._size * self._size
            os.ftruncate(self._fd, end)
            for start in range(0, end, step):
                block = os.pread(self._fd, min(step, end - start), start)
                for i in range(0, len(block), self._size):
                    record = block[i : i + self._size]
                    if _is_whole(record):
                        found[record[:32]] = start + i
        return found

    def __enter__(self) -> EmbeddingCache:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _is_whole(record: bytes) -> bool:
    return len(record) > _TAIL and zlib.crc32(record[:-_TAIL]) == int.from_bytes(
        record[-_TAIL:], "little"
    )
