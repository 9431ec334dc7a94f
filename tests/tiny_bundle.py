"""A bundle of a few kilobytes with real graphs, made without the onnx package.

In:  a directory and a seed.
Out: manifest, graphs, front end, tokenizer and goldens of an 8-dim space.
Knows nothing about what tests do with it.
"""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from clap_engine import manifest as manifests
from clap_engine.manifest import AudioGolden, AudioSpec, Goldens, GraphSpec, Manifest, TextSpec

DIM, N_MELS, N_FFT, HOP, RATE_HZ, WINDOW_S, N_FRAMES = 8, 8, 128, 64, 4_000, 0.25, 14
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "slow", "fast", "banjo", "melody", "dog", "barks"]
WORDS += ["rain", "on", "tin", "roof", "!", "?", "1"]
FLOAT, INT64 = 1, 7


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _field(number: int, value: int | str | bytes) -> bytes:
    """One field of a protobuf message: a varint, or bytes with their length."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _node(kind: str, inputs: list[str], output: str, **attributes: int | list[int]) -> bytes:
    out = b"".join(_field(1, name) for name in inputs) + _field(2, output) + _field(4, kind)
    for name, value in attributes.items():
        if isinstance(value, int):
            body = _field(3, value) + _field(20, 2)
        else:
            body = b"".join(_field(8, item) for item in value) + _field(20, 7)
        out += _field(5, _field(1, name) + body)
    return out


def _tensor(name: str, array: np.ndarray[Any, Any]) -> bytes:
    kind = FLOAT if array.dtype == np.float32 else INT64
    dims = b"".join(_field(1, n) for n in array.shape)
    return dims + _field(2, kind) + _field(8, name) + _field(9, array.tobytes())


def _value(name: str, kind: int, dims: list[int | str]) -> bytes:
    shape = b"".join(_field(1, _field(1 if isinstance(d, int) else 2, d)) for d in dims)
    return _field(1, name) + _field(2, _field(1, _field(1, kind) + _field(2, shape)))


def graph(
    nodes: list[bytes], tensors: list[bytes], inputs: list[bytes], outs: list[bytes]
) -> bytes:
    """The bytes of an ONNX model, opset 13."""
    body = b"".join(_field(1, node) for node in nodes) + _field(2, "tiny")
    body += b"".join(_field(5, tensor) for tensor in tensors)
    body += b"".join(_field(11, value) for value in inputs)
    body += b"".join(_field(12, value) for value in outs)
    return _field(1, 7) + _field(8, _field(1, "") + _field(2, 13)) + _field(7, body)


def audio_graph(weights: np.ndarray[Any, Any], *, unit: bool = True) -> bytes:
    """log_mel [B, F, M] -> embedding [B, D] and frames [B, F, D]; `unit=False` breaks a promise."""
    last = "LpNormalization" if unit else "Identity"
    of_rows = {"axis": 1, "p": 2} if unit else {}
    of_frames = {"axis": 2, "p": 2} if unit else {}
    return graph(
        [
            _node("ReduceMean", ["log_mel"], "mean", axes=[1], keepdims=0),
            _node("MatMul", ["mean", "w"], "wide"),
            _node(last, ["wide"], "embedding", **of_rows),
            _node("MatMul", ["log_mel", "w"], "rows"),
            _node(last, ["rows"], "frames", **of_frames),
        ],
        [_tensor("w", weights.astype(np.float32))],
        [_value("log_mel", FLOAT, ["B", N_FRAMES, N_MELS])],
        [_value("embedding", FLOAT, ["B", DIM]), _value("frames", FLOAT, ["B", N_FRAMES, DIM])],
    )


def text_graph(table: np.ndarray[Any, Any]) -> bytes:
    """input_ids, attention_mask [B, L] -> embedding [B, D]: the mean of the words' rows."""
    return graph(
        [
            _node("Gather", ["table", "input_ids"], "words"),
            _node("Cast", ["attention_mask"], "flat", to=1),
            _node("Unsqueeze", ["flat", "axes"], "mask"),
            _node("Mul", ["words", "mask"], "read"),
            _node("ReduceMean", ["read"], "mean", axes=[1], keepdims=0),
            _node("LpNormalization", ["mean"], "embedding", axis=1, p=2),
        ],
        [_tensor("table", table.astype(np.float32)), _tensor("axes", np.array([2], np.int64))],
        [_value("input_ids", INT64, ["B", "L"]), _value("attention_mask", INT64, ["B", "L"])],
        [_value("embedding", FLOAT, ["B", DIM])],
    )


