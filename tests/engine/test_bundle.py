"""Laws of the bundle: found by name, verified when read, precision never chosen silently."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_bundle import make_bundle, make_files, make_manifest, npz, resealed, write_bundle

from clap_engine import bundle as bundles
from clap_engine.bundle import Bundle, choose_precision, pick_graph
from clap_engine.errors import ArrayError, IntegrityError, ManifestError, NotFoundError
from clap_engine.goldens import golden_waveform
from clap_engine.manifest import PRECISIONS, release

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


def test_read_gives_the_packed_bytes(tiny: Bundle) -> None:
    for name, data in make_files().items():
        assert tiny.read(name) == data
    tiny.verify()


def test_the_bundle_that_ships_verifies(bundle: Bundle) -> None:
    bundle.verify()
    text, audio = bundle.goldens()
    assert text.shape == (len(bundle.manifest.goldens.texts), bundle.manifest.dim)
    assert audio.shape == (len(bundle.manifest.goldens.audio), bundle.manifest.dim)
    for rows in (text, audio):
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", ["", "manifest.json", "../x", "/etc/passwd", "a\0b", "nothing"])
def test_only_listed_files_are_read(tiny: Bundle, name: str) -> None:
    with pytest.raises(NotFoundError, match="tokenizer.json"):
        tiny.read(name)


def test_a_missing_file_is_not_found(tiny: Bundle) -> None:
    (tiny.path / "README.md").unlink()
    with pytest.raises(NotFoundError, match=r"README\.md"):
        tiny.verify()


def test_open_refuses_what_is_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path, tmp_path / "file", tmp_path / "nothing"):
        with pytest.raises(NotFoundError):
            bundles.open(path)
    (tmp_path / "manifest.json").write_bytes(b" " * (2**20 + 1))
    with pytest.raises(ManifestError, match="1048576"):
        bundles.open(tmp_path)


@pytest.mark.parametrize("version", ["99", "99.0", "0.999.0"])
def test_a_bundle_for_a_newer_runtime_says_so(tmp_path: Path, version: str) -> None:
    files = make_files()
    newer = resealed(make_manifest(files), min_runtime=version)
    with pytest.raises(ManifestError, match="upgrade"):
        bundles.open(write_bundle(tmp_path / "b", files, newer))


def test_what_a_newer_runtime_added_is_called_new(tmp_path: Path) -> None:
    """Else `the key is not allowed; pack the bundle again` would send its owner the wrong way."""
    files = make_files()
    path = write_bundle(tmp_path / "b", files, make_manifest(files))
    tree = json.loads((path / "manifest.json").read_text())
    tree["audio"]["invented_later"] = 1
    for needed, said in (("0.1.0", "only the keys"), ("7.1", "needs clap-engine 7.1, this is")):
        (path / "manifest.json").write_text(json.dumps({**tree, "min_runtime": needed}))
        with pytest.raises(ManifestError, match=said):
            bundles.open(path)


def test_versions_compare_as_numbers() -> None:
    assert release("0.10") > release("0.9.5")
    assert release("1") == release("1.0.0") == release("1.0.0.dev1")


def test_find_by_name_by_path_and_by_default(tmp_path: Path, bundle_path: Path) -> None:
    models = tmp_path / "models"
    tiny = make_bundle(models / "tiny")
    (models / "empty").mkdir()
    assert bundles.find("tiny", models_dir=models) == tiny
    assert bundles.find(tiny) == tiny
    assert bundles.find(str(tiny)) == tiny
    assert bundles.find(bundles.DEFAULT_NAME, models_dir=bundle_path.parent).name == "clap-mini"
    for wanted in ("empty", "tin", "", ".", "../models/empty", "a\0b", tmp_path):
        with pytest.raises(NotFoundError):
            bundles.find(wanted, models_dir=models)
    with pytest.raises(NotFoundError, match="nowhere"):
        bundles.find("tiny", models_dir=tmp_path / "nowhere")


def test_a_name_means_the_installed_bundle_before_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed, local = make_bundle(tmp_path / "site" / "tiny"), make_bundle(tmp_path / "tiny")
    monkeypatch.setattr(bundles, "_installed_roots", lambda: [installed.parent])
    monkeypatch.chdir(tmp_path)
    assert bundles.installed() == [installed]
    assert bundles.find("tiny") == installed
    assert bundles.find(Path("tiny")).resolve() == local
    assert bundles.find("./tiny").resolve() == local


def test_an_opened_bundle_survives_a_change_of_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_bundle(tmp_path / "tiny")
    monkeypatch.chdir(tmp_path)
    opened = bundles.open("tiny")
    monkeypatch.chdir("/")
    opened.verify()


@pytest.mark.parametrize(
    ("available", "providers", "fast", "chosen", "warned"),
    [
        (("fp32", "int8", "fp16"), [CPU], True, "int8", False),
        (("fp32", "fp16"), [CPU], True, "fp32", True),
        (("int8",), [CPU], False, "int8", True),
        (("fp32", "int8"), [CPU], False, "fp32", False),
        (("fp32", "int8", "fp16"), [CUDA, CPU], True, "fp16", False),
        (("int8", "fp32"), [CUDA, CPU], False, "fp32", True),
        (("int8",), [CUDA, CPU], True, "int8", True),
        (("int8",), [], True, "int8", False),
        (("fp32", "int8", "fp16"), ["openvino"], True, "fp32", False),
        (("int8", "fp16"), ["openvino"], True, "fp16", True),
        (("int8",), ["openvino"], False, "int8", True),
    ],
)
def test_precision_is_the_best_there_is_or_a_warning(
    available: tuple[str, ...], providers: list[str], fast: bool, chosen: str, warned: bool
) -> None:
    precision, warning = choose_precision(available, providers, fast)
    assert precision == chosen
    assert (warning is not None) == warned
    assert warning is None or chosen in warning


def test_int8_that_was_measured_to_be_slower_is_left_where_float32_is_there() -> None:
    assert choose_precision(("fp32", "int8"), [CPU], True, ["int8"]) == ("fp32", None)
    assert choose_precision(("int8",), [CPU], True, ["int8"])[0] == "int8"


def test_every_precision_can_be_chosen_alone() -> None:
    for precision in PRECISIONS:
        for providers in ([CPU], [CUDA, CPU]):
            assert choose_precision([precision], providers, True)[0] == precision
    with pytest.raises(NotFoundError):
        choose_precision([], [CPU], True)


def test_golden_ids_are_read_where_a_bundle_stores_them(tmp_path: Path) -> None:
    files = make_files()
    stored = np.load(io.BytesIO(files["goldens.npz"]))
    assert bundles.open(make_bundle(tmp_path / "none")).golden_ids() is None
    ids = np.array([[2, 4, 3, -1, -1], [2, 5, 6, 7, 3]])
    data = npz(text=stored["text"], audio=stored["audio"], ids=ids)
    opened = bundles.open(make_bundle(tmp_path / "ids", goldens_npz=data))
    assert opened.golden_ids() == [[2, 4, 3], [2, 5, 6, 7, 3]]
    assert opened.goldens()[0].shape == (2, 8)
    for wrong in (ids[:1], ids.astype(np.int32), ids[0]):
        data = npz(text=stored["text"], audio=stored["audio"], ids=wrong)
        broken = bundles.open(make_bundle(tmp_path / "wrong", goldens_npz=data))
        with pytest.raises(ManifestError, match="ids"):
            broken.golden_ids()


def test_a_precision_by_name_must_be_there(tiny: Bundle) -> None:
    graphs = tiny.manifest.text.graphs
    assert pick_graph(graphs, "int8").dynamic_scale
    with pytest.raises(NotFoundError, match="fp32, int8"):
        pick_graph(graphs, "fp16")


def test_golden_sines_are_the_formulas_they_say() -> None:
    for place in range(0, 32_000, 977):
        time_s = place / 32_000
        chirp = 0.5 * math.sin(2 * math.pi * (80 * 4 + 250 * time_s) * time_s)
        tones = [0.25 * math.sin(2 * math.pi * hz * 4 * time_s) for hz in (220, 331)]
        assert golden_waveform(3, 32_000, 32_000)[place] == pytest.approx(chirp, abs=1e-6)
        assert golden_waveform(4, 32_000, 32_000)[place] == pytest.approx(sum(tones), abs=1e-6)


@pytest.mark.parametrize("index", range(6))
def test_golden_waveforms_are_prefixes_of_each_other(index: int) -> None:
    waveform = golden_waveform(index, 32_000, 4_000)
    assert waveform.dtype == np.float32
    assert waveform.shape == (4_000,)
    assert np.abs(waveform).max() <= 0.5
    np.testing.assert_allclose(golden_waveform(index, 32_000, 999), waveform[:999], atol=1e-7)


def test_golden_waveforms_differ_and_are_never_silent() -> None:
    rows = np.stack([golden_waveform(i, 32_000, 32_000) for i in range(12)])
    assert np.sqrt((rows**2).mean(axis=1)).min() > 0.2
    cosine = rows @ rows.T / np.linalg.norm(rows, axis=1)[:, None] / np.linalg.norm(rows, axis=1)
    assert np.abs(cosine - np.eye(12)).max() < 0.5
    assert golden_waveform(2, 32_000, 0).shape == (0,)


def test_golden_noise_is_the_generator_it_says() -> None:
    state, expected = 3, []
    for _ in range(50):
        expected.append((state >> 8) / 2**24 - 0.5)
        state = (1664525 * state + 1013904223) % 2**32
    np.testing.assert_array_equal(golden_waveform(2, 32_000, 50), np.array(expected, np.float32))


@pytest.mark.parametrize(
    "arrays",
    [
        {"text": np.ones((2, 8), np.float32)},
        {"text": np.ones((3, 8), np.float32), "audio": np.ones((3, 8), np.float32)},
        {"text": np.full((2, 8), np.nan), "audio": np.ones((3, 8), np.float32)},
        {"text": np.array([[None] * 8] * 2), "audio": np.ones((3, 8), np.float32)},
    ],
    ids=["missing", "shape", "nan", "pickle"],
)
def test_goldens_are_checked(tmp_path: Path, arrays: dict[str, np.ndarray[Any, Any]]) -> None:
    opened = bundles.open(make_bundle(tmp_path / "b", goldens_npz=npz(**arrays)))
    with pytest.raises((ManifestError, ArrayError)):
        opened.goldens()


def test_damage_after_opening_is_seen(tiny: Bundle) -> None:
    tiny.read("README.md")
    (tiny.path / "README.md").write_bytes(b"A bundle for tests!\n")
    with pytest.raises(IntegrityError, match=r"README\.md"):
        tiny.read("README.md")
