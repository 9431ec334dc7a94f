"""A tower in float32 and in the fastest int8 form that passes its gate.

In:  a float32 graph, its kind, inputs to calibrate and to compare on.
Out: `Forms`: graphs by precision, the form's name, how each form tried compares; a session.
Knows nothing about models, peers or time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from clap_engine.arrays import Float32
from clap_engine.openvino_session import OpenVinoSession
from clap_engine.session import GraphSession
from clap_export import quantize_towers
from clap_export.parity import Gate, GateError, Parity, compare_embeddings
from clap_export.smoothing import Inputs

THREADS = 2


@dataclass(frozen=True)
class Forms:
    """`graphs` has "fp32" and "int8"; `form` says which int8."""

    graphs: dict[str, bytes]
    form: str
    parity: dict[str, Parity]

    def session(self, precision: str, name: str) -> Any:
        """The loaded graph; "bf16" is the float32 one in OpenVINO."""
        if precision == "bf16":
            data = self.graphs["fp32"]
            return OpenVinoSession(data, name=name, threads=THREADS, precision="bf16")
        return GraphSession(self.graphs[precision], name=name, threads=THREADS)

    def facts(self, precision: str) -> dict[str, Any]:
        """For a benchmark's record."""
        return {
            "form": self.form if precision == "int8" else precision,
            "graph_mb": round(len(self.graphs.get(precision, self.graphs["fp32"])) / 1e6, 1),
            "parity": {name: row.as_json() for name, row in self.parity.items()},
        }


def choose(
    model: onnx.ModelProto,
    kind: str,
    calibration: Sequence[Inputs],
    compared: Sequence[Inputs],
    known: str | None,
) -> Forms:
    """The first int8 form that passes, from the fastest on, or from the one `known` to have passed.

    AssertionError where none passes.
    """
    exact = model.SerializeToString()
    reference = embed(exact, compared)
    made = quantize_towers.candidates(model, kind, calibration)
    parity: dict[str, Parity] = {}
    names = list(made)
    for name in names[names.index(known) if known else 0 :]:
        graph = made[name].SerializeToString()
        parity[name] = compare_embeddings(reference, embed(graph, compared))
        try:
            Gate().check(parity[name], name)
        except GateError:
            continue
        return Forms({"fp32": exact, "int8": graph}, name, parity)
    raise AssertionError(f"no int8 form passes: {parity}")


def embed(graph: bytes, inputs: Sequence[Inputs]) -> Float32:
    """One item a call -> [N, D]."""
    session = GraphSession(graph, name="tower", threads=THREADS)
    return np.concatenate([session.run(["embedding"], row)[0] for row in inputs])
