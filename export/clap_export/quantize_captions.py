"""clapcap's mapper and decoder in int8, gated by what the decoder would say next.

In:  both float32 models; native embeddings of sounds [N, D]; a gate.
Out: both int8 models and a `SpokenParity` row; GateError where int8 says other things.
Knows nothing about bundles, tokenizers or beams.

Half of the sounds set the scales, the other half are compared: after each place of a sentence, the
scores of all next tokens. A sentence begins as the float32 decoder would and goes on by lot, since
beams wander off the likeliest path too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from clap_engine.arrays import Float32, Int64, l2_normalize
from clap_engine.beams import MASKED, BeamSettings, Decoder, search
from clap_engine.session import GraphSession
from clap_export.conditioning import SHARE, condition
from clap_export.graphs.builder import constants
from clap_export.graphs.gpt2_decoder_graph import TOKENS
from clap_export.parity import Gate, GateError
from clap_export.product_forms import Form, rewrite
from clap_export.tower_parity import said

Inputs = dict[str, npt.NDArray[Any]]

OWN_TOKENS, LOT_TOKENS = 8, 8
# Two tokens whose likelihoods are within a tenth of each other are a tie: nats.
NEAR_TIE = 0.1
# Of the mapper and of the decoder, from the fastest to the safest. A sound is mapped once and told
# in twenty steps: the mapper in float32 costs little, and its error runs through every step.
FORMS = ((Form.TENSOR, Form.TENSOR), (Form.ROWS, Form.ROWS), (Form.FLOAT, Form.ROWS))


@dataclass(frozen=True)
class SpokenParity:
    """How near an int8 decoder is to float32 over `n` next tokens."""

    n: int
    centred_mean: float  # cosine of scores less their mean over all places
    centred_min: float
    top1: float | None  # share of the same likeliest token, near ties left out
    decided: int  # places that are no near tie
    top10: float  # mean share of the ten likeliest that both have
    score_error: float  # 99th percentile of |score difference|

    def as_json(self) -> dict[str, Any]:
        """Plain values, rounded to 5 digits, for a manifest."""
        return {k: round(v, 5) if isinstance(v, float) else v for k, v in asdict(self).items()}

    def line(self) -> str:
        """One line of a table."""
        return (
            f"centred cosine {self.centred_mean:.4f} min {self.centred_min:.4f}  top-10 "
            f"{self.top10:.3f}  likeliest {said(self.top1)} of {self.decided}  score error "
            f"{self.score_error:.3f}"
        )

    def check(self, gate: Gate, name: str) -> None:
        """GateError that names every figure that falls short."""
        found = {
            "centred cosine of next-token scores": (self.centred_mean, gate.centred_mean),
            "top-10 overlap": (self.top10, gate.top10),
        }
        if self.top1 is not None:
            found["likeliest token"] = (self.top1, gate.zero_shot)
        short = [
            f"{key} {value:.4f} (at least {least})"
            for key, (value, least) in found.items()
            if not value >= least
        ]
        if short:
            raise GateError(f"{name} differs too much from float32: {', '.join(short)}")


@dataclass(frozen=True)
class Spoken:
    """Both graphs in int8 and what was measured on them together."""

    mapper: onnx.ModelProto
    decoder: onnx.ModelProto
    form: str
    parity: SpokenParity


def quantize(
    mapper: onnx.ModelProto, decoder: onnx.ModelProto, native: Float32, gate: Gate | None = None
) -> Spoken:
    """The fastest int8 form that passes; the last one's GateError where none does.

    Without a gate the fastest, whatever it says.
    """
    mapper_session, decoder_session = (_session(model) for model in (mapper, decoder))
    shape = {node.name: node for node in decoder.graph.input}["past_key.0"].type.tensor_type.shape
    heads, head_dim = shape.dim[1].dim_value, shape.dim[3].dim_value
    layers = sum(node.name.startswith("past_key.") for node in decoder.graph.input)
    (prefix,) = mapper_session.run(["prefix"], {"native": native})
    own = Decoder(decoder_session, layers, heads, head_dim)
    found = search(own, prefix, BeamSettings(1, OWN_TOKENS, -1))
    sentences = np.array([beams[0].tokens for beams in found])
    vocabulary = constants(decoder)[TOKENS].shape[1]
    lot = np.random.default_rng(0).integers(0, vocabulary, (len(native), LOT_TOKENS))
    sentences = np.concatenate([sentences, lot], axis=1)

    def spoken(prefix: Float32, ids: Int64) -> Inputs:
        return whole_sentence(prefix[None], ids[None], layers, heads, head_dim)

    samples = [spoken(row, ids) for row, ids in zip(prefix[::2], sentences[::2], strict=True)]
    kept = [{"native": row[None]} for row in native[::2]]
    ready = condition(mapper, kept), condition_tokens(condition(decoder, samples), samples)
    wanted = _scores(decoder_session, [*map(spoken, prefix[1::2], sentences[1::2])])
    failure: GateError | None = None
    for form in FORMS:
        quiet, talking = (
            rewrite(model, _always(one)) for model, one in zip(ready, form, strict=True)
        )
        session = _session(quiet)
        rows = [session.run(["prefix"], {"native": row[None]})[0][0] for row in native[1::2]]
        heard = [*map(spoken, rows, sentences[1::2])]
        parity = compare_scores(wanted, _scores(_session(talking), heard))
        try:
            if gate is not None:
                parity.check(gate, "caption graphs in int8")
            return Spoken(quiet, talking, " + ".join(one.name for one in form), parity)
        except GateError as error:
            failure = error
    raise failure or GateError("no int8 form of the caption graphs was tried")


def whole_sentence(
    prefix: Float32, ids: Int64, layers: int, heads: int, head_dim: int
) -> dict[str, npt.NDArray[Any]]:
    """Prefix and ids in one call, scores wanted from the last place of the prefix on."""
    batch, length, n = len(prefix), prefix.shape[1], prefix.shape[1] + ids.shape[1]
    past = np.zeros((batch, heads, 0, head_dim), np.float32)
    mask = np.where(np.tri(n, dtype=np.bool_), np.float32(0), MASKED)
    kinds = [f"past_{kind}.{i}" for i in range(layers) for kind in ("key", "value")]
    return {
        "prefix": prefix,
        "input_ids": ids,
        "positions": np.tile(np.arange(n), (batch, 1)),
        "mask": np.tile(mask, (batch, 1, 1, 1)),
        "read": np.arange(length - 1, n),
        **dict.fromkeys(kinds, past),
    }


def compare_scores(reference: Float32, candidate: Float32) -> SpokenParity:
    """[N, V] twice -> `SpokenParity`."""
    centred = np.sum(_centred(reference) * _centred(candidate), axis=1)
    best, other = (np.argpartition(-x, 10, axis=1)[:, :10] for x in (reference, candidate))
    both = [len(np.intersect1d(a, b)) / 10 for a, b in zip(best, other, strict=True)]
    top_two = np.partition(reference, -2, axis=1)[:, -2:]
    decided = top_two[:, 1] - top_two[:, 0] > NEAR_TIE
    same = reference.argmax(axis=1) == candidate.argmax(axis=1)
    return SpokenParity(
        n=len(reference),
        centred_mean=float(centred.mean()),
        centred_min=float(centred.min()),
        top1=float(same[decided].mean()) if decided.any() else None,
        decided=int(decided.sum()),
        top10=float(np.mean(both)),
        score_error=float(np.percentile(np.abs(reference - candidate), 99)),
    )


def condition_tokens(model: onnx.ModelProto, samples: Sequence[Inputs]) -> onnx.ModelProto:
    """The last product conditioned too, whose weights are also the table of embeddings.

    As conditioning.py has it: x W = ((x - c) / s) (s W) + c W. 1/s and c go into the
    LayerNormalization before it; s comes out of every row that is looked up. Without this, weights
    with outliers lose a tenth of the centred cosine.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    made = {name: node for node in result.graph.node for name in node.output}
    product = made["logits"]
    norm = made[product.input[0]]
    lookup = next(node for node in result.graph.node if TOKENS in node.input and node != product)
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    probe.graph.output.append(helper.make_empty_tensor_value_info(product.input[0]))
    session = _session(probe)
    rows = np.concatenate([session.run([product.input[0]], inputs)[0][0] for inputs in samples])
    low, high = rows.min(axis=0), rows.max(axis=0)
    shift, peak = (low + high) / 2, np.maximum((high - low) / 2, 1e-3)
    held = constants(model)
    loudest = np.maximum(np.abs(held[TOKENS]).max(axis=1), 1e-5)
    scale = peak**SHARE / loudest ** (1 - SHARE)
    scale = (scale / np.exp(np.log(scale).mean())).astype(np.float32)
    gain, bias = norm.input[1:3]
    changed = {
        TOKENS: held[TOKENS] * scale[:, None],
        gain: held[gain] / scale,
        bias: (held[bias] - shift) / scale,
    }
    for tensor in result.graph.initializer:
        if tensor.name in changed:
            value = np.ascontiguousarray(changed[tensor.name], np.float32)
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    back = (1 / scale)[:, None, None]  # of [H, B, L]
    result.graph.initializer.append(numpy_helper.from_array(back, f"{TOKENS}.back"))
    result.graph.initializer.append(
        numpy_helper.from_array((shift @ held[TOKENS]).astype(np.float32), f"{TOKENS}.shift")
    )
    _after(result, lookup, "Mul", f"{TOKENS}.back")
    _after(result, product, "Add", f"{TOKENS}.shift")
    onnx.checker.check_model(result)
    return result


def _after(model: onnx.ModelProto, node: onnx.NodeProto, op: str, constant: str) -> None:
    """Put `op` with a constant behind a node; what read the node reads the new one."""
    out = node.output[0]
    node.output[0] = f"{out}.before"
    new = helper.make_node(op, [node.output[0], constant], [out], name=f"{out}.{op}")
    model.graph.node.insert(list(model.graph.node).index(node) + 1, new)


def _always(form: Form) -> Callable[[str], Form]:
    return lambda weight: form


def _session(model: onnx.ModelProto) -> GraphSession:
    return GraphSession(model.SerializeToString(), name="caption graph")


def _scores(session: GraphSession, heard: Sequence[Inputs]) -> Float32:
    """The scores of every place of every sentence: [N, V]."""
    return np.concatenate([session.run(["logits"], inputs)[0][0] for inputs in heard])


def _centred(x: Float32) -> Float32:
    """Unit rows, the mean row and each row's own mean (which softmax ignores) taken off."""
    x = x - x.mean(axis=0)
    return l2_normalize(np.asarray(x - x.mean(axis=1, keepdims=True), np.float32))
