"""The large constants of a graph, handed over beside it instead of being parsed with it.

In:  the verified bytes of an ONNX model.
Out: the same model without those bytes, and arrays that look into the original where they lie.
Knows nothing about onnxruntime, bundles or files.

A library that parses a model copies every weight into the message, again into a tensor, and once
more where it packs them for its products: GPT-2's 127 MB took 380 MB that way. With the constants
named but not held by the message, two of those copies are never made.

Field numbers and wire types are those of onnx.proto3 (ONNX 1.x) and of protobuf's encoding.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

# Smaller constants stay: shapes are inferred from them, and copying them costs nothing.
LEAST_BYTES = 1 << 16
# What the message calls the file that holds them, at the offsets they have in the original.
BESIDE = "beside"

_MODEL_GRAPH = 7
_GRAPH_NODE, _GRAPH_INITIALIZER = 1, 5
_NODE_INPUT, _NODE_OP_TYPE = 1, 4
_TENSOR_DIMS, _TENSOR_TYPE, _TENSOR_NAME, _TENSOR_RAW = 1, 2, 8, 9
_TENSOR_EXTERNAL, _TENSOR_LOCATION = 13, 14
_ENTRY_KEY, _ENTRY_VALUE = 1, 2
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
# TensorProto.DataType; what else there is (bfloat16, float8, strings) has no numpy twin.
_DTYPES = {
    1: np.float32, 2: np.uint8, 3: np.int8, 4: np.uint16, 5: np.int16, 6: np.int32, 7: np.int64,
    10: np.float16, 11: np.float64,
}  # fmt: skip


class _Field(NamedTuple):
    """One field: the bytes of all of it [start, end), its payload [at, end) or its number."""

    number: int
    wire: int
    start: int
    at: int
    end: int
    value: int


class _Malformed(Exception):
    """Not what protobuf writes."""


def taken_out(model: bytes | memoryview) -> tuple[bytes, dict[str, npt.NDArray[Any]]]:
    """(the model without its large constants, those constants by name, as views of `model`).

    A model that can't be read this way is returned as it is, with none: whoever loads it will
    say what is wrong with it.
    """
    try:
        return _taken_out(model)
    except (_Malformed, IndexError, UnicodeDecodeError):
        return bytes(model), {}


def read_by(model: bytes | memoryview, operators: Collection[str]) -> list[tuple[int, int]]:
    """(start, end) in `model` of each large constant that nodes of these kinds read, and no others.

    None where the model can't be read.
    """
    try:
        return _read_by(model, operators)
    except (_Malformed, IndexError, UnicodeDecodeError):
        return []


def _read_by(model: bytes | memoryview, operators: Collection[str]) -> list[tuple[int, int]]:
    places: dict[str, tuple[int, int]] = {}
    readers: dict[str, set[str]] = {}
    for field in _fields(model, 0, len(model)):
        if field.number != _MODEL_GRAPH or field.wire != _BYTES:
            continue
        for part in _fields(model, field.at, field.end):
            if part.number == _GRAPH_INITIALIZER and part.end - part.at >= LEAST_BYTES:
                inner = list(_fields(model, part.at, part.end))
                raw = [(f.at, f.end) for f in inner if f.number == _TENSOR_RAW]
                names = [_text(model, f) for f in inner if f.number == _TENSOR_NAME]
                places.update(zip(names, raw, strict=False))
            elif part.number == _GRAPH_NODE:
                inner = list(_fields(model, part.at, part.end))
                kind = "".join(_text(model, f) for f in inner if f.number == _NODE_OP_TYPE)
                for f in inner:
                    if f.number == _NODE_INPUT:
                        readers.setdefault(_text(model, f), set()).add(kind)
    return sorted(
        place for name, place in places.items() if readers.get(name, {""}) <= set(operators)
    )


def _text(model: bytes | memoryview, field: _Field) -> str:
    return bytes(model[field.at : field.end]).decode()


def _taken_out(model: bytes | memoryview) -> tuple[bytes, dict[str, npt.NDArray[Any]]]:
    found: dict[str, npt.NDArray[Any]] = {}
    parts: list[bytes | memoryview] = []
    for field in _fields(model, 0, len(model)):
        if field.number != _MODEL_GRAPH or field.wire != _BYTES:
            parts.append(model[field.start : field.end])
            continue
        graph: list[bytes | memoryview] = []
        for part in _fields(model, field.at, field.end):
            without = None
            if part.number == _GRAPH_INITIALIZER and part.end - part.at >= LEAST_BYTES:
                without = _without_bytes(model, part, found)
            graph.append(model[part.start : part.end] if without is None else without)
        parts.append(_delimited(_MODEL_GRAPH, b"".join(graph)))
    return b"".join(parts), found


def _without_bytes(
    model: bytes | memoryview, tensor: _Field, found: dict[str, npt.NDArray[Any]]
) -> bytes | None:
    """The initializer with its bytes elsewhere, or None where it holds none that can be viewed."""
    shape: list[int] = []
    kept: list[bytes | memoryview] = []
    raw, dtype, name = None, None, ""
    for field in _fields(model, tensor.at, tensor.end):
        if field.number == _TENSOR_RAW:
            raw = field
            continue
        kept.append(model[field.start : field.end])
        if field.number == _TENSOR_DIMS:
            shape += [field.value] if field.wire == _VARINT else _packed(model, field)
        elif field.number == _TENSOR_TYPE:
            dtype = _DTYPES.get(field.value)
        elif field.number == _TENSOR_NAME:
            name = _text(model, field)
        elif field.number in (_TENSOR_EXTERNAL, _TENSOR_LOCATION):
            return None
    if raw is None or dtype is None or not name or name in found:
        return None
    if np.prod(shape, dtype=object) * np.dtype(dtype).itemsize != raw.end - raw.at:
        return None
    array = np.frombuffer(model, dtype, (raw.end - raw.at) // np.dtype(dtype).itemsize, raw.at)
    if not array.flags.aligned:
        return None
    found[name] = array.reshape(shape)
    place = {"location": BESIDE, "offset": str(raw.at), "length": str(raw.end - raw.at)}
    kept += [_delimited(_TENSOR_EXTERNAL, _entry(*item)) for item in place.items()]
    kept.append(_varint(_TENSOR_LOCATION << 3) + _varint(1))
    return _delimited(_GRAPH_INITIALIZER, b"".join(kept))


def _fields(data: bytes | memoryview, at: int, end: int) -> Iterator[_Field]:
    while at < end:
        start = at
        key, at = _number(data, at)
        wire, value = key & 7, 0
        if wire == _VARINT:
            value, stop = _number(data, at)
        elif wire == _BYTES:
            size, at = _number(data, at)
            stop = at + size
        elif wire in (_FIXED64, _FIXED32):
            stop = at + (8 if wire == _FIXED64 else 4)
        else:
            raise _Malformed
        if stop > end:
            raise _Malformed
        yield _Field(key >> 3, wire, start, at, stop, value)
        at = stop


def _packed(data: bytes | memoryview, field: _Field) -> list[int]:
    values, at = [], field.at
    while at < field.end:
        value, at = _number(data, at)
        values.append(value)
    return values


def _number(data: bytes | memoryview, at: int) -> tuple[int, int]:
    """A varint and where it ends; of at most ten bytes."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise _Malformed


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _entry(key: str, value: str) -> bytes:
    return _delimited(_ENTRY_KEY, key.encode()) + _delimited(_ENTRY_VALUE, value.encode())


def _delimited(number: int, payload: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(payload)) + payload
