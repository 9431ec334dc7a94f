"""Files of a generation as arrays: mapped read-only, once size and digest were checked.

In:  a generation's folder, the digests of its files, a name, what array it holds.
Out: the array over its memory map.
Knows nothing about what the arrays mean.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from clap_engine import storage
from clap_engine.errors import IntegrityError
from clap_engine.storage import FileDigest


def mapped(
    path: Path,
    files: Mapping[str, FileDigest],
    name: str,
    dtype: Any,
    shape: tuple[int, int],
    touch: bool = True,
) -> Any:
    """The file as a read-only array over its memory map; see storage.map_exact for `touch`."""
    size = shape[0] * shape[1] * np.dtype(dtype).itemsize
    if files[name].size != size:
        raise IntegrityError(
            f"{os.fspath(path / name)} has {files[name].size} bytes where {list(shape)} "
            f"{np.dtype(dtype).name} take {size}; rebuild the generation"
        )
    view = storage.map_exact(path / name, size, files[name].sha256, touch=touch)
    return np.frombuffer(view, dtype).reshape(shape)
