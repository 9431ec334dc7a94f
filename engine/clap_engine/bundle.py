"""A bundle directory: found by name, opened, and read only as verified bytes.

In:  a name or path; the directory's plain files.
Out: a `Bundle`, whose `read` gives the bytes of one file after checking length and digest.
Knows nothing about onnxruntime, tokenizers or audio files.
"""

from __future__ import annotations

import importlib.util
import io
import os
import stat
import zipfile
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clap_engine.arrays import Float32, check_array
from clap_engine.errors import IntegrityError, ManifestError, NotFoundError
from clap_engine.manifest import MAX_BYTES, FileEntry, GraphSpec, Manifest, parse
from clap_engine.placement import CPU, OPENVINO
from clap_engine.storage import read_exact, read_large

Float64 = npt.NDArray[np.float64]

MANIFEST_NAME = "manifest.json"
DEFAULT_NAME = "clap-mini"
MODELS_PACKAGE = "clap_engine.models"


class Bundle:
    """An opened bundle: a checked manifest, and files that are checked each time they are read.

    Immutable and safe in many threads. Nothing stays open and no bytes are kept.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest

    def read(self, name: str) -> bytes:
        """The bytes of one listed file, read once; IntegrityError if they are not the packed."""
        entry = self._entry(name)
        return read_exact(_plain(self.path / name), size=entry.size, sha256=entry.sha256)

    def read_graph(self, name: str) -> memoryview:
        """As `read`, for files of many megabytes."""
        entry = self._entry(name)
        return read_large(_plain(self.path / name), size=entry.size, sha256=entry.sha256)

    def _entry(self, name: str) -> FileEntry:
        entry = self.manifest.files.get(name)
        if entry is None:
            listed = ", ".join(sorted(self.manifest.files))
            raise NotFoundError(f"{name!r} is not a file of this bundle; it holds {listed}")
        return entry

    def verify(self) -> None:
        """Read every listed file once; IntegrityError or NotFoundError at the first that is off."""
        for name in sorted(self.manifest.files):
            self.read(name)

    def goldens(self) -> tuple[Float32, Float32]:
        """Reference embeddings of the golden texts [n, D] and waveforms [m, D]."""
        spec, dim = self.manifest.goldens, self.manifest.dim
        stored = self._stored(spec.file, ("text", "audio"))
        return (
            check_array(stored["text"], shape=(len(spec.texts), dim), name=f"{spec.file} text"),
            check_array(stored["audio"], shape=(len(spec.audio), dim), name=f"{spec.file} audio"),
        )

    def golden_ids(self) -> list[list[int]] | None:
        """Token ids of the golden texts as the source's own tokenizer gives them, or None.

        Stored as `ids` [n, L], the shorter rows filled with -1.
        """
        spec = self.manifest.goldens
        ids = self._stored(spec.file, ()).get("ids")
        if ids is None:
            return None
        if ids.dtype != np.int64 or ids.ndim != 2 or len(ids) != len(spec.texts):
            raise ManifestError(
                f"{spec.file} ids are {ids.dtype} {list(ids.shape)}; int64 of {len(spec.texts)} "
                "rows are needed; pack the bundle again"
            )
        return [[int(i) for i in row if i >= 0] for row in ids]

    def _stored(self, name: str, needed: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
        """The arrays of an .npz file."""
        data = self.read(name)
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as stored:
                return {key: stored[key] for key in {*needed, *stored.files}}
        except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
            wanted = " and ".join(repr(key) for key in needed) or "arrays"
            raise ManifestError(
                f"{name} holds no readable {wanted} ({error}); pack the bundle again"
            ) from error

    def __repr__(self) -> str:
        return f"<Bundle {self.manifest.id} {self.manifest.revision[:12]} at {str(self.path)!r}>"


def open(path: str | os.PathLike[str]) -> Bundle:
    """The bundle in directory `path`: the manifest is parsed, files are checked when read."""
    directory = Path(path)
    if not directory.is_dir():
        raise NotFoundError(f"{str(path)!r} is not a directory; give a bundle's name or directory")
    manifest = parse(_read_manifest(directory / MANIFEST_NAME))
    return Bundle(directory.absolute(), manifest)


def installed() -> list[Path]:
    """Directories of the bundles that are installed with the package, by name."""
    return [path for root in _installed_roots() for path in _bundles_in(root)]


def find(
    name_or_path: str | os.PathLike[str] | None = None,
    models_dir: str | os.PathLike[str] | None = None,
) -> Path:
    """The directory of a bundle; None means the one that ships.

    A name is looked up among the installed bundles, then in `models_dir`; whatever else is a
    directory with a manifest is taken as a path.
    """
    wanted = DEFAULT_NAME if name_or_path is None else os.fspath(name_or_path)
    known = installed()
    if models_dir is not None:
        known += _bundles_in(Path(models_dir))
    if isinstance(name_or_path, (str, type(None))):
        for path in known:
            if path.name == wanted:
                return path
    if name_or_path is not None and "\0" not in wanted and (Path(wanted) / MANIFEST_NAME).is_file():
        return Path(wanted)
    names = ", ".join(sorted({path.name for path in known})) or "none"
    raise NotFoundError(
        f"no bundle {wanted!r}; known by name: {names}; or give the directory of a bundle"
    )


def choose_precision(
    available: Collection[str],
    providers: Sequence[str],
    has_fast_int8: bool,
    slow: Collection[str] = (),
) -> tuple[str, str | None]:
    """(precision, warning or None): the best of `available` for the first provider.

    `slow` are those whose int8 was measured to be no gain on a CPU that has fast int8.
    """
    on_cpu = not providers or providers[0] == CPU
    if providers and providers[0] == OPENVINO:
        # It casts float32 graphs to what the machine multiplies fastest; not all int8 graphs load.
        order, place = ("fp32", "fp16", "int8"), "OpenVINO"
    elif not on_cpu:
        order, place = ("fp16", "fp32", "int8"), f"{providers[0]}"
    elif has_fast_int8 and "int8" not in slow:
        order, place = ("int8", "fp32", "fp16"), "a CPU with fast int8"
    else:
        # int8 without VNNI or dot-product instructions is exact enough, but no faster than fp32;
        # convolutions are at times slower in it even with them.
        order, place = ("fp32", "int8", "fp16"), "a CPU without fast int8"
    chosen = next((precision for precision in order if precision in available), None)
    if chosen is None:
        raise NotFoundError(f"no graph among {sorted(available)}; allowed: {', '.join(order)}")
    if chosen == order[0]:
        return chosen, None
    return chosen, f"{place} runs {order[0]} best, the bundle holds {chosen}: it will be used"


def pick_graph(graphs: dict[str, GraphSpec], precision: str) -> GraphSpec:
    """The graph of a precision asked for by name; NotFoundError says which there are."""
    if precision not in graphs:
        raise NotFoundError(
            f"precision {precision!r} is not in this bundle; it holds {', '.join(sorted(graphs))}"
        )
    return graphs[precision]


def golden_waveform(index: int, rate_hz: int, n: int) -> Float32:
    """[n] in [-0.5, 0.5]: a chirp, two tones or noise by `index` mod 3; equal everywhere."""
    return _WAVEFORMS[index % 3](index, np.arange(n, dtype=np.float64) / rate_hz, n)


def _chirp(index: int, time_s: Float64, n: int) -> Float32:
    """Upwards from 80 (index + 1) Hz by 500 Hz a second."""
    phase = (80.0 * (index + 1) + 250.0 * time_s) * time_s
    return np.asarray(0.5 * np.sin(2 * np.pi * phase), np.float32)


def _tones(index: int, time_s: Float64, n: int) -> Float32:
    """A tone of 220 Hz a step and its fifth, beating slowly."""
    low = np.sin(2 * np.pi * 220.0 * index * time_s)
    fifth = np.sin(2 * np.pi * 331.0 * index * time_s)
    return np.asarray(0.25 * (low + fifth), np.float32)


def _noise(index: int, time_s: Float64, n: int) -> Float32:
    """Integers only (the 32-bit generator of Numerical Recipes, run as products and sums)."""
    powers = np.full(n, 1664525, np.uint32)
    powers[:1] = 1
    powers = np.multiply.accumulate(powers, dtype=np.uint32)
    offsets = np.zeros(n, np.uint32)
    offsets[1:] = np.add.accumulate(powers[:-1], dtype=np.uint32)
    state = powers * np.uint32(index + 1) + offsets * np.uint32(1013904223)
    return np.asarray((state >> np.uint32(8)) / 2.0**24 - 0.5, np.float32)


_WAVEFORMS: tuple[Callable[[int, Float64, int], Float32], ...] = (_chirp, _tones, _noise)


def _plain(path: Path) -> Path:
    """`path` if it is a regular file itself: a link may lead out, a FIFO or device may hang."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError as error:
        raise NotFoundError(f"{str(path)!r} does not exist; fetch the bundle again") from error
    except OSError as error:
        raise IntegrityError(f"{str(path)!r} can't be read: {error}") from error
    if not stat.S_ISREG(mode):
        raise IntegrityError(f"{str(path)!r} is not a plain file; copy the bundle without links")
    return path


def _read_manifest(path: Path) -> bytes:
    """At most one byte more than a manifest may have, so that `parse` can refuse it."""
    try:
        with _plain(path).open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except PermissionError as error:
        raise IntegrityError(f"{str(path)!r} can't be read: {error}") from error


def _installed_roots() -> list[Path]:
    """Where the package of models lies; empty in a checkout that was never installed."""
    spec = importlib.util.find_spec(MODELS_PACKAGE)
    places = spec.submodule_search_locations if spec is not None else None
    # An editable install may list places that are names of import hooks, not directories.
    return [Path(place) for place in places or () if Path(place).is_dir()]


def _bundles_in(root: Path) -> list[Path]:
    try:
        return sorted(path for path in root.iterdir() if (path / MANIFEST_NAME).is_file())
    except OSError as error:
        raise NotFoundError(f"models directory {str(root)!r} can't be read: {error}") from error
