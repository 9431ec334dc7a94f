"""Clips of many windows, found by windows, by clips, or by clips first: recall, memory, time.

In:  a folder that vectors.py made, whose first rows are the centres of clips; a scratch folder.
Out: one JSON line a granularity and plan; what within-clip spread that was measured with.
Knows nothing about other search engines.

    python bench/granularity.py spread
    nice python bench/granularity.py make --vectors DIR --work W
    python bench/granularity.py measure --vectors DIR --work W
    python bench/granularity.py smoke

A clip is WINDOWS windows about its centre: three sections, each moved its own way, and each window
moved once more; the directions are differences of real embeddings. How far is measured on pieces
that the corpus' own generator plays for 150 s (`spread`). Those keep one tempo, key and set of
instruments, which recorded music does not: by default clips are VARIED times as wide. Only the
first rows of a folder of vectors are used, and its queries: captions through the text tower.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

import machine
from clap_engine import loading, planner
from clap_engine.arrays import Float16, Float32, l2_normalize
from clap_engine.collection import Collection
from clap_engine.index import coarse
from clap_engine.index.vectors import pack, widen
from clap_engine.records import GRANULARITIES, NewClip

WINDOWS, SECTIONS, WINDOW_S = 30, 3, 5.0
# How far a window is from its clip's mean, for a clip in the middle, and the spread of its
# logarithm over clips: what `spread` measures.
FAR, FAR_SPREAD = 0.14, 0.77
VARIED = 3.0
K = 10
_CLIPS_AT_ONCE = 500


def main() -> None:
    """Run one part."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=("spread", "make", "measure", "ask", "smoke"))
    parser.add_argument("--vectors", type=Path)
    parser.add_argument("--work", type=Path, help="where the collections lie")
    parser.add_argument("--clips", type=int, default=30_000)
    parser.add_argument("--varied", type=float, default=VARIED)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--target", type=float, default=0.99)
    parser.add_argument("--graph", action="store_true", help="a graph over windows, too: minutes")
    parser.add_argument("--granularity", nargs="+", default=list(GRANULARITIES))
    arguments = parser.parse_args()
    {"spread": spread, "make": make, "measure": measure, "ask": ask, "smoke": smoke}[
        arguments.part
    ](arguments)


def windows_of(centres: Float32, rows: Float32, varied: float, seed: int) -> Float32:
    """[C, D] centres, [S, D] real rows -> [C, WINDOWS, D]."""
    rng = np.random.default_rng([seed, 30])
    count, dim = centres.shape

    def moves(each: int) -> Float32:
        a, b = (rows[rng.integers(len(rows), size=count * each)] for _ in range(2))
        return l2_normalize(a - b).reshape(count, each, dim)

    far = varied * np.exp(rng.normal(np.log(FAR), FAR_SPREAD, (count, 1, 1)))
    moved = np.repeat(moves(SECTIONS), WINDOWS // SECTIONS, axis=1) + moves(WINDOWS)
    found: Float32 = l2_normalize(centres[:, None] + (far / np.sqrt(2)).astype(np.float32) * moved)
    return found


def batches(vectors: Path, clips: int, varied: float) -> Iterator[tuple[int, Float32]]:
    """The windows of all clips, _CLIPS_AT_ONCE at a time, with the number of the first."""
    stored = np.memmap(vectors / "rows.f16", np.float16, "r").reshape(-1, 512)
    rows = widen(stored[:clips])
    for start in range(0, clips, _CLIPS_AT_ONCE):
        yield start, windows_of(rows[start : start + _CLIPS_AT_ONCE], rows, varied, start)


def make(arguments: argparse.Namespace) -> None:
    """The collections, of the same clips, and the exact answers over their windows."""
    arguments.work.mkdir(parents=True, exist_ok=True)
    ends = WINDOW_S * np.arange(1, WINDOWS + 1)
    spans = np.stack([ends - WINDOW_S, ends], axis=1)
    if not arguments.graph:
        coarse.is_available = lambda: False
    # One generation at the end, not one for each twentieth that is added.
    planner.TAIL_MIN_ROWS = 1 << 40
    best, likeness = Best(asked(arguments)), []
    with ExitStack() as stack:
        engine = stack.enter_context(loading.load(threads=1))
        opened, stored_s = {}, dict.fromkeys(arguments.granularity, 0.0)
        for name in arguments.granularity:
            sounds = engine.collection(arguments.work / name, create=True, granularity=name)
            opened[name] = stack.enter_context(sounds)
        for start, made in batches(arguments.vectors, arguments.clips, arguments.varied):
            packed = pack(made.reshape(-1, made.shape[-1])).reshape(made.shape)
            clips = [clip_of(start + i, rows, spans) for i, rows in enumerate(packed)]
            for name, sounds in opened.items():
                begun = time.perf_counter()
                sounds.put(clips)
                stored_s[name] += time.perf_counter() - begun
            best.add(start, packed)
            means = l2_normalize(made.mean(axis=1))
            likeness.append(np.einsum("cwd,cd->cw", made, means).mean(axis=1))
        for name, sounds in opened.items():
            begun = time.perf_counter()
            sounds.rebuild()
            built_s = round(time.perf_counter() - begun, 1)
            say(made=name, stored_s=round(stored_s[name], 1), built_s=built_s)
    np.save(arguments.work / "truth.npy", best.clips)
    say(window_to_mean=quantiles(np.concatenate(likeness)))


def clip_of(number: int, packed: Float16, spans: Any) -> NewClip:
    """Clip `number`, named by it."""
    return NewClip(str(number), None, None, None, "", float(spans[-1, 1]), "{}", packed, spans)


class Best:
    """The clips [Q, K] whose best windows are best, by brute force over float16 windows."""

    def __init__(self, queries: Float32) -> None:
        self._queries = queries
        self._scores = np.zeros((len(queries), 0), np.float32)
        self.clips = np.zeros((len(queries), 0), np.int64)

    def add(self, start: int, packed: Float16) -> None:
        """Clips [C, WINDOWS, D], the first of which has the number `start`."""
        rows = widen(packed.reshape(-1, packed.shape[-1]))
        found = (self._queries @ rows.T).reshape(len(self._queries), *packed.shape[:2]).max(axis=2)
        numbers = np.broadcast_to(np.arange(start, start + len(packed)), found.shape)
        scores = np.concatenate([self._scores, found], axis=1)
        clips = np.concatenate([self.clips, numbers], axis=1)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :K]
        self._scores = np.take_along_axis(scores, order, 1)
        self.clips = np.take_along_axis(clips, order, 1)


