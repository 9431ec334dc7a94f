"""Audio that lies, explodes or is damaged: a typed error or a defined result, never a crash.

The campaigns run in a child process (`python test_audio_hostile.py ...`), so that a crash of
native code is a failed test and not the end of pytest. The child prints one JSON line.
"""

from __future__ import annotations

import io
import json
import os
import resource
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from sounds import FORMATS, encode, noise, tone, with_flac_length

from clap_engine import audio
from clap_engine.errors import AudioError, ClapError
from clap_engine.limits import Limits

RATE = 32_000
UNBOUNDED = Limits(max_duration_s=1e9, max_bytes=2**40, max_channels=1024)


# --- decode bombs ---


def silence(kind: str, rate_hz: int, duration_s: float, **more: Any) -> bytes:
    return encode(np.zeros(rate_hz, np.float32), rate_hz, kind, times=int(duration_s), **more)


def wav_header(frames: int, channels: int = 1, rate_hz: int = 44_100) -> bytes:
    """A 16-bit WAV that claims `frames` and holds a hundred."""
    data = min(frames * channels * 2, 2**32 - 1)
    fmt = struct.pack("<HHIIHH", 1, channels, rate_hz, rate_hz * channels * 2, channels * 2, 16)
    head = b"RIFF" + struct.pack("<I", min(data + 36, 2**32 - 1)) + b"WAVEfmt \x10\0\0\0" + fmt
    return head + b"data" + struct.pack("<I", data) + bytes(200 * channels)


def bombs() -> Iterator[tuple[str, bytes, Limits]]:
    """Ten files that unpack to far more than they are."""
    usual, short = Limits(), Limits(max_duration_s=600)
    flac = silence("flac", 4000, 5 * 3600)
    yield "five hours in a FLAC", flac, usual
    yield "the same without its length", with_flac_length(flac, 0), usual
    yield "the same that claims 2**36 - 1 frames", with_flac_length(flac, 2**36 - 1), usual
    yield "the same behind an ID3 tag", b"ID3\4\0\0\0\0\0\0" + flac, usual
    yield "the same that claims an hour over", with_flac_length(flac, 6 * 4000 * 3600), usual
    yield (
        "a small FLAC that claims 2**36 - 1",
        with_flac_length(encode(noise(1, 4000), 44_100, "flac"), 2**36 - 1),
        usual,
    )
    yield "eight channels in a FLAC", silence_of(8, 700), short
    yield "Vorbis", silence("ogg", 8000, 700), short
    yield "Opus", silence("opus", 8000, 700), short
    yield "MP3", silence("mp3", 8000, 700), short


def silence_of(channels: int, duration_s: int) -> bytes:
    return encode(np.zeros((4000, channels), np.float32), 4000, "flac", times=duration_s)


def run_bombs() -> dict[str, Any]:
    """In the child: each bomb's seconds of work and outcome; growth of peak memory in MiB."""
    audio.load(encode(noise(1, 44_100), 44_100, "flac"), RATE)
    prepared = list(bombs())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    results = {}
    for name, data, limits in prepared:
        start = time.process_time()
        try:
            count = sum(len(rows) for rows, _ in audio.windows(data, Spec(), limits))
            outcome = f"{count} windows"
        except AudioError:
            outcome = "AudioError"
        results[name] = (time.process_time() - start, outcome)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return {"results": results, "grown_mib": grown}


class Spec:
    """A front end of five-second windows."""

    rate_hz = RATE
    window_s = 5.0
    hop_s = 5.0
    padding = "repeat"


def test_decode_bombs_are_refused_at_once_and_cost_no_memory() -> None:
    report = child("bombs")
    for name, (seconds, outcome) in report["results"].items():
        assert outcome == "AudioError", name
        assert seconds < 1, name
    assert report["grown_mib"] < 64


def test_without_limits_a_bomb_goes_off() -> None:
    data = silence("flac", 4000, 1200)
    with pytest.raises(AudioError):
        audio.probe(data, Limits(max_duration_s=600))
    assert len(audio.load(data, 4000, UNBOUNDED)) == 1200 * 4000


# --- headers that lie ---


