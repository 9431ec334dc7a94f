"""Outliers of activations moved into weights, so that one int8 scale can serve a whole product.

In:  a float32 model with its constants inside; sample inputs.
Out: the same function as another float32 model.
Knows nothing about integers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from clap_engine.arrays import Float32
from clap_engine.session import GraphSession
from clap_export.graphs.builder import constants

Inputs = Mapping[str, npt.NDArray[Any]]


def text_smoothing(weight: str) -> float | None:
    """How much of the outliers to move from the activations into `weight` (see `smooth`).

    None where it doesn't pay. gelu's outputs (output.dense) need more of it than LayerNorm's.
    """
    if not weight.startswith("encoder.") or ".attention.output." in weight:
        return None
    return 0.8 if ".output.dense" in weight else 0.6


def smooth(
    model: onnx.ModelProto, samples: Sequence[Inputs], strength: Callable[[str], float | None]
) -> onnx.ModelProto:
    """x W = (x / s) (s W), with s > 1 where x has outliers (SmoothQuant, Xiao et al. 2023).

    s = max|x|^a / max|W|^(1 - a) for each input channel, a = strength(name of W). A few channels
    of a transformer reach 30 where the rest stays under 2, and one scale has to serve them all.
    Weights that several nodes share stay as they are.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    weights = constants(model)
    uses = Counter(name for node in model.graph.node for name in node.input)
    nodes = {
        node.input[1]: node
        for node in result.graph.node
        if node.op_type in ("MatMul", "Attention") and node.input[1] in weights
        if uses[node.input[1]] == 1 and strength(node.input[1]) is not None
    }
    if not nodes:
        return result
    peaks = _peaks(model, [node.input[0] for node in nodes.values()], samples)
    muls: dict[str, onnx.NodeProto] = {}
    for name, node in nodes.items():
        share = float(strength(name) or 0)
        weight, peak = weights[name], np.maximum(peaks[node.input[0]], 1e-3)
        scale = peak**share / np.maximum(np.abs(weight).max(axis=1), 1e-5) ** (1 - share)
        scale = (scale / np.exp(np.log(scale).mean())).astype(np.float32)
        result.graph.initializer.append(numpy_helper.from_array(1 / scale, f"{name}.smooth"))
        for tensor in result.graph.initializer:
            if tensor.name == name:
                tensor.CopyFrom(numpy_helper.from_array(weight * scale[:, None], name))
        out = f"{name}.input"
        muls[node.name] = helper.make_node(
            "Mul", [node.input[0], f"{name}.smooth"], [out], name=out
        )
        node.input[0] = out
    ordered = list(result.graph.node)
    del result.graph.node[:]
    for node in ordered:
        if node.name in muls:
            result.graph.node.append(muls[node.name])
        result.graph.node.append(node)
    return result


def _peaks(
    model: onnx.ModelProto, names: Sequence[str], samples: Sequence[Inputs]
) -> dict[str, Float32]:
    """The largest |value| of each channel of the values `names`, over all samples."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    for name in dict.fromkeys(names):
        probe.graph.output.append(helper.make_empty_tensor_value_info(name))
    session = GraphSession(probe.SerializeToString(), name="text graph under calibration")
    peaks: dict[str, Float32] = {}
    for inputs in samples:
        for name, value in zip(names, session.run(list(names), dict(inputs)), strict=True):
            peak = np.abs(value).reshape(-1, value.shape[-1]).max(axis=0)
            peaks[name] = np.maximum(peaks.get(name, peak), peak)
    return peaks