def asked(arguments: argparse.Namespace) -> Float32:
    """[Q, D]."""
    found: Float32 = np.load(arguments.vectors / "queries.npy")[: arguments.queries]
    return found


def quantiles(cosines: Float32) -> dict[str, float]:
    """The mean over clips, and what a tenth, half and nine tenths of them stay under."""
    names = ("p10", "p50", "p90")
    found = dict(zip(names, np.percentile(cosines, (10, 50, 90)), strict=True))
    return {"mean": round(float(cosines.mean()), 3), **{n: round(v, 3) for n, v in found.items()}}


def measure(arguments: argparse.Namespace) -> None:
    """Ask each collection by its default plan, tune it, and ask again."""
    say(machine=machine.facts())
    if not arguments.graph:
        coarse.is_available = lambda: False  # a graph over 900,000 windows takes five minutes
    for granularity in arguments.granularity:
        folder = arguments.work / granularity
        default = answers(arguments, granularity)
        say(granularity=granularity, plan="default", **default)
        if granularity != "window" and not arguments.graph:
            coarse.is_available = _AVAILABLE
        with loading.load(threads=1) as engine, engine.collection(folder) as sounds:
            begun = time.perf_counter()
            queries = list(np.load(arguments.vectors / "tuning.npy"))
            report = sounds.tune(arguments.target, queries=queries, k=K)
            taken_s = time.perf_counter() - begun
            promised = report.tuning.recall
        tuned = answers(arguments, granularity)
        say(granularity=granularity, plan=f"tuned {arguments.target:g}", promised=promised,
            tune_s=round(taken_s, 1), **tuned)  # fmt: skip


_AVAILABLE = coarse.is_available


