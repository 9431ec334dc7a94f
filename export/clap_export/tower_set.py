"""Two towers in every precision that passes the gate.

In:  float32 graphs of both towers, what to compare on.
Out: `TowerSet`: graphs and embeddings by precision, rows of the parity table.
Knows nothing about sources, manifests or files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx

from clap_engine.arrays import Float32
from clap_engine.processor import has_fast_int8
from clap_engine.text import TextFrontEnd
from clap_export import lowered
from clap_export.embedder import Embedder
from clap_export.parity import Gate
from clap_export.probes import Probes
from clap_export.tower_parity import Embedded, check, compare_towers

Say = Callable[[str], None]

TIMED_TEXT = "the sound of rain"


@dataclass(frozen=True)
class TowerSet:
    """Both towers by precision, float32 always; `embedded` is of the probes."""

    text: dict[str, Embedder]
    audio: dict[str, Embedder]
    embedded: dict[str, Embedded]
    rows: dict[str, Any] = field(default_factory=dict)  # of the manifest's parity table
    # ("text" or "audio", "int8") where that is no faster than float32, on a CPU made for int8.
    slow: set[tuple[str, str]] = field(default_factory=set)


def make(
    models: Mapping[str, onnx.ModelProto],
    front_end: TextFrontEnd,
    samples: Probes,
    ladder: Sequence[int],
    precisions: Sequence[str],
    gate: Gate | None,
    say: Say,
    threads: int = 1,
) -> TowerSet:
    """`models` has "text" and "audio"; without a gate the fastest forms are kept, whatever they
    lose. A precision that one tower can't pass in is left out, and said so."""
    tokens = front_end.tokenize(samples.texts)

    def embed(text: Embedder, audio: Embedder) -> Embedded:
        rows = text.texts(tokens), audio.windows(samples.log_mel)
        return Embedded(*rows, labels=samples.labels)

    first = {name: Embedder(models[name], f"{name} in float32", threads) for name in models}
    text, audio = {"fp32": first["text"]}, {"fp32": first["audio"]}
    result = TowerSet(text, audio, {"fp32": embed(first["text"], first["audio"])})
    fp32 = result.embedded["fp32"]
    towers = _towers(front_end, samples, fp32, threads)
    for precision in precisions:
        if precision == "fp32":
            continue
        made = {
            name: lowered.lower(models[name], precision, tower, gate, say)
            for name, tower in towers.items()
        }
        result.rows[f"{precision} candidates"] = {name: low.tried for name, low in made.items()}
        failed = [name for name, low in made.items() if low.model is None]
        if failed:
            say(f"{precision}: no form of the {' and '.join(failed)} tower passes; float32 serves")
            continue
        text[precision], audio[precision] = (
            Embedder(made[name].model or b"", f"{name}.{precision}.onnx", threads)
            for name in ("text", "audio")
        )
        if precision == "int8" and has_fast_int8():
            result.slow.update((name, precision) for name, low in made.items() if low.is_slow)
        embedded = embed(text[precision], audio[precision])
        row = compare_towers(fp32, embedded, ladder, gate)
        say(f"{precision}: {row.line()}")
        if gate is not None:
            check(row, precision, gate)
        result.embedded[precision] = embedded
        chosen = {name: low.name for name, low in made.items()}
        result.rows[precision] = {**row.as_json(), "form": chosen}
    return result


def _towers(
    front_end: TextFrontEnd, samples: Probes, fp32: Embedded, threads: int
) -> dict[str, lowered.Tower]:
    """How candidates of both towers are calibrated, compared and timed."""
    tokens = front_end.tokenize(samples.texts)
    short = front_end.tokenize([TIMED_TEXT])
    calibration = front_end.tokenize(samples.calibration_texts)

    def windows(log_mel: Float32) -> Callable[[Embedder], Float32]:
        return lambda embedder: embedder.windows(log_mel)

    return {
        "text": lowered.Tower(
            kind="text",
            samples=[ids._asdict() for ids in calibration],
            embed=lambda embedder: embedder.texts(tokens),
            once=lambda embedder: embedder.texts(short),
            reference=fp32.text,
            gallery=fp32.audio,
            threads=threads,
        ),
        "audio": lowered.Tower(
            kind="audio",
            samples=[{"log_mel": row[None]} for row in samples.calibration_log_mel],
            embed=windows(samples.log_mel),
            once=windows(samples.log_mel[:1]),
            reference=fp32.audio,
            gallery=None,
            threads=threads,
        ),
    }
