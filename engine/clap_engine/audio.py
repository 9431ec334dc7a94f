"""Sound in any form -> waveform -> windows, in bounded memory.

In:  a path, the bytes of a file, a binary file object, or `(waveform, rate_hz)`.
Out: `AudioInfo`; waveform float32 [T], mono, finite, at the rate that was asked for; windows
     float32 [W, T_window] with their spans in seconds float64 [W, 2].
Knows nothing about log-mels, graphs or search.

Everything from soundfile (libsndfile) and soxr is called and translated here, nowhere else.
A header is read first and refused if it lies outside the limits; what it promises is then
counted while the samples are decoded, block by block, never read on trust.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from clap_engine.arrays import TINY, Float32
from clap_engine.deadline import Deadline
from clap_engine.errors import AudioError, DependencyError
from clap_engine.limits import DEFAULT_LIMITS, Limits
from clap_engine.sources import (
    BLOCK,
    AudioInfo,
    AudioNotFoundError,
    Source,
    check_limits,
    open_array,
    open_file,
)
from clap_engine.windows import batches, crop, cut

__all__ = [
    "AudioInfo",
    "Source",
    "decode_blocks",
    "formats",
    "legacy",
    "load",
    "probe",
    "sound_files",
    "windows",
]

Float64 = npt.NDArray[np.float64]
SUFFIXES = frozenset(
    (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".au", ".w64", ".caf")
)

# libsndfile's name for "the header gives no length".
UNKNOWN = 2**63 - 1

# Without a length in its header, a file may unpack to this many frames (95 s at 44.1 kHz, half a
# second of work at worst) before it is asked whether its bytes can hold them.
HEADLESS = 2**22

# 400 dB over full scale: float files in integer units stay far below, torn ones don't.
LOUDEST = np.float32(1e20)

# libsndfile knows parsers for two dozen formats; damaged bytes reach only those we ask for.
FORMATS = frozenset({"WAV", "WAVEX", "RF64", "FLAC", "OGG", "MP3", "AIFF", "AU", "W64", "CAF"})
HEADS = (b"RIFF", b"RIFX", b"RF64", b"fLaC", b"OggS", b"FORM", b".snd", b"dns.", b"riff", b"caff")

# The second byte of an MP3's frames: MPEG 1, 2 and 2.5, with and without a checksum.
LAYER_3 = (b"\xfb", b"\xfa", b"\xf3", b"\xf2", b"\xe3", b"\xe2")

_log = logging.getLogger(__name__)


class WindowSpec(Protocol):
    """What windowing needs of an audio front end; the manifest's AudioSpec has it."""

    @property
    def rate_hz(self) -> int: ...
    @property
    def window_s(self) -> float: ...
    @property
    def hop_s(self) -> float: ...
    @property
    def padding(self) -> str: ...


@dataclass(frozen=True)
class _Sound:
    """An open source: its header, its name in messages, its raw blocks [n, C]."""

    info: AudioInfo
    name: str
    blocks: Iterator[Float32]


def formats() -> tuple[str, ...]:
    """The formats that this machine's libsndfile and this module read; MP3 needs libsndfile 1.1."""
    return tuple(sorted(FORMATS.intersection(_soundfile().available_formats())))


def probe(source: Source, limits: Limits = DEFAULT_LIMITS) -> AudioInfo:
    """The header alone; AudioError if it can't be read or lies outside the limits."""
    with _open(source, limits) as sound:
        return sound.info


def load(source: Source, rate_hz: int, limits: Limits = DEFAULT_LIMITS) -> Float32:
    """The whole clip [T]: O(clip) memory, so use `windows` where the clip may be long."""
    return np.concatenate(list(decode_blocks(source, rate_hz, limits)))


def decode_blocks(
    source: Source,
    rate_hz: int,
    limits: Limits = DEFAULT_LIMITS,
    deadline: Deadline | None = None,
) -> Iterator[Float32]:
    """Blocks of the mono waveform at `rate_hz`, at least one sample in all, O(block) memory.

    A 2-D array is [T, C] or [C, T]: the axis no longer than `limits.max_channels` counts the
    channels, and exactly one may be. Integers are scaled as in a file: int16 by 2**15.
    """
    with _open(source, limits, deadline) as sound:
        yield from _resample(_downmix(sound, limits), sound, rate_hz)


