"""A bundle's name -> an engine over it.

In:  a name or path, how its graphs are to run.
Out: an `Engine`.
Knows nothing about graphs, sounds or texts; imports nothing that takes time before reading begins.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from clap_engine import bundle as bundles
from clap_engine.later import Later
from clap_engine.limits import DEFAULT_LIMITS, Limits
from clap_engine.placement import CPU
from clap_engine.processor import has_fast_int8

if TYPE_CHECKING:
    from clap_engine.engine import Engine, Part
    from clap_engine.events import OnEvent

log = logging.getLogger("clap_engine")


def load(
    name_or_path: str | os.PathLike[str] | None = None,
    *,
    models_dir: str | os.PathLike[str] | None = None,
    precision: str | None = None,
    threads: int | None = None,
    limits: Limits = DEFAULT_LIMITS,
    providers: Sequence[str] | None = None,
    provider: str | None = None,
    strict_provider: bool = False,
    gpu_mem_limit: int | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    idle_unload_s: float | None = None,
    latency_budget_ms: float | None = None,
    on_event: OnEvent | None = None,
    live_recall: float = 0.0,
    warm: Part | Sequence[Part] = (),
) -> Engine:
    """An engine over the bundle that ships, or over the one named or pointed at.

    A name is looked up among the installed models, then in `models_dir`. No graph is loaded
    until a text or a sound is embedded.

    `provider` is "cpu", "cuda", "tensorrt" or "openvino", or None for the best that onnxruntime
    has here; `providers` names onnxruntime's own instead. With `strict_provider` a graph that
    would fall to the CPU is an error. `gpu_mem_limit` counts bytes; `cache_dir` is where TensorRT
    and OpenVINO keep what they compiled.

    With `latency_budget_ms` single texts and windows of different calls share a run where graphs
    have no dynamic scales, and wait so long for company; 0 waits for nobody. It can pay for
    float32 text graphs under load, not for those that ship: None, the default, does without.

    A tower that was not used for `idle_unload_s` is given back, and loaded again when needed.
    `on_event` is called with a small object for each call that ends (see `events`), in the thread
    of the call; `live_recall` is the share of searches that are repeated exactly in the background
    to tell it what they had found of the truth.

    `warm` names the parts ("text", "audio", "caption") that load in the background from now on,
    beside the imports: the first text then comes a fifth sooner than without.
    """
    parts = (warm,) if isinstance(warm, str) else tuple(warm)
    _check_parts(parts)
    bundle = bundles.open(bundles.find(name_or_path, models_dir=models_dir))
    if bundle.manifest.demonstration:
        log.warning(
            "%s is a small demonstration model; convert a larger one for serious work",
            bundle.manifest.id,
        )
    anywhere = provider is None and providers is None
    if anywhere or provider == "cpu":
        _begin(bundle, parts, precision)
    from clap_engine.engine import Engine

    engine = Engine(
        bundle,
        precision=precision,
        threads=threads,
        limits=limits,
        providers=providers,
        provider=provider,
        strict_provider=strict_provider,
        gpu_mem_limit=gpu_mem_limit,
        cache_dir=cache_dir,
        idle_unload_s=idle_unload_s,
        latency_budget_ms=latency_budget_ms,
        on_event=on_event,
        live_recall=live_recall,
    )
    if parts:
        Later(lambda: engine.warm(*parts))  # what goes wrong is told to whoever needs the part
    return engine


def _check_parts(parts: Sequence[str]) -> None:
    unknown = [part for part in parts if part not in ("text", "audio", "caption")]
    if unknown:
        raise ValueError(f"warm has {unknown}; choose among text, audio and caption")


def _begin(bundle: bundles.Bundle, parts: Sequence[str], precision: str | None) -> None:
    """Read the graphs of these parts while numpy and onnxruntime are imported."""
    manifest = bundle.manifest
    towers = {"text": manifest.text.graphs, "audio": manifest.audio.graphs}
    for part in parts:
        if graphs := towers.get(part):
            likely = (
                precision
                or bundles.choose_precision(
                    graphs, [CPU], has_fast_int8(), bundles.slow_ones(graphs)
                )[0]
            )
            if likely in graphs:
                bundle.begin(graphs[likely].file)
