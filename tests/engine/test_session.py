"""Laws of a session: threads change nothing, every failure has our type, nothing global moves."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_bundle import N_FRAMES, N_MELS, WORDS, audio_graph, make_files, text_graph

from clap_engine import session as sessions
from clap_engine.bundle import Bundle
from clap_engine.errors import ClosedError, DependencyError, GraphError
from clap_engine.session import CPU, GraphSession, default_providers, has_fast_int8

FILES = make_files()


@pytest.fixture
def graph() -> GraphSession:
    return GraphSession(FILES["audio.fp32.onnx"], name="audio.fp32.onnx")


def log_mel(rows: int, seed: int = 0) -> np.ndarray[Any, Any]:
    shape = (rows, N_FRAMES, N_MELS)
    return np.random.default_rng(seed).uniform(-80, 0, shape).astype(np.float32)


def test_names_and_outputs_by_name(graph: GraphSession) -> None:
    assert graph.inputs == ("log_mel",)
    assert graph.outputs == ("embedding", "frames")
    assert graph.providers == [CPU]
    x = log_mel(2)
    frames, embedding = graph.run(["frames", "embedding"], {"log_mel": x})
    assert (frames.shape, embedding.shape) == ((2, N_FRAMES, 8), (2, 8))
    expected = x.mean(axis=1) @ np.random.default_rng(0).normal(size=(N_MELS, 8))
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(embedding, expected, rtol=0, atol=1e-5)


def check_threads_agree(graph: GraphSession, x: np.ndarray[Any, Any], runs: int) -> None:
    """16 threads, each result bitwise equal to one thread's."""
    (expected,) = graph.run(["embedding"], {"log_mel": x})

    def once(_: int) -> bool:
        (found,) = graph.run(["embedding"], {"log_mel": x})
        return bool(np.array_equal(found, expected))

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(once, range(runs)))


@pytest.mark.parametrize("threads", [1, 2])
def test_sixteen_threads_equal_one(bundle: Bundle, threads: int) -> None:
    spec = next(iter(bundle.manifest.audio.graphs.values()))
    shipped = GraphSession(bundle.read(spec.file), name=spec.file, threads=threads)
    shape = (1, bundle.manifest.audio.n_frames, bundle.manifest.audio.n_mels)
    x = np.random.default_rng(3).uniform(-80, 0, shape).astype(np.float32)
    check_threads_agree(shipped, x, 100)


@pytest.mark.slow
def test_sixteen_threads_equal_one_in_full(bundle: Bundle) -> None:
    spec = next(iter(bundle.manifest.audio.graphs.values()))
    shipped = GraphSession(bundle.read(spec.file), name=spec.file, threads=2)
    shape = (1, bundle.manifest.audio.n_frames, bundle.manifest.audio.n_mels)
    check_threads_agree(shipped, np.full(shape, -40, np.float32), 5_000)


def test_results_and_inputs_are_the_callers(graph: GraphSession) -> None:
    x = log_mel(1)
    before = x.copy()
    (first,) = graph.run(["embedding"], {"log_mel": x})
    kept = first.copy()
    graph.run(["embedding"], {"log_mel": log_mel(1, seed=1)})
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(x, before)
    first[:] = 0  # writable: nothing of the session's own


@pytest.mark.parametrize(
    "data",
    [b"", b"\0" * 100, b"not a graph", FILES["audio.fp32.onnx"][:-40], FILES["tokenizer.json"]],
    ids=["empty", "zeros", "words", "cut", "json"],
)
def test_what_is_no_graph_is_a_graph_error(data: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(GraphError, match=r"a\.onnx"):
        GraphSession(data, name="a.onnx")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("outputs", "inputs"),
    [
        (["embedding"], {}),
        (["embedding"], {"other": log_mel(1)}),
        (["other"], {"log_mel": log_mel(1)}),
        (["embedding"], {"log_mel": log_mel(1).astype(np.float64)}),
        (["embedding"], {"log_mel": log_mel(1)[0]}),
        (["embedding"], {"log_mel": log_mel(1)[:, :3]}),
        (["embedding"], {"log_mel": np.array([["a"]])}),
    ],
    ids=["none", "name", "output", "dtype", "axes", "shape", "strings"],
)
def test_what_the_graph_refuses_is_a_graph_error(
    graph: GraphSession, outputs: list[str], inputs: dict[str, Any]
) -> None:
    with pytest.raises(GraphError, match=r"audio\.fp32\.onnx"):
        graph.run(outputs, inputs)
    graph.run(["embedding"], {"log_mel": log_mel(1)})  # and it still works


def test_ids_outside_the_table_are_a_graph_error() -> None:
    table = np.ones((len(WORDS), 8))
    graph = GraphSession(text_graph(table), name="text")
    ids = np.array([[len(WORDS)]], np.int64)
    with pytest.raises(GraphError):
        graph.run(["embedding"], {"input_ids": ids, "attention_mask": np.ones_like(ids)})


@pytest.mark.parametrize("providers", [[], ["NoSuchProvider"], [CPU, "NoSuchProvider"]])
def test_unknown_providers_are_named(providers: list[str]) -> None:
    with pytest.raises(GraphError, match=CPU):
        GraphSession(FILES["audio.fp32.onnx"], name="a", providers=providers)


