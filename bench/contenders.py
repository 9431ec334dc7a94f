"""Whatever searches vectors, behind one small face: clap-engine's plans and its peers.

In:  a folder made by vectors.py; a folder of their own for what they build.
Out: the ten best rows for a query, at each setting that trades recall for time.
Knows nothing about time, recall or processes.

Each peer gets what favours it: both cores to build, vectors without keys or metadata, no
durability, and the settings that its own documentation or anchors name.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from clap_engine.arrays import Float32, l2_normalize
from clap_engine.index.vectors import widen
from vectors import BUNDLE, ROOT, Vectors

K, BUILD_THREADS = 10, 2
BATCH = 1000
YEARS = 100  # one in a hundred clips is of a year

Knob = dict[str, float]


class Contender:
    """One way to search; `build` and `open` may run in different processes."""

    is_kept = True  # whether what was built outlives the process
    knobs: Sequence[Knob] = ({},)

    def __init__(self, vectors: Vectors, folder: Path) -> None:
        self.vectors, self.folder = vectors, folder

    def build(self) -> dict[str, Any]:
        """Make what is searched, in `folder`; facts worth noting."""
        return {}

    def open(self) -> None:
        """Be ready to search, on one thread."""

    def set(self, knob: Knob) -> None:
        """Use this setting from now on."""

    def search(self, query: Float32) -> list[int]:
        """[D] -> the ten best rows, best first."""
        raise NotImplementedError

    def about(self) -> dict[str, Any]:
        """Facts of the last setting: a plan, milliseconds by stage."""
        return {}

    def others(self) -> list[int]:
        """Other processes whose memory is this contender's."""
        return []

    def close(self) -> None:
        """Stop what was started."""


class Exact(Contender):
    """`matrix @ query` and argpartition in float32: what everything is measured by."""

    def open(self) -> None:
        """All rows in memory."""
        self._rows = widen(self.vectors.rows)

    def search(self, query: Float32) -> list[int]:
        """Exact."""
        return _best(self._rows @ query).tolist()


def _best(scores: Float32) -> Any:
    top = np.argpartition(scores, len(scores) - K)[-K:]
    return top[np.argsort(-scores[top])]


class Funnel(Contender):
    """Today's prototypes of music search: whole scans at 128, 256 and 512 dims in Python.

    Each stage keeps 30 % of the rows of the one before.
    """

    _DIMS, _KEPT = (128, 256, 512), 0.3

    def open(self) -> None:
        """A matrix of unit rows for each stage."""
        rows = widen(self.vectors.rows)
        self._stages = [np.ascontiguousarray(l2_normalize(rows[:, :dim])) for dim in self._DIMS]

    def search(self, query: Float32) -> list[int]:
        """Three scans, each of what the one before kept."""
        kept: Any = None
        for dim, rows in zip(self._DIMS, self._stages, strict=True):
            prefix = l2_normalize(query[:dim])
            scores = (rows if kept is None else rows[kept]) @ prefix
            if dim == self._DIMS[-1]:
                return kept[_best(scores)].tolist()  # type: ignore[no-any-return]
            count = max(K, int(self._KEPT * len(scores)))
            top = np.argpartition(scores, len(scores) - count)[-count:]
            kept = top if kept is None else kept[top]
        raise AssertionError


def fill(folder: Path, vectors: Vectors, engine: Any) -> None:
    """A collection of one clip a row, put in batches; a year in the metadata of each."""
    rows = vectors.rows
    with engine.collection(folder, create=True) as collection:
        for start in range(0, len(rows), BATCH):
            collection.put(clips_of(range(start, min(start + BATCH, len(rows))), rows))


def clips_of(numbers: range, rows: Any, first: int = 0) -> list[Any]:
    """Clips of ready vectors; the key of row i is its number."""
    from clap_engine.records import NewClip

    spans = np.array([[0.0, 5.0]])
    return [
        NewClip(
            f"{at:07d}", None, None, None, "", 5.0, json.dumps({"year": year_of(at)}),
            np.ascontiguousarray(rows[at - first : at - first + 1]), spans,
        )
        for at in numbers
    ]  # fmt: skip


