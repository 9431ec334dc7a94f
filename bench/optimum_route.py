"""The generic export of a text tower beside the hand-written graph of the same weights.

In:  `python bench/optimum_route.py [--layers N]`; optimum and optimum-onnx installed beside the
     exporter (neither is needed for anything else here).
Out: a line for each graph: nodes, MB, median ms of one text of 8 tokens on two threads, and how
     far from torch, or for the hand-written int8 forms from the hand-written float32 one.
Knows nothing about bundles or gates. BERT base with seeded random weights: speed and numerics.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from optimum.exporters.onnx import main_export
from optimum.onnxruntime import ORTQuantizer
from optimum.onnxruntime.configuration import AutoQuantizationConfig
from transformers import BertConfig, BertModel

from clap_engine.arrays import Float32
from clap_engine.session import GraphSession
from clap_export import quantize_towers
from clap_export.graphs.projection import HeadGraph
from clap_export.msclap import layout, random_weights, source, stand_in
from clap_export.msclap.checkpoint import Checkpoint

THREADS, TOKENS, ROUNDS, COMPARED = 2, 8, 60, 50
BASE = "caption_encoder.base."


def main() -> None:
    """Export, quantize, time in turns, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, help="cut the tower, to try the script")
    layers = parser.parse_args().layers
    state = random_weights.random_state("2022", seed=0, layers=layers)
    model = _bert(state)
    drawn = np.random.default_rng(0).integers(1000, 20_000, (COMPARED, TOKENS))
    texts = [{"input_ids": row[None], "attention_mask": np.ones((1, TOKENS), int)} for row in drawn]
    with tempfile.TemporaryDirectory() as folder:
        graphs = {**_generic(model, Path(folder)), **_own(state, texts)}
    sessions = {
        name: GraphSession(data, name=name, threads=THREADS) for name, (data, _) in graphs.items()
    }
    times: dict[str, list[float]] = {name: [] for name in graphs}
    for round_ in range(ROUNDS):
        for name, session in sessions.items():
            given = _inputs(session, texts[round_ % COMPARED])
            start = time.perf_counter()
            session.run([graphs[name][1]], given)
            times[name].append(time.perf_counter() - start)
    with torch.no_grad():
        exact = np.concatenate(
            [model(torch.from_numpy(x["input_ids"])).last_hidden_state[:, 0] for x in texts]
        )
    bases = {"optimum": exact, "hand-written": exact}
    for name, (data, output) in graphs.items():
        found = np.concatenate([_pooled(sessions[name], output, x) for x in texts])
        route, form = name.split(" ", 1)
        if (route, form) == ("hand-written", "fp32"):
            bases[route] = found  # projected: the conversion's own gate compares it with torch
        nodes, ms = len(onnx.load_from_string(data).graph.node), 1e3 * float(np.median(times[name]))
        told = f"{nodes:5d} nodes {len(data) / 1e6:6.1f} MB {ms:6.2f} ms"
        print(f"{name:32s} {told}  {_likeness(found, bases[route])}")


def _bert(state: dict[str, Any]) -> BertModel:
    own = {key.removeprefix(BASE): value for key, value in state.items() if key.startswith(BASE)}
    depth = 1 + max(int(key.split(".")[2]) for key in own if key.startswith("encoder.layer."))
    config = BertConfig(num_hidden_layers=depth, attn_implementation="eager")
    model = BertModel(config, add_pooling_layer=False).eval()
    known = {key: torch.as_tensor(own[key]) for key in model.state_dict() if key in own}
    model.load_state_dict(known, strict=False)
    return model


def _generic(model: BertModel, folder: Path) -> dict[str, tuple[bytes, str]]:
    """What optimum makes of it: float32, and ORTQuantizer's dynamic int8 for VNNI."""
    model.save_pretrained(folder / "torch")
    main_export(str(folder / "torch"), folder / "fp32", task="feature-extraction")
    quantizer = ORTQuantizer.from_pretrained(folder / "fp32", file_name="model.onnx")
    config = AutoQuantizationConfig.avx512_vnni(is_static=False, per_channel=True)
    quantizer.quantize(save_dir=folder / "int8", quantization_config=config)
    return {
        "optimum fp32": ((folder / "fp32" / "model.onnx").read_bytes(), "last_hidden_state"),
        "optimum ORTQuantizer int8": (
            (folder / "int8" / "model_quantized.onnx").read_bytes(),
            "last_hidden_state",
        ),
    }


def _own(state: dict[str, Any], texts: list[Any]) -> dict[str, tuple[bytes, str]]:
    """The hand-written graph, which ends with the projection and the norm, and its int8 forms."""
    kept = {k: v for k, v in state.items() if not layout.is_unused(k) and k not in layout.TIED}
    made = source.make(Checkpoint(kept, "0" * 64, "2022"), stand_in.bert_tokenizer_json())
    graph = made.text.build(HeadGraph())
    forms = {"fp32": graph, **quantize_towers.candidates(graph, "text", texts)}
    return {
        f"hand-written {name}": (form.SerializeToString(), "embedding")
        for name, form in forms.items()
    }


def _inputs(session: GraphSession, given: dict[str, Any]) -> dict[str, Any]:
    extra = {"token_type_ids": np.zeros((1, TOKENS), np.int64)}
    return {name: {**given, **extra}[name] for name in session.inputs}


def _pooled(session: GraphSession, output: str, given: dict[str, Any]) -> Float32:
    (found,) = session.run([output], _inputs(session, given))
    return found[:, 0] if found.ndim == 3 else found


def _likeness(found: Float32, exact: Float32) -> str:
    """Both [N, D]; centred: the mean row removed, which raw cosine hides damage behind."""
    pair = [rows - rows.mean(axis=0) for rows in (found, exact)]
    pair = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in pair]
    centred = float((pair[0] * pair[1]).sum(axis=1).min())
    return f"max error {np.abs(found - exact).max():.2g}, centred cosine at least {centred:.4f}"


if __name__ == "__main__":
    main()
