"""HTSAT (a Swin transformer over log-mels), its projection and head as an ONNX graph.

In:  the state dict, msclap's names; the number of frames a window has; `HeadGraph`.
Out: a float32 model, `log_mel` [B, F, M] -> `embedding` [B, D], `native` [B, N], B dynamic.
Knows nothing about front ends, quantization or files.

Values are [N, B, C]: tokens first, and among them the place within a window before the window.
Queries, keys and values then enter their products as they are: onnxruntime fuses the transposes,
which only stride over the first dimension. Tokens are gathered when windows shift and when four
of them merge, and nowhere else. What tags and framewise maps need (tscam, head) is left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx

from clap_engine.arrays import Float32
from clap_engine.errors import GraphError
from clap_export.graphs.builder import MICROSOFT, GraphBuilder
from clap_export.graphs.projection import HeadGraph, add_projection

Int64 = npt.NDArray[np.int64]

IMAGE = 256  # rows and columns: stripes of log-mel, one above the other
EPS = 1e-5
BLOCK = 64  # resampled frames that are made together
# Added to the scores of tokens that a shifted window holds from the image's other side. msclap
# adds -100, whose softmax is denormal: the next product then runs 20 times slower (2e-6 apart).
MASKED = -1e9


@dataclass(frozen=True)
class Shape:
    """What the names and shapes of a state say about the tower."""

    depths: tuple[int, ...]  # blocks of each stage
    heads: tuple[int, ...]
    width: int  # of the first stage; each next one has twice as much
    patch: int  # rows and columns of a patch
    window: int  # rows and columns of an attention window
    n_mels: int

    @property
    def grid(self) -> int:
        """Tokens in a row of the first stage."""
        return IMAGE // self.patch

    @property
    def max_frames(self) -> int:
        """Frames that the image has room for."""
        return IMAGE * IMAGE // self.n_mels


def shape_of(state: Mapping[str, Float32], prefix: str) -> Shape:
    """Read the sizes; GraphError for a layout that isn't HTSAT's."""
    block = re.compile(re.escape(prefix) + r"layers\.(\d+)\.blocks\.(\d+)\.norm1\.weight")
    blocks = [(int(m[1]), int(m[2])) for name in state if (m := block.fullmatch(name))]
    if not blocks or prefix + "patch_embed.proj.weight" not in state:
        raise GraphError(f"no HTSAT under {prefix!r}; its names begin otherwise or are others'")
    stages = max(stage for stage, _ in blocks) + 1
    table = prefix + "layers.{}.blocks.0.attn.relative_position_bias_table"
    width, _, patch, _ = state[prefix + "patch_embed.proj.weight"].shape
    rows = len(state[table.format(0)])
    shape = Shape(
        depths=tuple(1 + max(j for i, j in blocks if i == stage) for stage in range(stages)),
        heads=tuple(int(state[table.format(stage)].shape[1]) for stage in range(stages)),
        width=int(width),
        patch=int(patch),
        window=(round(rows**0.5) + 1) // 2,
        n_mels=len(state[prefix + "bn0.weight"]),
    )
    smallest = shape.grid >> (stages - 1)
    powers = (shape.patch, shape.window, shape.n_mels)
    if any(n & (n - 1) for n in powers) or smallest < shape.window:
        raise GraphError(
            f"patch {shape.patch}, window {shape.window}, {shape.n_mels} mels, {stages} stages: "
            f"powers of two are needed, and windows no larger than the last grid ({smallest})"
        )
    return shape


def build(
    state: Mapping[str, Float32],
    prefix: str = "audio_encoder.base.htsat.",
    *,
    n_frames: int,
    head: HeadGraph | None = None,
    projection: str | None = None,
) -> onnx.ModelProto:
    """The whole audio tower; `projection`: prefix of the projection's names, beside `base.`."""
    shape = shape_of(state, prefix)
    if not 0 < n_frames <= shape.max_frames:
        raise GraphError(f"{n_frames} frames; 1 to {shape.max_frames} fit in the tower's image")
    writer = _Writer(state, prefix, shape)
    g = writer.g
    tokens = writer.patches("log_mel", n_frames)
    for stage, depth in enumerate(shape.depths):
        if stage:
            tokens = writer.merge(tokens, stage)
        for i in range(depth):
            tokens = writer.block(tokens, stage, i)
    x = g.node("ReduceMean", [writer.norm("norm", tokens.value)], axes=[0], keepdims=0)  # [B, C]
    if projection is None:
        projection = prefix.partition("base.")[0] + "projection."
    widths = add_projection(g, x, state, projection, head or HeadGraph())
    size: list[str | int] = ["B", n_frames, shape.n_mels]
    return g.model({"log_mel": ("float32", size)}, widths.outputs())