def year_of(row: int) -> int:
    """1925 to 2024, without any order."""
    return 1925 + int(row * 2654435761 % 2**32) % YEARS


class Ours(Contender):
    """A collection, searched by vector through the public API.

    `target` is what it is tuned for, None for the default plan; `shortlist` insists on a length.
    """

    def __init__(
        self,
        vectors: Vectors,
        folder: Path,
        target: float | None = None,
        shortlist: int | None = None,
        graph_s: float | None = None,
    ) -> None:
        super().__init__(vectors, folder)
        self._target, self._shortlist, self._graph_s = target, shortlist, graph_s
        self._stages: list[dict[str, float]] = []
        self._last: Any = None

    @property
    def base(self) -> Path:
        """The collection before any tuning, which all rows of clap-engine share."""
        return self.folder.parent / "ours"

    def build(self) -> dict[str, Any]:
        """Fill the shared collection where it is missing, copy it, tune the copy."""
        import clap_engine

        found: dict[str, Any]
        with clap_engine.load(BUNDLE, threads=1) as engine:
            if not self.base.with_suffix(".json").is_file():
                shutil.rmtree(self.base, ignore_errors=True)
                self.base.with_suffix(".json").write_text(json.dumps(self._fill(engine)))
            found = json.loads(self.base.with_suffix(".json").read_text())
            copy(self.base, self.folder)
            if self._target is not None:
                with engine.collection(self.folder) as collection:
                    found |= self._tune(collection)
        return found

    def _fill(self, engine: Any) -> dict[str, Any]:
        start, processor = time.perf_counter(), time.process_time()
        fill(self.base, self.vectors, engine)
        put_s, put_processor_s = time.perf_counter() - start, time.process_time() - processor
        with engine.collection(self.base) as collection:
            collection.rebuild()
        return {
            "put_s": put_s,
            "put_processor_s": put_processor_s,
            "shared_build_s": time.perf_counter() - start,
            "shared_processor_s": time.process_time() - processor,
        }

    def _tune(self, collection: Any) -> dict[str, Any]:
        start, processor = time.perf_counter(), time.process_time()
        options = {} if self._graph_s is None else {"graph_s": self._graph_s}
        report = collection.tune(target=self._target, queries=[*self.vectors.tuning], **options)
        return {
            "tune_s": time.perf_counter() - start,
            "tune_processor_s": time.process_time() - processor,
            "tuning": asdict(report.tuning),
            "is_met": report.is_met,
            "trials": [asdict(trial) for trial in report.trials],
        }

    def open(self) -> None:
        """Open the copy; the engine that it belongs to is open already."""
        self._collection = self._engine.collection(self.folder)

    def warm(self) -> None:
        """The engine, which is no part of the index' memory: with the text tower loaded."""
        import clap_engine

        self._engine = clap_engine.load(BUNDLE, threads=1)
        self._engine.embed_text(["a banjo"])

    def search(self, query: Float32) -> list[int]:
        """With keys, spans and metadata of the hits."""
        self._last = self._collection.search(query, k=K, shortlist=self._shortlist)
        self._stages.append(self._last.timings_ms)
        return [int(hit.key) for hit in self._last.hits]

    def about(self) -> dict[str, Any]:
        """The plan, and the median milliseconds of each stage."""
        names = dict.fromkeys(name for stage in self._stages for name in stage)
        info = self._collection.info() if self.vectors.count <= 100_000 else {}
        return {
            "plan": asdict(self._last.plan),
            "stages_ms": {
                name: float(np.median([stage.get(name, 0.0) for stage in self._stages]))
                for name in names
            },
            "index": {name: info[name] for name in ("index", "prefix_dim", "tail_rows") if info},
        }

    def close(self) -> None:
        """Close both."""
        self._collection.close()
        self._engine.close()