def lies() -> Iterator[tuple[str, bytes]]:
    """Sixty files whose header and content differ."""
    flac = encode(noise(2, 20_000), 32_000, "flac")
    for frames in (1, 19_999, 20_001, 40_000, 2**20, 2**32, 2**35, 2**36 - 1):
        yield f"FLAC of {frames} frames", with_flac_length(flac, frames)
    for frames in (0, 1, 99, 101, 10**6, 2**31, 2**33):
        for channels in (1, 2, 8, 1024):
            yield f"WAV of {frames} frames, {channels} channels", wav_header(frames, channels)
    for rate_hz in (0, 1, 3999, 384_001, 2**31, 2**32 - 1):
        yield f"WAV of {rate_hz} Hz", with_u32(wav_header(100), 24, rate_hz)
    for channels in (0, 9, 65_535):
        yield f"WAV of {channels} channels", with_u16(wav_header(100), 22, channels)
    for bits in (0, 1, 7, 24, 33, 65_535):
        yield f"WAV of {bits} bits", with_u16(wav_header(100), 34, bits)
    for tag in (0, 2, 3, 6, 0x11, 0x31, 0x55, 0xFFFE, 0xFFFF):
        yield f"WAV of format {tag:#x}", with_u16(wav_header(100), 20, tag)


def with_u16(data: bytes, at: int, value: int) -> bytes:
    return data[:at] + struct.pack("<H", value) + data[at + 2 :]


def with_u32(data: bytes, at: int, value: int) -> bytes:
    return data[:at] + struct.pack("<I", value) + data[at + 4 :]


def test_there_are_sixty_lies() -> None:
    assert len(list(lies())) == 60


@pytest.mark.parametrize("data", [pytest.param(data, id=name) for name, data in lies()])
def test_a_header_that_lies_gives_real_samples_or_an_error(data: bytes) -> None:
    try:
        got = audio.load(data, RATE)
    except AudioError:
        return
    assert np.isfinite(got).all()
    # Whatever came is no more than the bytes can hold: one sample a bit, at the lowest rate.
    assert 1 <= len(got) <= 8 * len(data) * RATE / 4000


SUBTYPES = ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW")
RATES = (3999, 4000, 8000, 11_025, 22_050, 44_100, 48_000, 96_000, 192_000, 384_001)
CHANNELS = (1, 2, 3, 5, 6, 8, 9)


