"""A tower in a lower precision: the first form that passes the gate, or none.

In:  a float32 graph, samples to calibrate on, float32 embeddings of others to compare with.
Out: `Lowered`: the graph, or None; what was tried, with its figures.
Knows nothing about how to quantize: `clap_export.quantize_towers` does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import onnx

from clap_engine.arrays import Float32
from clap_export import quantize_towers
from clap_export.embedder import Embedder
from clap_export.parity import Gate, GateError, Parity, compare_embeddings

Say = Callable[[str], None]

TIMED = 5  # calls; the least of them counts


@dataclass(frozen=True)
class Lowered:
    """`model` is None where no candidate passed; `is_slow`: it took longer here than float32."""

    name: str
    model: bytes | None
    tried: dict[str, dict[str, Any]] = field(default_factory=dict)
    is_slow: bool = False


@dataclass(frozen=True)
class Tower:
    """What a candidate is measured by: `embed` runs the whole sample, `once` one item."""

    kind: str  # "text" or "audio"
    samples: list[dict[str, Any]]  # to calibrate on
    embed: Callable[[Embedder], Float32]
    once: Callable[[Embedder], object]
    reference: Float32
    gallery: Float32 | None  # what texts rank; sounds rank each other
    threads: int = 1


def lower(
    model: onnx.ModelProto, precision: str, tower: Tower, gate: Gate | None, say: Say
) -> Lowered:
    """The first form that passes `gate`, from the fastest to the safest; without one, the first."""
    first_ms = _least_ms(Embedder(model, f"{tower.kind} in float32", tower.threads), tower)
    tried: dict[str, dict[str, Any]] = {"fp32": {"ms": round(first_ms, 2)}}
    for name, candidate in candidates(model, precision, tower).items():
        embedder = Embedder(candidate, f"{tower.kind} {name}", tower.threads)
        row = compare_embeddings(tower.reference, tower.embed(embedder), gallery=tower.gallery)
        least_ms = _least_ms(embedder, tower)
        passed = gate is None or _passes(row, gate)
        tried[name] = {
            "ms": round(least_ms, 2),
            "centred_mean": round(row.centred_mean, 5),
            "top10": round(row.top10, 4),
            "passed": passed,
        }
        verdict = "passes" if passed else "falls short"
        is_slow = least_ms > first_ms
        if passed and is_slow:
            # Where it serves it may be faster; on a CPU like this one the engine takes float32.
            verdict = "passes, though slower on this machine"
        say(
            f"  {precision} {tower.kind}, {name}: {verdict}; {least_ms:.1f} ms against "
            f"{first_ms:.1f} in float32; {row.line()}"
        )
        if passed:
            return Lowered(name, embedder.graph, tried, is_slow)
    return Lowered("", None, tried)


def candidates(
    model: onnx.ModelProto, precision: str, tower: Tower
) -> Mapping[str, onnx.ModelProto]:
    """Forms of one precision by name, from the fastest to the safest; each is made when asked."""
    if precision == "fp16":
        return {"fp16": quantize_towers.half(model)}
    return quantize_towers.candidates(model, tower.kind, tower.samples)


def _passes(row: Parity, gate: Gate) -> bool:
    try:
        gate.check(row, "")
    except GateError:
        return False
    return True


def _least_ms(embedder: Embedder, tower: Tower) -> float:
    times = []
    for _ in range(TIMED):
        start = time.perf_counter()
        tower.once(embedder)
        times.append((time.perf_counter() - start) * 1e3)
    return min(times)