def copy(base: Path, folder: Path) -> None:
    """A collection of its own: derived files never change, so they are linked, not copied."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(base, folder, copy_function=_link_or_copy)


def _link_or_copy(source: str, target: str) -> None:
    if "generations" in Path(source).parts:
        os.link(source, target)
    else:
        shutil.copy2(source, target)


class HnswFull(Contender):
    """hnswlib over all 512 dims."""

    knobs = tuple({"ef": ef} for ef in (10, 20, 40, 80, 160, 320, 640))

    def build(self) -> dict[str, Any]:
        """M and ef_construction as clap-engine's own graph has them."""
        import hnswlib

        index = hnswlib.Index(space="ip", dim=512)
        index.init_index(
            max_elements=self.vectors.count, ef_construction=200, M=16, random_seed=100
        )
        for start in range(0, self.vectors.count, 50_000):
            some = widen(self.vectors.rows[start : start + 50_000])
            index.add_items(some, np.arange(start, start + len(some)), num_threads=BUILD_THREADS)
        self.folder.mkdir(parents=True, exist_ok=True)
        index.save_index(str(self.folder / "index"))
        return {"M": 16, "ef_construction": 200}

    def open(self) -> None:
        """Load."""
        import hnswlib

        self._index = hnswlib.Index(space="ip", dim=512)
        self._index.load_index(str(self.folder / "index"))

    def set(self, knob: Knob) -> None:
        """ef."""
        self._index.set_ef(int(knob["ef"]))

    def search(self, query: Float32) -> list[int]:
        """One thread."""
        labels, _ = self._index.knn_query(query[None], k=K, num_threads=1)
        return labels[0].tolist()  # type: ignore[no-any-return]


class Faiss(Contender):
    """An index of faiss by its factory's string."""

    def __init__(self, vectors: Vectors, folder: Path, kind: str) -> None:
        super().__init__(vectors, folder)
        self._kind = kind
        lists = {10_000: 128, 100_000: 1024}.get(vectors.count, 2048)
        self._lists = lists if vectors.count >= 10_000 else 32
        if kind == "hnsw":
            self.knobs = tuple({"ef": ef} for ef in (10, 20, 40, 80, 160, 320, 640))
        elif kind == "ivf":
            self.knobs = tuple(
                {"nprobe": probes, "k_factor": 4}
                for probes in (1, 2, 4, 8, 16, 32, 64, 128)
                if probes <= self._lists // 2
            )

    def build(self) -> dict[str, Any]:
        """Trained on at most 100 rows a list, filled in blocks."""
        import faiss

        faiss.omp_set_num_threads(BUILD_THREADS)
        factory = {
            "flat": "Flat", "hnsw": "HNSW16", "ivf": f"IVF{self._lists},SQ8,Refine(SQfp16)",
        }[self._kind]  # fmt: skip
        index = faiss.index_factory(512, factory, faiss.METRIC_INNER_PRODUCT)
        if self._kind == "hnsw":
            index.hnsw.efConstruction = 200
        if self._kind == "ivf":
            rng = np.random.default_rng(0)
            count = min(self.vectors.count, 100 * self._lists)
            drawn = np.sort(rng.choice(self.vectors.count, count, replace=False))
            index.train(widen(self.vectors.rows[drawn]))
        for start in range(0, self.vectors.count, 50_000):
            index.add(widen(self.vectors.rows[start : start + 50_000]))
        self.folder.mkdir(parents=True, exist_ok=True)
        faiss.write_index(index, str(self.folder / "index"))
        return {"factory": factory}

    def open(self) -> None:
        """Load."""
        import faiss

        faiss.omp_set_num_threads(1)
        self._faiss = faiss
        self._index = faiss.read_index(str(self.folder / "index"))
        self._options: Any = None

    def set(self, knob: Knob) -> None:
        """ef, or how many lists and how many rows are scored again for each hit."""
        if self._kind == "hnsw":
            self._options = self._faiss.SearchParametersHNSW(efSearch=int(knob["ef"]))
        elif self._kind == "ivf":
            lists = self._faiss.SearchParametersIVF(nprobe=int(knob["nprobe"]))
            self._options = self._faiss.IndexRefineSearchParameters(
                k_factor=knob["k_factor"], base_index_params=lists
            )

    def search(self, query: Float32) -> list[int]:
        """One thread."""
        _, labels = self._index.search(query[None], K, params=self._options)
        return labels[0].tolist()  # type: ignore[no-any-return]


