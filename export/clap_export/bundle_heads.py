"""A head put onto the graphs of a bundle whose checkpoint knows none: clap-mini's.

In:  an opened bundle without `native` outputs, a `Head` of its embedding space.
Out: a bundle in the head's space: graphs, goldens, calibration, manifest, README.
Knows nothing about how heads are made.

Graphs keep their precision; the head is a float32 product after their last node, so each answers
to 1e-5 what its embedding times the head gives. Frames, which detection needs, are turned, too.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from clap_engine.arrays import Float32, l2_normalize
from clap_engine.bundle import Bundle
from clap_engine.goldens import golden_waveform
from clap_engine.manifest import GraphSpec, Manifest
from clap_engine.mel import LogMel
from clap_engine.text import TextFrontEnd
from clap_export import probes, rotation
from clap_export.embedder import Embedder
from clap_export.errors import HeadError
from clap_export.finish import background_scores
from clap_export.head_choice import ladder_of
from clap_export.native_towers import PRECISIONS
from clap_export.pack import npz, tolerance
from clap_export.probes import Sizes
from clap_export.rotation import Head

FACTOR = "shortlist_per_sqrt_row"


def with_head(
    bundle: Bundle, head: Head, sizes: Sizes | None = None, threads: int = 1
) -> tuple[Manifest, dict[str, bytes]]:
    """The manifest and files for `pack.write_bundle`; HeadError where a head belongs elsewhere."""
    spec = bundle.manifest
    check(bundle, head)
    sides = {"audio": head.matrix, "text": head.matrix if head.text is None else head.text}
    graphs = {"audio": spec.audio.graphs, "text": spec.text.graphs}
    made = {
        graph.file: appended(bundle.read(graph.file), sides[side])
        for side, held in graphs.items()
        for graph in held.values()
    }
    towers = {
        side: {p: Embedder(made[graph.file], graph.file, threads) for p, graph in held.items()}
        for side, held in graphs.items()
    }
    calibration = {**spec.calibration, **_background(bundle, towers, sizes or Sizes())}
    before = calibration.pop(FACTOR, 0.0)
    if head.shortlist_per_sqrt_row is not None:
        # Measured on captions alone; the bundle's may have been on harder queries.
        calibration[FACTOR] = max(before, head.shortlist_per_sqrt_row)
    goldens, least = _goldens(bundle, sides, towers)
    dim = int(head.matrix.shape[1])
    facts = {
        "kind": head.kind,
        "dims": dim,
        "provenance": dict(head.provenance),
        "other rows": "measured on the bundle without this head",
    }
    manifest = replace(
        spec,
        id=f"{spec.id}-{head.kind}",
        space_id=_space_id(spec.space_id, head),
        dim=dim,
        ladder=head.ladder or ladder_of(dim),
        description=f"{spec.description} With a {head.kind} head.",
        licences=head.licences(spec.licences),
        logit_scale=head.logit_scale or spec.logit_scale,
        calibration=calibration,
        parity={**spec.parity, "head": facts},
        goldens=replace(spec.goldens, tolerance=least),
    )
    files = {name: bundle.read(name) for name in spec.files}
    files |= {**made, spec.goldens.file: goldens, "head.npz": rotation.save(head)}
    if "README.md" in files:
        note = f"\n## Head\n\nA {head.kind} head of {dim} dims was put onto this bundle by "
        note += "clap-export; all figures above were made without it.\n"
        files["README.md"] += note.encode()
    return manifest, files


def _space_id(before: str, head: Head) -> str:
    """The same where sounds stay where they were."""
    if np.array_equal(head.matrix, np.eye(len(head.matrix))):
        return before
    return hashlib.sha256(before.encode() + head.of_sounds()).hexdigest()


def check(bundle: Bundle, head: Head) -> None:
    """HeadError for a head of another space, or a bundle that is to be converted again instead."""
    spec = bundle.manifest
    if spec.text.native_dim is not None or spec.audio.native_dim is not None:
        raise HeadError(
            f"{bundle.path} was converted from a checkpoint; convert that once more, --heads FILE"
        )
    made_for = head.provenance.get("source", {}).get("sha256")
    if made_for and made_for != spec.space_id:
        raise HeadError(
            f"the head was {head.kind} in space {made_for[:12]}; {bundle.path} has space "
            f"{spec.space_id[:12]}: make one for it with clap-export fit rotation or train heads"
        )


def appended(graph: bytes, matrix: Float32) -> bytes:
    """The graph with `embedding` (and `frames`) times the head, unit rows again."""
    model = onnx.load_from_string(graph)
    taken = {name for node in model.graph.node for name in node.output}
    taken |= {constant.name for constant in model.graph.initializer}
    number = next(n for n in count() if f"put.{n}.weight" not in taken)
    own = f"put.{number}"
    constants: dict[str, npt.NDArray[Any]] = {
        "weight": np.ascontiguousarray(matrix, np.float32),
        "least": np.array(1e-24, np.float32),
        "axis": np.array([-1], np.int64),
    }
    model.graph.initializer.extend(
        numpy_helper.from_array(value, f"{own}.{name}") for name, value in constants.items()
    )
    for output in model.graph.output:
        name = output.name
        if name not in ("embedding", "frames"):
            continue
        before, turned, squares, total, most, norm = (
            f"{own}.{name}.{x}" for x in ("before", "turned", "squares", "sum", "most", "norm")
        )
        for node in model.graph.node:
            node.output[:] = [before if x == name else x for x in node.output]
            node.input[:] = [before if x == name else x for x in node.input]
        model.graph.node.extend(
            [
                helper.make_node("MatMul", [before, f"{own}.weight"], [turned]),
                helper.make_node("Mul", [turned, turned], [squares]),
                helper.make_node("ReduceSum", [squares, f"{own}.axis"], [total], keepdims=1),
                helper.make_node("Max", [total, f"{own}.least"], [most]),
                helper.make_node("Sqrt", [most], [norm]),
                helper.make_node("Div", [turned, norm], [name]),
            ]
        )
        output.type.tensor_type.shape.dim[-1].dim_value = matrix.shape[1]
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


_Towers = dict[str, dict[str, Embedder]]


def _best(graphs: dict[str, GraphSpec]) -> str:
    return next(p for p in PRECISIONS if p in graphs)


def _background(bundle: Bundle, towers: _Towers, sizes: Sizes) -> dict[str, float]:
    """Scores of unrelated texts and sounds, as a conversion measures them."""
    spec = bundle.manifest
    samples = probes.make(spec.audio, bundle.read(spec.audio.frontend), sizes)
    front_end = TextFrontEnd(spec.text, bundle.read(spec.text.tokenizer))
    text = towers["text"][_best(spec.text.graphs)].texts(front_end.tokenize(samples.texts))
    audio = towers["audio"][_best(spec.audio.graphs)].windows(samples.log_mel)
    return background_scores(text, audio)


def _goldens(
    bundle: Bundle, sides: dict[str, Float32], towers: _Towers
) -> tuple[bytes, dict[str, float]]:
    """The stored float32 goldens under the head; how near each precision comes to them."""
    spec = bundle.manifest
    text, audio = bundle.goldens()
    front_end = TextFrontEnd(spec.text, bundle.read(spec.text.tokenizer))
    tokens = front_end.tokenize(spec.goldens.texts)
    waves = [
        golden_waveform(golden.index, spec.audio.rate_hz, spec.audio.window_samples)
        for golden in spec.goldens.audio
    ]
    log_mel = LogMel(spec.audio, bundle.read(spec.audio.frontend))(np.stack(waves))
    texts = {p: towers["text"][p].texts(tokens) for p in spec.goldens.tolerance}
    sounds = {p: towers["audio"][p].windows(log_mel) for p in spec.goldens.tolerance}
    texts["fp32"] = l2_normalize(text @ sides["text"])
    sounds["fp32"] = l2_normalize(audio @ sides["audio"])
    least = {p: tolerance(texts, sounds, p) for p in spec.goldens.tolerance}
    arrays: dict[str, npt.NDArray[Any]] = {"text": texts["fp32"], "audio": sounds["fp32"]}
    ids = bundle.golden_ids()
    if ids is not None:
        width = max(map(len, ids))
        arrays["ids"] = np.array([row + [-1] * (width - len(row)) for row in ids], np.int64)
    return npz(**arrays), least
