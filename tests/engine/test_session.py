"""Laws of a session: threads change nothing, every failure has our type, nothing global moves."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.machinery import PathFinder
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tiny_bundle import N_FRAMES, N_MELS, WORDS, audio_graph, make_files, text_graph

from clap_engine import session as sessions
from clap_engine.bundle import Bundle
from clap_engine.errors import ClosedError, DependencyError, GraphError
from clap_engine.placement import CPU, CUDA, TENSORRT, Placement, user_cache_dir
from clap_engine.processor import has_amx, has_fast_int8
from clap_engine.session import GraphSession, provider_names

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
        GraphSession(
            FILES["audio.fp32.onnx"], name="a", placement=Placement(providers=tuple(providers))
        )


class FakeSession:
    """What onnxruntime-gpu shows where no driver, or no kernel, is found."""

    def __init__(
        self, found: list[str], on_cpu: list[str], options: Any = None, providers: Any = None
    ) -> None:
        self.found, self.on_cpu = found, on_cpu
        self.options, self.given = options, providers

    def get_providers(self) -> list[str]:
        return self.found

    def get_inputs(self) -> list[Any]:
        return []

    get_outputs = get_inputs

    def get_provider_graph_assignment_info(self) -> list[Any]:
        nodes = [SimpleNamespace(op_type=kind, name=f"{kind}.1") for kind in self.on_cpu]
        return [SimpleNamespace(ep_name=CPU, get_nodes=lambda: nodes)]


class FakeRuntime:
    """onnxruntime-gpu on a machine without a GPU: it lists CUDA, and what loads is up to a test."""

    def __init__(
        self, available: list[str], found: list[str], on_cpu: list[str], refuses: tuple[str, ...]
    ) -> None:
        self.available, self.found, self.on_cpu = available, found, on_cpu
        self.refuses = refuses
        self.made: list[FakeSession] = []

    def get_available_providers(self) -> list[str]:
        return self.available

    def SessionOptions(self) -> Any:
        entries: dict[str, str] = {}
        return SimpleNamespace(
            add_session_config_entry=lambda key, value: entries.update({key: value}),
            entries=entries,
        )

    def InferenceSession(
        self, data: bytes, options: Any, *, providers: Any, enable_fallback: int
    ) -> FakeSession:
        assert enable_fallback == 0  # onnxruntime's own prints to stdout
        if providers[0][0] in self.refuses:
            raise RuntimeError(f"{providers[0][0]}: no driver\nsecond line")
        self.made.append(FakeSession(self.found, self.on_cpu, options, providers))
        return self.made[-1]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeRuntime]:
    """Puts a fake onnxruntime in place and returns it."""

    def put(
        available: list[str],
        found: list[str],
        on_cpu: tuple[str, ...] = (),
        refuses: tuple[str, ...] = (),
    ) -> FakeRuntime:
        runtime = FakeRuntime(available, found, list(on_cpu), refuses)
        monkeypatch.setattr(sessions, "_onnxruntime", lambda: runtime)
        return runtime

    return put


def load(**placement: Any) -> GraphSession:
    return GraphSession(b"graph", name="a", placement=Placement(**placement))


@pytest.mark.parametrize("provider", [None, "cuda"])
def test_a_fall_to_the_cpu_is_logged_or_with_strict_refused(
    fake: Any, caplog: pytest.LogCaptureFixture, provider: str | None
) -> None:
    fake([CUDA, CPU], found=[CPU])
    assert load(provider=provider).providers == [CPU]
    assert "CUDAExecutionProvider did not load" in caplog.text
    with pytest.raises(GraphError, match="without strict_provider"):
        load(provider=provider, is_strict=True)
    with pytest.raises(GraphError, match="doctor"):
        load(providers=(CUDA, CPU))  # named by hand it is never a wish


@pytest.mark.parametrize("provider", [None, "cuda"])
def test_a_provider_that_fails_is_left_out_or_with_strict_refused(
    fake: Any, caplog: pytest.LogCaptureFixture, provider: str | None
) -> None:
    runtime = fake([CUDA, CPU], found=[CPU], refuses=(CUDA,))
    assert load(provider=provider).providers == [CPU]
    assert [name for name, _ in runtime.made[0].given] == [CPU]
    assert "no driver; trying CPUExecutionProvider" in caplog.text
    for strict in ({"provider": provider, "is_strict": True}, {"providers": (CUDA, CPU)}):
        with pytest.raises(GraphError, match="no driver"):
            load(**strict)


def test_strict_refuses_products_that_fall_one_by_one(fake: Any) -> None:
    fake([CUDA, CPU], found=[CUDA, CPU], on_cpu=("Shape", "MatMulNBits", "Gather"))
    load(provider="cuda")
    with pytest.raises(GraphError, match=r"1 products run on the CPU .* MatMulNBits\.1"):
        load(provider="cuda", is_strict=True)
    runtime = fake([CUDA, CPU], found=[CUDA, CPU], on_cpu=("Shape", "Gather"))
    load(provider="cuda", is_strict=True)
    assert runtime.made[0].options.entries["session.record_ep_graph_assignment_info"] == "1"


def test_strict_allows_the_cpu_where_nothing_else_is_meant() -> None:
    data = FILES["audio.fp32.onnx"]
    for placement in (Placement(is_strict=True), Placement(provider="cpu", is_strict=True)):
        assert GraphSession(data, name="a", placement=placement).providers == [CPU]


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_provider_that_is_not_installed_gives_the_remedy(fake: Any, provider: str) -> None:
    fake([CPU], found=[CPU])
    for is_strict in (False, True):
        with pytest.raises(DependencyError, match=r"pip install 'clap-engine\[gpu\]'"):
            load(provider=provider, is_strict=is_strict)


def test_a_limit_of_memory_reaches_cuda(fake: Any) -> None:
    runtime = fake([CUDA, CPU], found=[CUDA, CPU])
    load(gpu_mem_limit=2**30)
    assert runtime.made[0].given == [
        (CUDA, {"gpu_mem_limit": str(2**30), "arena_extend_strategy": "kSameAsRequested"}),
        (CPU, {}),
    ]
    load()
    assert runtime.made[1].given == [(CUDA, {}), (CPU, {})]


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_tensorrt_keeps_its_engines_in_a_private_folder(
    fake: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    runtime = fake([TENSORRT, CUDA, CPU], found=[TENSORRT, CUDA, CPU])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for cache_dir in (tmp_path / "mine", None):
        placement = Placement(provider="tensorrt", gpu_mem_limit=2**30, cache_dir=cache_dir)
        GraphSession(b"graph", name="a", placement=placement, precision=precision)
        given = dict(runtime.made[-1].given)
        assert list(given) == [TENSORRT, CUDA, CPU]
        folder = (cache_dir or tmp_path / "cache" / "clap-engine") / "tensorrt"
        assert given[TENSORRT] == {
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": str(folder),
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": str(folder),
            "trt_fp16_enable": "1" if precision == "fp16" else "0",
            "trt_max_workspace_size": str(2**30),
        }
        assert folder.is_dir()
        assert os.name != "posix" or folder.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"provider": "gpu"}, "choose among cpu, cuda, tensorrt, openvino"),
        ({"provider": "cuda", "providers": (CUDA,)}, "one of the two"),
        ({"gpu_mem_limit": 0}, "1 or more"),
        ({"gpu_mem_limit": 1.5}, "1 or more"),
        ({"gpu_mem_limit": True}, "1 or more"),
        ({"provider": "cpu", "gpu_mem_limit": 1}, "no meaning"),
        ({"provider": "openvino", "gpu_mem_limit": 1}, "no meaning"),
    ],
)
def test_a_placement_is_checked_when_it_is_made(settings: Any, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        Placement(**settings)


def test_the_cache_is_the_users_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/path")  # the standard says: ignored
    assert user_cache_dir() == Path.home() / ".cache" / "clap-engine"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_cache_dir() == tmp_path / "clap-engine"


def test_a_loaded_graph_keeps_no_copy_of_its_file(graph: GraphSession) -> None:
    assert graph._session._model_bytes is None


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
        provider_names()
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


def test_amx_by_the_flags() -> None:
    assert has_amx("flags : fpu avx512_vnni amx_bf16 amx_int8\n")
    assert not has_amx("flags : fpu avx512_bf16 amx_int8\n")
    assert isinstance(has_amx(), bool)


def test_fast_int8_of_this_machine_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(has_fast_int8(), bool)
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    assert has_fast_int8()