class Usearch(Contender):
    """usearch over 512 dims in half precision or int8."""

    knobs = tuple({"expansion": size} for size in (10, 20, 40, 80, 160, 320, 640, 1280))

    def __init__(self, vectors: Vectors, folder: Path, dtype: str) -> None:
        super().__init__(vectors, folder)
        self._dtype = dtype

    def _new(self) -> Any:
        from usearch.index import Index

        # int8 is quantised for cosines alone.
        metric = "cos" if self._dtype == "i8" else "ip"
        return Index(
            ndim=512, metric=metric, dtype=self._dtype, connectivity=16, expansion_add=200
        )  # fmt: skip

    def build(self) -> dict[str, Any]:
        """The same M and ef_construction as the others."""
        index = self._new()
        for start in range(0, self.vectors.count, 50_000):
            some = widen(self.vectors.rows[start : start + 50_000])
            index.add(np.arange(start, start + len(some)), some, threads=BUILD_THREADS)
        self.folder.mkdir(parents=True, exist_ok=True)
        index.save(str(self.folder / "index"))
        return {"connectivity": 16, "expansion_add": 200}

    def open(self) -> None:
        """Load."""
        self._index = self._new()
        self._index.load(str(self.folder / "index"))

    def set(self, knob: Knob) -> None:
        """The expansion factor."""
        self._index.expansion_search = int(knob["expansion"])

    def search(self, query: Float32) -> list[int]:
        """One thread."""
        return self._index.search(query, K, threads=1).keys.tolist()  # type: ignore[no-any-return]


class Svs(Contender):
    """Intel's scalable-vs: a Vamana graph over LVQ4x8."""

    knobs = tuple({"window": size} for size in (10, 15, 20, 30, 45, 70, 100, 150, 250))

    def build(self) -> dict[str, Any]:
        """Degree 64, window 128, as Intel's own benchmarks set them."""
        import svs

        self.folder.mkdir(parents=True, exist_ok=True)
        raw = self.folder / "rows.fvecs"
        with raw.open("wb") as file:
            for start in range(0, self.vectors.count, 50_000):
                some = widen(self.vectors.rows[start : start + 50_000])
                lined = np.empty((len(some), 513), np.float32)
                lined[:, 0] = np.array([512], np.int32).view(np.float32)
                lined[:, 1:] = some
                file.write(lined.tobytes())
        loader = svs.VectorDataLoader(str(raw), svs.DataType.float32, dims=512)
        parameters = svs.VamanaBuildParameters(
            alpha=0.95, graph_max_degree=64, window_size=128, max_candidate_pool_size=750
        )
        packed = svs.LVQLoader(loader, primary=4, residual=8, padding=32)
        index = svs.Vamana.build(
            parameters, packed, svs.DistanceType.MIP, num_threads=BUILD_THREADS
        )
        raw.unlink()
        index.save(*(str(self.folder / name) for name in ("config", "graph", "data")))
        return {"graph_max_degree": 64, "window_size": 128, "alpha": 0.95}

    def open(self) -> None:
        """Load."""
        import svs

        self._index = svs.Vamana(
            str(self.folder / "config"),
            svs.GraphLoader(str(self.folder / "graph")),
            svs.LVQLoader(str(self.folder / "data"), padding=32),
            distance=svs.DistanceType.MIP,
            num_threads=1,
        )

    def set(self, knob: Knob) -> None:
        """The search window."""
        self._index.search_window_size = int(knob["window"])

    def search(self, query: Float32) -> list[int]:
        """One thread."""
        labels, _ = self._index.search(query[None], K)
        return labels[0].tolist()  # type: ignore[no-any-return]


