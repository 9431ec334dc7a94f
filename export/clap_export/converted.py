"""A converted bundle once more: its precisions compared, or int8 added to it.

In:  an opened bundle of `clap_export.convert` that holds float32; perhaps sounds to compare on.
Out: rows of the parity table; a bundle with int8.
Knows nothing about checkpoints: what the source computed is in the float32 graphs.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx

from clap_engine.bundle import Bundle, pick_graph
from clap_engine.manifest import Manifest
from clap_engine.mel import LogMel
from clap_engine.text import TextFrontEnd
from clap_export import bundle_towers, card, probes, tower_set
from clap_export.convert import graph_specs, make_goldens
from clap_export.embedder import Embedder
from clap_export.errors import OutputError
from clap_export.pack import write_bundle
from clap_export.parity import Gate, GateError
from clap_export.probes import Probes, Sizes
from clap_export.tower_parity import Embedded, TowerParity, check, compare_towers
from clap_export.tower_set import Say


def is_converted(manifest: Manifest) -> bool:
    """Was the bundle made by `convert`? Its graphs then have the source's own output, too."""
    return manifest.text.native_dim is not None


def samples(bundle: Bundle, sizes: Sizes, sounds: Path | None = None) -> Probes:
    """What to compare on; windows of `sounds` in place of those that come with the package."""
    spec = bundle.manifest.audio
    made = probes.make(spec, bundle.read(spec.frontend), sizes)
    if sounds is None:
        return made
    windows = bundle_towers.log_mels(bundle, sounds)
    return replace(made, log_mel=windows[1::2], calibration_log_mel=windows[::2])


def compare(
    bundle: Bundle, made: Probes, gate: Gate | None, say: Say, threads: int = 1
) -> dict[str, TowerParity]:
    """Every precision that both towers have against float32; GateError for the first that falls
    short."""
    spec = bundle.manifest
    front_end = TextFrontEnd(spec.text, bundle.read(spec.text.tokenizer))
    tokens = front_end.tokenize(made.texts)

    def embed(precision: str) -> Embedded:
        text, audio = (
            Embedder(bundle.read(pick_graph(graphs, precision).file), precision, threads)
            for graphs in (spec.text.graphs, spec.audio.graphs)
        )
        return Embedded(text.texts(tokens), audio.windows(made.log_mel), made.labels)

    shared = spec.text.graphs.keys() & spec.audio.graphs.keys()
    fp32 = embed("fp32")
    rows = {}
    for precision in sorted(shared - {"fp32"}):
        rows[precision] = compare_towers(fp32, embed(precision), spec.ladder, gate)
        say(f"{precision}: {rows[precision].line()}")
        if gate is not None:
            check(rows[precision], precision, gate)
    return rows


def with_int8(
    bundle: Bundle, made: Probes, out: Path, gate: Gate | None, say: Say, threads: int = 1
) -> Manifest:
    """The bundle with int8 graphs of both towers; GateError where no form passes."""
    if out.exists() and out.samefile(bundle.path):
        raise OutputError(f"{out} is the bundle itself; give another --out")
    spec = bundle.manifest
    front_end = TextFrontEnd(spec.text, bundle.read(spec.text.tokenizer))
    models = {
        name: onnx.load_from_string(bundle.read(pick_graph(graphs, "fp32").file))
        for name, graphs in (("text", spec.text.graphs), ("audio", spec.audio.graphs))
    }
    towers = tower_set.make(
        models, front_end, made, spec.ladder, ("fp32", "int8"), gate, say, threads
    )
    if "int8" not in towers.embedded:
        raise GateError("no int8 form of these towers passes the gate; serve them in float32")
    log_mel = LogMel(spec.audio, bundle.read(spec.audio.frontend))
    kept = ["fp32", "int8"]
    goldens, file = make_goldens(front_end, log_mel, spec.audio, towers, kept)
    manifest = replace(
        spec,
        audio=replace(spec.audio, graphs=graph_specs("audio", towers, kept)),
        text=replace(spec.text, graphs=graph_specs("text", towers, kept)),
        parity={**spec.parity, **towers.rows},
        goldens=goldens,
    )
    files = {name: bundle.read(name) for name in spec.files}
    files |= {
        goldens.file: file,
        "README.md": card.converted_card(manifest).encode(),
        **{f"text.{p}.onnx": towers.text[p].graph for p in kept},
        **{f"audio.{p}.onnx": towers.audio[p].graph for p in kept},
    }
    return write_bundle(out, manifest, files)
