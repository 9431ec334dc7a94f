"""What a caller hands over as a sound -> an open file or an array in blocks, within limits.

In:  a path, the bytes of a file, a binary file object, or `(waveform, rate_hz)`.
Out: an unbuffered regular file of at most max_bytes; or an array's `AudioInfo` and its blocks
     float32 [n, C]; with each a name for messages.
Knows nothing about codecs, resampling or windows.
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt

from clap_engine.arrays import Float32
from clap_engine.deadline import Deadline
from clap_engine.errors import AudioError, DeadlineError, NotFoundError
from clap_engine.limits import Limits

FileSource: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO"
Source: TypeAlias = "FileSource | tuple[Any, int]"

# Frames per read. From 16,384 on the speed is flat; eight channels of this are 2 MiB.
BLOCK = 65_536

# Bytes per read of a file object: a slow one is asked often whether there is still time.
_CHUNK = 1 << 16

# dtype -> (offset, scale) to [-1, 1), as libsndfile scales the same integers in a file.
_INTEGERS = {"uint8": (128.0, 128.0), "int16": (0.0, 2.0**15), "int32": (0.0, 2.0**31)}


@dataclass(frozen=True)
class AudioInfo:
    """What a header says, or an array is; frames and duration_s are None where it doesn't say."""

    rate_hz: int
    channels: int
    frames: int | None
    duration_s: float | None
    format: str


class AudioNotFoundError(AudioError, NotFoundError):
    """A sound file that was named does not exist."""


@contextlib.contextmanager
def open_file(
    source: FileSource, limits: Limits, deadline: Deadline | None = None
) -> Iterator[tuple[BinaryIO, str]]:
    """A path, bytes or a file object -> an open regular file within max_bytes, and its name."""
    if isinstance(source, (str, os.PathLike)):
        name = os.fspath(source)
        file = _open_path(name)
    elif isinstance(source, (bytes, bytearray, memoryview)):
        name = "<bytes>"
        file = _spool(io.BytesIO(source), name, limits, deadline)
    elif hasattr(source, "read"):
        name = f"<{type(source).__name__}>"
        file = _spool(source, name, limits, deadline)
    else:
        raise AudioError(
            f"{type(source).__name__} is no sound; give a path, the bytes of a file, a binary "
            "file object or (waveform, rate_hz)"
        )
    with file:
        size = os.fstat(file.fileno()).st_size
        if size > limits.max_bytes:
            raise AudioError(f"{name} has {size} bytes, {limits.max_bytes} are allowed (max_bytes)")
        yield file, name


def _open_path(path: str) -> BinaryIO:
    # Without O_NONBLOCK the open of a FIFO waits for a writer that may never come.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError as error:
        raise AudioNotFoundError(f"{path} does not exist; check the path") from error
    except (OSError, ValueError) as error:
        raise AudioError(f"{path!r} can't be opened: {error}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise AudioError(f"{path} is no regular file; give a sound file")
    return open(descriptor, "rb", buffering=0)


def _spool(stream: BinaryIO, name: str, limits: Limits, deadline: Deadline | None) -> BinaryIO:
    """The rest of `stream` as a file without a name, in memory where the system can."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("clap-engine")
        file: BinaryIO = open(descriptor, "wb+", buffering=0)  # noqa: SIM115
    else:
        file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
    size = 0
    try:
        while chunk := stream.read(_CHUNK):
            if deadline is not None:
                deadline.check()
            if not isinstance(chunk, bytes):
                raise AudioError(f"{name} gives {type(chunk).__name__}; open it in binary mode")
            size += len(chunk)
            if size > limits.max_bytes:
                raise AudioError(
                    f"{name} has more than {limits.max_bytes} bytes, the most allowed (max_bytes)"
                )
            file.write(chunk)
        file.seek(0)
    except DeadlineError:  # an OSError, too
        file.close()
        raise
    except OSError as error:
        file.close()
        raise AudioError(f"{name} can't be read: {error}") from error
    except BaseException:
        file.close()
        raise
    return file


def check_limits(info: AudioInfo, name: str, limits: Limits) -> None:
    if not limits.min_rate_hz <= info.rate_hz <= limits.max_rate_hz:
        raise AudioError(
            f"{name}: {info.rate_hz} Hz is outside {limits.min_rate_hz}-{limits.max_rate_hz} Hz; "
            "resample it first"
        )
    if not 1 <= info.channels <= limits.max_channels:
        raise AudioError(
            f"{name}: {info.channels} channels, 1-{limits.max_channels} are allowed "
            "(max_channels); mix it down first"
        )
    if info.duration_s is not None and info.duration_s > limits.max_duration_s:
        raise AudioError(
            f"{name}: {info.duration_s:.0f} s, {limits.max_duration_s:g} s are allowed "
            "(max_duration_s); cut it first"
        )
    if info.frames == 0:
        raise AudioError(f"{name} holds no samples; at least one is needed")


def open_array(source: tuple[Any, ...], limits: Limits) -> tuple[AudioInfo, str, Iterator[Float32]]:
    """(waveform, rate_hz) -> its header, name and blocks [n, C]; the array is never written."""
    if len(source) != 2:
        raise AudioError(f"a tuple of {len(source)} is no sound; give (waveform, rate_hz)")
    waveform, rate = source
    if (
        isinstance(rate, bool)
        or not isinstance(rate, (int, float, np.integer, np.floating))
        or rate != rate // 1
    ):
        raise AudioError(f"rate_hz {rate!r} is no whole number; give (waveform, rate_hz)")
    array = _frames_first(waveform, limits.max_channels)
    frames, channels = array.shape
    info = AudioInfo(int(rate), channels, frames, frames / max(1, int(rate)), "array")
    check_limits(info, "waveform", limits)
    blocks = (_to_float(array[i : i + BLOCK]) for i in range(0, frames, BLOCK))
    return info, "waveform", blocks


def _frames_first(waveform: Any, max_channels: int) -> npt.NDArray[Any]:
    """[T], [T, C] or [C, T] -> a view [T, C] of floats or of integers that files know."""
    try:
        array = np.asarray(waveform)
    except (ValueError, TypeError, RuntimeError) as error:
        raise AudioError(f"waveform is no array: {error}; give float32 [T]") from error
    if array.dtype.kind != "f" and array.dtype.name not in _INTEGERS:
        raise AudioError(
            f"waveform has dtype {array.dtype}; floats, {', '.join(_INTEGERS)} are allowed"
        )
    if array.ndim == 1:
        return array[:, None]
    if array.ndim != 2 or (array.shape[0] <= max_channels) == (array.shape[1] <= max_channels):
        raise AudioError(
            f"waveform has shape {list(array.shape)}; give [T], or [T, C] or [C, T] with "
            f"exactly one axis of at most {max_channels} (max_channels)"
        )
    return array if array.shape[1] <= max_channels else array.T


def _to_float(block: npt.NDArray[Any]) -> Float32:
    """[n, C] of any allowed dtype -> float32; integers to [-1, 1) as libsndfile scales them."""
    if block.dtype.kind == "f":
        with np.errstate(over="ignore"):  # infinity is refused by the caller, in words
            return block.astype(np.float32)
    offset, scale = _INTEGERS[block.dtype.name]
    return ((block.astype(np.float64) - offset) / scale).astype(np.float32)
