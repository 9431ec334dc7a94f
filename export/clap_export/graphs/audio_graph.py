"""Torch audio tower -> ONNX graph, written by hand.

In:  `AudioTower`, log_mel [B, F, M] -> (embedding [B, D], frames [B, F', D]).
Out: a float32 model with the outputs `embedding` and `frames`, batch dynamic.
Knows nothing about training, quantization or files.
"""

from __future__ import annotations

import numpy as np
import onnx
import torch
from torch import nn

from clap_engine.arrays import Float32
from clap_engine.errors import GraphError
from clap_engine.session import GraphSession
from clap_export.graphs.builder import GraphBuilder
from clap_export.tower import PITCH_CLASSES, SHARPNESS, AudioTower, Block, Down

# Sums in another order and batch norms folded: 1e-6 is usual. A baked-in size shows as 1e-2.
TOLERANCE = 2e-5


def build(tower: AudioTower, *, n_frames: int = 128) -> onnx.ModelProto:
    """The tower as a graph, batch norms folded, checked against torch at two batch sizes."""
    model = _write(tower.eval(), n_frames)
    check(model, tower, n_frames=n_frames)
    return model


def check(model: onnx.ModelProto, tower: AudioTower, *, n_frames: int) -> None:
    """GraphError unless graph and tower agree on one and on three seeded windows."""
    random = np.random.default_rng(0)
    session = GraphSession(model.SerializeToString(), name="audio graph under test")
    for batch in (1, 3):
        log_mel = random.uniform(-80, 0, (batch, n_frames, tower.shape.n_mels)).astype(np.float32)
        with torch.no_grad():
            wanted = [output.numpy() for output in tower(torch.from_numpy(log_mel))]
        found = session.run(["embedding", "frames"], {"log_mel": log_mel})
        for name, a, b in zip(("embedding", "frames"), wanted, found, strict=True):
            error = float(np.abs(a - b).max()) if a.shape == b.shape else float("inf")
            if not error <= TOLERANCE:
                raise GraphError(
                    f"{name} of the audio graph is {error:.1e} from torch at batch {batch}; "
                    f"{TOLERANCE:.0e} is allowed; graph and tower.py have come apart"
                )


def _write(tower: AudioTower, n_frames: int) -> onnx.ModelProto:
    g = GraphBuilder("audio")
    moved = _mode(g, tower) if tower.shape.profiles else None
    x = g.node("Mul", ["log_mel", g.scalar(1 / 40)])
    x = g.node("Unsqueeze", [g.node("Add", [x, g.scalar(1)]), g.ints(1)])  # [B, 1, F, M]
    times = 1
    for i, layer in enumerate(tower.stages):
        if isinstance(layer, Down):
            x = g.node("Relu", [_convolve(g, f"stages.{i}.conv", layer.conv, layer.norm, x)])
            times *= int(layer.conv.stride[0])
        elif isinstance(layer, Block):
            y = g.node("Relu", [_convolve(g, f"stages.{i}.conv1", layer.conv1, layer.norm1, x)])
            y = _convolve(g, f"stages.{i}.conv2", layer.conv2, layer.norm2, y)
            x = g.node("Relu", [g.node("Add", [x, y])])
        else:
            raise GraphError(f"stage {i} is a {type(layer).__name__}; Down and Block are known")
    frames = n_frames // times
    x = g.node("Transpose", [x], perm=[0, 2, 3, 1])
    x = g.node("Reshape", [x, g.ints(0, frames, tower.hidden.in_features)])
    hidden = g.node("Relu", [_linear(g, "hidden", tower.hidden, x)])  # [B, F', H]
    weights = g.node("Softmax", [_linear(g, "attention", tower.attention, hidden)], axis=1)
    rows = _linear(g, "head", tower.head, hidden)
    clip = g.node("ReduceSum", [g.node("Mul", [weights, rows]), g.ints(1)], keepdims=0)
    if moved is not None:
        clip = g.node("Add", [clip, moved])
    _normalize(g, clip, "embedding")
    _normalize(g, rows, "frames")
    return g.model(
        {"log_mel": ("float32", ["B", n_frames, tower.shape.n_mels])},
        {
            "embedding": ("float32", ["B", tower.shape.dim]),
            "frames": ("float32", ["B", frames, tower.shape.dim]),
        },
    )


def _mode(g: GraphBuilder, tower: AudioTower) -> str:
    """What the mode adds to the window's embedding: [B, D]. Ahead of the convolutions, so that it
    stays float32 when these are quantized (`quantize_audio`): it costs next to nothing."""
    mode = tower.mode
    bands = g.node("MatMul", ["log_mel", g.constant(_array(mode.relief), "mode.relief")])
    partials = g.node("ReduceMean", [g.node("Relu", [bands])], axes=[1], keepdims=0)
    # The product of two constants: one [M, profiles * 12].
    fold = _array(SHARPNESS * (mode.fold.double() @ mode.rotated().double()))
    fits = g.node("MatMul", [partials, g.constant(fold, "mode.fold")])
    fits = g.node("Reshape", [fits, g.ints(0, -1, PITCH_CLASSES)])
    best = g.node("ReduceLogSumExp", [fits], axes=[2], keepdims=0)
    best = g.node("Mul", [best, g.scalar(1 / SHARPNESS)])
    best = g.node("Relu", [g.node("Add", [best, g.constant(_array(mode.bias), "mode.bias")])])
    half = g.node("Mul", [_linear(g, "mode.judge", mode.judge, best), g.scalar(0.5)])
    score = g.node("Tanh", [half])  # [B, 1]
    return g.node("Mul", [score, g.constant(_array(tower.minor), "minor")])


def _convolve(g: GraphBuilder, name: str, conv: nn.Conv2d, norm: nn.BatchNorm2d, x: str) -> str:
    """Convolution with its batch norm folded in (in float64, rounded once)."""
    if norm.running_var is None or norm.running_mean is None:
        raise GraphError(f"{name}: the batch norm keeps no running statistics; they are folded")
    gain = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    weight = conv.weight.double() * gain[:, None, None, None]
    bias = norm.bias.double() - norm.running_mean.double() * gain
    return g.node(
        "Conv",
        [x, g.constant(_array(weight), f"{name}.weight"), g.constant(_array(bias), f"{name}.bias")],
        kernel_shape=list(conv.kernel_size),
        strides=list(conv.stride),
        pads=[int(p) for p in conv.padding] * 2,
    )


def _linear(g: GraphBuilder, name: str, layer: nn.Linear, x: str) -> str:
    y = g.node("MatMul", [x, g.constant(_array(layer.weight.T), f"{name}.weight")])
    bias = dict(layer.named_parameters()).get("bias")
    if bias is None:
        return y
    return g.node("Add", [y, g.constant(_array(bias), f"{name}.bias")])


def _normalize(g: GraphBuilder, x: str, out: str) -> str:
    """Unit rows; a zero row stays zero."""
    norm = g.node("ReduceL2", [x], axes=[-1], keepdims=1)
    return g.node("Div", [x, g.node("Max", [norm, g.scalar(1e-12)])], out=out)


def _array(tensor: torch.Tensor) -> Float32:
    return np.ascontiguousarray(tensor.detach().numpy(), dtype=np.float32)