@dataclass(frozen=True)
class Tokens:
    """All tokens of an image: their value [N, B, C], and where in the image each one belongs."""

    value: str
    places: Int64  # [N], row * grid + column

    def find(self, places: Int64) -> Int64:
        """At which index each of `places` is."""
        index = np.empty(len(self.places), np.int64)
        index[self.places] = np.arange(len(self.places))
        return np.asarray(index[places], np.int64)


class _Writer:
    """Nodes of one tower."""

    def __init__(self, state: Mapping[str, Float32], prefix: str, shape: Shape) -> None:
        self.g = GraphBuilder("audio")
        self._state, self._prefix, self._shape = state, prefix, shape

    def patches(self, log_mel: str, n_frames: int) -> Tokens:
        """Batch norm, resampling in time, patches: [B, F, M] -> [N, B, C]."""
        g, shape = self.g, self._shape
        gain, shift = self._batch_norm()
        x = g.node("Mul", [log_mel, g.constant(gain, "bn0.gain")])
        x = g.node("Add", [x, g.constant(shift, "bn0.shift")])
        if n_frames < shape.max_frames:
            frames, bands = band(bicubic(n_frames, shape.max_frames))
            x = g.node("Gather", [x, g.constant(frames, "bicubic.frames")], axis=1)
            x = g.node("MatMul", [g.constant(bands, "bicubic"), x])  # [B, blocks, BLOCK, M]
        patch, mels = shape.patch, shape.n_mels // shape.patch
        x = g.node("Reshape", [x, g.ints(0, shape.max_frames // patch, patch, mels, patch)])
        x = g.node("Transpose", [x], perm=[1, 3, 0, 4, 2])  # time patch, mel patch, B, mel, time
        x = g.node("Reshape", [x, g.ints(shape.grid**2, -1, patch * patch)])
        places = windows(shape.grid, shape.window)
        row, column = np.divmod(places, shape.grid)
        time = row // mels * shape.grid + column  # stripes of time lie one above the other
        order = g.constant(time * mels + row % mels, "patch_order")
        weight = self._state[self._prefix + "patch_embed.proj.weight"]
        weight = weight.reshape(shape.width, patch * patch).T
        x = g.node("Gather", [x, order], axis=0)
        x = g.node("MatMul", [x, g.constant(weight, "patch_embed.proj.weight")])
        x = g.node("Add", [x, self._weight("patch_embed.proj.bias")])
        return Tokens(self.norm("patch_embed.norm", x), places)

    def block(self, tokens: Tokens, stage: int, i: int) -> Tokens:
        """One Swin block: attention within windows, then the MLP, each added to its input."""
        g, name = self.g, f"layers.{stage}.blocks.{i}."
        grid, window = self._shape.grid >> stage, self._shape.window
        shifted = i % 2 == 1 and grid > window
        places = windows(grid, window, shift=window // 2 if shifted else 0)
        x = tokens.value
        if not np.array_equal(places, tokens.places):
            x = g.node("Gather", [x, g.constant(tokens.find(places), f"order.{stage}")], axis=0)
        mask = shift_mask(places, grid, window)
        y = self._attention(self.norm(name + "norm1", x), stage, name + "attn.", mask)
        x = g.node("Add", [x, y])
        y = self.norm(name + "norm2", x)
        y = g.node("MatMul", [y, self._matrix(name + "mlp.fc1.weight")])
        y = g.node("Add", [y, self._weight(name + "mlp.fc1.bias")])
        y = g.node("Gelu", [y], domain=MICROSOFT)
        return Tokens(g.node("Add", [x, self._linear(y, name + "mlp.fc2")]), places)

    def merge(self, tokens: Tokens, stage: int) -> Tokens:
        """Four neighbours become one token of twice the width: [4N, B, C] -> [N, B, 2C]."""
        g, name = self.g, f"layers.{stage - 1}.downsample."
        width, grid = self._shape.width << stage, self._shape.grid >> stage
        places = windows(grid, self._shape.window)
        row, column = 2 * (places // grid)[:, None], 2 * (places % grid)[:, None]
        # The order in which msclap lays them down: column by column.
        four = (row + np.array([0, 1, 0, 1])) * 2 * grid + column + np.array([0, 0, 1, 1])
        order = g.constant(tokens.find(four), f"merge.{stage}")
        x = g.node("Gather", [tokens.value, order], axis=0)  # [N, 4, B, C]
        x = g.node("Transpose", [x], perm=[0, 2, 1, 3])
        x = self.norm(name + "norm", g.node("Reshape", [x, g.ints(0, -1, 2 * width)]))
        x = g.node("MatMul", [x, self._matrix(name + "reduction.weight")])
        # msclap has no bias here. This one takes what conditioning moves, and int8 has it for free.
        none = g.constant(np.zeros(width, np.float32), name + "reduction.bias")
        return Tokens(g.node("Add", [x, none]), places)

    def norm(self, name: str, x: str) -> str:
        """LayerNorm over channels."""
        inputs = [x, self._weight(name + ".weight"), self._weight(name + ".bias")]
        return self.g.node("LayerNormalization", inputs, axis=-1, epsilon=EPS)

    def _attention(self, x: str, stage: int, name: str, mask: Float32) -> str:
        """Self-attention within each window: [N, B, C] -> [N, B, C]."""
        g, width, heads = self.g, self._shape.width << stage, self._shape.heads[stage]
        q, k, v = (self._heads(x, name, part, width, heads) for part in range(3))
        # Written so that onnxruntime takes them into the products: [W B, H, 64, D].
        q = g.node("Transpose", [q], perm=[1, 2, 0, 3])
        k = g.node("Transpose", [k], perm=[1, 2, 3, 0])
        v = g.node("Transpose", [v], perm=[1, 2, 0, 3])
        scores = self._add_bias(g.node("MatMul", [q, k]), name, heads, mask)
        x = g.node("MatMul", [g.node("Softmax", [scores], axis=-1), v])
        x = g.node("Transpose", [x], perm=[2, 0, 1, 3])
        x = g.node("Reshape", [x, g.ints((self._shape.grid >> stage) ** 2, -1, width)])
        return self._linear(x, name + "proj")

    def _heads(self, x: str, name: str, part: int, width: int, heads: int) -> str:
        """Query (0), key (1) or value (2): [N, B, C] -> [64, W B, H, D]."""
        g, rows = self.g, slice(part * width, (part + 1) * width)
        # The scale of the scores goes into the queries.
        scale = np.float32((width // heads) ** -0.5 if part == 0 else 1)
        weight = self._state[f"{self._prefix}{name}qkv.weight"][rows].T * scale
        shift = self._state[f"{self._prefix}{name}qkv.bias"][rows] * scale
        which = name + ("query", "key", "value")[part]
        x = g.node("MatMul", [x, g.constant(weight, which + ".weight")])
        x = g.node("Add", [x, g.constant(shift, which + ".bias")])
        return g.node("Reshape", [x, g.ints(self._shape.window**2, -1, heads, width // heads)])

    def _add_bias(self, scores: str, name: str, heads: int, mask: Float32) -> str:
        """Relative position bias and the mask of shifted windows: [W B, H, 64, 64] both ways."""
        g, tokens = self.g, self._shape.window**2
        table = self._state[f"{self._prefix}{name}relative_position_bias_table"]
        bias = table[relative_places(self._shape.window)].transpose(2, 0, 1)  # [H, 64, 64]
        position = g.constant(bias, name + "position_bias")
        if not mask.any():
            return g.node("Add", [scores, position])
        # Both are constants, which onnxruntime adds when it loads the graph.
        masked = g.node("Add", [g.constant(mask[:, None, None], "shift_mask"), position])
        scores = g.node("Reshape", [scores, g.ints(len(mask), -1, heads, tokens, tokens)])
        scores = g.node("Add", [scores, masked])  # [W, B, H, 64, 64]
        return g.node("Reshape", [scores, g.ints(-1, heads, tokens, tokens)])

    def _batch_norm(self) -> tuple[Float32, Float32]:
        names = ("weight", "bias", "running_mean", "running_var")
        gain, shift, mean, var = (
            self._state[f"{self._prefix}bn0.{name}"].astype(np.float64) for name in names
        )
        gain = gain / np.sqrt(var + EPS)
        return gain.astype(np.float32), (shift - mean * gain).astype(np.float32)

    def _linear(self, x: str, name: str) -> str:
        y = self.g.node("MatMul", [x, self._matrix(name + ".weight")])
        return self.g.node("Add", [y, self._weight(name + ".bias")])

    def _matrix(self, name: str) -> str:
        return self.g.constant(self._state[self._prefix + name].T, name)

    def _weight(self, name: str) -> str:
        return self.g.constant(self._state[self._prefix + name], name)


def windows(grid: int, window: int, shift: int = 0) -> Int64:
    """[N]: the places of an image's tokens, ordered by place within a window, then by window.

    With `shift`, windows begin so many rows and columns further on and wrap around.
    """
    row = (np.arange(grid).reshape(-1, window) + shift) % grid
    places = row[:, None, :, None] * grid + row[None, :, None, :]  # down, across, down, across
    return np.ascontiguousarray(places.reshape(-1, window * window).T).reshape(-1)


def relative_places(window: int) -> Int64:
    """[w*w, w*w]: the row of the bias table for each pair of places in a window."""
    row, column = np.divmod(np.arange(window * window), window)
    down = row[:, None] - row[None] + window - 1
    right = column[:, None] - column[None] + window - 1
    return np.asarray(down * (2 * window - 1) + right, np.int64)


def shift_mask(places: Int64, grid: int, window: int) -> Float32:
    """[W, w*w, w*w]: MASKED where two tokens of a shifted window come from the image's two ends."""
    row, column = np.divmod(places.reshape(window * window, -1).T, grid)  # [W, 64]
    apart = np.zeros((*row.shape, window * window), bool)
    for place in (row, column):
        apart |= np.abs(place[:, :, None] - place[:, None]) >= window
    return np.where(apart, MASKED, 0).astype(np.float32)


def bicubic(n_in: int, n_out: int) -> Float32:
    """[n_out, n_in]: torch's bicubic interpolation: align_corners, A = -0.75, places in float32."""
    place = np.float32((n_in - 1) / (n_out - 1)) * np.arange(n_out, dtype=np.float32)
    start = np.floor(place).astype(np.int64)
    t = place - start.astype(np.float32)
    matrix = np.zeros((n_out, n_in), np.float64)
    for tap in range(-1, 3):
        x = np.abs(t - tap).astype(np.float64)
        near = (1.25 * x - 2.25) * x * x + 1
        far = ((-0.75 * x + 3.75) * x - 6) * x + 3
        column = np.clip(start + tap, 0, n_in - 1)
        np.add.at(matrix, (np.arange(n_out), column), np.where(x <= 1, near, far))
    return matrix.astype(np.float32)


def band(matrix: Float32) -> tuple[Int64, Float32]:
    """The diagonal of a banded matrix [n, m] in blocks of rows: columns [R, k], values [R, r, k].

    As one product, the zeros of `bicubic` cost 2 % of the tower's time and 4 MB of its file.
    """
    blocks = matrix.reshape(-1, BLOCK, matrix.shape[1])
    used = [np.flatnonzero(block.any(axis=0)) for block in blocks]
    wide = max(int(columns[-1] - columns[0]) + 1 for columns in used)
    first = np.minimum([columns[0] for columns in used], matrix.shape[1] - wide)
    columns = first[:, None] + np.arange(wide)
    return columns, np.stack([block[:, c] for block, c in zip(blocks, columns, strict=True)])