@pytest.mark.parametrize("rate_hz", RATES)
@pytest.mark.parametrize("subtype", SUBTYPES)
def test_rates_channels_and_depths(subtype: str, rate_hz: int) -> None:
    n = rate_hz // 10
    for channels in CHANNELS:
        x = np.stack([tone(440, rate_hz, n)] * channels, axis=1)
        data = encode(x, rate_hz, "wav", subtype)
        if channels == 9 or rate_hz in (3999, 384_001):
            with pytest.raises(AudioError):
                audio.load(data, RATE)
            continue
        got = audio.load(data, RATE)
        assert abs(len(got) - RATE // 10) <= 1 + RATE / rate_hz
        middle = got[1000:2000]
        expected = tone(440, RATE, 2000)[1000:]
        # u-law and 8 bits are coarse; the rest differs by soxr's pass band alone.
        assert np.abs(middle - expected).max() < (0.03 if subtype in ("PCM_U8", "ULAW") else 5e-3)


# --- values that are defined, and not slow ---


def special(n: int) -> dict[str, np.ndarray]:
    impulse = np.zeros(n, np.float32)
    impulse[n // 2] = 1
    return {
        "denormals": np.full(n, 1e-40, np.float32),
        "denormals of both signs": np.float32(1e-39) * np.sign(noise(3, n)),
        "DC": np.ones(n, np.float32),
        "impulse": impulse,
        "silence": np.zeros(n, np.float32),
        "full-scale square": np.sign(noise(4, n)),
        "beyond full scale": 1e6 * noise(5, n),
        "almost beyond": np.full(n, 9e19, np.float32),
    }


@pytest.mark.parametrize("name", special(1))
@pytest.mark.parametrize("n", [1, 2, 159_999, 160_000, 160_001])
@pytest.mark.parametrize("rate_hz", [RATE, 44_100])
def test_special_values_give_a_defined_result(name: str, n: int, rate_hz: int) -> None:
    rows = [rows for rows, _ in audio.windows((special(n)[name], rate_hz), Spec())]
    assert all(np.isfinite(row).all() for row in rows)
    size = np.abs(np.concatenate(rows))
    assert not ((size > 0) & (size < 1e-20)).any()


@pytest.mark.parametrize("name", special(1))
def test_special_values_take_no_longer_than_noise(name: str) -> None:
    def seconds(x: np.ndarray) -> float:
        start = time.process_time()
        audio.load((x, 44_100), RATE)
        return time.process_time() - start

    plain, odd = noise(6, 1_000_000), special(1_000_000)[name]
    seconds(plain)
    # The best of interleaved runs: another process can only slow a run down.
    times = [(seconds(plain), seconds(odd)) for _ in range(5)]
    assert min(t for _, t in times) <= 2 * min(t for t, _ in times) + 0.005


# --- mutated files ---


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """One of seven kinds of damage, half of them in the first 200 bytes."""
    out = bytearray(data)
    reach = len(out) if rng.random() < 0.5 else min(len(out), 200)
    at = int(rng.integers(reach))
    kind = int(rng.integers(7))
    if kind == 0:
        for place in rng.integers(reach, size=int(rng.integers(1, 9))):
            out[place] ^= 1 << int(rng.integers(8))
    elif kind == 1:
        for place in rng.integers(reach, size=int(rng.integers(1, 33))):
            out[place] = int(rng.integers(256))
    elif kind == 2:
        del out[at:]
    elif kind == 3:
        out[at : at + 4096] = bytes(len(out[at : at + 4096]))
    elif kind == 4:
        out[at:at] = rng.bytes(int(rng.integers(1, 300)))
    elif kind == 5:
        del out[at : at + int(rng.integers(1, 300))]
    else:
        extremes = (0, 1, 2**31 - 1, 2**31, 2**32 - 1)
        order = "<I" if rng.random() < 0.5 else ">I"
        out[at : at + 4] = struct.pack(order, extremes[int(rng.integers(len(extremes)))])
    return bytes(out)


def sane(data: bytes) -> None:
    """The law of one damaged file: only ClapError, or finite samples within the limits."""
    limits = Limits(max_duration_s=60)
    try:
        got = audio.load(data, RATE, limits)
    except ClapError:
        return
    if not (got.dtype == np.float32 and np.isfinite(got).all() and 1 <= len(got) <= 61 * RATE):
        raise ValueError(f"{len(got)} samples of {got.dtype}")


def run_mutations(cases: int, seed: int, progress: str, check: Callable[[bytes], None]) -> Any:
    """In the child: `cases` damaged files of each format; what broke the law, by case."""
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
    mono, stereo = noise(7, 4000), np.stack([tone(440, 16_000, 3000)] * 2, axis=1)
    failures = {}
    with open(progress, "wb", buffering=0) as file:
        for kind in FORMATS:
            originals = [encode(mono, 16_000, kind), encode(stereo, 16_000, kind)]
            for case in range(cases):
                rng = np.random.default_rng([seed, case])
                name = f"{kind} seed {seed} case {case}"
                os.pwrite(file.fileno(), name.ljust(80).encode(), 0)
                start = time.process_time()
                try:
                    check(mutate(originals[case % 2], rng))
                except Exception as error:  # noqa: BLE001 - the law is that there is none
                    failures[name] = repr(error)
                if time.process_time() - start > 5:
                    failures[name] = "slow"
    return {"cases": cases * len(FORMATS), "failures": failures}


def campaign(tmp_path: Path, cases: int, seed: int, check: str = "sane") -> Any:
    """The child's report; a crash fails with the case that was running."""
    progress = tmp_path / "progress"
    try:
        return child("mutations", str(cases), str(seed), str(progress), check)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        pytest.fail(f"{error} at {progress.read_text().strip()}")


def test_damaged_files_give_errors_or_samples(tmp_path: Path) -> None:
    report = campaign(tmp_path, cases=400, seed=1)
    assert report == {"cases": 3600, "failures": {}}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 110))
def test_many_damaged_files_give_errors_or_samples(tmp_path: Path, seed: int) -> None:
    report = campaign(tmp_path, cases=4000, seed=seed)
    assert report == {"cases": 36_000, "failures": {}}


@pytest.mark.parametrize("check", ["crash", "leak"])
def test_the_campaign_sees_crashes_and_foreign_errors(tmp_path: Path, check: str) -> None:
    if check == "leak":
        assert campaign(tmp_path, cases=3, seed=1, check=check)["failures"]
        return
    with pytest.raises(pytest.fail.Exception, match="SIGABRT.*wav seed 1 case 0"):
        campaign(tmp_path, cases=3, seed=1, check=check)


def abort(data: bytes) -> None:
    """Control: what a crash in native code looks like."""
    os.abort()


def leak(data: bytes) -> None:
    """Control: an error of libsndfile that nobody translates."""
    soundfile.read(io.BytesIO(b"RIFF" + bytes(40)))


CHECKS = {"sane": sane, "crash": abort, "leak": leak}


# --- the child ---


def child(*arguments: str) -> Any:
    """This file's `main` in another process, with the same path; its JSON line."""
    result = subprocess.run(
        [sys.executable, __file__, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # libmpg123 describes each damaged frame
        timeout=3600,
        check=True,
    )
    return json.loads(result.stdout)


def main(mode: str, *rest: str) -> None:
    if mode == "bombs":
        report = run_bombs()
    else:
        cases, seed, progress, check = rest
        report = run_mutations(int(cases), int(seed), progress, CHECKS[check])
    print(json.dumps(report))


if __name__ == "__main__":
    main(*sys.argv[1:])
