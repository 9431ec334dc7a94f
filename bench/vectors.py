"""Vectors and queries for the benchmarks of search at scale: real embeddings, and more like them.

In:  the bundle; a rendered corpus, or the samples that ship; how many rows.
Out: a folder of vectors, queries and exact answers, none of which is committed.
Knows nothing about what searches them.

    python bench/vectors.py --rows 1000000 --out vectors [--corpus CORPUS]

The first rows are embeddings of real sounds by the bundle's own graph: clips of the corpus'
training split, or, without a corpus, mixtures of the samples (two windows each, moved in time and
pitch). The rest is grown from them (growth.py). Queries are captions through the text tower; the
answers are exact, on the stored float16. Whatever is there already is kept, so that a run that
was stopped goes on; `facts.json` says how the folder was made.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import gallery
import growth
import wording
from clap_engine import bundle as bundles
from clap_engine.arrays import Float16, Float32, Int64
from clap_engine.engine import Engine
from clap_engine.index.vectors import pack, widen
from clap_engine.loading import load
from clap_engine.session import GraphSession

ROOT = Path(__file__).resolve().parents[1]
BUNDLE, SAMPLES = ROOT / "models" / "clap-mini", ROOT / "samples"
SIZES = (10_000, 100_000, 1_000_000)
SEEDS = {"corpus": 24_576, "samples": 6_000}
# Captions to search by, and others to tune by.
QUERIES, TUNING = 1000, 300
CHUNK = 10_000
ROWS, CLASSES, FACTS = "rows.f16", "classes.i16", "facts.json"
# Scores of equal rows differ in their last bits from one product to another.
TOLERANCE = 2e-6


@dataclass(frozen=True)
class Vectors:
    """A folder of vectors, its first `count` rows."""

    folder: Path
    count: int

    @property
    def rows(self) -> Float16:
        """[N, D], mapped."""
        found = np.memmap(self.folder / ROWS, np.float16, "r").reshape(-1, 512)
        if len(found) < self.count:
            raise FileNotFoundError(
                f"{self.folder} holds {len(found)} rows where {self.count} are wanted; "
                f"run: python bench/vectors.py --rows {self.count} --out {self.folder}"
            )
        return found[: self.count]

    @property
    def queries(self) -> Float32:
        """[QUERIES, D]."""
        return np.load(self.folder / "queries.npy")

    @property
    def tuning(self) -> Float32:
        """[TUNING, D], none of them among the queries."""
        return np.load(self.folder / "tuning.npy")

    @property
    def facts(self) -> dict[str, Any]:
        """How the folder was made."""
        found: dict[str, Any] = json.loads((self.folder / FACTS).read_text())
        return found

    def truth(self, mask: npt.NDArray[np.bool_] | None = None, name: str = "all") -> Truth:
        """Exact answers among these rows, or those of `mask`, kept on disk under `name`."""
        path = self.folder / f"truth-{self.count}-{name}.npz"
        if not path.is_file():
            _answer(path, self.rows, self.queries, mask)
        with np.load(path) as kept:
            return Truth(kept["ids"], kept["scores"])


@dataclass(frozen=True)
class Truth:
    """The best rows of each query [Q, 20], best first, and their scores."""

    ids: Int64
    scores: Float32

    def recall(self, query: int, found: list[int], k: int = 10) -> float:
        """Share of the true k that was found; a row that ties with the k-th is as good."""
        scores = self.scores[query]
        right = set(self.ids[query][scores >= scores[k - 1] - TOLERANCE].tolist())
        return min(len(right.intersection(found[:k])), k) / k


def make(
    out: Path, rows: int, corpus: Path | None, seed: int = 0, seeds: int | None = None
) -> dict[str, Any]:
    """Whatever `out` lacks for `rows` rows; what facts.json holds. `seeds`: real ones, at most."""
    out.mkdir(parents=True, exist_ok=True)
    bundle = bundles.open(BUNDLE)
    source = "corpus" if corpus is not None else "samples"
    seeds = seeds or SEEDS[source]
    facts: dict[str, Any] = {
        "bundle": bundle.manifest.id, "revision": bundle.manifest.revision, "seed": seed,
        "source": source, "seeds": seeds, "near": growth.NEAR, "spread": growth.SPREAD,
    }  # fmt: skip
    path = out / FACTS
    known = json.loads(path.read_text()) if path.is_file() else {}
    if known and {name: known.get(name) for name in facts} != facts:
        raise SystemExit(f"{out} was made otherwise ({known}); give another --out")
    path.write_text(json.dumps({**known, **facts}, indent=2))
    with load(BUNDLE, threads=1) as engine:
        _ask(out, engine)
    real, classes = _seeds(out, bundle, corpus, seeds, seed)
    _grow(out, rows, real, classes, seed)
    facts["rows"] = max(rows, known.get("rows", 0))
    facts["made_of"] = (
        f"{len(real)} clips of the training corpus" if corpus is not None
        else f"{len(real)} mixtures of the samples that ship"
    )  # fmt: skip
    if "likeness" not in known:
        found = _compare(real, classes, np.load(out / "queries.npy")[:300], seed)
        facts |= {"likeness": growth.facts(found), "table": growth.table(found)}
    path.write_text(json.dumps({**known, **facts}, indent=2))
    for size in SIZES:
        if size <= rows:
            Vectors(out, size).truth()
    return {**known, **facts}


def _ask(out: Path, engine: Engine) -> None:
    if (out / "tuning.npy").is_file():
        return
    texts = wording.query_texts(QUERIES + TUNING, seed=29)
    found = np.concatenate([engine.embed_text([text]) for text in texts])
    (out / "queries.txt").write_text("\n".join(texts[:QUERIES]))
    np.save(out / "queries.npy", found[:QUERIES])
    np.save(out / "tuning.npy", found[QUERIES:])


def _seeds(
    out: Path, bundle: bundles.Bundle, corpus: Path | None, count: int, seed: int
) -> tuple[Float32, Int64]:
    """Embeddings of real sounds [S, D] in an order of no meaning, and their classes [S]."""
    kept = out / "seeds.npz"
    if not kept.is_file():
        graph = bundle.manifest.audio.graphs["int8"].file
        session = GraphSession(bundle.read(graph), name=graph, threads=1)
        rows, names = [], []
        parts = _samples(bundle, count) if corpus is None else _corpus(corpus, count)
        for number, (log_mels, classes) in enumerate(parts):
            part = out / "seeds" / f"{number:05d}.npy"
            if not part.is_file():
                part.parent.mkdir(exist_ok=True)
                found = [session.run(["embedding"], {"log_mel": one[None]})[0] for one in log_mels]
                np.save(part, np.concatenate(found))
            rows.append(np.load(part))
            names += classes
        session.close()
        order = np.random.default_rng([seed, 17]).permutation(len(names))
        _, classes_ = np.unique(names, return_inverse=True)
        np.savez(kept, rows=np.concatenate(rows)[order], classes=classes_[order].astype(np.int64))
    with np.load(kept) as found:
        return found["rows"], found["classes"]


def _corpus(corpus: Path, left: int) -> Iterator[tuple[Float32, list[str]]]:
    """Log-mels [n, F, M] of the training split, chunk by chunk, and the class of each."""
    from clap_export.corpus import render

    for path in sorted((corpus / "train").glob("*.npz")):
        with np.load(path, allow_pickle=False) as chunk:
            decibels = chunk["log_mel"].astype(np.float32) * np.float32(render.DB_STEP) - 80
            lines = chunk["attributes"].tobytes().decode().split("\n")
        names = [json.loads(line)["class"] for line in lines]
        yield decibels[:left], names[:left]
        left -= len(names)
        if left <= 0:
            return


def _samples(bundle: bundles.Bundle, count: int) -> Iterator[tuple[Float32, list[str]]]:
    """Mixtures [n, F, M] of the samples' windows, and the class of the louder one."""
    from clap_engine import audio
    from clap_engine.limits import DEFAULT_LIMITS
    from clap_engine.mel import LogMel

    spec = bundle.manifest.audio
    mel = LogMel(spec, bundle.read(spec.frontend))
    log_mels, names = [], []
    with (SAMPLES / "samples.csv").open() as file:
        for line in csv.DictReader(file):
            for waveforms, _ in audio.windows(SAMPLES / line["file"], spec, DEFAULT_LIMITS):
                log_mels.append(mel(waveforms))
                names += [line["class"]] * len(waveforms)
    windows = np.concatenate(log_mels)
    for start in range(0, count, 500):
        mixed, louder = gallery.mixed(windows, min(500, count - start), start)
        yield mixed, [names[at] for at in louder]