class Backend(Contender):
    """An engine behind clap-engine's own backends: shortlist by 32 dims there, rescored there."""

    knobs = tuple({"shortlist": length} for length in (50, 100, 200, 500, 1000, 2000, 4000))

    def build(self) -> dict[str, Any]:
        """Store everything, in batches."""
        self._open(create=True)
        self._store()
        self._prepare()
        return {"M": 16, "ef_construction": 100}

    def set(self, knob: Knob) -> None:
        """The length of the shortlist."""
        self._length = int(knob["shortlist"])

    def search(self, query: Float32) -> list[int]:
        """With keys and metadata of the hits."""
        prefix = l2_normalize(query[:32])
        hits = self._backend.search(prefix, query, K, shortlist=self._length)
        return [int(hit.key) for hit in hits]

    def _url(self) -> str:
        raise NotImplementedError

    def _open(self, *, create: bool = False) -> None:
        from clap_engine.backends import Space, open_backend

        self._backend: Any = open_backend(
            self._url(), space=Space("b" * 64, 512, "scale"), create=create
        )

    def _store(self) -> None:
        from clap_engine.backends import clips_of as rows_of

        for start in range(0, self.vectors.count, BATCH):
            some = widen(self.vectors.rows[start : start + BATCH])
            keys = [f"{start + at:07d}" for at in range(len(some))]
            facts = [{"year": year_of(start + at)} for at in range(len(some))]
            self._backend.upsert(rows_of(keys, some, facts))

    def _prepare(self) -> None:
        """Index what waits for it."""

    def close(self) -> None:
        """Close."""
        self._backend.close()


class QdrantEdge(Backend):
    """Qdrant's shard in process."""

    def _url(self) -> str:
        return f"qdrant+edge:{self.folder}"

    def build(self) -> dict[str, Any]:
        """And close it, so that another process may open it."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        found = super().build()
        self._backend.close()
        return found

    def _prepare(self) -> None:
        self._backend.optimize()

    def open(self) -> None:
        """Load."""
        self._open()


class PgVector(Backend):
    """PostgreSQL with pgvector, a server of its own; it ends with the process that built it."""

    is_kept = False
    knobs = tuple({"shortlist": length} for length in (50, 100, 200, 500, 1000, 2000))

    def build(self) -> dict[str, Any]:
        """Load first, then build the graph, with memory for it: faster than row by row."""
        sys.path.append(str(ROOT / "tests"))
        import postgres_server
        import psycopg

        self._stack = ExitStack()
        self._place = self._stack.enter_context(postgres_server.running())
        self._open(create=True)
        with psycopg.connect(self._place, autocommit=True) as db:
            named = """SELECT i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid)
                FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
                JOIN pg_am am ON am.oid = c.relam WHERE am.amname = 'hnsw'"""
            [(name, definition)] = db.execute(named).fetchall()
            db.execute(f"DROP INDEX {name}")
            self._store()
            db.execute("SET maintenance_work_mem = '2GB'")
            db.execute(f"SET max_parallel_maintenance_workers = {BUILD_THREADS - 1}")
            db.execute(definition)
        self._backend.analyze()
        return {"M": 16, "ef_construction": 64, "sizes": self._backend.sizes()}

    def _url(self) -> str:
        return self._place

    def others(self) -> list[int]:
        """The server's processes."""
        home = self._place.rpartition("host=")[2]
        first = int((Path(home) / "data" / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        return [first, *map(int, children)]

    def disk(self) -> int:
        """Bytes of rows, graph and keys."""
        return int(sum(self._backend.sizes().values()))

    def close(self) -> None:
        """Stop the server."""
        super().close()
        self._stack.close()


Make = Callable[[Vectors, Path], Contender]

# In the order in which a campaign measures them.
CONTENDERS: dict[str, Make] = {
    "exact": Exact,
    "ours-default": Ours,
    "ours-fixed": lambda vectors, folder: Ours(vectors, folder, shortlist=1000),
    "ours-95": lambda vectors, folder: Ours(vectors, folder, target=0.95),
    "ours-98": lambda vectors, folder: Ours(vectors, folder, target=0.98),
    "ours-985": lambda vectors, folder: Ours(vectors, folder, target=0.985),
    "ours-99": lambda vectors, folder: Ours(vectors, folder, target=0.99),
    "funnel": Funnel,
    "faiss-flat": lambda vectors, folder: Faiss(vectors, folder, "flat"),
    "faiss-ivf-sq8": lambda vectors, folder: Faiss(vectors, folder, "ivf"),
    "svs-lvq4x8": Svs,
    "usearch-f16": lambda vectors, folder: Usearch(vectors, folder, "f16"),
    "usearch-i8": lambda vectors, folder: Usearch(vectors, folder, "i8"),
    "hnswlib-512": HnswFull,
    "faiss-hnsw": lambda vectors, folder: Faiss(vectors, folder, "hnsw"),
    "qdrant-edge": QdrantEdge,
    "pgvector": PgVector,
}
