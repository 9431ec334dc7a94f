"""Laws of the OpenVINO session: the same graphs, the same answers, errors of our own type."""

from __future__ import annotations

import builtins
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_bundle import DIM, N_FRAMES, N_MELS, WORDS, make_bundle, make_files, text_graph

from clap_engine import tower
from clap_engine.bundle import Bundle
from clap_engine.encoders import AudioEncoder, TextEncoder
from clap_engine.errors import ClosedError, DependencyError, GraphError, PrecisionWarning
from clap_engine.goldens import golden_waveform
from clap_engine.loading import load
from clap_engine.openvino_session import OpenVinoSession
from clap_engine.placement import OPENVINO, Placement
from clap_engine.session import GraphSession

FILES = make_files()
PLACEMENT = Placement(provider=OPENVINO)
TEXTS = ["a slow banjo melody", "dog barks", "rain on a tin roof", "a fast dog", "tin roof"]


def test_a_missing_package_gives_the_remedy(tiny: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named, it is never replaced in silence by another library."""
    real = builtins.__import__

    def without(name: str, *more: Any, **named: Any) -> Any:
        if name == "openvino":
            raise ImportError("no module of that name")
        return real(name, *more, **named)

    monkeypatch.delitem(sys.modules, "openvino", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(DependencyError, match=r"pip install 'clap-engine\[openvino\]'"):
        OpenVinoSession(FILES["audio.fp32.onnx"], name="a")
    engine = load(tiny.path, provider="openvino", threads=1)
    with pytest.raises(DependencyError, match="openvino"):
        engine.embed_text(["dog barks"])


def test_without_amx_float32_stays_float32(tiny: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    for has_amx, computed in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(tower, "has_amx", lambda has_amx=has_amx: has_amx)
        for kind in (TextEncoder, AudioEncoder):
            assert kind(tiny, placement=PLACEMENT).precision == computed
            assert kind(tiny, placement=PLACEMENT, precision="fp32").precision == "fp32"


def test_int8_alone_is_taken_with_a_warning(bundle: Bundle) -> None:
    assert set(bundle.manifest.text.graphs) == {"int8"}
    with pytest.warns(PrecisionWarning, match="OpenVINO runs fp32 best"):
        assert TextEncoder(bundle, placement=PLACEMENT).precision == "int8"


@pytest.fixture
def openvino() -> Any:
    return pytest.importorskip("openvino")


def log_mel(rows: int, seed: int = 0) -> np.ndarray[Any, Any]:
    shape = (rows, N_FRAMES, N_MELS)
    return np.random.default_rng(seed).uniform(-80, 0, shape).astype(np.float32)


@pytest.mark.parametrize("rows", [1, 2, 7])
def test_it_gives_what_onnxruntime_gives(openvino: Any, rows: int) -> None:
    data, x = FILES["audio.fp32.onnx"], log_mel(rows)
    theirs = GraphSession(data, name="a").run(["frames", "embedding"], {"log_mel": x})
    session = OpenVinoSession(data, name="a", precision="fp32")
    assert session.inputs == ("log_mel",)
    assert session.outputs == ("embedding", "frames")
    assert session.providers == [OPENVINO]
    for ours, wanted in zip(
        session.run(["frames", "embedding"], {"log_mel": x}), theirs, strict=True
    ):
        np.testing.assert_allclose(ours, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("precision", "least"), [("fp32", 0.99999), ("bf16", 0.99)])
def test_both_towers_agree_with_onnxruntime(
    openvino: Any, tiny: Bundle, precision: str, least: float
) -> None:
    spec = tiny.manifest.audio
    sound = np.stack([golden_waveform(i, spec.rate_hz, spec.window_samples) for i in range(5)])
    for kind, items in ((TextEncoder, TEXTS), (AudioEncoder, sound)):
        ours = kind(tiny, precision=precision, placement=PLACEMENT)
        wanted = kind(tiny, precision="fp32").encode(items)
        assert ((ours.encode(items) * wanted).sum(axis=1) >= least).all()
        assert ours.warm() == [OPENVINO]
        ours.close()


@pytest.mark.parametrize("wrong", [len(WORDS), len(WORDS) + 1000, -1])
def test_ids_out_of_range_are_refused(openvino: Any, wrong: int) -> None:
    """OpenVINO would make rows of zeros of them; the last word that there is passes."""
    session = OpenVinoSession(FILES["text.fp32.onnx"], name="t")
    mask = np.ones((1, 3), np.int64)
    ids = np.array([[2, len(WORDS) - 1, 3]])
    session.run(["embedding"], {"input_ids": ids, "attention_mask": mask})
    ids[0, 1] = wrong
    with pytest.raises(GraphError, match=f"input_ids holds .*{len(WORDS)} rows.*tokenizer"):
        session.run(["embedding"], {"input_ids": ids, "attention_mask": mask})


def test_results_and_inputs_are_the_callers(openvino: Any) -> None:
    session = OpenVinoSession(FILES["audio.fp32.onnx"], name="a")
    x = log_mel(1)
    before = x.copy()
    (first,) = session.run(["embedding"], {"log_mel": x})
    kept = first.copy()
    session.run(["embedding"], {"log_mel": log_mel(1, seed=1)})
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(x, before)
    first[:] = 0


def test_sixteen_threads_equal_one(openvino: Any) -> None:
    session = OpenVinoSession(FILES["audio.fp32.onnx"], name="a", threads=2)
    xs = [log_mel(1, seed) for seed in range(8)]
    wanted = [session.run(["embedding"], {"log_mel": x})[0] for x in xs]

    def once(i: int) -> bool:
        (found,) = session.run(["embedding"], {"log_mel": xs[i % 8]})
        return bool(np.array_equal(found, wanted[i % 8]))

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(once, range(200)))


@pytest.mark.parametrize(
    "data", [b"", b"not a graph", FILES["audio.fp32.onnx"][:-40]], ids=["empty", "words", "cut"]
)
def test_what_is_no_graph_is_a_graph_error(openvino: Any, data: bytes) -> None:
    with pytest.raises(GraphError, match=r"a\.onnx"):
        OpenVinoSession(data, name="a.onnx")


@pytest.mark.parametrize(
    ("outputs", "inputs"),
    [
        (["embedding"], {}),
        (["embedding"], {"other": log_mel(1)}),
        (["other"], {"log_mel": log_mel(1)}),
        (["embedding"], {"log_mel": log_mel(1).astype(np.float64)}),
        (["embedding"], {"log_mel": log_mel(1)[0]}),
        (["embedding"], {"log_mel": log_mel(1)[:, :3]}),
    ],
    ids=["none", "name", "output", "dtype", "axes", "shape"],
)
def test_what_the_graph_refuses_is_a_graph_error(
    openvino: Any, outputs: list[str], inputs: dict[str, Any]
) -> None:
    session = OpenVinoSession(FILES["audio.fp32.onnx"], name="a.onnx")
    with pytest.raises(GraphError, match=r"a\.onnx"):
        session.run(outputs, inputs)
    session.run(["embedding"], {"log_mel": log_mel(1)})  # and it still works


def test_other_precisions_and_no_threads_are_refused(openvino: Any) -> None:
    with pytest.raises(GraphError, match="fp32, bf16"):
        OpenVinoSession(FILES["audio.fp32.onnx"], name="a", precision="int4")
    with pytest.raises(GraphError, match="1 or more"):
        OpenVinoSession(FILES["audio.fp32.onnx"], name="a", threads=0)


def test_close_twice_and_use_after(openvino: Any) -> None:
    session = OpenVinoSession(text_graph(np.ones((len(WORDS), DIM))), name="a")
    ids = np.array([[1, 2]], np.int64)
    feed = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    session.run(["embedding"], feed)
    session.close()
    session.close()
    with pytest.raises(ClosedError):
        session.run(["embedding"], feed)


def test_compiled_graphs_are_kept_where_the_caller_says(openvino: Any, tmp_path: Path) -> None:
    path = make_bundle(tmp_path / "tiny")
    cache = tmp_path / "cache"
    with load(path, provider="openvino", threads=1, cache_dir=cache) as engine:
        rows = engine.embed_text(TEXTS)
    assert any((cache / "openvino").iterdir())
    with load(path, provider="openvino", threads=1, cache_dir=cache) as engine:
        np.testing.assert_array_equal(engine.embed_text(TEXTS), rows)