def _grow(out: Path, count: int, seeds: Float32, classes: Int64, seed: int) -> None:
    """rows.f16 and classes.i16 up to `count` rows; the first are the seeds."""
    width = 2 * seeds.shape[1]
    path, labels = out / ROWS, out / CLASSES
    done = min(_whole(path, width), _whole(labels, 2))
    if done >= count:
        return
    near = growth.neighbours(seeds)
    with path.open("ab") as rows_file, labels.open("ab") as labels_file:
        rows_file.truncate(done * width)
        labels_file.truncate(done * 2)
        for start in range(done, count, CHUNK):
            stop = start + CHUNK
            real = seeds[start:stop]
            origins = growth.origins(
                len(seeds), max(0, start - len(seeds)), CHUNK - len(real), seed
            ) if len(real) < CHUNK else np.zeros(0, np.int64)  # fmt: skip
            rng = np.random.default_rng([seed, 31, start])
            made = growth.grow(seeds, near, origins, rng)
            labels_file.write(
                np.concatenate([classes[start:stop], classes[origins]]).astype(np.int16).tobytes()
            )
            rows_file.write(pack(np.concatenate([real, made])).tobytes())


def _whole(path: Path, width: int) -> int:
    """Rows in the whole chunks of a file."""
    return path.stat().st_size // (width * CHUNK) * CHUNK if path.is_file() else 0


