"""No pickle, no unsafe load, no eval, no shell: read from the source, then watched at work."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import Any

import pytest

import clap_engine
from clap_engine.bundle import Bundle
from clap_engine.encoders import AudioEncoder, TextEncoder

MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "jsonpickle"}
CALLS = {"eval", "exec", "compile", "__import__"}
DOTTED = {
    "os.system",
    "os.popen",
    "subprocess.getoutput",
    "yaml.load",
    "numpy.lib.format.read_array",
}
# Calls that are safe only with this argument.
SAFE = {"load": {"np": ("allow_pickle", False), "numpy": ("allow_pickle", False),
                 "torch": ("weights_only", True)}}  # fmt: skip
EVENTS = ("pickle.", "os.system", "os.exec", "os.posix_spawn", "subprocess.", "socket.", "ctypes.")


def findings(source: str) -> list[str]:
    """What in `source` could run code that data brought along, with its line."""
    found = []
    for node in ast.walk(ast.parse(source)):
        for name in _dangers(node):
            found.append(f"line {getattr(node, 'lineno', 0)}: {name}")
    return found


def _dangers(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names if alias.name.split(".")[0] in MODULES]
    if isinstance(node, ast.ImportFrom):
        return [str(node.module)] if str(node.module).split(".")[0] in MODULES else []
    if not isinstance(node, ast.Call):
        return []
    name = ast.unparse(node.func)
    given = {word.arg: word.value for word in node.keywords}
    values = {key: getattr(value, "value", None) for key, value in given.items()}
    dangers = [name] if name in CALLS | DOTTED else []
    owner, _, method = name.rpartition(".")
    if owner in SAFE.get(method, {}):
        key, value = SAFE[method][owner]
        dangers += [f"{name} without {key}={value}"] if values.get(key) is not value else []
    dangers += [f"{name} with shell"] if values.get("shell") is True else []
    dangers += [f"{name} that pickles"] if values.get("allow_pickle") is True else []
    return dangers


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import cloudpickle as c",
        "eval('1')",
        "exec(text)",
        "os.system('x')",
        "np.load(f)",
        "np.load(f, allow_pickle=True)",
        "numpy.load(f)",
        "np.savez(f, allow_pickle=True)",
        "torch.load(f)",
        "torch.load(f, weights_only=False)",
        "subprocess.run('x', shell=True)",
        "yaml.load(f)",
    ],
)
def test_the_reader_sees_each_danger(source: str) -> None:
    assert findings(source)


def test_the_reader_lets_the_safe_forms_pass() -> None:
    assert not findings("np.load(f, allow_pickle=False); torch.load(f, weights_only=True)")
    assert not findings("re.compile('x'); subprocess.run(['x']); json.load(f); 'eval(1)'")


def test_no_module_of_the_runtime_loads_unsafely() -> None:
    root = Path(clap_engine.__file__).parent
    sources = sorted(root.rglob("*.py"))
    assert len(sources) > 10
    assert {str(path): findings(path.read_text("utf-8")) for path in sources} == {
        str(path): [] for path in sources
    }


def test_no_module_of_the_exporter_loads_unsafely(source_root: Path) -> None:
    sources = sorted((source_root / "export").rglob("*.py"))
    assert sources
    assert {str(path): findings(path.read_text("utf-8")) for path in sources} == {
        str(path): [] for path in sources
    }


_seen: list[str] | None = None


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _seen is not None and event.startswith(EVENTS):
        _seen.append(event)


sys.addaudithook(_audit)


def use(tiny: Bundle) -> None:
    tiny.verify()
    tiny.goldens()
    TextEncoder(tiny, precision="fp32").encode(["dog"])
    audio = AudioEncoder(tiny, precision="fp32")
    samples = tiny.manifest.audio.window_samples
    import numpy as np

    audio.encode(np.ones((1, samples), np.float32))


def test_a_bundle_at_work_unpickles_and_starts_nothing(tiny: Bundle) -> None:
    global _seen
    use(tiny)  # imports happen here
    seen: list[str] = []
    _seen = seen
    try:
        use(tiny)
        assert seen == []
        import pickle

        pickle.loads(pickle.dumps(Path("control")))
        assert "pickle.find_class" in seen
    finally:
        _seen = None