@pytest.mark.parametrize("threads", [0, -1])
def test_threads_are_at_least_one(threads: int) -> None:
    with pytest.raises(GraphError, match="1 or more"):
        GraphSession(FILES["audio.fp32.onnx"], name="a", threads=threads)


def test_close_twice_and_use_after(graph: GraphSession) -> None:
    graph.close()
    graph.close()
    with pytest.raises(ClosedError):
        graph.run(["embedding"], {"log_mel": log_mel(1)})


def test_close_during_runs_ends_cleanly() -> None:
    for _ in range(5):
        graph = GraphSession(audio_graph(np.eye(8)), name="a", threads=2)
        started = threading.Event()
        ended: list[bool] = []

        def work(graph: GraphSession = graph, started: Any = started, ended: Any = ended) -> None:
            try:
                while True:
                    graph.run(["embedding"], {"log_mel": log_mel(16)})
                    started.set()
            except ClosedError:
                ended.append(True)

        workers = [threading.Thread(target=work) for _ in range(4)]
        for worker in workers:
            worker.start()
        assert started.wait(20)
        graph.close()
        for worker in workers:
            worker.join(20)
        assert len(ended) == 4


FORK = """
import os, sys
import numpy as np
from clap_engine.errors import ForkedError
from clap_engine.session import GraphSession
graph = GraphSession(sys.stdin.buffer.read(), name="a", threads=2)
x = np.zeros((1, 14, 8), np.float32) - 1
graph.run(["embedding"], {"log_mel": x})
child = os.fork()
if child == 0:
    try:
        graph.run(["embedding"], {"log_mel": x})
    except ForkedError:
        os._exit(7)
    os._exit(1)
graph.run(["embedding"], {"log_mel": x})
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def probe(script: str) -> subprocess.CompletedProcess[bytes]:
    """`script` in a fresh interpreter, with a graph on its standard input."""
    return subprocess.run(
        [sys.executable, "-c", script],
        input=FILES["audio.fp32.onnx"],
        capture_output=True,
        check=False,
        timeout=60,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_is_told_and_the_parent_goes_on() -> None:
    done = probe(FORK)
    assert done.returncode == 7, done.stderr.decode()


PROBE = """
import os, sys, threading, time, warnings
warnings.simplefilter("error")
import numpy as np
from clap_engine.session import GraphSession
assert "onnxruntime" not in sys.modules
before = threading.active_count()
graph = GraphSession(sys.stdin.buffer.read(), name="a", threads=2)
assert threading.active_count() == before
tiny = np.full(4, 1e-30, np.float32)
assert (tiny * np.float32(1e-10) != 0).all(), "denormals of the caller are flushed"
np.finfo(np.float32).smallest_subnormal
deadline = time.monotonic() + 10  # the loading thread is joined, but the system may list it still
while len(os.listdir("/proc/self/task")) > 3 and time.monotonic() < deadline:
    time.sleep(0.01)
print(len(os.listdir("/proc/self/task")))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_session_changes_nothing_outside_itself() -> None:
    done = probe(PROBE)
    assert done.returncode == 0, done.stderr.decode()
    # The caller, the second that was asked for, and one that importing onnxruntime starts.
    assert int(done.stdout) <= 3


@pytest.mark.parametrize(
    ("builds", "broken", "remedy"),
    [
        (["onnxruntime-1.31.1", "onnxruntime_gpu-1.31.1"], False, "uninstall"),
        (["onnxruntime-1.31.1"], True, r"clap-engine\[cpu\]"),
        ([], None, r"clap-engine\[cpu\]"),
    ],
    ids=["both", "broken", "none"],
)
def test_none_or_both_onnxruntimes_give_a_one_line_remedy(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    builds: list[str],
    broken: bool | None,
    remedy: str,
) -> None:
    if broken is not None:
        (tmp_path / "onnxruntime").mkdir()
        (tmp_path / "onnxruntime" / "__init__.py").write_text("raise ImportError('no libcudart')")
    for build in builds:
        (tmp_path / f"{build}.dist-info").mkdir()
    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.setattr(sys, "meta_path", [PathFinder])
    with pytest.raises(DependencyError, match=remedy) as caught:
        default_providers()
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, ImportError)


def test_one_build_is_installed_here() -> None:
    assert len(sessions._installed_builds()) == 1


@pytest.mark.parametrize(
    ("cpuinfo", "fast"),
    [
        ("processor : 0\nflags\t\t: fpu avx2 avx512_vnni\n", True),
        ("flags : fpu avx_vnni\n", True),
        ("flags : fpu avx2 avx512f\n", False),
        ("Features\t: fp asimd asimddp\n", True),
        ("Features\t: fp asimd\n", False),
        ("model name : avx_vnni\n", False),
        ("", False),
    ],
)
def test_fast_int8_by_the_flags(cpuinfo: str, fast: bool) -> None:
    assert has_fast_int8(cpuinfo) is fast


def test_fast_int8_of_this_machine_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(has_fast_int8(), bool)
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    assert has_fast_int8()
