"""manifest.json: what a bundle says about itself, read strictly.

In:  the bytes of manifest.json, at most 1 MiB.
Out: a frozen `Manifest`, every field checked; or its canonical bytes.
Knows nothing about files on disk, graphs or audio.

The format's invariants, with their reasons:
- exactly the keys of the tables below, once each: a misspelt or doubled key is never ignored;
- file names are flat (no separator, no leading dot), so no path can leave the bundle;
- `revision` is the sha256 of all other fields, digests of the files included, so one damaged
  byte anywhere in the manifest is found before it can change a result.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, NoReturn

from clap_engine.errors import ManifestError

SCHEMA = 1
MAX_BYTES = 1024**2
# Some 50 objects and 500 commas are usual. The bounds keep parsing under 50 ms and nesting within
# what the json module's own recursion guard handles.
MAX_CONTAINERS = 2_000
MAX_COMMAS = 10_000
MAX_DEPTH = 8
PRECISIONS = ("fp32", "int8", "fp16")
GOLDEN_KINDS = ("chirp", "tones", "noise")


@dataclass(frozen=True)
class FileEntry:
    """Digest and length of one file of the bundle."""

    sha256: str
    size: int


@dataclass(frozen=True)
class GraphSpec:
    """One precision of a tower; `dynamic_scale`: results depend on batch mates, run one item."""

    file: str
    dynamic_scale: bool


@dataclass(frozen=True)
class AudioSpec:
    """The audio front end; `hop` and `pad` (zeros on each side) count samples of the STFT."""

    rate_hz: int
    window_s: float
    hop_s: float
    n_fft: int
    hop: int
    pad: int
    n_mels: int
    n_frames: int
    floor_db: float
    padding: str
    frontend: str
    graphs: dict[str, GraphSpec]
    frame_s: float | None

    @property
    def window_samples(self) -> int:
        """Samples of one window at `rate_hz`."""
        return round(self.window_s * self.rate_hz)


@dataclass(frozen=True)
class TextSpec:
    """The text front end; `prefix` and `suffix` surround every text."""

    tokenizer: str
    max_tokens: int
    pad_id: int
    prefix: str
    suffix: str
    graphs: dict[str, GraphSpec]


@dataclass(frozen=True)
class AudioGolden:
    """Golden waveform `index`: made by bundle.golden_waveform, of kind index mod 3."""

    kind: str
    index: int


@dataclass(frozen=True)
class Goldens:
    """Inputs whose embeddings are stored in `file`; `tolerance`: smallest cosine allowed."""

    texts: tuple[str, ...]
    audio: tuple[AudioGolden, ...]
    file: str
    tolerance: dict[str, float]


@dataclass(frozen=True)
class Manifest:
    """All that the runtime trusts about a bundle."""

    schema: int
    id: str
    revision: str
    space_id: str
    dim: int
    ladder: tuple[int, ...]
    description: str
    demonstration: bool
    licences: dict[str, str]
    producer: dict[str, str]
    min_runtime: str
    files: dict[str, FileEntry]
    audio: AudioSpec
    text: TextSpec
    logit_scale: float
    logit_bias: float
    templates: dict[str, tuple[str, ...]]
    calibration: dict[str, float]
    parity: dict[str, Any]
    goldens: Goldens


Reader = Callable[[Any, str], Any]


def _refuse(where: str, value: Any, needed: str) -> NoReturn:
    found = repr(value[:60]) if isinstance(value, str) else type(value).__name__
    if isinstance(value, (int, float)) and abs(value) < 1e300:
        found = repr(value)
    raise ManifestError(f"manifest {where}: {found} found, {needed} needed; pack the bundle again")


def _integer(low: int, high: int) -> Reader:
    def read(value: Any, where: str) -> int:
        if type(value) is not int or not low <= value <= high:
            _refuse(where, value, f"an integer from {low} to {high}")
        return value

    return read


def _number(low: float, high: float) -> Reader:
    def read(value: Any, where: str) -> float:
        if type(value) not in (int, float) or not low <= value <= high:
            _refuse(where, value, f"a number from {low:g} to {high:g}")
        return float(value)

    return read


def _text(pattern: str = r"(?s:.*)", needed: str = "text", most: int = 10_000) -> Reader:
    compiled = re.compile(pattern)

    def read(value: Any, where: str) -> str:
        if type(value) is not str or len(value) > most or not compiled.fullmatch(value):
            _refuse(where, value, f"{needed} (at most {most} characters)")
        if not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value):
            _refuse(where, ascii(value), "text without lone surrogates")
        return value

    return read


def _boolean(value: Any, where: str) -> bool:
    if type(value) is not bool:
        _refuse(where, value, "true or false")
    return value


def _optional(reader: Reader) -> Reader:
    return lambda value, where: None if value is None else reader(value, where)


def _sequence(reader: Reader, least: int = 0) -> Reader:
    def read(value: Any, where: str) -> tuple[Any, ...]:
        if type(value) is not list or len(value) < least:
            _refuse(where, value, f"a list of {least} or more")
        return tuple(reader(item, f"{where}[{i}]") for i, item in enumerate(value))

    return read


def _mapping(key: Reader, reader: Reader, least: int = 0) -> Reader:
    def read(value: Any, where: str) -> dict[str, Any]:
        if type(value) is not dict or len(value) < least:
            _refuse(where, value, f"an object of {least} or more keys")
        return {key(k, f"{where} key"): reader(v, f"{where}.{k}") for k, v in value.items()}

    return read


def _exactly(fields: dict[str, Reader], make: Callable[..., Any] = dict) -> Reader:
    def read(value: Any, where: str) -> Any:
        if type(value) is not dict:
            _refuse(where, value, "an object")
        for name in sorted(value.keys() - fields.keys()):
            _refuse(where, name, f"only the keys {', '.join(fields)}")
        for name in fields.keys() - value.keys():
            raise ManifestError(f"manifest {where}: {name!r} is missing; pack the bundle again")
        return make(**{name: read(value[name], f"{where}.{name}") for name, read in fields.items()})

    return read


def _free(value: Any, where: str) -> Any:
    """Any JSON of finite numbers, at most MAX_DEPTH deep (`where` grows a dot per level)."""
    if where.count("/") > MAX_DEPTH:
        _refuse(where, value, f"at most {MAX_DEPTH} levels")
    if type(value) is dict:
        return {_text()(k, where): _free(v, f"{where}/{k[:20]}") for k, v in value.items()}
    if type(value) is list:
        return [_free(v, f"{where}/{i}") for i, v in enumerate(value)]
    if type(value) is str:
        return _text()(value, where)
    if type(value) in (int, float):
        _number(-1e300, 1e300)(value, where)
    return value


_NAME = _text(r"[A-Za-z0-9][A-Za-z0-9._-]*", "a plain file name", 100)
_DIGEST = _text(r"[0-9a-f]{64}", "64 hex digits", 64)
_PRECISION = _text("|".join(PRECISIONS), "one of " + ", ".join(PRECISIONS), 4)
_GRAPHS = _mapping(_PRECISION, _exactly({"file": _NAME, "dynamic_scale": _boolean}, GraphSpec), 1)
_WORDS = _text(r"(?s:.+)", "text that is not empty")
_AUDIO: dict[str, Reader] = {
    "rate_hz": _integer(4_000, 384_000),
    "window_s": _number(0.1, 60),
    "hop_s": _number(0.01, 60),
    "n_fft": _integer(16, 65_536),
    "hop": _integer(1, 65_536),
    "pad": _integer(0, 65_536),
    "n_mels": _integer(1, 1_024),
    "n_frames": _integer(1, 65_536),
    "floor_db": _number(1, 200),
    "padding": _text("repeat", "'repeat'"),
    "frontend": _NAME,
    "graphs": _GRAPHS,
    "frame_s": _optional(_number(0.001, 0.5)),
}
_TEXT: dict[str, Reader] = {
    "tokenizer": _NAME,
    "max_tokens": _integer(4, 65_536),
    "pad_id": _integer(0, 2**31),
    "prefix": _text(),
    "suffix": _text(),
    "graphs": _GRAPHS,
}
_AUDIO_GOLDEN: dict[str, Reader] = {
    "kind": _text("|".join(GOLDEN_KINDS), "one of " + ", ".join(GOLDEN_KINDS)),
    "index": _integer(0, 1_000),
}
_GOLDENS: dict[str, Reader] = {
    "texts": _sequence(_WORDS, 1),
    "audio": _sequence(_exactly(_AUDIO_GOLDEN, AudioGolden), 1),
    "file": _NAME,
    "tolerance": _mapping(_PRECISION, _number(-1, 1)),
}
_MANIFEST: dict[str, Reader] = {
    "schema": _integer(SCHEMA, SCHEMA),
    "id": _text(r"[a-z0-9][a-z0-9._-]*", "a lower-case name", 100),
    "revision": _DIGEST,
    "space_id": _text(r"[0-9a-f]{16,64}", "16 to 64 hex digits", 64),
    "dim": _integer(1, 4_096),
    "ladder": _sequence(_integer(1, 4_096), 1),
    "description": _text(),
    "demonstration": _boolean,
    "licences": _exactly({"code": _WORDS, "weights": _WORDS, "training_data": _WORDS}),
    "producer": _mapping(_WORDS, _text()),
    "min_runtime": _text(r"\d{1,4}(\.\d{1,4}){0,2}", "a version such as 0.1.0"),
    "files": _mapping(_NAME, _exactly({"sha256": _DIGEST, "size": _integer(0, 2**34)}, FileEntry)),
    "audio": _exactly(_AUDIO, AudioSpec),
    "text": _exactly(_TEXT, TextSpec),
    "logit_scale": _number(1e-6, 1e6),
    "logit_bias": _number(-1e6, 1e6),
    "templates": _mapping(_WORDS, _sequence(_WORDS, 1)),
    "calibration": _mapping(_WORDS, _number(-1e300, 1e300)),
    "parity": _mapping(_WORDS, _free),
    "goldens": _exactly(_GOLDENS, Goldens),
}
_READ = _exactly(_MANIFEST, Manifest)


def parse(data: bytes) -> Manifest:
    """The manifest in `data`; ManifestError on anything that schema 1 does not allow."""
    if len(data) > MAX_BYTES:
        raise ManifestError(f"manifest has {len(data)} bytes; {MAX_BYTES} are allowed")
    if data.count(b"{") + data.count(b"[") > MAX_CONTAINERS:
        raise ManifestError(f"manifest has more than {MAX_CONTAINERS} objects and lists")
    if data.count(b",") > MAX_COMMAS:
        raise ManifestError(f"manifest has more than {MAX_COMMAS} commas")
    try:
        tree = json.loads(
            data.decode("utf-8"), object_pairs_hook=_no_duplicates, parse_constant=_no_constant
        )
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ManifestError(f"manifest is not JSON ({error}); pack the bundle again") from error
    except ValueError as error:
        if isinstance(error, ManifestError):
            raise
        # int() refuses more than 4300 digits.
        raise ManifestError(f"manifest holds a number out of range: {error}") from error
    schema = tree.get("schema") if type(tree) is dict else None
    if type(schema) is int and schema > SCHEMA:
        raise ManifestError(f"manifest schema {schema} is newer than {SCHEMA}; upgrade clap-engine")
    manifest: Manifest = _READ(tree, "")
    _check_relations(manifest)
    if manifest.revision != seal(manifest).revision:
        raise ManifestError(
            f"manifest revision {manifest.revision[:12]} does not fit its contents "
            f"({seal(manifest).revision[:12]}): it was edited or damaged; pack the bundle again"
        )
    return manifest


def dump(manifest: Manifest) -> bytes:
    """Canonical JSON: sorted keys, two spaces, UTF-8, one newline at the end."""
    try:
        text = json.dumps(
            asdict(manifest), sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False
        )
        return (text + "\n").encode("utf-8")
    except (TypeError, ValueError) as error:
        raise ManifestError(f"manifest holds what JSON can't say: {error}") from error


def seal(manifest: Manifest) -> Manifest:
    """The same manifest with the `revision` that fits all its other fields."""
    digest = hashlib.sha256(dump(replace(manifest, revision=""))).hexdigest()
    return replace(manifest, revision=digest)


def file_entry(data: bytes) -> FileEntry:
    """Digest and length of `data`."""
    return FileEntry(sha256=hashlib.sha256(data).hexdigest(), size=len(data))


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        count = Counter(name for name, _ in pairs)
        twice = max(count, key=count.__getitem__)
        raise ManifestError(f"manifest key {twice[:60]!r} stands twice; pack the bundle again")
    return result


def _no_constant(text: str) -> NoReturn:
    raise ManifestError(f"manifest holds {text}; numbers must be finite")


def _check_relations(manifest: Manifest) -> None:
    """What no single field can say: names that exist, ladders that rise, frames that fit."""
    audio, text, goldens = manifest.audio, manifest.text, manifest.goldens
    graphs = [*audio.graphs.values(), *text.graphs.values()]
    named = [graph.file for graph in graphs] + [audio.frontend, text.tokenizer, goldens.file]
    for name in named:
        if name not in manifest.files:
            _refuse("files", sorted(manifest.files), f"an entry for {name!r}, which is used,")
    if "manifest.json" in manifest.files:
        _refuse("files", "manifest.json", "every file but the manifest itself")
    rises = all(a < b for a, b in zip(manifest.ladder, manifest.ladder[1:], strict=False))
    if not rises or manifest.ladder[-1] != manifest.dim:
        _refuse("ladder", str(manifest.ladder), f"rising dims that end with {manifest.dim}")
    if audio.hop_s > audio.window_s:
        _refuse("audio.hop_s", audio.hop_s, f"at most window_s = {audio.window_s}")
    if not math.isclose(audio.window_s * audio.rate_hz, audio.window_samples, rel_tol=1e-9):
        _refuse("audio.window_s", audio.window_s, "a whole number of samples")
    frames = (audio.window_samples + 2 * audio.pad - audio.n_fft) // audio.hop + 1
    if frames != audio.n_frames:
        _refuse("audio.n_frames", audio.n_frames, f"{frames} (from window, pad, n_fft and hop)")
    for golden in goldens.audio:
        if golden.kind != GOLDEN_KINDS[golden.index % len(GOLDEN_KINDS)]:
            _refuse("goldens.audio", golden.kind, f"the kind of waveform {golden.index}")
    for precision in {*audio.graphs, *text.graphs} - goldens.tolerance.keys():
        _refuse("goldens.tolerance", sorted(goldens.tolerance), f"a value for {precision}")
