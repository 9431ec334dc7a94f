"""Laws of audio: the same sound in any form gives the same windows, and every limit holds."""

from __future__ import annotations

import io
import logging
import os
import pathlib
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import soundfile
from sounds import FORMATS, LOSSLESS, encode, noise, tone, with_flac_length

from clap_engine import audio, windows
from clap_engine.errors import AudioError, NotFoundError
from clap_engine.limits import Limits

RATE = 32_000


@dataclass(frozen=True)
class Spec:
    """A front end of one-second windows."""

    rate_hz: int = RATE
    window_s: float = 1.0
    hop_s: float = 1.0
    padding: str = "repeat"


def all_windows(source: audio.Source, hop_s: float | None = None) -> tuple[np.ndarray, np.ndarray]:
    batches = list(audio.windows(source, Spec(), hop_s=hop_s))
    return np.concatenate([w for w, _ in batches]), np.concatenate([s for _, s in batches])


# --- the same sound, the same waveform ---


@pytest.mark.parametrize("rate_hz", [RATE, 44_100])
@pytest.mark.parametrize(("subtype", "depth"), [("PCM_16", 15), ("PCM_24", 23)])
def test_lossless_containers_of_the_same_samples_are_bitwise_equal(
    subtype: str, depth: int, rate_hz: int
) -> None:
    samples = np.round(noise(1, 50_000, 2) * 2.0**depth) / 2.0**depth
    expected = audio.load((samples, rate_hz), RATE)
    for kind in LOSSLESS:
        assert np.array_equal(audio.load(encode(samples, rate_hz, kind, subtype), RATE), expected)


@pytest.mark.parametrize("kind", FORMATS)
def test_path_bytes_and_stream_are_bitwise_equal(kind: str, tmp_path: pathlib.Path) -> None:
    data = encode(noise(2, 48_000, 2), 48_000, kind)
    path = tmp_path / f"sound.{kind}"
    path.write_bytes(data)
    expected = audio.load(path, RATE)
    for source in (str(path), data, bytearray(data), memoryview(data), io.BytesIO(data)):
        assert np.array_equal(audio.load(source, RATE), expected)
    with path.open("rb") as file:
        assert np.array_equal(audio.load(file, RATE), expected)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("block", [1000, 4097, 65_536])
