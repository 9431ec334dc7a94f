"""What runs where on this machine, whether it runs right, and what to do where it doesn't.

In:  an opened bundle, or why none could be opened.
Out: `Check` records, worst news included; the goldens embedded again by every precision, one of
     them put into words.
Knows nothing about how they are printed.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import platform
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from clap_engine import bundle, openvino_session, processor, session, spread
from clap_engine.arrays import Float32
from clap_engine.caption import Captioner
from clap_engine.encoders import AudioEncoder, TextEncoder
from clap_engine.errors import ClapError, TruncationWarning
from clap_engine.goldens import golden_waveform
from clap_engine.manifest import GraphSpec
from clap_engine.placement import ANYWHERE, Placement
from clap_engine.text import TextFrontEnd

GOOD, NOTE, BAD = "ok", "note", "problem"

# Mean cosine between embeddings of different inputs. Trained towers lie between 0 and 0.8; random
# weights with a few massive channels reach 0.9993, and what is left still ranks. Above COLLAPSED
# what is left is as small as the error of int8.
COLLAPSED, NARROW = 0.9999, 0.98
# Of 32 texts, two to a sound: the share whose nearest is the other wording, and the directions that
# they fill. By chance 1 in 31 finds its pair, and 8 or more do in one of 10^5 collapsed towers;
# seeded random towers of 12 layers, which read tokens and have learnt nothing, give .75 and 8.7
# (with massive channels, mean cosine .993: .88 and 9.3), clap-mini 1.0 and 10.6, one row and noise
# around it 0 to .03 and 30. So a tower that scores at chance (ESC-50 at 2 %) is seen at any mean
# cosine, and one whose texts lie close but in order is not.
LEAST_PAIRED, LEAST_RANK = 0.25, 2.0
# Above this many tokens a word, words are spelt out: trained vocabularies need 1 to 2.
MOST_PIECES = 3.5
# A float32 graph whose products are taken in bfloat16; manifests state no tolerance for it.
BF16_TOLERANCE = 0.99
EXACT_FIRST = ("fp32", "fp16", "bf16", "int8")
# Enough to see that captions run, and how fast.
CAPTION_TOKENS = 20

TOKENIZER_REMEDY = "pack the bundle again with the model's own tokenizer.json"
REMEDIES = {
    "text": "see the check of onnxruntime; or tokenizer.json is not the model's own",
    "audio": "see the check of onnxruntime; or frontend.npz is not the model's own",
}
CAPTION_REMEDY = "see the check of onnxruntime; or convert the bundle again"
BROKEN_REMEDY = "the weights are broken: pack the bundle again from a sound checkpoint"


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
    if processor.has_fast_int8():
        yield Check("int8", GOOD, "this CPU has VNNI, AMX or dot-product instructions")
    else:
        yield Check("int8", NOTE, "no VNNI or dot-product instructions: int8 is exact, not faster")
    yield from _openvino()
    yield _hnswlib()
    yield _formats()
    yield Check("tokenizers", GOOD, _version("tokenizers") or "missing")


def goldens(
    opened: bundle.Bundle, *, threads: int = 1, placement: Placement = ANYWHERE
) -> Iterator[Check]:
    """Files against their digests, the tokenizer, then each graph's embeddings of the goldens."""
    manifest = opened.manifest
    try:
        opened.verify()
        wanted_text, wanted_audio = opened.goldens()
        wanted_ids = opened.golden_ids()
    except ClapError as error:
        yield Check("files", BAD, str(error), "install or copy the bundle again")
        return
    total_mb = sum(entry.size for entry in manifest.files.values()) / 1e6
    yield Check(
        "files", GOOD, f"{len(manifest.files)} of {manifest.id}, {total_mb:.1f} MB, as packed"
    )
    if placement.wanted() or placement.is_openvino:
        provider = _provider(placement)
        yield provider
        if provider.state == BAD:
            return
    yield _tokenizer(opened, wanted_ids)
    spec = manifest.audio
    waveforms = np.stack(
        [
            golden_waveform(golden.index, spec.rate_hz, spec.window_samples)
            for golden in manifest.goldens.audio
        ]
    )
    settings: Any = {"threads": threads, "placement": placement}
    for precision in _precisions(manifest.text.graphs, placement):
        text = partial(TextEncoder, opened, precision=precision, **settings)
        yield from _tower(opened, text, list(manifest.goldens.texts), wanted_text)
    for precision in _precisions(spec.graphs, placement):
        audio = partial(AudioEncoder, opened, precision=precision, **settings)
        yield from _tower(opened, audio, waveforms, wanted_audio)
    yield from _captions(opened, waveforms[:1], settings)