def tokenizer_json() -> bytes:
    """WordPiece over WORDS, lower-cased, [CLS] ... [SEP]."""
    vocabulary = {word: place for place, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    return bytes(tokenizer.to_str().encode())


def npz(**arrays: np.ndarray[Any, Any]) -> bytes:
    """The bytes of an .npz file."""
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


def _unit_rows(random: np.random.Generator, n: int) -> np.ndarray[Any, Any]:
    rows = random.normal(size=(n, DIM))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def make_files(seed: int = 0) -> dict[str, bytes]:
    """Name -> bytes of every file but the manifest."""
    random = np.random.default_rng(seed)
    weights, table = random.normal(size=(N_MELS, DIM)), random.normal(size=(len(WORDS), DIM))
    return {
        "audio.fp32.onnx": audio_graph(weights),
        "audio.int8.onnx": audio_graph(np.round(weights, 1)),
        "text.fp32.onnx": text_graph(table),
        "text.int8.onnx": text_graph(np.round(table, 1)),
        "frontend.npz": npz(
            window=np.hanning(N_FFT).astype(np.float32),
            mel=random.uniform(0, 1, size=(N_FFT // 2 + 1, N_MELS)).astype(np.float32),
        ),
        "tokenizer.json": tokenizer_json(),
        "goldens.npz": npz(text=_unit_rows(random, 2), audio=_unit_rows(random, 3)),
        "README.md": b"A bundle for tests.\n",
    }


def make_manifest(files: dict[str, bytes]) -> Manifest:
    """The sealed manifest of `files`."""
    graphs = {
        tower: {
            "fp32": GraphSpec(f"{tower}.fp32.onnx", dynamic_scale=False),
            "int8": GraphSpec(f"{tower}.int8.onnx", dynamic_scale=True),
        }
        for tower in ("audio", "text")
    }
    return manifests.seal(
        Manifest(
            schema=1,
            id="tiny",
            revision="",
            space_id="0123456789abcdef",
            dim=DIM,
            ladder=(2, 4, 8),
            description="Für Tests ♪",
            demonstration=True,
            licences={"code": "MIT", "weights": "MIT", "training_data": "none"},
            producer={"clap-export": "0.1.0"},
            min_runtime="0.1.0",
            files={name: manifests.file_entry(data) for name, data in files.items()},
            audio=AudioSpec(
                rate_hz=RATE_HZ,
                window_s=WINDOW_S,
                hop_s=WINDOW_S,
                n_fft=N_FFT,
                hop=HOP,
                pad=0,
                n_mels=N_MELS,
                n_frames=N_FRAMES,
                floor_db=80.0,
                padding="repeat",
                frontend="frontend.npz",
                graphs=graphs["audio"],
                frame_s=WINDOW_S / N_FRAMES,
            ),
            text=TextSpec("tokenizer.json", 16, 0, "", "", graphs["text"]),
            logit_scale=10.0,
            logit_bias=0.0,
            templates={"classify": ("the sound of {label}",)},
            calibration={"background_mean": 0.1, "background_std": 0.05},
            parity={"int8": {"cosine": 0.999, "ranks": [1, 2, None], "data": "none"}},
            goldens=Goldens(
                texts=("a slow banjo melody", "rain on a tin roof"),
                audio=tuple(AudioGolden(manifests.GOLDEN_KINDS[i], i) for i in range(3)),
                file="goldens.npz",
                tolerance={"fp32": 0.9999, "int8": 0.98},
            ),
        )
    )


def write_bundle(directory: Path, files: dict[str, bytes], manifest: Manifest) -> Path:
    """Write a bundle as it is given: nothing here checks that manifest and files agree."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (directory / name).write_bytes(data)
    (directory / "manifest.json").write_bytes(manifests.dump(manifest))
    return directory


def make_bundle(directory: Path, seed: int = 0, **replaced: bytes) -> Path:
    """A whole bundle that opens; `replaced` maps 'audio_fp32_onnx' to other bytes of that file."""
    files = make_files(seed)
    for name in files:
        files[name] = replaced.get(name.replace(".", "_"), files[name])
    return write_bundle(directory, files, make_manifest(files))


def resealed(manifest: Manifest, **changes: Any) -> Manifest:
    """`manifest` with other fields and the revision that fits them."""
    return manifests.seal(replace(manifest, **changes))
