"""Embeddings as text-to-audio systems take them for conditioning, and files of them.

In:  unit embeddings, or a source model's own projection, of texts or sounds.
Out: `Conditioning`, float32 [N, D]; .npy with the rows alone, .npz with what they are.
Knows nothing about graphs or about who is conditioned.
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clap_engine.arrays import Float32, l2_normalize
from clap_engine.errors import TaskError
from clap_engine.storage import write_atomic

SUFFIXES = (".npy", ".npz")


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
        """.npy: the rows. .npz: rows, space, is_unit, names, space_id; no pickles."""
        data = io.BytesIO()
        if os.fspath(path).endswith(".npy"):
            np.save(data, self.rows)
        elif os.fspath(path).endswith(".npz"):
            np.savez(
                data, rows=self.rows, space=np.array(self.space), is_unit=np.array(self.is_unit),
                names=np.array(self.names), space_id=np.array(self.space_id),
            )  # fmt: skip
        else:
            raise TaskError(f"{os.fspath(path)} must end with one of {', '.join(SUFFIXES)}")
        write_atomic(Path(path), data.getvalue())


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
