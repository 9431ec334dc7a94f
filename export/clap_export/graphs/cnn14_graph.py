"""CNN14 (msclap 2022's convolutions over log-mels), its projection and head as an ONNX graph.

In:  the state dict, msclap's names; the number of frames a window has; `HeadGraph`.
Out: a float32 model, `log_mel` [B, F, M] -> `embedding` [B, D], `native` [B, N], B dynamic.
Knows nothing about front ends, quantization or files.

Batch norms are folded into the convolutions before them; the first one stands before a padded
convolution, which sees zeros beyond the edge and not its shift, so it stays.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import onnx

from clap_engine.arrays import Float32
from clap_engine.errors import GraphError
from clap_export.graphs.builder import GraphBuilder
from clap_export.graphs.projection import HeadGraph, add_projection

Float64 = npt.NDArray[np.float64]

EPS = 1e-5


def build(
    state: Mapping[str, Float32],
    prefix: str = "audio_encoder.base.",
    *,
    n_frames: int,
    head: HeadGraph | None = None,
    projection: str | None = None,
) -> onnx.ModelProto:
    """The whole audio tower; `projection`: prefix of the projection's names, beside `base.`."""
    blocks = _count_blocks(state, prefix)
    if n_frames < 1 << (blocks - 1):
        raise GraphError(f"{n_frames} frames; {blocks - 1} halvings need {1 << (blocks - 1)}")
    g = GraphBuilder("audio")
    gain, shift = _batch_norm(state, prefix + "bn0")
    x = g.node("Mul", ["log_mel", g.constant(gain.astype(np.float32), "bn0.gain")])
    x = g.node("Add", [x, g.constant(shift.astype(np.float32), "bn0.shift")])
    x = g.node("Unsqueeze", [x, g.ints(1)])  # [B, 1, F, M]
    for i in range(1, blocks + 1):
        for half in ("1", "2"):
            name = f"conv_block{i}."
            x = _convolve(g, state, prefix + name, half, x, f"{name}conv{half}")
        if i < blocks:  # the last one is pooled by 1
            x = g.node("AveragePool", [x], kernel_shape=[2, 2], strides=[2, 2])
    x = g.node("ReduceMean", [x], axes=[3], keepdims=0)  # [B, C, F']
    loudest = g.node("ReduceMax", [x], axes=[2], keepdims=0)
    x = g.node("Add", [loudest, g.node("ReduceMean", [x], axes=[2], keepdims=0)])
    weight = g.constant(state[prefix + "fc1.weight"].T, "fc1.weight")
    x = g.node("MatMul", [x, weight])
    x = g.node("Add", [x, g.constant(state[prefix + "fc1.bias"], "fc1.bias")])
    if projection is None:
        projection = prefix.partition("base.")[0] + "projection."
    widths = add_projection(g, g.node("Relu", [x]), state, projection, head or HeadGraph())
    n_mels = len(state[prefix + "bn0.weight"])
    return g.model({"log_mel": ("float32", ["B", n_frames, n_mels])}, widths.outputs())


def _count_blocks(state: Mapping[str, Float32], prefix: str) -> int:
    pattern = re.compile(re.escape(prefix) + r"conv_block(\d+)\.conv2\.weight")
    found = sorted(int(match[1]) for name in state if (match := pattern.fullmatch(name)))
    if not found or found != list(range(1, len(found) + 1)):
        raise GraphError(f"no CNN14 under {prefix!r}: its blocks are numbered {found or 'nowhere'}")
    return len(found)


def _batch_norm(state: Mapping[str, Float32], name: str) -> tuple[Float64, Float64]:
    """Gain and shift in float64, to be rounded once."""
    parts = ("weight", "bias", "running_mean", "running_var")
    gain, shift, mean, var = (state[f"{name}.{part}"].astype(np.float64) for part in parts)
    gain = gain / np.sqrt(var + EPS)
    return gain, shift - mean * gain


def _convolve(
    g: GraphBuilder, state: Mapping[str, Float32], block: str, half: str, x: str, name: str
) -> str:
    """Convolution 3 x 3 with its batch norm folded in, then ReLU."""
    gain, shift = _batch_norm(state, f"{block}bn{half}")
    weight = (state[f"{block}conv{half}.weight"] * gain[:, None, None, None]).astype(np.float32)
    inputs = [x, g.constant(weight, name + ".weight")]
    inputs.append(g.constant(shift.astype(np.float32), name + ".bias"))
    return g.node("Relu", [g.node("Conv", inputs, kernel_shape=[3, 3], pads=[1, 1, 1, 1])])
