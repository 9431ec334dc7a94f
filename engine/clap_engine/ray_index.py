"""A catalogue embedded by many processes or machines: Ray Data over shards of files.

In:  sound files; a bundle; a folder that all workers share; a backend to merge into.
Out: shards, merged; what was added and what failed.
Knows nothing about search; the one module that talks to ray.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, cast

from clap_engine import shards, storage
from clap_engine.arrays import check_array
from clap_engine.backends import BackendError, Space, VectorBackend, is_url, open_backend
from clap_engine.backends.local import LocalBackend
from clap_engine.catalogue import Catalogue
from clap_engine.errors import ClapError, CollectionError, DependencyError
from clap_engine.index.vectors import pack
from clap_engine.ingest import Item, key_of, printable, source_digest
from clap_engine.records import NewClip
from clap_engine.shards import Shard, SoundFile
from clap_engine.states import DATABASE

# A shard is what an interruption can cost a worker: some seconds of work at 10 ms a window.
FILES_PER_SHARD = 64
_STORE_BYTES = 100 << 20  # names go through Ray, not vectors; Ray asks for 75 MB at least

Progress = Callable[[int, str], None]


def index(
    files: Sequence[Path],
    root: Path,
    into: str,
    *,
    workers: int,
    shards_dir: str | None = None,
    bundle: dict[str, Any] | None = None,
    progress: Progress = lambda done, key: None,
    files_per_shard: int = FILES_PER_SHARD,
) -> dict[str, Any]:
    """Embed what is new among `files` by `workers` processes, and merge it into `into`.

    `bundle` are the arguments of clap_engine.load(). Shards that an earlier run finished are not
    made again. With a path for `into` they lie beside it, and are removed once merged.
    """
    from clap_engine import loading

    if shards_dir is None and is_url(into):
        raise CollectionError(f"{into.split(':')[0]}: needs a folder for shards; give --shards DIR")
    folder = Path(shards_dir or f"{into.rstrip('/')}.shards")
    start = time.monotonic()
    with loading.load(**(bundle or {})) as engine:
        space = Space.of(engine)
    failed: list[tuple[str, str]] = []
    listed = _listed(files, root, failed)
    with closing(open_backend(into, space=space, create=True)) as backend:
        new = _not_stored(listed, backend)
        done = shards.embedded(folder, space)
        todo = [file for file in new if file not in done]
        groups = [
            todo[at : at + files_per_shard] for at in range(0, len(todo), files_per_shard)
        ]  # fmt: skip
        if groups:
            failed += _embed(groups, folder, space, workers, bundle or {}, progress)
            done = shards.embedded(folder, space)
        chosen = sorted({done[file] for file in new if file in done})
        stored = shards.merge(folder, chosen, new, backend)
        clips = backend.count()
    if shards_dir is None:
        storage.remove_tree(folder)
    return {
        "into": printable(into.split("@")[-1]), "clips": clips, "stored": stored,
        "unchanged": len(listed) - len(new), "resumed": len(new) - len(todo),
        "shards": len(groups), "workers": workers,
        "failed": [{"key": key, "error": error} for key, error in failed],
        "elapsed_s": round(time.monotonic() - start, 3),
    }  # fmt: skip


def _listed(files: Iterable[Path], root: Path, failed: list[tuple[str, str]]) -> list[SoundFile]:
    found = []
    for path in files:
        try:
            key = key_of(Item(path, None, None), root)
            found.append(
                SoundFile(key, printable(os.path.abspath(path)), *storage.file_facts(path))
            )
        except ClapError as error:
            failed.append((printable(os.fspath(path)), str(error)))
    return found


def _not_stored(files: list[SoundFile], backend: VectorBackend) -> list[SoundFile]:
    """The files whose very clips a collection doesn't hold; other engines keep no such facts."""
    if not isinstance(backend, LocalBackend):
        return files
    with closing(Catalogue(backend.collection.path / DATABASE, read_only=True)) as reader:
        known = {
            record.key: record for record in map(reader.find, (f.key for f in files)) if record
        }
    return [
        file
        for file in files
        if (record := known.get(file.key)) is None
        or (record.size, record.mtime_ns) != (file.size, file.mtime_ns)
    ]


def _embed(
    groups: Sequence[Sequence[SoundFile]],
    folder: Path,
    space: Space,
    workers: int,
    bundle: dict[str, Any],
    progress: Progress,
) -> list[tuple[str, str]]:
    """Make a shard of each group; (key, error) of the files that could not be read."""
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise DependencyError(
            "ray is not installed; run: pip install 'clap-engine[ray]'"
        ) from error
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    is_ours = not ray.is_initialized()
    if is_ours:
        cluster: dict[str, Any] = {"num_cpus": workers, "object_store_memory": _STORE_BYTES}
        if "RAY_ADDRESS" in os.environ:
            cluster = {}  # a cluster that is there brings its own resources
        paths = os.pathsep.join(entry for entry in sys.path if entry)
        try:
            ray.init(
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env={"env_vars": {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}},
                **cluster,
            )
        except Exception as error:  # it raises bare ones where its processes don't start in time
            raise BackendError(
                f"Ray did not start: {error}; try again, or fewer workers"
            ) from error
    failed: list[tuple[str, str]] = []
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False
        items = [
            {"name": shards.name_of(space, group), "files": [vars(file) for file in group]}
            for group in groups
        ]
        made = ray.data.from_items(items, override_num_blocks=len(items)).map(
            # Ray calls what it makes of a class; its types say function.
            cast(Any, Worker),
            fn_constructor_args=(str(folder.absolute()), bundle),
            compute=ray.data.ActorPoolStrategy(size=min(workers, len(items))),
            num_cpus=1,
        )
        finished = 0
        for row in made.iter_rows():
            for key in row["keys"]:
                finished += 1
                progress(finished, str(key))
            failed += [(str(key), str(error)) for key, error in row["failed"]]
    except ray.exceptions.RayError as error:
        raise BackendError(f"Ray: {error}; finished shards are kept, run it again") from error
    finally:
        if is_ours:
            ray.shutdown()
    return failed


class Worker:
    """One process's engine: it makes shards, one at a time."""

    def __init__(self, folder: str, bundle: dict[str, Any]) -> None:
        from clap_engine import loading

        self._folder = Path(folder)
        self._engine = loading.load(**{"threads": 1, **bundle})

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """The files of one group -> a shard on disk; names and errors go back."""
        clips, failed = [], []
        for facts in row["files"]:
            file = SoundFile(**facts)
            try:
                clips.append(self._embedded(file))
            except DependencyError:  # so would every other file
                raise
            except (ClapError, OSError) as error:
                failed.append((file.key, str(error)))
        shard = Shard(tuple(clips), tuple(failed))
        shards.write(self._folder, row["name"], Space.of(self._engine), shard)
        keys = [facts["key"] for facts in row["files"]]
        return {"name": row["name"], "keys": keys, "failed": [list(pair) for pair in failed]}

    def _embedded(self, file: SoundFile) -> NewClip:
        # Before embedding: if the file changes meanwhile, the next run sees other facts.
        size, mtime_ns = storage.file_facts(file.path)
        digest = source_digest(file.path)
        rows, spans, duration_s = self._engine.embed_windows(file.path)
        vectors = check_array(rows, shape=(None, self._engine.dim), name="vectors")
        return NewClip(
            file.key, file.path, size, mtime_ns, digest, duration_s, "{}", pack(vectors), spans
        )