def _provider(placement: Placement) -> Check:
    """Whether what was asked for is installed."""
    try:
        if placement.is_openvino:
            return Check("provider", GOOD, f"openvino {openvino_session.version()}")
        names = session.provider_names(placement)
    except ClapError as error:
        message, _, remedy = str(error).partition("run: ")
        return Check("provider", BAD, message.rstrip(" ;"), remedy)
    return Check("provider", GOOD, f"{names[0]} is part of this onnxruntime")


def _precisions(graphs: dict[str, GraphSpec], placement: Placement) -> list[str]:
    """What can be asked for: OpenVINO computes a float32 graph in bf16 as well."""
    cast = ["bf16"] if placement.is_openvino and "fp32" in graphs else []
    return sorted([*graphs, *cast])


def _tokenizer(opened: bundle.Bundle, wanted: list[list[int]] | None) -> Check:
    """Token ids of the golden texts against the stored; without any, whether words look read."""
    spec, texts = opened.manifest.text, list(opened.manifest.goldens.texts)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TruncationWarning)
            tokens = TextFrontEnd(spec, opened.read(spec.tokenizer)).tokenize(texts)
    except ClapError as error:
        return Check("tokenizer", BAD, str(error), TOKENIZER_REMEDY)
    found = [[int(i) for i in row.input_ids[0]] for row in tokens]
    if wanted is not None:
        for text, ids, stored in zip(texts, found, wanted, strict=True):
            if ids != stored:
                said = f"{text[:40]!r} gives ids {ids[:8]}, the model was trained with {stored[:8]}"
                return Check("tokenizer", BAD, said, TOKENIZER_REMEDY)
        return Check("tokenizer", GOOD, f"{len(texts)} texts give the model's own token ids")
    words = sum(len(text.split()) for text in texts)
    pieces = sum(map(len, found)) / words
    if pieces > MOST_PIECES:
        said = f"{pieces:.1f} tokens a word: it spells words out, as a stand-in or a wrong one does"
        return Check("tokenizer", NOTE, said, TOKENIZER_REMEDY)
    return Check("tokenizer", GOOD, f"{pieces:.1f} tokens a word; the bundle stores no ids")


def _tower(
    opened: bundle.Bundle,
    make: partial[TextEncoder] | partial[AudioEncoder],
    items: Any,
    wanted: Float32,
) -> Iterator[Check]:
    """Agreement with the goldens, and whether the tower tells one input from another."""
    precision, placement = make.keywords["precision"], make.keywords["placement"]
    tower = "text" if make.func is TextEncoder else "audio"
    name = f"{tower} {precision}"
    least = {"bf16": BF16_TOLERANCE, **opened.manifest.goldens.tolerance}.get(precision)
    if least is None:
        yield Check(name, BAD, "the bundle states no tolerance", "pack the bundle again")
        return
    others: Float32 | None = None
    try:
        with contextlib.closing(make()) as encoder, warnings.catch_warnings():
            warnings.simplefilter("ignore", TruncationWarning)
            providers = encoder.warm()
            rows = encoder.encode(items)
            if isinstance(encoder, TextEncoder) and _is_read(opened):
                others = encoder.encode(spread.TEXTS)
    except ClapError as error:
        yield _failed(name, error, REMEDIES[tower], placement)
        return
    cosine = float((rows * wanted).sum(axis=1).min())
    found = f"goldens agree to cosine {cosine:.5f}, at least {least:.5f} is needed"
    remedy = f"do not trust {precision} on this machine: choose another with --precision; where "
    remedy += f"every precision fails: {REMEDIES[tower]}"
    yield Check(name, GOOD, found) if cosine >= least else Check(name, BAD, found, remedy)
    yield from _fall(name, providers, placement)
    yield from _spread(name, {"text": "texts", "audio": "sounds"}[tower], rows, others)


def _failed(name: str, error: ClapError, remedy: str, placement: Placement) -> Check:
    """A graph that didn't run; OpenVINO takes the float32 one, so another is no loss there."""
    if placement.is_openvino and name.endswith("int8") and "can't load" in str(error):
        return Check(name, NOTE, str(error))
    return Check(name, BAD, str(error), BROKEN_REMEDY if "NaN" in str(error) else remedy)


