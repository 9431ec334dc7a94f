"""How soon an answer begins, beside a plain search for the same words.

In:  10,000 windows; questions in words, with and without something that must not be heard.
Out: milliseconds to the first sentence; that it is the right one; all in the benchmark's record.
Knows nothing about how good answers are.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import gallery
import wording
from clap_engine.answers.answer import Said
from clap_engine.answers.plan import DEFAULT_K
from clap_engine.answers.prose import Sentence
from clap_engine.collection import Collection
from clap_engine.engine import Engine
from race import check_goal, milliseconds, note, race
from subject import Subject

ROWS = 10_000
# First words may take 1.5 times what a search takes, so its share must be this at least.
SHARE = 1 / 1.5
UNWANTED = ("drums", "vocals", "speech", "rain", "a dog barking")


@pytest.fixture(scope="module")
def sounds(
    engine: Engine, subject: Subject, corpus: Path | None, smoke: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Collection]:  # fmt: skip
    """10,000 windows, a clip each: the bundle's own embeddings, and mixtures of them."""
    rows, _ = gallery.embeddings(subject, corpus, 1_500)
    rows = rows if smoke else gallery.spread(rows, ROWS)
    folder = tmp_path_factory.mktemp("answer") / "s.clap"
    gallery.fill(folder, engine, rows)
    with engine.collection(folder) as collection:
        yield collection


@pytest.mark.parametrize("without", [False, True])
def test_first_words(
    benchmark: Any,
    engine: Engine,
    sounds: Collection,
    subject: Subject,
    smoke: bool,
    without: bool,
) -> None:
    """Law: the first sentence names the hit that the search finds first; no text comes twice."""
    rounds = 20 if smoke else 300
    plain = [f"{text}, take {n}" for n, text in enumerate(wording.query_texts(2 * rounds + 60))]
    asked = [
        f"{text} without {UNWANTED[n % len(UNWANTED)]}" if without else text
        for n, text in enumerate(plain)
    ]
    turn = {"ours": 0, "peer": 0}

    def fresh(side: str) -> str:
        """Each side has its own texts, which no cache of texts knows."""
        turn[side] += 1
        return asked[2 * turn[side] + (side == "peer")]

    def first_words(_: int) -> Sentence:
        stream = sounds.answer_stream(fresh("ours"))
        return next(event.sentence for event in stream if isinstance(event, Said))

    result = race(
        benchmark,
        first_words,
        lambda _: sounds.search(fresh("peer"), k=DEFAULT_K),
        [0],
        rounds=rounds // 2,
    )
    assert result.peer.hits
    for question in plain[:10]:
        found = sounds.answer(question)
        best = sounds.search(found.plan.query, k=1).hits[0]
        assert (found.citations[0].key, found.citations[0].score) == (best.key, best.score)
        assert best.key in found.sentences[0].text
    what = "a question with something unwanted" if without else "a question"
    note(
        benchmark,
        f"first words of an answer to {what}, {len(sounds):,} clips",
        "a search for the same words",
        milliseconds(result.ours_s),
        milliseconds(result.peer_s),
        result.ratio,
        goal=None if without else SHARE,
        subject=subject.name,
    )
    if not without:
        check_goal(result.ratio, SHARE, smoke)
