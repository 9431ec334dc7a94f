"""A float32 tower in cheaper forms, among which parity and time choose.

In:  a float32 model with its constants inside; its kind; sample inputs.
Out: quantized models by name, each made when it is asked for; a float16 one.
Knows nothing about bundles, gates or what the towers are of.

Each product has one of the forms of product_forms.py, each kind of tower a few recipes of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx

from clap_export.conditioning import condition, everywhere
from clap_export.product_forms import Form, FormOf, rewrite
from clap_export.smoothing import Inputs


@dataclass(frozen=True)
class Recipe:
    """How a whole tower is quantized, by the names of its weights."""

    form: FormOf
    paid: Callable[[str], bool] = everywhere  # where conditioning may cost two nodes


def _always(form: Form) -> FormOf:
    return lambda weight: form


def _but_patches(form: Form) -> FormOf:
    """Patches in float32: 16 values wide, they are slower in int8, and less exact."""
    return lambda weight: Form.FLOAT if weight.startswith("patch_embed.") else form


def _at_the_end(weight: str) -> bool:
    """Products of one row: what conditions them is next to nothing, and nothing averages after."""
    return weight.startswith(("projection.", "head.", "pooler."))


# From the fastest to the safest; float32 is what remains when none is good enough.
RECIPES: Mapping[str, Mapping[str, Recipe]] = {
    "text": {
        "int8-free": Recipe(_always(Form.TENSOR), _at_the_end),
        "int8": Recipe(_always(Form.TENSOR)),
        "int8-rows": Recipe(_always(Form.ROWS)),
        "int8-blocks": Recipe(_always(Form.BLOCKS)),
    },
    "audio": {
        "int8-free": Recipe(_but_patches(Form.TENSOR), _at_the_end),
        "int8": Recipe(_but_patches(Form.TENSOR)),
        "int8-rows": Recipe(_but_patches(Form.ROWS)),
    },
}


class Candidates(Mapping[str, onnx.ModelProto]):
    """A tower by every recipe of its kind, one in memory at a time: each look-up makes it anew."""

    def __init__(self, model: onnx.ModelProto, kind: str, samples: Sequence[Inputs]) -> None:
        self._model = model
        self._recipes = RECIPES[kind]
        self._samples = samples

    def __getitem__(self, name: str) -> onnx.ModelProto:
        return apply(self._model, self._recipes[name], self._samples)

    def __iter__(self) -> Iterator[str]:
        return iter(self._recipes)

    def __len__(self) -> int:
        return len(self._recipes)


def candidates(
    model: onnx.ModelProto, kind: str, samples: Sequence[Inputs]
) -> Mapping[str, onnx.ModelProto]:
    """int8 forms of a "text" or "audio" tower by name, from the fastest to the safest.

    `samples` set the scales: short names and long sentences, or all sorts of sounds. Those whose
    activations have one scale for the whole input (DynamicQuantizeLinear) take one item a call.
    """
    return Candidates(model, kind, samples)


def apply(model: onnx.ModelProto, recipe: Recipe, samples: Sequence[Inputs]) -> onnx.ModelProto:
    """`model` by one recipe."""
    return rewrite(condition(model, samples, paid=recipe.paid), recipe.form)


def half(model: onnx.ModelProto) -> onnx.ModelProto:
    """Weights and sums in float16, inputs and outputs as they were: for GPUs, at half the size."""
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    # onnxruntime's LayerNormalization adds up in float32 whatever it is given.
    result: onnx.ModelProto = convert_float_to_float16(
        copy, keep_io_types=True, op_block_list=["ReduceL2"]
    )
    OnnxModel.graph_topological_sort(result.graph)  # its casts stand anywhere
    onnx.checker.check_model(result)
    return result