def _compare(
    seeds: Float32, classes: Int64, texts: Float32, seed: int
) -> dict[str, growth.Likeness]:
    """Real rows against made ones at 10,000, and against few that were grown to many."""
    rng, found = np.random.default_rng([seed, 37]), dict[str, growth.Likeness]()
    size = min(10_000, len(seeds) // 2)
    near = growth.neighbours(seeds[:size])
    origins = growth.origins(size, 0, size, seed)
    made = growth.grow(seeds[:size], near, origins, rng)
    found["real"] = growth.likeness(seeds[:size], classes[:size], texts)
    found["made"] = growth.likeness(made, classes[:size][origins], texts)
    few, many = len(seeds) // 8, len(seeds)
    origins = growth.origins(few, 0, many - few, seed)
    made = growth.grow(seeds[:few], growth.neighbours(seeds[:few]), origins, rng)
    grown = np.concatenate([seeds[:few], made])
    labels = np.concatenate([classes[:few], classes[:few][origins]])
    found["real, all"] = growth.likeness(seeds, classes, texts)
    found["grown from an eighth"] = growth.likeness(grown, labels, texts)
    return found


def _answer(
    path: Path, rows: Float16, queries: Float32, mask: npt.NDArray[np.bool_] | None
) -> None:
    """Write the best twenty of each query."""
    wanted = np.arange(len(rows)) if mask is None else np.flatnonzero(mask)
    ids = np.empty((len(queries), 0), np.int64)
    scores = np.empty((len(queries), 0), np.float32)
    for start in range(0, len(wanted), CHUNK):
        some = wanted[start : start + CHUNK]
        found = queries @ widen(rows[some]).T
        best = np.argpartition(-found, min(20, len(some) - 1), axis=1)[:, :20]
        scores = np.concatenate([scores, np.take_along_axis(found, best, 1)], axis=1)
        ids = np.concatenate([ids, some[best]], axis=1)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :20]
        scores, ids = (np.take_along_axis(array, best, 1) for array in (scores, ids))
    draft = path.with_suffix(".draft.npz")
    np.savez(draft, ids=ids, scores=scores)
    draft.rename(path)


def main() -> None:
    """Make the folder and say how alike real and made rows are."""
    parser = argparse.ArgumentParser(
        description="make vectors and queries for the benchmarks of search at scale"
    )
    parser.add_argument("--rows", type=int, default=100_000, help="vectors, 1 KB each")
    parser.add_argument("--out", type=Path, required=True, help="folder; kept if it is there")
    parser.add_argument("--corpus", type=Path, help="rendered by clap-export corpus; has train/")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    facts = make(arguments.out, arguments.rows, arguments.corpus, arguments.seed)
    print(f"{facts['rows']:,} rows from {facts['made_of']}; revision {facts['revision'][:12]}\n")
    print(facts["table"])


if __name__ == "__main__":
    main()
