"""Laws of initializers: the same graph, its large constants beside it; damage is left to others."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clap_engine import bundle, initializers
from clap_engine.errors import GraphError
from clap_engine.session import GraphSession

SHIPPED = bundle.open(bundle.find())
GRAPHS = sorted(
    spec.file
    for graphs in (SHIPPED.manifest.text.graphs, SHIPPED.manifest.audio.graphs)
    for spec in graphs.values()
)


def some_inputs(name: str) -> dict[str, np.ndarray[Any, Any]]:
    if name.startswith("text"):
        ids = np.array([[101, 2000, 3000, 102]], np.int64)
        return {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    spec = SHIPPED.manifest.audio
    shape = (1, spec.n_frames, spec.n_mels)
    return {"log_mel": np.random.default_rng(0).uniform(-80, 0, shape).astype(np.float32)}


@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_computes_the_same_to_the_bit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = SHIPPED.read(name)
    _, constants = initializers.taken_out(data)
    assert sum(array.nbytes for array in constants.values()) > len(data) / 2
    assert all(array.nbytes >= initializers.LEAST_BYTES for array in constants.values())
    beside = GraphSession(data, name=name)
    monkeypatch.setattr(initializers, "taken_out", lambda model: (bytes(model), {}))
    inside = GraphSession(data, name=name)
    inputs = some_inputs(name)
    (found,), (due,) = (session.run(["embedding"], inputs) for session in (beside, inside))
    np.testing.assert_array_equal(found, due)


class Bytes(bytearray):
    """Bytes that can be watched."""


def loaded(monkeypatch: pytest.MonkeyPatch, release: str) -> tuple[GraphSession, Any]:
    """A session as this release of onnxruntime would make it, and a watch on its bytes."""
    monkeypatch.setattr(onnxruntime, "__version__", release)
    data = Bytes(SHIPPED.read(SHIPPED.manifest.text.graphs["int8"].file))
    return GraphSession(memoryview(data), name="text"), weakref.ref(data)


def test_the_graphs_bytes_are_let_go_once_they_were_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    session, seen = loaded(monkeypatch, "1.30.2")
    gc.collect()
    assert seen() is None
    assert session.run(["embedding"], some_inputs("text"))[0].shape == (1, 512)


def test_the_graphs_bytes_stay_while_a_session_looks_into_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also for a call that is under way when it is closed; the two ways agree to the bit."""
    session, seen = loaded(monkeypatch, "1.31.0")
    running = session._session
    (found,) = session.run(["embedding"], some_inputs("text"))
    session.close()
    gc.collect()
    assert seen() is not None
    del running
    gc.collect()
    assert seen() is None
    (due,) = loaded(monkeypatch, "1.22")[0].run(["embedding"], some_inputs("text"))
    np.testing.assert_array_equal(found, due)


@pytest.mark.parametrize("end", [0, 1, 7, 100, 5000, -1])
def test_a_graph_cut_off_is_left_to_the_library(end: int) -> None:
    data = SHIPPED.read(GRAPHS[0])[:end]
    assert initializers.taken_out(data) == (data, {})
    with pytest.raises(GraphError, match="cut can't be loaded"):
        GraphSession(data, name="cut")


@given(st.binary(max_size=200))
@settings(deadline=None, max_examples=300)
def test_any_bytes_are_read_without_harm(data: bytes) -> None:
    """Too short for a constant of the least size: what comes back is the same message."""
    model, constants = initializers.taken_out(data)
    assert not constants
    assert len(model) <= len(data)  # lengths may be written in fewer bytes than were read


@given(st.integers(0, 1 << 16), st.integers(0, 255))
@settings(deadline=None, max_examples=60)
def test_constants_are_views_within_the_bytes_whatever_the_head_says(at: int, value: int) -> None:
    data = bytearray(SHIPPED.read(GRAPHS[0]))
    data[at] = value
    model, constants = initializers.taken_out(bytes(data))
    held = sum(array.nbytes for array in constants.values())
    assert held + len(model) <= len(data) + 100 * (1 + len(constants))
