"""Law 1: the runtime imports, and answers, without anything heavy; importing it costs little."""

from __future__ import annotations

import importlib.util
import json
import pkgutil
import subprocess
import sys

import pytest

import clap_engine

BANNED = (
    "clap_export", "librosa", "msclap", "numba", "onnx", "optimum", "pandas", "scipy", "torch",
    "transformers", "huggingface_hub",
)  # fmt: skip
# The HTTP face is the one package that can't be imported without its extra.
SERVE = "clap_engine.serve."
HAS_SERVE = all(
    importlib.util.find_spec(name) for name in ("starlette", "uvicorn", "python_multipart")
)
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(clap_engine.__path__, "clap_engine.")
    if not module.name.endswith("__main__") and (HAS_SERVE or not module.name.startswith(SERVE))
)

PROBE = """
import importlib, json, sys, threading
importlib.import_module(sys.argv[1])
print(json.dumps([sorted({name.split('.')[0] for name in sys.modules}), threading.active_count()]))
"""


def _python(*arguments: str) -> str:
    command = [sys.executable, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout


@pytest.mark.parametrize("module", ["clap_engine", *MODULES])
def test_a_module_loads_nothing_heavy_and_starts_no_thread(module: str) -> None:
    loaded, threads = json.loads(_python("-c", PROBE, module))
    assert not set(loaded) & set(BANNED)
    assert threads == 1


def test_the_package_itself_imports_no_library() -> None:
    loaded, _ = json.loads(_python("-c", PROBE, "clap_engine"))
    assert not set(loaded) & {"numpy", "onnxruntime", "tokenizers", "soundfile", "soxr", "hnswlib"}


def test_nothing_else_imports_the_http_face() -> None:
    """The command line knows the verb without the extra; the verb says what to install."""
    loaded, _ = json.loads(_python("-c", PROBE, "clap_engine.cli"))
    assert not set(loaded) & {"starlette", "uvicorn", "python_multipart", "anyio"}
    hidden = "import sys; sys.modules['uvicorn'] = None; from clap_engine.cli import main; "
    command = [sys.executable, "-c", f"{hidden}sys.exit(main(['serve', '--collection', 'x']))"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 7
    assert "pip install 'clap-engine[serve]'" in done.stderr


def test_every_public_name_resolves() -> None:
    names = [name for name in dir(clap_engine) if not name.startswith("_")]
    assert {"load", "Engine", "ClapError", "Limits"} <= set(names)
    for name in names:
        assert getattr(clap_engine, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = clap_engine.nonsense


def test_import_adds_little_to_numpy() -> None:
    """`import clap_engine` adds at most 40 ms to `import numpy`; the least of 5 runs of each."""
    clock = "import numpy, time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"
    added = min(float(_python("-c", clock.format("clap_engine"))) for _ in range(5))
    assert added <= 0.040