def windows(
    source: Source,
    spec: WindowSpec,
    limits: Limits = DEFAULT_LIMITS,
    hop_s: float | None = None,
    deadline: Deadline | None = None,
) -> Iterator[tuple[Float32, Float64]]:
    """Batches of at most 16 windows [W, T_window] and spans [W, 2]; O(window) memory.

    The deadline is looked at before each block that is decoded (65,536 samples) and for each
    64 KiB of a file object.

    A clip shorter than a window fills one as `spec.padding` says, and its span is its own length.
    A longer one is cut at the hop, its last window shifted back to end with the clip.
    The last span of the last batch so always ends at the clip's duration.
    """
    size = round(spec.rate_hz * spec.window_s)
    hop = round(spec.rate_hz * (spec.hop_s if hop_s is None else hop_s))
    if not size // 100 <= hop <= size:
        raise AudioError(
            f"a hop of {hop / spec.rate_hz:g} s is outside {spec.window_s / 100:g}-"
            f"{spec.window_s:g} s, a hundredth of the window to the whole; choose another"
        )
    deadline = deadline or Deadline()
    blocks = deadline.checked(decode_blocks(source, spec.rate_hz, limits, deadline))
    return batches(cut(blocks, size, hop, spec.padding), size, spec.rate_hz)


def legacy(
    source: Source, spec: WindowSpec, start: int = 0, limits: Limits = DEFAULT_LIMITS
) -> Float32:
    """One window [1, T_window] as msclap cuts it from a mono file at the model's rate.

    For parity tests only: msclap takes `start` at random, lays the channels of a stereo file end
    to end and resamples otherwise, which this package never does.
    """
    with _open(source, limits) as sound:
        if (sound.info.channels, sound.info.rate_hz) != (1, spec.rate_hz):
            raise AudioError(
                f"{sound.name} has {sound.info.channels} channels at {sound.info.rate_hz} Hz; the "
                f"legacy crop is defined for 1 at {spec.rate_hz} Hz; use windows()"
            )
        waveform = np.concatenate(list(_downmix(sound, limits)))
    return crop(waveform, round(spec.rate_hz * spec.window_s), start)[None]


def sound_files(root: str | os.PathLike[str]) -> list[Path]:
    """Files under `root` that sound by their extension, in the order of their POSIX paths.

    Hidden names are left out (macOS keeps a `._x.wav` beside each `x.wav`), links to folders are
    not followed, a folder that can't be listed is logged. A file as `root` is its own list.
    """
    root = Path(root)
    if root.is_file():
        return [root]
    if not root.is_dir():
        raise AudioNotFoundError(f"{root} does not exist; give a folder of sounds")
    found = []
    for folder, subfolders, names in os.walk(root, onerror=_log_unlisted):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        paths = (Path(folder, name) for name in names if not name.startswith("."))
        found += [p for p in paths if p.suffix.lower() in SUFFIXES and p.is_file()]
    return sorted(found, key=lambda path: path.relative_to(root).as_posix())


def _log_unlisted(error: OSError) -> None:
    _log.warning("%s is left out: %s", error.filename, error.strerror)


def _downmix(sound: _Sound, limits: Limits) -> Iterator[Float32]:
    """Raw blocks [n, C] -> mono blocks [n]: counted, finite, free of denormals, own memory."""
    info = sound.info
    most = int(limits.max_duration_s * info.rate_hz)
    count = 0
    for block in sound.blocks:
        count += len(block)
        if count > most:
            raise AudioError(
                f"{sound.name} is longer than {limits.max_duration_s:g} s (max_duration_s); cut it"
            )
        mono = block[:, 0]
        if info.channels > 1:
            # Column by column: stereo takes 0.03 ms a block, numpy's mean(axis=1) 0.8.
            for channel in range(1, info.channels):
                mono = mono + block[:, channel]
            mono = mono * np.float32(1 / info.channels)
        loudness = np.abs(mono)
        if not loudness.max() <= LOUDEST:
            raise AudioError(
                f"{sound.name} holds NaN, infinity or values beyond 1e20; only finite samples "
                "are allowed: write the file again"
            )
        yield np.where(loudness < TINY, np.float32(0), mono)
    if not count:
        raise AudioError(f"{sound.name} holds no samples; at least one is needed")
    _check_promise(sound, count)


def _check_promise(sound: _Sound, count: int) -> None:
    promised = sound.info.frames
    if promised is None or count >= promised:
        return
    found = (
        f"{sound.name} ends after {count / sound.info.rate_hz:.2f} s of the "
        f"{promised / sound.info.rate_hz:.2f} s that its header promises"
    )
    if not sound.info.format.startswith("MP3"):
        raise AudioError(f"{found}: it is cut off or its header is wrong; fetch or write it again")
    # An MP3's length is an estimate where no Xing header gives it, and stale headers are common.
    if promised - count > max(sound.info.rate_hz / 10, promised / 50):
        _log.warning("%s; what is there is used", found)