def test_the_size_of_blocks_does_not_matter(
    kind: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = encode(noise(3, 72_000), 48_000, kind)
    expected = audio.load(data, RATE)
    monkeypatch.setattr(audio, "BLOCK", block)
    assert np.array_equal(audio.load(data, RATE), expected)


@pytest.mark.parametrize("kind", FORMATS)
def test_blocks_equal_one_read_of_the_whole_file(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = encode(noise(4, 72_000), 48_000, kind)
    whole, rate_hz = soundfile.read(io.BytesIO(data), dtype="float32")
    monkeypatch.setattr(audio, "BLOCK", 1000)
    assert np.array_equal(audio.load(data, rate_hz), whole)


@pytest.mark.parametrize(("kind", "tolerance"), [("ogg", 0.2), ("mp3", 0.2), ("opus", 0.3)])
def test_lossy_formats_keep_a_tone(kind: str, tolerance: float) -> None:
    got = audio.load(encode(tone(440, 48_000, 96_000), 48_000, kind), RATE)
    assert abs(len(got) - 2 * RATE) <= 0.1 * RATE
    middle = got[RATE // 2 : 3 * RATE // 2] * np.hanning(RATE)
    assert np.abs(np.fft.rfft(middle)).argmax() == 440
    assert np.abs(middle).max() == pytest.approx(0.5, rel=tolerance)


# --- rates, channels, dtypes ---


@pytest.mark.parametrize("rate_hz", [4000, 8000, 11_025, 22_050, 44_100, 48_000, 192_000, 384_000])
def test_resampling_keeps_pitch_level_and_length(rate_hz: int) -> None:
    got = audio.load((tone(1000, rate_hz, 2 * rate_hz), rate_hz), RATE)
    assert abs(len(got) - 2 * RATE) <= 1
    expected = tone(1000, RATE, 2 * RATE)
    # soxr HQ: the pass band is flat to 0.01 dB; the ends ring.
    assert np.abs(got[2000:-2000] - expected[2000 : len(got) - 2000]).max() < 2e-3


def test_the_right_rate_is_not_touched() -> None:
    x = noise(5, 5000)
    assert np.array_equal(audio.load((x, RATE), RATE), x)


@pytest.mark.parametrize("channels", range(1, 9))
def test_channels_are_mixed_to_their_mean(channels: int) -> None:
    x = noise(6, 5000, channels)
    expected = x.astype(np.float64).mean(axis=1)
    for source in ((x, RATE), (x.T, RATE), encode(x, RATE, "wav", "FLOAT")):
        np.testing.assert_allclose(audio.load(source, RATE), expected, atol=1e-7)


@pytest.mark.parametrize("dtype", ["int16", "int32", "uint8"])
def test_integers_are_scaled_as_in_a_file(dtype: str) -> None:
    info = np.iinfo(dtype)
    x = np.random.default_rng(7).integers(info.min, info.max, 4000, dtype=dtype, endpoint=True)
    out = io.BytesIO()
    signed = x if dtype != "uint8" else ((x.astype(np.int16) - 128) << 8).astype(np.int16)
    subtype = {"int16": "PCM_16", "int32": "PCM_32", "uint8": "PCM_U8"}[dtype]
    soundfile.write(out, signed, RATE, format="WAV", subtype=subtype)
    assert np.array_equal(audio.load((x, RATE), RATE), audio.load(out.getvalue(), RATE))


@pytest.mark.parametrize("dtype", ["float16", "float64", ">f4"])
def test_other_floats_are_taken_as_they_are(dtype: str) -> None:
    x = noise(8, 4000).astype(dtype)
    got = audio.load((x, RATE), RATE)
    assert got.dtype == np.float32
    assert np.array_equal(got, x.astype(np.float32))


@pytest.mark.parametrize(
    "source",
    [
        (np.zeros((5000, 9), np.float32), RATE),
        (np.zeros((4, 4), np.float32), RATE),
        (np.zeros((2, 3, 4), np.float32), RATE),
        (np.float32(1), RATE),
        (np.zeros(10, bool), RATE),
        (np.zeros(10, complex), RATE),
        (np.zeros(10, np.int64), RATE),
        (["a", "b"], RATE),
        ([[1.0], [1.0, 2.0]], RATE),
        (np.zeros(0, np.float32), RATE),
        (np.zeros(10, np.float32), 3999),
        (np.zeros(10, np.float32), 384_001),
        (np.zeros(10, np.float32), 44_100.5),
        (np.zeros(10, np.float32), float("nan")),
        (np.zeros(10, np.float32), True),
        (np.zeros(10, np.float32), "44100"),
        (np.zeros(10, np.float32),),
        (np.full(10, 1e300), RATE),
        [1.0, 2.0],
        None,
        io.StringIO("text"),
    ],
)
def test_what_is_no_sound_is_refused(source: audio.Source) -> None:
    with pytest.raises(AudioError):
        audio.load(source, RATE)


def test_the_callers_array_is_neither_written_nor_returned() -> None:
    x = noise(9, 2 * RATE)
    x[:10] = 1e-30
    before = x.copy()
    x.flags.writeable = False
    got = audio.load((x, RATE), RATE)
    rows, _ = all_windows((x, RATE))
    assert np.array_equal(x, before)
    got[:] = 0
    rows[:] = 0
    assert np.array_equal(x, before)


# --- values ---


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
@pytest.mark.parametrize("at", [0, 70_000, 99_999])
def test_values_that_are_not_finite_are_refused(value: float, at: int) -> None:
    x = noise(10, 100_000)
    x[at] = value
    for source in ((x, RATE), (x, 44_100), encode(x, RATE, "wav", "FLOAT")):
        with pytest.raises(AudioError, match="NaN"):
            audio.load(source, RATE)


@pytest.mark.parametrize("rate_hz", [RATE, 44_100])
def test_denormals_become_zero(rate_hz: int) -> None:
    x = np.full(10_000, 1e-40, np.float32)
    assert not audio.load((x, rate_hz), RATE).any()
    assert not audio.load(encode(x, rate_hz, "wav", "FLOAT"), RATE).any()


@pytest.mark.parametrize("rate_hz", [RATE, 44_100])
def test_silence_stays_silence(rate_hz: int) -> None:
    rows, spans = all_windows((np.zeros(3 * rate_hz, np.float32), rate_hz))
    assert not rows.any()
    assert spans.tolist() == [[0, 1], [1, 2], [2, 3]]


# --- windows ---


def expected_windows(x: np.ndarray, size: int, hop: int) -> tuple[np.ndarray, np.ndarray]:
    """The definition: starts at the hop, one more that ends with the clip, short clips tiled."""
    if len(x) < size:
        return np.tile(x, -(-size // len(x)))[:size][None], np.array([[0, len(x)]])
    starts = list(range(0, len(x) - size + 1, hop))
    if starts[-1] + size < len(x):
        starts.append(len(x) - size)
    spans = np.array([[s, s + size] for s in starts])
    return np.stack([x[s : s + size] for s in starts]), spans


@pytest.mark.parametrize("hop_s", [0.01, 0.25, 0.3, 0.999, 1.0])
@pytest.mark.parametrize("n", [1, 2, 3, 31_999, 32_000, 32_001, 63_999, 64_000, 64_001, 200_000])
def test_windows_are_what_they_are_defined_to_be(n: int, hop_s: float) -> None:
    x = noise(11, n)
    rows, spans = all_windows((x, RATE), hop_s)
    want_rows, want_spans = expected_windows(x, RATE, round(hop_s * RATE))
    assert np.array_equal(rows, want_rows)
    assert np.array_equal(spans, want_spans / RATE)


@pytest.mark.parametrize("block", [1, 7, 32_000, 100_000])
def test_windows_do_not_depend_on_blocks(block: int) -> None:
    x = noise(12, 100 if block == 1 else 130_001)
    size, hop = (40, 30) if block == 1 else (32_000, 20_000)
    pieces = iter([x[i : i + block] for i in range(0, len(x), block)])
    got = list(windows.cut(pieces, size, hop))
    want_rows, want_spans = expected_windows(x, size, hop)
    assert np.array_equal(np.stack([row for row, _, _ in got]), want_rows)
    assert [[start, end] for _, start, end in got] == want_spans.tolist()


def test_batches_hold_at_most_16_windows_and_own_them() -> None:
    batches = list(audio.windows((noise(13, 40 * RATE), RATE), Spec()))
    assert [len(rows) for rows, _ in batches] == [16, 16, 8]
    assert all(rows.dtype == np.float32 and rows.flags.owndata for rows, _ in batches)
    assert all(spans.shape == (len(rows), 2) for rows, spans in batches)


@pytest.mark.parametrize("rate_hz", [4000, 8000, 44_100, 192_000, 384_000])
def test_one_sample_fills_a_window(rate_hz: int) -> None:
    rows, spans = all_windows((np.array([0.5], np.float32), rate_hz))
    assert rows.shape == (1, RATE)
    assert rows.any()
    assert spans[0, 0] == 0
    assert 0 < spans[0, 1] <= max(1 / rate_hz, 1 / RATE) * 1.01


@pytest.mark.parametrize("hop_s", [0, -1, 0.009, 1.01])
def test_a_hop_outside_the_window_is_refused(hop_s: float) -> None:
    with pytest.raises(AudioError, match="hop"):
        audio.windows((noise(14, 100), RATE), Spec(), hop_s=hop_s)


def test_an_hour_streams_in_the_memory_of_some_windows() -> None:
    # A broadcast scalar: an hour of samples that themselves take two bytes.
    hour = np.broadcast_to(np.int16(1000), (3600 * RATE,))
    tracemalloc.start()
    count = sum(len(rows) for rows, _ in audio.windows((hour, RATE), Spec()))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 3600
    # Two batches of 16 windows of a second are 4 MB; the clip is 461 MB.
    assert peak < 16e6


# --- headers and limits ---


@pytest.mark.parametrize("kind", FORMATS)
def test_probe_reads_the_header(kind: str) -> None:
    info = audio.probe(encode(noise(15, 96_000, 2), 48_000, kind))
    assert (info.rate_hz, info.channels) == (48_000, 2)
    assert info.duration_s == pytest.approx(2, abs=0.06)
    assert info.frames == round(info.duration_s * 48_000)
    assert info.format.split()[0] == FORMATS[kind][0]


def test_probe_of_an_array() -> None:
    info = audio.probe((np.zeros((2, 8000), np.float32), 16_000))
    assert info == audio.AudioInfo(16_000, 2, 8000, 0.5, "array")


def test_the_formats_we_promise_are_there() -> None:
    assert {"WAV", "FLAC", "OGG", "MP3", "AIFF", "AU", "W64", "CAF"} <= set(audio.formats())


LIMITS = Limits(
    max_duration_s=1, max_bytes=50_000, min_rate_hz=8000, max_rate_hz=48_000, max_channels=2
)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        (encode(noise(16, 8001), 8000, "flac"), "max_duration_s"),
        (encode(noise(17, 32_000), 32_000), "max_bytes"),
        (encode(noise(18, 2000, 3), 8000), "max_channels"),
        (encode(noise(19, 2000), 7999), "8000-48000 Hz"),
        (encode(noise(20, 2000), 48_001), "8000-48000 Hz"),
        ((noise(21, 8001), 8000), "max_duration_s"),
        (with_flac_length(encode(noise(22, 9000), 8000, "flac"), 0), "max_duration_s"),
    ],
)
def test_limits_are_named_when_they_are_passed(source: audio.Source, name: str) -> None:
    with pytest.raises(AudioError, match=name):
        audio.load(source, RATE, LIMITS)


def test_limits_themselves_are_allowed() -> None:
    assert len(audio.load(encode(noise(23, 8000, 2), 8000), 8000, LIMITS)) == 8000
    assert len(audio.load(encode(noise(24, 24_000), 24_000), 8000, LIMITS)) == 8000


def test_a_stream_is_read_no_further_than_its_limit() -> None:
    stream = io.BytesIO(bytes(10_000_000))
    with pytest.raises(AudioError, match="max_bytes"):
        audio.probe(stream, LIMITS)
    assert stream.tell() <= 2 << 20


def test_a_flac_without_a_length_is_read_to_its_end() -> None:
    data = encode(noise(25, 30_000), RATE, "flac")
    unknown = with_flac_length(data, 0)
    assert audio.probe(unknown).frames is None
    assert audio.probe(unknown).duration_s is None
    assert np.array_equal(audio.load(unknown, RATE), audio.load(data, RATE))


def test_a_flac_that_promises_more_than_it_holds_is_refused() -> None:
    data = encode(noise(26, 30_000), RATE, "flac")
    with pytest.raises(AudioError, match="promises"):
        audio.load(with_flac_length(data, 30_001), RATE)


def test_an_mp3_that_ends_early_is_used_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    data = encode(noise(27, 60 * RATE), RATE, "mp3")
    with caplog.at_level(logging.WARNING, "clap_engine"):
        got = audio.load(data[: len(data) // 2], RATE)
    assert 28 * RATE < len(got) < 31 * RATE
    assert "promises" in caplog.text


def test_an_mp3_longer_than_its_estimate_is_refused_not_cut() -> None:
    x = noise(28, 60 * RATE)
    x[: 30 * RATE] *= 1e-3
    data = encode(x, RATE, "mp3", bitrate_mode="VARIABLE", compression_level=0.5)
    assert len(audio.load(data, RATE)) == len(x)
    without_header = data[data.find(data[:2], 4) :]
    with pytest.raises(AudioError, match="goes on"):
        audio.load(without_header, RATE)


# --- files ---


@pytest.mark.parametrize(
    "data",
    [b"", b"\0", b"RIFF", b"fLaC", b"OggS" + bytes(100), b"ID3", b"\xff\xfb", b"plain text" * 50]
    + [encode(np.zeros(0, np.float32), RATE, kind) for kind in ("wav", "flac", "aiff")],
)
def test_empty_and_broken_files_are_refused(data: bytes, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "sound.wav"
    path.write_bytes(data)
    for source in (data, path):
        with pytest.raises(AudioError):
            audio.load(source, RATE)
        with pytest.raises(AudioError):
            next(audio.windows(source, Spec()))


def test_other_formats_of_libsndfile_are_not_parsed() -> None:
    out = io.BytesIO()
    soundfile.write(out, noise(29, 100), RATE, format="VOC", subtype="PCM_16")
    with pytest.raises(AudioError, match="can be read"):
        audio.probe(out.getvalue())


def test_a_missing_file_is_both_errors_a_caller_may_expect(tmp_path: pathlib.Path) -> None:
    with pytest.raises(AudioError) as caught:
        audio.load(tmp_path / "none.wav", RATE)
    assert isinstance(caught.value, FileNotFoundError)
    assert isinstance(caught.value, NotFoundError)


def test_folders_pipes_and_odd_names_are_refused(tmp_path: pathlib.Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    for path in (tmp_path, tmp_path / "pipe.wav", "/dev/null", "nul\0byte.wav", "lone\udcff\ud800"):
        with pytest.raises(AudioError):
            audio.probe(path)


def test_a_file_without_permission_is_refused(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "sound.wav"
    path.write_bytes(encode(noise(30, 100), RATE))
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(AudioError, match="can't be opened"):
        audio.probe(path)


def open_descriptors() -> int:
    return len(list(pathlib.Path("/proc/self/fd").iterdir()))


@pytest.mark.skipif(
    not pathlib.Path("/proc/self/fd").is_dir(), reason="counts descriptors in /proc"
)
def test_no_descriptor_is_left_open(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "sound.flac"
    path.write_bytes(encode(noise(31, 5 * RATE), RATE, "flac"))
    before = open_descriptors()
    for source in (path, path.read_bytes(), b"broken", tmp_path, tmp_path / "none"):
        batches: Iterator[object] = audio.windows(source, Spec(), hop_s=0.1)
        try:
            next(batches)
        except AudioError:
            continue
        batches.close()  # type: ignore[attr-defined]
    assert open_descriptors() == before


def test_sound_files_are_found_in_order(tmp_path: pathlib.Path) -> None:
    names = ["b.wav", "a/z.FLAC", "a/b/c.mp3", "a.ogg", "A.opus", "z.aif"]
    others = ["notes.txt", "._b.wav", ".hidden/d.wav", "wav", "e.wav.bak"]
    for name in names + others:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path)
    found = [path.relative_to(tmp_path).as_posix() for path in audio.sound_files(tmp_path)]
    assert found == sorted(names)
    assert audio.sound_files(tmp_path / "b.wav") == [tmp_path / "b.wav"]
    assert audio.sound_files(tmp_path / "folder.wav") == []
    with pytest.raises(AudioError):
        audio.sound_files(tmp_path / "none")
