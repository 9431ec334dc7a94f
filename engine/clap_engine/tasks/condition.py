"""Embeddings as text-to-audio systems take them for conditioning, and files of them.

In:  unit embeddings, or a source model's own projection, of texts or sounds.
Out: `Conditioning`, float32 [N, D]; .npy with the rows alone, .npz and .safetensors with what they
     are.
Knows nothing about graphs or about who is conditioned.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clap_engine.arrays import Float32, l2_normalize
from clap_engine.errors import TaskError
from clap_engine.storage import write_atomic

SUFFIXES = (".npy", ".npz", ".safetensors")


@dataclass(frozen=True)
class Conditioning:
    """`rows` float32 [N, D], texts first; `space` is "native" or "embedding".

    `native` is the projection that the source model's own users are fed with; a bundle whose
    graphs have none gives its embedding. `names` are the texts, then what the sounds were.
    """

    rows: Float32
    space: str
    is_unit: bool
    names: tuple[str, ...]
    space_id: str

    def save(self, path: str | os.PathLike[str]) -> None:
        """.npy: the rows. .npz and .safetensors: rows, space, is_unit, names, space_id, in the
        latter as texts of the metadata, the names as a JSON list. No pickles."""
        data = io.BytesIO()
        if os.fspath(path).endswith(".npy"):
            np.save(data, self.rows)
        elif os.fspath(path).endswith(".npz"):
            np.savez(
                data, rows=self.rows, space=np.array(self.space), is_unit=np.array(self.is_unit),
                names=np.array(self.names), space_id=np.array(self.space_id),
            )  # fmt: skip
        elif os.fspath(path).endswith(".safetensors"):
            said = {
                "space": self.space, "is_unit": json.dumps(self.is_unit),
                "names": json.dumps(list(self.names)), "space_id": self.space_id,
            }  # fmt: skip
            data.write(safetensors("rows", self.rows, said))
        else:
            raise TaskError(f"{os.fspath(path)} must end with one of {', '.join(SUFFIXES)}")
        write_atomic(Path(path), data.getvalue())


def safetensors(name: str, rows: Float32, metadata: Mapping[str, str]) -> bytes:
    """One float32 tensor in the format of huggingface/safetensors 0.3 and later: the length of the
    header (uint64, little-endian), the header as JSON, filled with spaces to a multiple of 8 so
    that the numbers lie aligned, and the numbers, little-endian."""
    numbers = np.ascontiguousarray(rows, "<f4").tobytes()
    tensor = {"dtype": "F32", "shape": list(rows.shape), "data_offsets": [0, len(numbers)]}
    header = json.dumps({"__metadata__": dict(metadata), name: tensor}).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + numbers


def mean_of_windows(rows: Float32, *, is_unit: bool) -> Float32:
    """[W, D] -> [D]: the mean, brought to length 1 or, where lengths count, to their mean.

    The mean of directions alone would be shorter the more a clip changes.
    """
    if len(rows) == 1 and not is_unit:
        (row,) = rows
        return np.asarray(row, np.float32)
    (direction,) = l2_normalize(l2_normalize(rows).mean(axis=0, dtype=np.float32, keepdims=True))
    if is_unit:
        return np.asarray(direction, np.float32)
    return np.asarray(direction * np.linalg.norm(rows, axis=1).mean(), np.float32)