def _fall(name: str, providers: list[str], placement: Placement) -> Iterator[Check]:
    """A problem where a provider was asked for and another one ran."""
    wanted = placement.wanted()
    if wanted and providers[:1] != [wanted[0]]:
        found = f"{wanted[0]} did not load, it ran on {', '.join(providers)}"
        yield Check(f"{name}, provider", BAD, found, "see the log; its driver or libraries are off")


def _is_read(opened: bundle.Bundle) -> bool:
    """Does the tokenizer tell the texts apart that are to show whether the tower does?"""
    spec = opened.manifest.text
    tokens = TextFrontEnd(spec, opened.read(spec.tokenizer)).tokenize(spread.TEXTS)
    return len({row.input_ids.tobytes() for row in tokens}) == len(tokens)


def _spread(
    tower: str, inputs: str, rows: Float32, others: Float32 | None = None
) -> Iterator[Check]:
    """A check only where different inputs come out alike; `others` are those of spread.TEXTS."""
    name = f"{tower}, spread"
    if len(rows) < 2:
        return
    alike = spread.alike(rows)
    remedy = f"take another checkpoint: this one can't tell {inputs} apart"
    if others is not None:
        found = spread.measure(others)
        alike = found.alike
        if found.paired < LEAST_PAIRED or found.rank < LEAST_RANK:
            said = f"collapsed: different {inputs} are alike to cosine {alike:.5f}, and of two "
            said += f"wordings of one sound {found.paired:.0%} find each other"
            yield Check(name, BAD, f"{said}; they fill {found.rank:.1f} directions", remedy)
            return
    if alike > COLLAPSED:
        said = f"collapsed: different {inputs} are alike to cosine {alike:.5f}"
        yield Check(name, BAD, said, remedy)
    elif alike > NARROW:
        said = f"different {inputs} are alike to cosine {alike:.5f}: scores will lie close"
        yield Check(name, NOTE, said, "measure it on sounds that you know before you rely on it")


def _captions(
    opened: bundle.Bundle, waveforms: Float32, settings: dict[str, Any]
) -> Iterator[Check]:
    """Each precision of the caption graphs puts one golden sound into words."""
    spec, placement = opened.manifest.caption, settings["placement"]
    if spec is None:
        return
    held = _precisions(opened.manifest.audio.graphs, placement)
    native: Float32 | None = None
    for precision in sorted(held, key=EXACT_FIRST.index):
        # The exact tower, or what else runs: here the decoder is examined.
        encoder = AudioEncoder(opened, precision=precision, **settings)
        with contextlib.closing(encoder), contextlib.suppress(ClapError):
            native = encoder.encode_native(waveforms)
            break
    if native is None:
        said = "not tried: no audio graph gives what captions are made of"
        yield Check("captions", BAD, said, "see the checks of the audio tower")
        return
    for precision in _precisions(spec.decoder, placement):
        name = f"captions {precision}"
        try:
            with contextlib.closing(Captioner(opened, precision=precision, **settings)) as made:
                providers = made.warm()
                start = time.perf_counter()
                (caption,) = made.caption(native, max_tokens=min(CAPTION_TOKENS, spec.max_tokens))
                elapsed_ms = 1e3 * (time.perf_counter() - start)
        except ClapError as error:
            yield _failed(name, error, CAPTION_REMEDY, placement)
            continue
        said = f"{len(caption.tokens)} tokens in {elapsed_ms:.0f} ms: {caption.text[:60]!r}"
        yield Check(name, GOOD, said)
        yield from _fall(name, providers, placement)


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
        providers = session.provider_names()
    except ClapError as error:
        message, _, remedy = str(error).partition("run: ")
        return Check("onnxruntime", BAD, message.rstrip(" ;"), remedy)
    build = "onnxruntime-gpu" if _version("onnxruntime-gpu") else "onnxruntime"
    return Check("onnxruntime", GOOD, f"{build} {_version(build)}: {', '.join(providers)}")


def _openvino() -> Iterator[Check]:
    """A check where it is installed, or would be faster."""
    try:
        yield Check("openvino", GOOD, f"{openvino_session.version()}: load(provider='openvino')")
    except ClapError:
        if processor.has_amx():
            found = "missing: it runs fp32 graphs in bf16 on this CPU's tiles"
            yield Check("openvino", NOTE, found, "pip install 'clap-engine[openvino]'")


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
