"""Products made easy to quantize: their inputs scaled and shifted where that costs nothing.

In:  a float32 model with its constants inside; sample inputs.
Out: the same function as another float32 model.
Knows nothing about integers or towers.

x W + b = ((x - c) / s) (s W) + (b + c W), channel by channel: s > 1 where x is loud (SmoothQuant,
Xiao et al. 2023), c the middle of what the channel takes (Outlier Suppression+, Wei et al. 2023).
A few channels of a trained transformer are 30 times as loud as the rest, and one scale of the
quantizer has to serve them all. Where x is made by a LayerNormalization, by Attention or by a mean
of values for these products alone, 1/s and c go into the constants of what makes it. Elsewhere
they cost a Sub and a Mul. Products of the same x share s and c.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from clap_engine.arrays import Float32
from clap_engine.session import GraphSession
from clap_export.graphs.builder import constants
from clap_export.smoothing import Inputs

# How much of a channel's loudness goes into the weights: from .5 to .7 results are alike.
SHARE = 0.5


def everywhere(weight: str) -> bool:
    """Every product is worth a Sub and a Mul."""
    return True


def condition(
    model: onnx.ModelProto,
    samples: Sequence[Inputs],
    *,
    share: float = SHARE,
    paid: Callable[[str], bool] = everywhere,
) -> onnx.ModelProto:
    """Condition every product with constant weights where it is free, or `paid` by weight's name.

    `samples` must resemble what will be asked, short names and long sentences alike.
    """
    editor = _Editor(model)
    groups = [
        group
        for group in editor.groups()
        if editor.maker(group) or all(paid(node.input[1]) for node in group)
    ]
    ranges = _ranges(model, [group[0].input[0] for group in groups], samples)
    for group in groups:
        low, high = ranges[group[0].input[0]]
        editor.condition(group, low, high, share)
    return editor.model()


# A constant of the graph: which input of which node it is.
_Place = tuple[onnx.NodeProto, int]


@dataclass(frozen=True)
class _Move:
    """(x - shift) / scale, [K] each."""

    scale: Float32
    shift: Float32


class _Editor:
    """A model's nodes and constants, which change together."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = onnx.ModelProto()
        self._model.CopyFrom(model)
        self.nodes = list(self._model.graph.node)
        self.constants = constants(model)
        self.uses = Counter(name for node in self.nodes for name in node.input)
        self.uses.update(output.name for output in self._model.graph.output)
        self._makers = {name: node for node in self.nodes for name in node.output}
        self._inserted: dict[str, list[onnx.NodeProto]] = {}

    def groups(self) -> list[list[onnx.NodeProto]]:
        """Products whose weights are theirs alone, by input."""
        found: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            known = node.op_type in ("MatMul", "Attention") and node.input[1] in self.constants
            if known and self.uses[node.input[1]] == 1:
                found.setdefault(node.input[0], []).append(node)
        return list(found.values())

    def maker(self, group: Sequence[onnx.NodeProto]) -> tuple[_Place, _Place] | None:
        """Gain and bias of what makes a group's input, if it makes it for no one else.

        The gain's last dimension ends in the input's channels, and so does the bias.
        """
        x = group[0].input[0]
        node = self._makers.get(x)
        if node is None or self.uses[x] > len(group):
            return None
        if node.op_type in ("LayerNormalization", "Attention"):
            known = all(name in self.constants for name in node.input[1:3])
            return ((node, 1), (node, 2)) if known else None
        return self._values(node)

    def condition(
        self, group: Sequence[onnx.NodeProto], low: Float32, high: Float32, share: float
    ) -> None:
        """Scale and shift the input of a group's products, its range known."""
        biases = [self._bias(node) for node in group]
        shift = np.zeros_like(low) if None in biases else (low + high) / 2
        weights = [self.constants[node.input[1]] for node in group]
        loudest = np.max([np.abs(weight).max(axis=1) for weight in weights], axis=0)
        peak = np.maximum(np.maximum(high - shift, shift - low), 1e-3)
        scale = peak**share / np.maximum(loudest, 1e-5) ** (1 - share)
        move = _Move((scale / np.exp(np.log(scale).mean())).astype(np.float32), shift)
        maker = self.maker(group)
        if maker is not None:
            self._into(maker, move)
        else:
            self._insert(group, move)
        for node, weight, bias in zip(group, weights, biases, strict=True):
            if bias is not None:
                owner, place = bias
                self._set(owner, place, self.constants[owner.input[place]] + shift @ weight)
            # Its output may be what another group's input is made of, and already be scaled.
            self._set(node, 1, self.constants[node.input[1]] * move.scale[:, None])

    def model(self) -> onnx.ModelProto:
        """The model with its new nodes and constants."""
        del self._model.graph.node[:]
        for node in self.nodes:
            self._model.graph.node.extend([*self._inserted.get(node.name, []), node])
        used = {name for node in self._model.graph.node for name in node.input}
        del self._model.graph.initializer[:]
        self._model.graph.initializer.extend(
            numpy_helper.from_array(np.ascontiguousarray(value), name)
            for name, value in self.constants.items()
            if name in used
        )
        onnx.checker.check_model(self._model)
        return self._model

    def _values(self, node: onnx.NodeProto) -> tuple[_Place, _Place] | None:
        """Weight and bias of the values that explicit attention takes a mean of.

        That is: reshape(transpose(softmax @ transpose(reshape(x W + b)))), heads side by side.
        """
        for op in ("Reshape", "Transpose", "MatMul", "Transpose", "Reshape", "Add"):
            if node.op_type != op or self.uses[node.output[0]] > 1:
                return None
            if op == "MatMul":
                weights = self._makers.get(node.input[0])
                if weights is None or weights.op_type != "Softmax":
                    return None
            after, maker = node, self._makers.get(node.input[1 if op == "MatMul" else 0])
            if maker is None:
                return None
            node = maker
        known = node.op_type == "MatMul" and node.input[1] in self.constants
        return ((node, 1), (after, 1)) if known and after.input[1] in self.constants else None

    def _bias(self, node: onnx.NodeProto) -> _Place | None:
        """Which input of which node is added to the product, if it is a constant."""
        if node.op_type == "Attention":
            return node, 2
        users = [user for user in self.nodes if node.output[0] in user.input]
        if len(users) != 1 or users[0].op_type not in ("Add", "FastGelu", "BiasGelu"):
            return None
        place = 1 - list(users[0].input).index(node.output[0])
        found = self.constants.get(users[0].input[place])
        return (users[0], place) if found is not None and found.ndim == 1 else None

    def _into(self, maker: tuple[_Place, _Place], move: _Move) -> None:
        """Scale and shift what `maker` gives, in its own constants."""
        (gain_node, gain_at), (bias_node, bias_at) = maker
        gain = self.constants[gain_node.input[gain_at]].copy()
        bias = self.constants[bias_node.input[bias_at]].copy()
        columns = slice(-len(move.scale), None)  # Attention has queries and keys before its values
        gain[..., columns] /= move.scale
        bias[columns] = (bias[columns] - move.shift) / move.scale
        self._set(gain_node, gain_at, gain)
        self._set(bias_node, bias_at, bias)

    def _insert(self, group: Sequence[onnx.NodeProto], move: _Move) -> None:
        """Sub and Mul before the products."""
        first, steps = group[0], []
        x = first.input[0]
        for op, value in (("Sub", move.shift), ("Mul", 1 / move.scale)):
            name = f"{first.name}.{op}"
            self.constants[f"{name}.by"] = value
            steps.append(helper.make_node(op, [x, f"{name}.by"], [name], name=name))
            x = name
        self._inserted[first.name] = steps
        for node in group:
            node.input[0] = x

    def _set(self, node: onnx.NodeProto, place: int, value: Float32) -> None:
        """Another constant for one input of one node; others that share the old one keep it."""
        name = node.input[place]
        if self.uses[name] > 1:
            self.uses[name] -= 1
            name = f"{node.name}.{place}"
            self.uses[name] = 1
            node.input[place] = name
        self.constants[name] = np.asarray(value, np.float32)


def _ranges(
    model: onnx.ModelProto, names: Sequence[str], samples: Sequence[Inputs]
) -> dict[str, tuple[Float32, Float32]]:
    """The least and the largest of each channel of the values `names`, over all samples."""
    wanted = list(dict.fromkeys(names))
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    probe.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in wanted)
    session = GraphSession(probe.SerializeToString(), name="graph under calibration")
    ranges: dict[str, tuple[Float32, Float32]] = {}
    for inputs in samples:
        for name, value in zip(wanted, session.run(wanted, dict(inputs)), strict=True):
            rows = value.reshape(-1, value.shape[-1])
            low, high = rows.min(axis=0), rows.max(axis=0)
            before = ranges.get(name, (low, high))
            ranges[name] = np.minimum(before[0], low), np.maximum(before[1], high)
    return ranges
