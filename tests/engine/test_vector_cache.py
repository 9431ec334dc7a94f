"""The cache of texts: bounded, counted, and never the caller's array."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from sounds import noise
from tiny_bundle import RATE_HZ, WINDOW_S, make_bundle

from clap_engine.embedding import CACHED_AT_ONCE
from clap_engine.errors import ClosedError, TextError, TruncationWarning
from clap_engine.loading import load
from clap_engine.vector_cache import CACHED_TEXTS, VectorCache


def test_the_text_asked_for_longest_ago_leaves_first() -> None:
    cache = VectorCache(capacity=3)
    for i, text in enumerate("abc"):
        cache.put(text, np.full(4, i, np.float32))
    assert cache.get("a") is not None  # now "b" is the oldest
    cache.put("d", np.zeros(4, np.float32))
    assert [text for text in "abcd" if cache.get(text) is not None] == ["a", "c", "d"]
    stats = cache.stats()
    assert (stats.entries, stats.hits, stats.misses) == (3, 4, 1)


def test_it_keeps_a_copy_and_gives_copies() -> None:
    cache, row = VectorCache(), np.ones(4, np.float32)
    cache.put("a", row)
    row[:] = 7
    given = cache.known("a")
    assert given is not None
    given[:] = 9
    assert np.array_equal(cache.get("a"), np.ones(4))  # type: ignore[arg-type]
    assert cache.known("b") is None
    assert cache.stats().misses == 0


def test_many_threads() -> None:
    cache = VectorCache(capacity=16)

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for number in rng.integers(0, 40, 2000):
            row = cache.get(str(number))
            if row is None:
                cache.put(str(number), np.full(4, number, np.float32))
            else:
                assert (row == number).all()

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    stats = cache.stats()
    assert stats.entries == 16
    assert stats.hits + stats.misses == 8 * 2000


# In an engine


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


def test_what_was_asked_before_is_the_same_to_the_bit_and_ones_own(tiny: Path) -> None:
    with load(tiny, precision="fp32", threads=1) as engine:
        first = engine.embed_text(["a dog", "rain"])
        kept = first.copy()
        first[:] = 0  # a caller may do what it likes with what it was given
        again = engine.embed_text(["rain", "a dog"])
        assert np.array_equal(again, kept[::-1])
        again[:] = 0
        assert np.array_equal(engine.embed_text("a dog"), kept[:1])
        assert np.array_equal(engine.embed_text("a dog", dim=4).shape, (1, 4))
        stats = engine.stats().text_cache
        assert (stats.entries, stats.hits, stats.misses) == (2, 4, 2)


def test_some_known_and_some_new(tiny: Path) -> None:
    texts = ["a dog", "rain", "a slow banjo", "rain on tin"]
    with load(tiny, precision="fp32", threads=1) as plain:
        wanted = [plain.embed_text(text)[0] for text in texts]
    with load(tiny, precision="fp32", threads=1) as engine:
        engine.embed_text(texts[1:3])
        np.testing.assert_allclose(engine.embed_text(texts), wanted, atol=1e-6)
        with pytest.raises(TextError, match="text 2 is empty"):  # its place in the call
            engine.embed_text(["rain", "a dog", " "])


def test_a_catalogue_of_texts_goes_past_it(tiny: Path) -> None:
    with load(tiny, precision="fp32", threads=1) as engine:
        engine.embed_text([f"a dog {i}" for i in range(CACHED_AT_ONCE + 1)])
        assert engine.stats().text_cache.entries == 0


def test_it_holds_so_many_and_no_more(tiny: Path) -> None:
    with load(tiny, precision="fp32", threads=1) as engine:
        for i in range(CACHED_TEXTS + 40):
            engine.embed_text(f"a dog {i}")
        assert engine.stats().text_cache.entries == CACHED_TEXTS == 1024


def test_a_text_that_is_cut_off_warns_each_time(tiny: Path) -> None:
    with load(tiny, precision="fp32", threads=1) as engine:
        longest = engine.bundle.manifest.text.max_tokens
        for _ in range(2):
            with pytest.warns(TruncationWarning):
                engine.embed_text("a dog " * longest)


def test_a_search_by_words_asked_before_runs_no_graph(tiny: Path, tmp_path: Path) -> None:
    with load(tiny, precision="fp32", threads=1) as engine:
        window = round(RATE_HZ * WINDOW_S)
        with engine.collection(tmp_path / "c", create=True) as sounds:
            clips = [(noise(i, window), RATE_HZ) for i in range(5)]
            sounds.add(clips, keys=[f"k{i}" for i in range(5)])
            first = sounds.search("a dog")
            misses = engine.stats().text_cache.misses
            again = sounds.search("a dog")
            assert again.hits == first.hits
            assert again.hits == sounds.search_batch(["a dog"])[0].hits
            assert engine.stats().text_cache.misses == misses
            assert engine.stats().text_cache.hits >= 2
            assert "text" in first.timings_ms
            assert "text" not in again.timings_ms
            engine.close()
            with pytest.raises(ClosedError):
                sounds.search("a dog")