def _resample(blocks: Iterator[Float32], sound: _Sound, rate_hz: int) -> Iterator[Float32]:
    """Mono blocks -> mono blocks at `rate_hz`; soxr's stream gives the same bits for any cut."""
    if sound.info.rate_hz == rate_hz:
        yield from blocks
        return
    import soxr

    stream = soxr.ResampleStream(sound.info.rate_hz, rate_hz, 1, dtype="float32", quality="HQ")
    first, count = np.empty(0, np.float32), 0
    for block in blocks:
        first = first if first.size else block[:1]
        out = _flush(stream.resample_chunk(block))
        count += len(out)
        yield out
    tail = _flush(stream.resample_chunk(np.empty(0, np.float32), last=True))
    # A few samples at a high rate round to none; a clip that has samples keeps one.
    yield tail if count + len(tail) else first


def _flush(x: Float32) -> Float32:
    return np.where(np.abs(x) < TINY, np.float32(0), x)


@contextlib.contextmanager
def _open(source: Source, limits: Limits, deadline: Deadline | None = None) -> Iterator[_Sound]:
    """Any source as a `_Sound` whose header lies within the limits."""
    if isinstance(source, tuple):
        yield _Sound(*open_array(source, limits))
        return
    with open_file(source, limits, deadline) as (file, name):
        yield from _opened(file, name, limits)


def _opened(file: BinaryIO, name: str, limits: Limits) -> Iterator[_Sound]:
    """One `_Sound`, with libsndfile's handle open around it."""
    _check_head(file, name)
    # By descriptor no Python runs inside libsndfile: nothing there can swallow an exception.
    handle = file.fileno() if os.name == "posix" else file
    with _translated(name):
        sound = _soundfile().SoundFile(handle, closefd=False)
    try:
        # soundfile seeks after each read of a seekable file: that changes the samples of an MP3,
        # and makes small blocks of FLAC three times slower.
        sound.seekable = lambda: False
        if sound.format not in FORMATS:
            raise AudioError(f"{name} is {sound.format}; {', '.join(formats())} can be read")
        frames = None if sound.frames == UNKNOWN else int(sound.frames)
        info = AudioInfo(
            rate_hz=int(sound.samplerate),
            channels=int(sound.channels),
            frames=frames,
            duration_s=None if frames is None else frames / max(1, sound.samplerate),
            format=f"{sound.format} {sound.subtype}",
        )
        check_limits(info, name, limits)
        yield _Sound(info, name, _read_blocks(sound, info, file, name))
    finally:
        with _translated(name):
            sound.close()


def _check_head(file: BinaryIO, name: str) -> None:
    """Only bytes that begin as one of our formats reach libsndfile's parsers."""
    head = file.read(12)
    file.seek(0)
    is_mp3 = head[:3] == b"ID3" or (len(head) > 1 and head[0] == 0xFF and head[1] >= 0xE0)
    if not is_mp3 and not head.startswith(HEADS):
        found = f"starts with {head[:4]!r}" if head else "is empty"
        raise AudioError(f"{name} {found}; {', '.join(formats())} can be read")
    if is_mp3 and "MP3" not in formats():
        version = _soundfile().__libsndfile_version__
        raise DependencyError(f"libsndfile {version} can't read MP3; install 1.1 or newer")


def _read_blocks(sound: Any, info: AudioInfo, file: BinaryIO, name: str) -> Iterator[Float32]:
    """Blocks [n, C]; each is a view into one buffer and holds until the next."""
    buffer = np.empty((BLOCK, info.channels), np.float32)
    count = 0
    while True:
        with _translated(name):
            block: Float32 = sound.read(out=buffer)
        if not len(block):
            break
        count += len(block)
        # FLAC packs silence to 0.003 bytes a frame, tones and noise to 1.5.
        if info.frames is None and count > max(HEADLESS, 100 * file.tell()):
            raise AudioError(
                f"{name} gives no length and unpacks to {count} frames from {file.tell()} bytes; "
                "write it again with its length"
            )
        yield block
    # libsndfile stops an MP3 at its Xing header's length or, without one, at an estimate that a
    # variable bit rate makes three times too short: frames that follow would be lost in silence.
    rest = file.read(8192) if info.format.startswith("MP3") else b""
    if any(rest.count(b"\xff" + version) >= 4 for version in LAYER_3):
        raise AudioError(
            f"{name} goes on after the {count / info.rate_hz:.2f} s that its header gives; "
            "write it again with its length (ffmpeg -i in.mp3 -c copy out.mp3)"
        )


def _soundfile() -> Any:
    """soundfile, loaded at the first sound: text needs no libsndfile."""
    try:
        import soundfile
    except OSError as error:
        raise DependencyError(f"libsndfile won't load ({error}); install libsndfile1") from error
    return soundfile


@contextlib.contextmanager
def _translated(name: str) -> Iterator[None]:
    try:
        yield
    except _soundfile().SoundFileError as error:
        reason = getattr(error, "error_string", None) or error
        raise AudioError(f"{name} can't be decoded: {reason}; fetch or write it again") from error
