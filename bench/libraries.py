"""Libraries of vector search in this process: hnswlib, faiss, usearch, scalable-vs.

In:  a folder made by vectors.py; a folder of their own.
Out: the ten best rows.
Knows nothing about keys, metadata or clap-engine.

Each gets what favours it: both cores to build, no keys or metadata, no durability, and the
settings that its own documentation or anchors name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from clap_engine.arrays import Float32
from clap_engine.index.vectors import widen
from contender import BUILD_THREADS, Contender, K, Knob
from vectors import Vectors


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