def answers(arguments: argparse.Namespace, granularity: str) -> dict[str, Any]:
    """What a fresh process finds in one collection, and what it takes."""
    command = [sys.executable, __file__, "ask", "--granularity", granularity]
    for name in ("vectors", "work", "clips", "queries"):
        command += [f"--{name}", str(getattr(arguments, name))]
    environment = {**os.environ, **dict.fromkeys(machine.THREAD_VARIABLES, "1")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    files = [path for path in (arguments.work / granularity).rglob("*") if path.is_file()]

    def size_mb(*names: str) -> float:
        some = (path.stat().st_size for path in files if not names or path.name in names)
        return round(sum(some) / 1e6, 1)

    derived = [path.name for path in files if path.parent.parent.name == "generations"]
    return {
        **found, "disk_mb": size_mb(), "derived_mb": size_mb(*derived),
        "coarse_mb": size_mb("prefixes.f32", "coarse.hnsw"),
    }  # fmt: skip


def ask(arguments: argparse.Namespace) -> None:
    """In a process of its own: open one collection, search it by vectors."""
    queries, right = asked(arguments), np.load(arguments.work / "truth.npy")
    folder = arguments.work / arguments.granularity[0]
    with loading.load(threads=1) as engine:
        engine.embed_text(["a sound"])
        before = resident()
        begun = time.perf_counter()
        with engine.collection(folder, read_only=True) as sounds:
            opened_s = time.perf_counter() - begun
            found, taken_ms, worked_ms = asked_one_by_one(sounds, queries)
            after = resident()
            plan = sounds.search(queries[0], K).plan
    shares = [len({*some} & {*best.tolist()}) / K for some, best in zip(found, right, strict=True)]
    say(
        recall_at_10=round(float(np.mean(shares)), 4),
        p50_ms=round(float(np.median(taken_ms)), 3),
        p99_ms=round(float(np.percentile(taken_ms, 99)), 3),
        processor_p50_ms=round(float(np.median(worked_ms)), 3),
        opened_s=round(opened_s, 2),
        resident_mb={name: round((after[name] - before[name]) / 1e3, 1) for name in after},
        searched={
            "index": plan.index, "dims": plan.dims, "shortlist": plan.shortlist,
            "kept": plan.kept, "counts": plan.counts, "of": plan.rows,
        },
    )  # fmt: skip


def asked_one_by_one(
    sounds: Collection, queries: Float32
) -> tuple[list[list[int]], list[float], list[float]]:
    """The clips found for each query, its milliseconds, and those of the processor."""
    for query in queries[:10]:
        sounds.search(query, K)
    found, taken_ms, worked_ms = [], [], []
    for query in queries:
        begun, worked = time.perf_counter(), time.thread_time()
        hits = sounds.search(query, K).hits
        taken_ms.append(1e3 * (time.perf_counter() - begun))
        worked_ms.append(1e3 * (time.thread_time() - worked))
        found.append([int(hit.key) for hit in hits])
    return found, taken_ms, worked_ms


def resident() -> dict[str, int]:
    """kB of this process: all that is resident, its own, and pages of files."""
    status = Path("/proc/self/status").read_text().splitlines()
    sizes = {line.split(":")[0]: line.split()[1] for line in status if line.endswith("kB")}
    names = {"all": "VmRSS", "own": "RssAnon", "files": "RssFile"}
    return {name: int(sizes[field]) for name, field in names.items()}


def spread(arguments: argparse.Namespace) -> None:
    """How far windows lie from the mean of their clip, in 40 rendered pieces of 150 s."""
    from clap_export.corpus import genres, music, render
    from clap_export.corpus.classes import CLASSES, INSTRUMENTS
    from clap_export.corpus.draw import Draw
    from clap_export.corpus.synth import TRAINING_FONTS

    seconds, cosines = WINDOWS * WINDOW_S, []
    with loading.load(threads=1) as engine:
        for number in range(40):
            rng = np.random.default_rng([7, number])
            draw = Draw(rng, held_out=False)
            synth = render.synth(draw.choice(TRAINING_FONTS))
            if number % 2:
                name = CLASSES["instrument"][int(rng.integers(len(CLASSES["instrument"])))]
                notes, _ = music.solo(draw, name, seconds)
                wave = synth.render(notes, {0: draw.choice(INSTRUMENTS[name])}, 0, seconds)
            else:
                name = CLASSES["genre"][number // 2 % len(CLASSES["genre"])]
                notes, programs, kit, _ = genres.arrange(draw, name, seconds)
                wave = synth.render(notes, programs, kit, seconds)
            rows, _, _ = engine.embed_windows((np.asarray(wave, np.float32), 32_000))
            mean = l2_normalize(rows.mean(axis=0, keepdims=True))[0]
            cosines.append(float((rows @ mean).mean()))
    found = np.array(cosines, np.float32)
    far = np.log(np.tan(np.arccos(np.minimum(found, 1 - 1e-6))))
    facts = {"far": float(np.exp(np.median(far))), "far_spread": float(far.std())}
    say(pieces=len(found), window_to_mean=quantiles(found), **facts)


def smoke(arguments: argparse.Namespace) -> None:
    """All parts but `spread` on 600 clips of made-up centres."""
    with tempfile.TemporaryDirectory() as folder:
        arguments.vectors, arguments.work = Path(folder) / "vectors", Path(folder) / "work"
        arguments.vectors.mkdir()
        arguments.clips, arguments.queries = 600, 20
        scales = np.arange(1, 513, dtype=np.float32) ** -0.35
        rng = np.random.default_rng(0)
        for name, count in (("rows", 600), ("queries", 20), ("tuning", 30)):
            made = l2_normalize(rng.standard_normal((count, 512)).astype(np.float32) * scales)
            if name == "rows":
                pack(made).tofile(arguments.vectors / "rows.f16")
            else:
                np.save(arguments.vectors / f"{name}.npy", made)
        make(arguments)
        measure(arguments)


def say(**facts: Any) -> None:
    """One JSON line."""
    print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    main()
