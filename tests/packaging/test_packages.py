"""The explicit package list equals the disk, and the built wheel carries all of it."""

from __future__ import annotations

import configparser
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

SHIPPED = ("manifest.json", "tokenizer.json", "frontend.npz", "goldens.npz", "README.md", "NOTICE")


def _section_lines(source_root: Path, option: str) -> list[str]:
    config = configparser.ConfigParser()
    config.read(source_root / "setup.cfg")
    lines = config["options"][option].splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def _package_dirs(source_root: Path) -> dict[str, str]:
    pairs = (line.split("=") for line in _section_lines(source_root, "package_dir"))
    return {name.strip(): path.strip() for name, path in pairs}


def _modules_on_disk(source_root: Path) -> set[str]:
    """Every .py below both roots, as the wheel should name it."""
    return {
        path.relative_to(source_root / root).as_posix()
        for root in ("engine", "export")
        for path in (source_root / root).rglob("*.py")
    }


def test_package_list_equals_disk(source_root: Path) -> None:
    listed = set(_section_lines(source_root, "packages"))
    folders = {Path(module).parent.as_posix() for module in _modules_on_disk(source_root)}
    on_disk = {folder.replace("/", ".") for folder in folders}
    words = {"clap_export.corpus.words"}  # JSON only
    assert listed == on_disk | words | {"clap_engine.models", "clap_engine.samples"}


def test_every_package_with_modules_has_an_init(source_root: Path) -> None:
    modules = _modules_on_disk(source_root)
    folders = {Path(module).parent.as_posix() for module in modules}
    assert not {folder for folder in folders if f"{folder}/__init__.py" not in modules}


def test_package_dirs_exist(source_root: Path) -> None:
    for package, folder in _package_dirs(source_root).items():
        assert (source_root / folder).is_dir(), f"{package} is mapped to {folder}"


@pytest.fixture(scope="module")
def wheel_names(source_root: Path, tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Names in a wheel built from a clean copy: setuptools would reuse a stale build/ in place."""
    copy = tmp_path_factory.mktemp("wheel") / "src"
    ignore = shutil.ignore_patterns(".*", "build", "*.egg-info", "__pycache__", "bench", "tests")
    shutil.copytree(source_root, copy, ignore=ignore)
    out = copy.parent / "dist"
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(out), str(copy)]
    subprocess.run(command, check=True, timeout=300)
    (wheel,) = out.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_wheel_holds_every_module(wheel_names: set[str], source_root: Path) -> None:
    assert _modules_on_disk(source_root) <= wheel_names


def test_wheel_holds_the_bundle_and_no_fp32(wheel_names: set[str]) -> None:
    shipped = {name for name in wheel_names if name.startswith("clap_engine/models/clap-mini/")}
    assert {f"clap_engine/models/clap-mini/{name}" for name in SHIPPED} <= shipped
    too_much = (".fp32.onnx", ".safetensors", ".pt")
    assert not [name for name in wheel_names if name.endswith(too_much)]


def test_wheel_holds_the_page(wheel_names: set[str], source_root: Path) -> None:
    page = "clap_engine/serve/page/"
    on_disk = {path.name for path in (source_root / "engine" / page).iterdir()}
    assert {name.removeprefix(page) for name in wheel_names if name.startswith(page)} == on_disk


def test_wheel_holds_the_samples(wheel_names: set[str], source_root: Path) -> None:
    samples = {path.name for path in (source_root / "samples").glob("*.ogg")}
    packed = {Path(name).name for name in wheel_names if name.startswith("clap_engine/samples/")}
    assert samples <= packed
    assert "clap_engine/samples/samples.csv" in wheel_names


def test_wheel_holds_nothing_of_the_source_tree_else(wheel_names: set[str]) -> None:
    tops = {name.split("/")[0] for name in wheel_names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"clap_engine", "clap_export"}


def test_wheel_holds_the_licences(wheel_names: set[str]) -> None:
    names = {Path(name).name for name in wheel_names if ".dist-info/" in name}
    assert {"LICENSE", "NOTICE", "entry_points.txt"} <= names
