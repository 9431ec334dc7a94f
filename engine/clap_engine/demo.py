"""The demonstration: the packaged clips, a dozen queries of different kinds, and their answers.

In:  an engine and a place for the collection.
Out: `Answer` records: hits, milliseconds of each stage, whether the best clip is a right one.
Knows nothing about how they are printed.
"""

from __future__ import annotations

import csv
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

from clap_engine.collection import Clip, Collection, SearchResult
from clap_engine.engine import Engine
from clap_engine.errors import IntegrityError, NotFoundError


@dataclass(frozen=True)
class Sample:
    """One packaged clip; `label` is its class in the generator's taxonomy."""

    path: Path
    caption: str
    label: str


@dataclass(frozen=True)
class DemoQuery:
    """A query in words (or the name of an example) and the classes that answer it."""

    kind: str
    text: str
    right: frozenset[str]


def _query(kind: str, text: str, *right: str) -> DemoQuery:
    return DemoQuery(kind, text, frozenset(right))


QUERIES = (
    _query("instrument", "a slow banjo melody", "banjo"),
    _query("instrument", "church organ chords", "church_organ", "church_hymn"),
    _query("drums", "a rock drum beat", "rock_beat"),
    _query("genre", "heavy metal with distorted guitars", "heavy_metal"),
    _query("genre", "a string quartet playing", "string_quartet"),
    _query("effect", "rain falling", "rain"),
    _query("effect", "a police siren", "police_siren", "two_tone_siren"),
    _query("animal", "a dog barking", "dog_bark"),
    _query("speech", "a man talking", "man_speaking"),
    _query("speech", "someone whispering", "whispering"),
    _query("composite", "harpsichord played slowly", "harpsichord"),
    _query("unseen words", "a drizzle", "rain"),
    _query("unseen words", "a canine", "dog_bark"),
)


@dataclass(frozen=True)
class Indexing:
    """What it took to index the clips."""

    clips: int
    audio_s: float
    elapsed_s: float


@dataclass(frozen=True)
class Answer:
    """One query's result; `is_right`: the best clip's class is one of the right ones."""

    query: DemoQuery
    result: SearchResult
    labels: tuple[str, ...]
    is_right: bool


def read_samples() -> list[Sample]:
    """The packaged clips, in the order of their list."""
    folder = Path(str(resources.files("clap_engine.samples")))
    with open(folder / "samples.csv", newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    if not rows:
        raise NotFoundError("no sample clips are installed; run: clap-export corpus samples")
    return [Sample(folder / row["file"], row["caption"], row["class"]) for row in rows]


def index(engine: Engine, sounds: Collection, samples: list[Sample]) -> Indexing:
    """Embed the clips into `sounds`; a text and a clip first, so that loading isn't counted."""
    engine.embed_text(["warm"])
    engine.embed_audio([samples[0].path])
    before_s, start = sounds.info()["duration_s"], time.perf_counter()
    report = sounds.add([s.path for s in samples], keys=[s.path.name for s in samples])
    elapsed_s = time.perf_counter() - start
    if report.failed:
        key, error = report.failed[0]
        raise IntegrityError(f"{len(report.failed)} sample clips failed, {key}: {error}")
    return Indexing(len(samples), sounds.info()["duration_s"] - before_s, elapsed_s)


def answers(sounds: Collection, samples: list[Sample], k: int = 3) -> Iterator[Answer]:
    """The queries in words, then one by example."""
    labels = {sample.path.name: sample.label for sample in samples}
    for query in QUERIES:
        yield _answer(query, sounds.search(query.text, k=k), labels)
    example = _example(samples)
    result = sounds.search(Clip(example.path), k=k + 1)
    others = tuple(hit for hit in result.hits if hit.key != example.path.name)[:k]
    query = _query("by example", example.path.name, example.label)
    yield _answer(query, replace(result, hits=others), labels)


def _example(samples: list[Sample]) -> Sample:
    """The first clip that has another of its class beside it, so that there is a right answer."""
    counts = Counter(sample.label for sample in samples)
    return next((sample for sample in samples if counts[sample.label] > 1), samples[0])


def _answer(query: DemoQuery, result: SearchResult, labels: dict[str, str]) -> Answer:
    found = tuple(labels[hit.key] for hit in result.hits)
    return Answer(query, result, found, bool(found) and found[0] in query.right)
