"""Laws of the towers: unit rows, the same whatever the company, loaded when first used."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_bundle import (
    N_FRAMES,
    audio_graph,
    make_bundle,
    make_files,
    make_manifest,
    resealed,
    text_graph,
    write_bundle,
)

from clap_engine import bundle as bundles
from clap_engine import tower
from clap_engine.bundle import Bundle
from clap_engine.encoders import BUCKETS, AudioEncoder, TextEncoder
from clap_engine.errors import (
    ArrayError,
    ClosedError,
    GraphError,
    IntegrityError,
    NotFoundError,
    PrecisionWarning,
    TextError,
    TruncationWarning,
)
from clap_engine.goldens import golden_waveform
from clap_engine.session import GraphSession

TEXTS = ["a slow banjo melody", "dog barks", "rain on a tin roof", "a fast dog", "tin roof"]


def windows(bundle: Bundle, n: int) -> np.ndarray[Any, Any]:
    spec = bundle.manifest.audio
    return np.stack([golden_waveform(i, spec.rate_hz, spec.window_samples) for i in range(n)])


def assert_unit(rows: np.ndarray[Any, Any]) -> None:
    assert rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=-1), 1, rtol=0, atol=1e-3)


@pytest.mark.filterwarnings("ignore::clap_engine.errors.PrecisionWarning")
def test_both_shipped_towers_give_unit_rows(bundle: Bundle) -> None:
    dim = bundle.manifest.dim
    text = TextEncoder(bundle).encode(TEXTS)
    assert text.shape == (len(TEXTS), dim)
    assert_unit(text)
    audio = AudioEncoder(bundle)
    sound = windows(bundle, 3)
    before = sound.copy()
    rows = audio.encode(sound)
    assert rows.shape == (3, dim)
    assert_unit(rows)
    if bundle.manifest.audio.frame_s is not None:
        frames = audio.encode_frames(sound)
        assert frames.shape[0] == 3
        assert frames.shape[2] == dim
        assert bundle.manifest.audio.window_s / frames.shape[1] <= 0.5
        assert_unit(frames)
    np.testing.assert_array_equal(sound, before)


@pytest.mark.filterwarnings("ignore::clap_engine.errors.PrecisionWarning")
def test_shipped_embeddings_do_not_depend_on_company(bundle: Bundle) -> None:
    """Law 2: bitwise where one item runs a call, 1e-5 where a graph batches."""
    for kind, graphs, items in (
        (TextEncoder, bundle.manifest.text.graphs, TEXTS),
        (AudioEncoder, bundle.manifest.audio.graphs, windows(bundle, 5)),
    ):
        for precision, spec in graphs.items():
            encoder: Any = kind(bundle, precision=precision)
            together = encoder.encode(items)
            alone = np.concatenate([encoder.encode(items[i : i + 1]) for i in range(5)])
            atol = 0 if spec.dynamic_scale else 1e-5
            np.testing.assert_allclose(together, alone, rtol=0, atol=atol)
            np.testing.assert_array_equal(together, encoder.encode(items))


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("n", [1, 2, 3, 5, 16, 17, 40])
def test_buckets_change_no_row(tiny: Bundle, precision: str, n: int) -> None:
    sound = windows(tiny, n)
    encoder = AudioEncoder(tiny, precision=precision)
    alone = np.concatenate([encoder.encode(row[None]) for row in sound])
    np.testing.assert_allclose(encoder.encode(sound), alone, rtol=0, atol=1e-6)
    assert encoder.encode_frames(sound).shape == (n, N_FRAMES, tiny.manifest.dim)
    texts = [TEXTS[i % len(TEXTS)] for i in range(n)]
    words = TextEncoder(tiny, precision=precision)
    each = np.concatenate([words.encode([text]) for text in texts])
    np.testing.assert_allclose(words.encode(texts), each, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("precision", "largest"), [("fp32", 16), ("int8", 1)])
def test_dynamic_scales_run_one_item_a_call(
    tiny: Bundle, monkeypatch: pytest.MonkeyPatch, precision: str, largest: int
) -> None:
    sizes: list[int] = []
    run = GraphSession.run

    def spy(self: Any, outputs: Any, inputs: Any) -> Any:
        sizes.extend(len(array) for array in inputs.values())
        return run(self, outputs, inputs)

    monkeypatch.setattr(GraphSession, "run", spy)
    AudioEncoder(tiny, precision=precision).encode(windows(tiny, 21))
    TextEncoder(tiny, precision=precision).encode(TEXTS * 9)
    assert max(sizes) == largest
    assert set(sizes) <= set(BUCKETS)


def test_nothing_in_nothing_out(tiny: Bundle) -> None:
    dim = tiny.manifest.dim
    assert TextEncoder(tiny, precision="int8").encode([]).shape == (0, dim)
    audio = AudioEncoder(tiny, precision="int8")
    empty = windows(tiny, 1)[:0]
    assert audio.encode(empty).shape == (0, dim)
    assert audio.encode_frames(empty).shape == (0, N_FRAMES, dim)


def test_a_truncation_is_blamed_on_the_callers_line(tiny: Bundle) -> None:
    with pytest.warns(TruncationWarning) as caught:
        TextEncoder(tiny, precision="fp32").encode(["dog " * 30])
    assert [warning.filename for warning in caught] == [__file__]


def test_timings_are_of_the_call(tiny: Bundle) -> None:
    encoder = TextEncoder(tiny, precision="fp32")
    rows, timings = encoder.encode_timed(TEXTS)
    np.testing.assert_array_equal(rows, encoder.encode(TEXTS))
    assert timings.tokenize_ms > 0
    assert timings.text_ms > 0


def test_graphs_load_on_first_use_and_once(tiny: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []

    def spy(data: bytes, *, name: str, **options: Any) -> Any:
        loaded.append(name)
        return GraphSession(data, name=name, **options)

    monkeypatch.setattr(tower, "GraphSession", spy)
    encoder = TextEncoder(tiny, precision="fp32")
    with pytest.raises(TextError):
        encoder.encode([""])
    assert loaded == []
    with ThreadPoolExecutor(8) as pool:
        rows = list(pool.map(lambda _: encoder.encode(TEXTS), range(32)))
    assert loaded == ["text.fp32.onnx"]
    assert all(np.array_equal(row, rows[0]) for row in rows)
    assert encoder.warm() == ["CPUExecutionProvider"]


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x[0],
        lambda x: x[:, :-1],
        lambda x: x.astype(complex),
        lambda x: np.where(x > 0.4, np.nan, x),
        lambda x: x * np.float64(1e39),
        lambda x: [[1.0], [2.0, 3.0]],
        lambda x: "waveform",
    ],
    ids=range(7),
)
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_windows_are_checked_at_the_door(tiny: Bundle, change: Any) -> None:
    encoder = AudioEncoder(tiny, precision="fp32")
    with pytest.raises(ArrayError):
        encoder.encode(change(windows(tiny, 2)))


def test_silence_denormals_and_loud_sounds_are_defined(tiny: Bundle) -> None:
    encoder = AudioEncoder(tiny, precision="fp32")
    for level in (0, 1e-40, 1e-20, 1, 1e4):
        assert_unit(encoder.encode(windows(tiny, 2) * np.float32(level)))


def test_precision_is_chosen_with_a_warning_or_by_name(
    tmp_path: Path, tiny: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tower, "has_fast_int8", lambda: True)
    assert TextEncoder(tiny).precision == AudioEncoder(tiny).precision == "int8"
    monkeypatch.setattr(tower, "has_fast_int8", lambda: False)
    assert TextEncoder(tiny).precision == AudioEncoder(tiny).precision == "fp32"
    with pytest.raises(NotFoundError, match="fp32, int8"):
        AudioEncoder(tiny, precision="fp16")
    monkeypatch.setattr(tower, "has_fast_int8", lambda: True)
    files = make_files()
    whole = make_manifest(files)
    graphs = {name: replace(spec, is_slow=True) for name, spec in whole.text.graphs.items()}
    slow = resealed(whole, text=replace(whole.text, graphs=graphs))
    held = bundles.open(write_bundle(tmp_path / "slow", files, slow))
    assert (TextEncoder(held).precision, AudioEncoder(held).precision) == ("fp32", "int8")
    monkeypatch.setattr(tower, "has_fast_int8", lambda: False)
    only = {"int8": whole.text.graphs["int8"]}
    small = resealed(whole, text=replace(whole.text, graphs=only))
    one = bundles.open(write_bundle(tmp_path / "one", files, small))
    with pytest.warns(PrecisionWarning, match="int8") as caught:
        TextEncoder(one)
    assert caught[0].filename == __file__


def test_closed_towers_say_so(tiny: Bundle) -> None:
    text, audio = TextEncoder(tiny, precision="fp32"), AudioEncoder(tiny, precision="fp32")
    text.encode(TEXTS)
    for encoder in (text, audio):
        encoder.close()
        encoder.close()
    with pytest.raises(ClosedError):
        text.encode(TEXTS)
    with pytest.raises(ClosedError):
        audio.encode(windows(tiny, 1))


def test_a_graph_that_breaks_its_promise_is_refused(tmp_path: Path) -> None:
    broken = bundles.open(
        make_bundle(
            tmp_path / "broken",
            audio_fp32_onnx=audio_graph(np.eye(8), unit=False),
            audio_int8_onnx=audio_graph(np.full((8, 8), np.nan)),
            text_fp32_onnx=text_graph(np.ones((18, 4))),
            text_int8_onnx=audio_graph(np.eye(8)),
        )
    )
    for precision, message in (("fp32", "unit"), ("int8", "NaN")):
        with pytest.raises(GraphError, match=message):
            AudioEncoder(broken, precision=precision).encode(windows(broken, 1))
    for precision in ("fp32", "int8"):
        with pytest.raises(GraphError, match=f"text.{precision}.onnx"):
            TextEncoder(broken, precision=precision).encode(["dog"])


def test_damage_between_open_and_first_use_is_found(tiny: Bundle) -> None:
    encoder = TextEncoder(tiny, precision="fp32")
    path = tiny.path / "text.fp32.onnx"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(IntegrityError):
        encoder.encode(["dog"])


def test_no_frames_says_which_bundle_would_have_them(tmp_path: Path) -> None:
    files = make_files()
    whole = make_manifest(files)
    manifest = resealed(whole, audio=replace(whole.audio, frame_s=None))
    opened = bundles.open(write_bundle(tmp_path / "b", files, manifest))
    with pytest.raises(GraphError, match="frame_s"):
        AudioEncoder(opened, precision="fp32").encode_frames(windows(opened, 1))


def test_sixteen_threads_equal_one(tiny: Bundle) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PrecisionWarning)
        text, audio = TextEncoder(tiny, threads=2), AudioEncoder(tiny, threads=2)
    sound = windows(tiny, 3)
    expected = text.encode(TEXTS), audio.encode(sound)

    def once(_: int) -> bool:
        same = np.array_equal(text.encode(TEXTS), expected[0])
        return same and np.array_equal(audio.encode(sound), expected[1])

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(once, range(200)))
