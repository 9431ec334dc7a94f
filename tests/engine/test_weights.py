"""Laws of weights: what is given back changes no result, or comes back."""

from __future__ import annotations

import mmap
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from clap_engine import bundle, initializers, session, weights
from clap_engine.errors import ClosedError, GraphError, IntegrityError
from clap_engine.session import PRODUCTS, GraphSession

SHIPPED = bundle.open(bundle.find())
TEXT = SHIPPED.manifest.text.graphs["int8"].file
needs_pages = pytest.mark.skipif(
    not hasattr(mmap, "MADV_DONTNEED"), reason="only some systems take memory back"
)


def ids(seed: int) -> dict[str, np.ndarray[Any, Any]]:
    tokens = np.random.default_rng(seed).integers(1000, 9000, (1, 4 + seed % 5))
    return {"input_ids": tokens, "attention_mask": np.ones_like(tokens)}


def owned(again: Callable[[], memoryview] | None = None) -> tuple[GraphSession, memoryview]:
    """A session that may give its bytes back, and these bytes."""
    data = SHIPPED.read_graph(TEXT)
    return GraphSession(data, name=TEXT, again=again or (lambda: SHIPPED.read_graph(TEXT))), data


def is_zero(data: memoryview) -> bool:
    """Is the middle of each weight that products read gone?"""
    spans = initializers.read_by(data, PRODUCTS)
    assert spans
    return all(not any(data[(start + end) // 2 : end - mmap.PAGESIZE][:64]) for start, end in spans)


@needs_pages
def test_results_stay_the_same_to_the_bit_when_weights_are_given_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = GraphSession(SHIPPED.read(TEXT), name=TEXT)
    due = [kept.run(["embedding"], ids(seed))[0] for seed in range(12)]
    monkeypatch.setattr(weights, "LEAST_BYTES", 1)
    graph, data = owned()
    for seed in range(12):
        np.testing.assert_array_equal(graph.run(["embedding"], ids(seed))[0], due[seed])
        assert is_zero(data) == (seed >= 2), seed


@needs_pages
def test_threads_that_come_at_once_see_no_weight_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = GraphSession(SHIPPED.read(TEXT), name=TEXT)
    due = [kept.run(["embedding"], ids(seed))[0] for seed in range(16)]
    monkeypatch.setattr(weights, "LEAST_BYTES", 1)
    graph, data = owned()
    found: dict[int, Any] = {}

    def ask(seed: int) -> None:
        found[seed] = graph.run(["embedding"], ids(seed))[0]

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in range(16):
        np.testing.assert_array_equal(found[seed], due[seed])
    assert is_zero(data)


@needs_pages
def test_weights_that_were_needed_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table of tokens is read for each text: without it the trial must fail, and be undone."""
    kept = GraphSession(SHIPPED.read(TEXT), name=TEXT)
    monkeypatch.setattr(session, "PRODUCTS", PRODUCTS | {"Gather"})
    graph, data = owned()
    whole = bytes(data)
    assert initializers.read_by(data, {"Gather"})
    for seed in range(8):
        (due,) = kept.run(["embedding"], ids(seed))
        np.testing.assert_array_equal(graph.run(["embedding"], ids(seed))[0], due)
    assert bytes(data) == whole


@needs_pages
def test_a_graph_that_cannot_be_made_whole_again_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone() -> memoryview:
        raise IntegrityError("the file changed")

    monkeypatch.setattr(session, "PRODUCTS", PRODUCTS | {"Gather"})
    graph, _ = owned(gone)
    for seed in range(2):
        graph.run(["embedding"], ids(seed))
    with pytest.raises(IntegrityError, match="changed"):
        graph.run(["embedding"], ids(2))
    with pytest.raises(ClosedError):
        graph.run(["embedding"], ids(3))


@needs_pages
def test_a_graph_that_gives_other_results_each_time_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(weights, "LEAST_BYTES", 1)
    data = SHIPPED.read_graph(TEXT)
    held = weights.Weights(data, PRODUCTS, lambda: SHIPPED.read_graph(TEXT))
    rng = np.random.default_rng(0)
    with pytest.raises(GraphError, match="other results"):
        held.give_back([np.zeros(3)], lambda: [rng.random(3)])
    assert bytes(data) == SHIPPED.read(TEXT)


@needs_pages
def test_nan_that_comes_again_is_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the graph refuses it; the graph itself stays usable."""
    monkeypatch.setattr(weights, "LEAST_BYTES", 1)
    data = SHIPPED.read_graph(TEXT)
    held = weights.Weights(data, PRODUCTS, lambda: SHIPPED.read_graph(TEXT))
    result = np.array([1.0, np.nan], np.float32)
    assert held.give_back([result], lambda: [result.copy()]) > 0
    assert is_zero(data)


def test_the_callers_memory_is_never_given_back() -> None:
    data = SHIPPED.read(TEXT)
    held = weights.Weights(memoryview(data), PRODUCTS, lambda: memoryview(data))
    assert held.give_back([], list) == 0
    assert data == SHIPPED.read(TEXT)
    assert initializers.read_by(data[: len(data) // 2], PRODUCTS) == []
