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
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clap_engine import archive as archives
from clap_engine import data_folder
from clap_engine.archive import Archive
from clap_engine.errors import IntegrityError, ManifestError, NotFoundError
from clap_engine.later import Later
from clap_engine.manifest import MAX_BYTES, FileEntry, GraphSpec, Manifest, parse
from clap_engine.placement import CPU, OPENVINO
from clap_engine.storage import FileDigest, read_exact, read_large

if TYPE_CHECKING:  # a graph is read while numpy is imported
    import numpy.typing as npt

    from clap_engine.arrays import Float32

MANIFEST_NAME = "manifest.json"
DEFAULT_NAME = "clap-mini"
MODELS_PACKAGE = "clap_engine.models"


class Bundle:
    """An opened bundle: a checked manifest, and files that are checked each time they are read.

    Immutable and safe in many threads. Nothing stays open, and no bytes are kept but those of
    graphs whose reading was begun, until they are taken or forgotten.
    """

    def __init__(self, path: Path, manifest: Manifest, archive: Archive | None = None) -> None:
        self.path = path
        self.manifest = manifest
        self._archive = archive
        self._begun: dict[str, Later[memoryview]] = {}

    def read(self, name: str) -> bytes:
        """The bytes of one listed file, read once; IntegrityError if they are not the packed."""
        entry = self._entry(name)
        if self._archive is not None:
            return bytes(self._archive.read(name, entry.sha256))
        return read_exact(_plain(self.path / name), size=entry.size, sha256=entry.sha256)

    def read_graph(self, name: str) -> memoryview:
        """As `read`, for files of many megabytes; what was begun is taken, once."""
        begun = self._begun.pop(name, None)
        return self._read_graph(name) if begun is None else begun.result()

    def begin(self, name: str) -> None:
        """Read a graph in a thread of its own, for the `read_graph` that follows."""
        if name not in self._begun:
            self._begun[name] = Later(lambda: self._read_graph(name))

    def forget(self, name: str) -> None:
        """Let go of what `begin` read, where nobody took it."""
        self._begun.pop(name, None)

    def _read_graph(self, name: str) -> memoryview:
        entry = self._entry(name)
        if self._archive is not None:
            return self._archive.read(name, entry.sha256)
        return read_large(_plain(self.path / name), size=entry.size, sha256=entry.sha256)

    def manifest_bytes(self) -> bytes:
        """The manifest as it is stored."""
        if self._archive is not None:
            return self._archive.head(MANIFEST_NAME, MAX_BYTES + 1)
        return _read_manifest(self.path / MANIFEST_NAME)

    def _entry(self, name: str) -> FileEntry:
        entry = self.manifest.files.get(name)
        if entry is None:
            listed = ", ".join(sorted(self.manifest.files))
            raise NotFoundError(f"{name!r} is not a file of this bundle; it holds {listed}")
        return entry

    def verify(self) -> None:
        """Read every listed file once; IntegrityError or NotFoundError at the first that is off."""
        for name in sorted(self.manifest.files):
            self.read_graph(name)

    def goldens(self) -> tuple[Float32, Float32]:
        """Reference embeddings of the golden texts [n, D] and waveforms [m, D]."""
        from clap_engine.arrays import check_array

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
        if ids.dtype != "int64" or ids.ndim != 2 or len(ids) != len(spec.texts):
            raise ManifestError(
                f"{spec.file} ids are {ids.dtype} {list(ids.shape)}; int64 of {len(spec.texts)} "
                "rows are needed; pack the bundle again"
            )
        return [[int(i) for i in row if i >= 0] for row in ids]

    def _stored(self, name: str, needed: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
        """The arrays of an .npz file."""
        import zipfile  # with numpy, half of what opening a bundle would take

        import numpy as np

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
    """The bundle at `path`, a directory or an archive; files are checked when they are read."""
    directory = Path(path)
    if directory.suffix == archives.SUFFIX and directory.is_file():
        return _in_archive(directory.absolute())
    if not directory.is_dir():
        raise NotFoundError(
            f"{str(path)!r} is neither a directory nor an archive; give a bundle's name or place"
        )
    manifest = parse(_read_manifest(directory / MANIFEST_NAME))
    return Bundle(directory.absolute(), manifest)


def _in_archive(path: Path) -> Bundle:
    """IntegrityError unless the archive holds what its manifest lists, and nothing else."""
    archive = Archive(path)
    manifest = parse(archive.head(MANIFEST_NAME, MAX_BYTES + 1))
    due = {name: entry.size for name, entry in manifest.files.items()}
    held = {name: place.size for name, place in archive.places.items() if name != MANIFEST_NAME}
    if (archive.folder, held) != (manifest.id, due) or next(iter(archive.places)) != MANIFEST_NAME:
        raise IntegrityError(
            f"{path} does not hold what its manifest lists; make it with `clap-engine pack`"
        )
    return Bundle(path, manifest, archive)


def pack(bundle: Bundle, target: str | os.PathLike[str]) -> FileDigest:
    """Write a bundle as one archive, each byte of it checked; the same bytes every time.

    The digest is what `clap-engine pull` wants to be told.
    """

    def read(name: str) -> bytes | memoryview:
        return bundle.manifest_bytes() if name == MANIFEST_NAME else bundle.read_graph(name)

    names = (MANIFEST_NAME, *bundle.manifest.files)
    return archives.write(Path(target), bundle.manifest.id, names, read)


def name_of(path: Path) -> str:
    """What a bundle at `path` is called by: its directory's name, its archive's without suffix."""
    return path.name.removesuffix(archives.SUFFIX) if path.is_file() else path.name


def installed() -> list[Path]:
    """The bundles that came with the package, and those in the user's own folder, by name."""
    shipped = [path for root in _installed_roots() for path in bundles_in(root)]
    own = data_folder.models()
    return shipped + (bundles_in(own) if own.is_dir() else [])


def find(
    name_or_path: str | os.PathLike[str] | None = None,
    models_dir: str | os.PathLike[str] | None = None,
) -> Path:
    """The directory or archive of a bundle; None means the one that ships.

    A name is looked up among the installed bundles, then in `models_dir`; whatever else is a
    directory with a manifest, or an archive, is taken as a path.
    """
    wanted = DEFAULT_NAME if name_or_path is None else os.fspath(name_or_path)
    known = installed()
    if models_dir is not None:
        known += bundles_in(Path(models_dir))
    if isinstance(name_or_path, (str, type(None))):
        for path in known:
            if name_of(path) == wanted:
                return path
    if name_or_path is not None and "\0" not in wanted and _is_bundle(Path(wanted)):
        return Path(wanted)
    names = ", ".join(sorted({name_of(path) for path in known})) or "none"
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


def slow_ones(graphs: Mapping[str, GraphSpec]) -> list[str]:
    """The precisions that gained nothing where they were made; see `choose_precision`."""
    return [precision for precision, graph in graphs.items() if graph.is_slow]


def pick_graph(graphs: dict[str, GraphSpec], precision: str) -> GraphSpec:
    """The graph of a precision asked for by name; NotFoundError says which there are."""
    if precision not in graphs:
        raise NotFoundError(
            f"precision {precision!r} is not in this bundle; it holds {', '.join(sorted(graphs))}"
        )
    return graphs[precision]


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


def _is_bundle(path: Path) -> bool:
    is_archive = path.suffix == archives.SUFFIX and path.is_file()
    return is_archive or (path / MANIFEST_NAME).is_file()


def bundles_in(root: Path) -> list[Path]:
    """The bundles in a folder, by name; what is hidden is being made, or was left by a kill."""
    try:
        return sorted(p for p in root.iterdir() if not p.name.startswith(".") and _is_bundle(p))
    except OSError as error:
        raise NotFoundError(f"models directory {str(root)!r} can't be read: {error}") from error
