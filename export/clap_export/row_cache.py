"""Rows of a frozen tower, kept on disk so that no sound is embedded twice.

In:  keys of items, their rows [n, S], or why an item has none.
Out: the same again, in this run or a later one.
Knows nothing about towers, clips or training.

A folder of safetensors files, each written whole under a name of its own: a run that was killed
goes on where files are missing, and two runs may share a folder. The folder's name carries the
digest of what computes the rows; each file carries that of its rows, and one that is damaged is
left out, said so, and computed again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from clap_engine.arrays import Float32
from clap_engine.storage import make_dir, write_atomic


def key_of(text: str) -> str:
    """The key of an item that `text` identifies."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class RowCache:
    """`rows[key]` is [n, width], n perhaps 0; `reasons[key]` says why an item could not be read."""

    def __init__(self, folder: Path, width: int, say: Callable[[str], None]) -> None:
        self.rows: dict[str, Float32] = {}
        self.reasons: dict[str, str] = {}
        self._folder, self._width = folder, width
        make_dir(folder, parents=True)
        for path in sorted(folder.glob("*.safetensors")):
            if not self._read(path):
                say(f"{path} is damaged; what it held is computed again")

    def put(self, rows: Mapping[str, Float32], reasons: Mapping[str, str]) -> None:
        """Keep items; on disk when this returns."""
        counts = np.array([len(part) for part in rows.values()], np.int64)
        matrix = np.concatenate([np.empty((0, self._width), np.float32), *rows.values()])
        facts = {"keys": list(rows), "reasons": dict(reasons), "sha256": _digest(matrix, counts)}
        data = save({"rows": matrix, "counts": counts}, {"facts": json.dumps(facts)})
        write_atomic(self._folder / f"{key_of(' '.join(rows))[:32]}.safetensors", data)
        self.rows |= rows
        self.reasons |= reasons

    def missing(self, keys: Sequence[str]) -> list[int]:
        """Places of the keys that are not here, each key once."""
        first = {key: place for place, key in reversed(list(enumerate(keys)))}
        return sorted(place for key, place in first.items() if key not in self.rows)

    def _read(self, path: Path) -> bool:
        try:
            data = path.read_bytes()
            tensors = load(data)
            length = int.from_bytes(data[:8], "little")
            facts = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["facts"])
            matrix, counts = tensors["rows"], tensors["counts"]
            if _digest(matrix, counts) != facts["sha256"] or matrix.shape[1] != self._width:
                return False
            parts = np.split(matrix, np.cumsum(counts)[:-1])
            self.rows |= dict(zip(facts["keys"], parts, strict=True))
            self.reasons |= facts["reasons"]
        except (SafetensorError, ValueError, KeyError, TypeError, OSError):
            return False
        return True


def _digest(*arrays: np.ndarray[tuple[int, ...], np.dtype[np.float32 | np.int64]]) -> str:
    state = hashlib.sha256()
    for array in arrays:
        state.update(repr(array.shape).encode() + np.ascontiguousarray(array).tobytes())
    return state.hexdigest()
