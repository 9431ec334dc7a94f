"""manifest.json: what a bundle says about itself, read strictly.

In:  the bytes of manifest.json, at most 1 MiB.
Out: a frozen `Manifest`, every field checked; or its canonical bytes.
Knows nothing about files on disk, graphs or audio.

The format's invariants, with their reasons:
- exactly the keys of the tables below, once each: a misspelt or doubled key is never ignored;
- file names are flat (no separator, no leading dot), so no path can leave the bundle;
- a field that has a default stands in the file only where it differs from it, so manifests
  written before the field existed keep their bytes and their revision;
- `min_runtime` is looked at before anything else, so that what a later release added is called
  new, not wrong;
- `revision` is the sha256 of all other fields, digests of the files included, so one damaged
  byte anywhere in the manifest is found before it can change a result.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any, NoReturn

from clap_engine import __version__
from clap_engine.errors import ManifestError
from clap_engine.readers import (
    Reader,
    boolean,
    exactly,
    free,
    integer,
    mapping,
    nullable,
    number,
    plain,
    refuse,
    sequence,
    text,
)
from clap_engine.specs import (
    GOLDEN_KINDS,
    MIN_RUNTIME,
    PAD_MODES,
    PADDINGS,
    PRECISIONS,
    REFERENCES,
    AudioGolden,
    AudioSpec,
    CaptionSpec,
    FileEntry,
    Goldens,
    GraphSpec,
    Manifest,
    TextSpec,
)

__all__ = [
    "GOLDEN_KINDS",
    "MIN_RUNTIME",
    "PRECISIONS",
    "SCHEMA",
    "AudioGolden",
    "AudioSpec",
    "CaptionSpec",
    "FileEntry",
    "Goldens",
    "GraphSpec",
    "Manifest",
    "TextSpec",
    "dump",
    "file_entry",
    "needed_runtime",
    "parse",
    "release",
    "seal",
]

SCHEMA = 1
MAX_BYTES = 1024**2
# Some 50 objects and 500 commas are usual. The bounds keep parsing under 50 ms and nesting within
# what the json module's own recursion guard handles.
MAX_CONTAINERS = 2_000
MAX_COMMAS = 10_000


def _one_of(words: tuple[str, ...]) -> Reader:
    return text("|".join(words), "one of " + ", ".join(words), max(map(len, words)))


_SIZE = integer(1, 65_536)
_NAME = text(r"[A-Za-z0-9][A-Za-z0-9._-]*", "a plain file name", 100)
_VERSION = r"\d{1,4}(\.\d{1,4}){0,2}"
_DIGEST = text(r"[0-9a-f]{64}", "64 hex digits", 64)
_PRECISION = _one_of(PRECISIONS)
_GRAPH: dict[str, Reader] = {"file": _NAME, "dynamic_scale": boolean, "is_slow": boolean}
_GRAPHS = mapping(_PRECISION, exactly(_GRAPH, GraphSpec), 1)
_WORDS = text(r"(?s:.+)", "text that is not empty")
_AUDIO: dict[str, Reader] = {
    "rate_hz": integer(4_000, 384_000),
    "window_s": number(0.1, 60),
    "hop_s": number(0.01, 60),
    "n_fft": integer(16, 65_536),
    "hop": integer(1, 65_536),
    "pad": integer(0, 65_536),
    "n_mels": integer(1, 1_024),
    "n_frames": integer(1, 65_536),
    "floor_db": nullable(number(1, 200)),
    "padding": _one_of(PADDINGS),
    "frontend": _NAME,
    "graphs": _GRAPHS,
    "frame_s": nullable(number(0.001, 0.5)),
    "reference": _one_of(REFERENCES),
    "amin": number(1e-30, 1),
    "pad_mode": _one_of(PAD_MODES),
    "native_dim": nullable(_SIZE),
}
_TEXT: dict[str, Reader] = {
    "tokenizer": _NAME,
    "max_tokens": integer(4, 65_536),
    "pad_id": integer(0, 2**31),
    "prefix": text(),
    "suffix": text(),
    "graphs": _GRAPHS,
    "keep_last": integer(0, 16),
    "native_dim": nullable(_SIZE),
}
_CAPTION: dict[str, Reader] = {
    "mapper": _GRAPHS,
    "decoder": _GRAPHS,
    "tokenizer": _NAME,
    "prefix_length": integer(1, 1_024),
    "native_dim": _SIZE,
    "hidden": _SIZE,
    "layers": integer(1, 1_024),
    "heads": integer(1, 1_024),
    "head_dim": integer(1, 4_096),
    "vocabulary": integer(2, 2**31),
    "max_positions": _SIZE,
    "stop_id": integer(0, 2**31),
    "beam": integer(1, 64),
    "max_tokens": _SIZE,
}
_AUDIO_GOLDEN: dict[str, Reader] = {
    "kind": _one_of(GOLDEN_KINDS),
    "index": integer(0, 1_000),
}
_GOLDENS: dict[str, Reader] = {
    "texts": sequence(_WORDS, 1),
    "audio": sequence(exactly(_AUDIO_GOLDEN, AudioGolden), 1),
    "file": _NAME,
    "tolerance": mapping(_PRECISION, number(-1, 1)),
}
_MANIFEST: dict[str, Reader] = {
    "schema": integer(SCHEMA, SCHEMA),
    "id": text(r"[a-z0-9][a-z0-9._-]*", "a lower-case name", 100),
    "revision": _DIGEST,
    "space_id": text(r"[0-9a-f]{16,64}", "16 to 64 hex digits", 64),
    "dim": integer(1, 4_096),
    "ladder": sequence(integer(1, 4_096), 1),
    "description": text(),
    "demonstration": boolean,
    "licences": exactly({"code": _WORDS, "weights": _WORDS, "training_data": _WORDS}),
    "producer": mapping(_WORDS, text()),
    "min_runtime": text(_VERSION, "a version such as 0.1.0"),
    "files": mapping(_NAME, exactly({"sha256": _DIGEST, "size": integer(0, 2**34)}, FileEntry)),
    "audio": exactly(_AUDIO, AudioSpec),
    "text": exactly(_TEXT, TextSpec),
    "logit_scale": number(1e-6, 1e6),
    "logit_bias": number(-1e6, 1e6),
    "templates": mapping(_WORDS, sequence(_WORDS, 1)),
    "calibration": mapping(_WORDS, number(-1e300, 1e300)),
    "parity": mapping(_WORDS, free),
    "goldens": exactly(_GOLDENS, Goldens),
    "caption": nullable(exactly(_CAPTION, CaptionSpec)),
}
_READ = exactly(_MANIFEST, Manifest)


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
    if type(tree) is dict:
        _check_age(tree)
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
            plain(manifest), sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False
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


def needed_runtime(manifest: Manifest) -> str:
    """The oldest release that reads the manifest: fields at their default are not in it."""
    return max((MIN_RUNTIME, *_since(manifest)), key=release)


def release(text: str) -> tuple[int, ...]:
    """Release numbers of '1.2' or '1.2.0.dev3', padded so that 1.2 equals 1.2.0."""
    numbers = [int(part) for part in text.split(".")[:3] if part.isdigit()]
    return (*numbers, 0, 0, 0)[:3]


def _since(record: Any) -> Iterator[str]:
    """The release of each field of a record, and of those in it, that differs from its default."""
    for field in fields(record):
        value = getattr(record, field.name)
        if "since" in field.metadata and value != field.default:
            yield field.metadata["since"]
        for inner in value.values() if isinstance(value, dict) else (value,):
            if is_dataclass(inner):
                yield from _since(inner)


def _check_age(tree: dict[str, Any]) -> None:
    """ManifestError for a manifest that a later release wrote for itself."""
    schema, needed = tree.get("schema"), tree.get("min_runtime")
    if type(schema) is int and schema > SCHEMA:
        raise ManifestError(f"manifest schema {schema} is newer than {SCHEMA}; upgrade clap-engine")
    if not isinstance(needed, str) or not re.fullmatch(_VERSION, needed, re.ASCII):
        return  # its reader says what is wrong
    if release(needed) > release(__version__):
        raise ManifestError(
            f"bundle {str(tree.get('id'))[:100]!r} needs clap-engine {needed}, this is "
            f"{__version__}; upgrade clap-engine"
        )


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
    audio, goldens = manifest.audio, manifest.goldens
    for name in _named_files(manifest):
        if name not in manifest.files:
            refuse("files", sorted(manifest.files), f"an entry for {name!r}, which is used,")
    if "manifest.json" in manifest.files:
        refuse("files", "manifest.json", "every file but the manifest itself")
    rises = all(a < b for a, b in zip(manifest.ladder, manifest.ladder[1:], strict=False))
    if not rises or manifest.ladder[-1] != manifest.dim:
        refuse("ladder", str(manifest.ladder), f"rising dims that end with {manifest.dim}")
    for golden in goldens.audio:
        if golden.kind != GOLDEN_KINDS[golden.index % len(GOLDEN_KINDS)]:
            refuse("goldens.audio", golden.kind, f"the kind of waveform {golden.index}")
    for precision in {*audio.graphs, *manifest.text.graphs} - goldens.tolerance.keys():
        refuse("goldens.tolerance", sorted(goldens.tolerance), f"a value for {precision}")
    if 2 * manifest.text.keep_last > manifest.text.max_tokens:
        refuse("text.keep_last", manifest.text.keep_last, "at most half of max_tokens")
    _check_audio(audio)
    if manifest.caption is not None:
        _check_caption(manifest.caption, audio)


def _named_files(manifest: Manifest) -> list[str]:
    """Every file that a field names."""
    audio, text, caption = manifest.audio, manifest.text, manifest.caption
    towers = [audio.graphs, text.graphs]
    named = [audio.frontend, text.tokenizer, manifest.goldens.file]
    if caption is not None:
        towers += [caption.mapper, caption.decoder]
        named.append(caption.tokenizer)
    return named + [graph.file for graphs in towers for graph in graphs.values()]


def _check_audio(audio: AudioSpec) -> None:
    if audio.hop_s > audio.window_s:
        refuse("audio.hop_s", audio.hop_s, f"at most window_s = {audio.window_s}")
    if not math.isclose(audio.window_s * audio.rate_hz, audio.window_samples, rel_tol=1e-9):
        refuse("audio.window_s", audio.window_s, "a whole number of samples")
    frames = (audio.window_samples + 2 * audio.pad - audio.n_fft) // audio.hop + 1
    if frames != audio.n_frames:
        refuse("audio.n_frames", audio.n_frames, f"{frames} (from window, pad, n_fft and hop)")
    if audio.pad_mode == "reflect" and audio.pad >= audio.window_samples:
        refuse("audio.pad", audio.pad, "less than the window, which is what is reflected,")
    if (audio.floor_db is None) != (audio.reference == "one"):
        refuse(
            "audio.floor_db", audio.floor_db, "null where the reference is 'one', and only there"
        )


def _check_caption(caption: CaptionSpec, audio: AudioSpec) -> None:
    if caption.mapper.keys() != caption.decoder.keys():
        refuse("caption.mapper", sorted(caption.mapper), f"precisions {sorted(caption.decoder)}")
    if caption.native_dim != audio.native_dim:
        refuse("caption.native_dim", caption.native_dim, f"audio.native_dim = {audio.native_dim}")
    if caption.prefix_length + caption.max_tokens > caption.max_positions:
        left = caption.max_positions - caption.prefix_length
        refuse("caption.max_tokens", caption.max_tokens, f"at most {left} after the prefix")
    if caption.stop_id >= caption.vocabulary:
        refuse("caption.stop_id", caption.stop_id, f"less than vocabulary = {caption.vocabulary}")
