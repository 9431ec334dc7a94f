"""What runs where on this machine, whether it runs right, and what to do where it doesn't.

In:  an opened bundle, or why none could be opened.
Out: `Check` records, worst news included; the goldens embedded again by every precision.
Knows nothing about how they are printed.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from clap_engine import bundle, session
from clap_engine.arrays import Float32
from clap_engine.encoders import AudioEncoder, TextEncoder
from clap_engine.errors import ClapError

GOOD, NOTE, BAD = "ok", "note", "problem"


@dataclass(frozen=True)
class Check:
    """One finding: `state` is ok, note (works, could be better) or problem."""

    name: str
    state: str
    found: str
    remedy: str = ""


def machine() -> Iterator[Check]:
    """Interpreter, libraries, execution providers, CPU."""
    yield Check("python", GOOD, f"{platform.python_version()} on {platform.platform()}")
    yield _numpy()
    yield _onnxruntime()
    if session.has_fast_int8():
        yield Check("int8", GOOD, "this CPU has VNNI, AMX or dot-product instructions")
    else:
        yield Check("int8", NOTE, "no VNNI or dot-product instructions: int8 is exact, not faster")
    yield _hnswlib()
    yield _formats()
    yield Check("tokenizers", GOOD, _version("tokenizers") or "missing")


def goldens(opened: bundle.Bundle, *, threads: int = 1) -> Iterator[Check]:
    """Files against their digests, then each graph's embeddings of the goldens."""
    manifest = opened.manifest
    try:
        opened.verify()
    except ClapError as error:
        yield Check("files", BAD, str(error), "install or copy the bundle again")
        return
    total_mb = sum(entry.size for entry in manifest.files.values()) / 1e6
    yield Check(
        "files", GOOD, f"{len(manifest.files)} of {manifest.id}, {total_mb:.1f} MB, as packed"
    )
    wanted_text, wanted_audio = opened.goldens()
    spec = manifest.audio
    waveforms = np.stack(
        [
            bundle.golden_waveform(golden.index, spec.rate_hz, spec.window_samples)
            for golden in manifest.goldens.audio
        ]
    )
    texts = list(manifest.goldens.texts)
    for precision in sorted(manifest.text.graphs):
        text = TextEncoder(opened, precision=precision, threads=threads)
        yield _golden(opened, "text", precision, partial(text.encode, texts), wanted_text)
        text.close()
    for precision in sorted(manifest.audio.graphs):
        tower = AudioEncoder(opened, precision=precision, threads=threads)
        yield _golden(opened, "audio", precision, partial(tower.encode, waveforms), wanted_audio)
        tower.close()


def _golden(
    opened: bundle.Bundle,
    tower: str,
    precision: str,
    encode: Callable[[], Float32],
    wanted: Float32,
) -> Check:
    name = f"{tower} {precision}"
    least = opened.manifest.goldens.tolerance.get(precision)
    if least is None:
        return Check(name, BAD, "the bundle states no tolerance", "pack the bundle again")
    try:
        cosine = float((encode() * wanted).sum(axis=1).min())
    except ClapError as error:
        return Check(name, BAD, str(error), "see the checks of onnxruntime above")
    found = f"goldens agree to cosine {cosine:.5f}, at least {least:.5f} is needed"
    if cosine >= least:
        return Check(name, GOOD, found)
    remedy = f"do not trust {precision} on this machine: choose another with --precision"
    return Check(name, BAD, found, remedy)


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _numpy() -> Check:
    if sys.version_info >= (3, 10) and tuple(map(int, np.__version__.split(".")[:2])) >= (1, 26):
        return Check("numpy", GOOD, np.__version__)
    return Check("numpy", BAD, np.__version__, "pip install 'numpy>=1.26,<3'")


def _onnxruntime() -> Check:
    """Which build, and what it can run on; `session` knows the remedies."""
    try:
        providers = session.default_providers()
    except ClapError as error:
        message, _, remedy = str(error).partition("run: ")
        return Check("onnxruntime", BAD, message.rstrip(" ;"), remedy)
    build = "onnxruntime-gpu" if _version("onnxruntime-gpu") else "onnxruntime"
    return Check("onnxruntime", GOOD, f"{build} {_version(build)}: {', '.join(providers)}")


def _hnswlib() -> Check:
    if importlib.util.find_spec("hnswlib") is not None:
        return Check("hnswlib", GOOD, _version("hnswlib") or "present")
    return Check(
        "hnswlib",
        NOTE,
        "missing: every search scans all vectors (as good, slower above some 150,000 windows)",
        "pip install 'clap-engine[hnsw]' (needs a C++ compiler)",
    )


def _formats() -> Check:
    import soundfile  # only asked what it can do; audio.py is who uses it

    found = soundfile.available_formats()
    wanted = ("WAV", "FLAC", "OGG", "MP3")
    missing = [name for name in wanted if name not in found]
    shown = f"soundfile {_version('soundfile')}: {', '.join(n for n in wanted if n in found)}"
    if missing:
        remedy = "pip install --force-reinstall soundfile (its wheel brings libsndfile >= 1.1)"
        return Check("audio", BAD, f"{shown}; not {', '.join(missing)}", remedy)
    return Check("audio", GOOD, shown)
