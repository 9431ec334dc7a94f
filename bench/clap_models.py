"""CLAP with seeded weights in true layout: our source of it, and what its users call in torch.

In:  which model; plain weights or such with outliers; how deep; a folder for its files.
Out: `Model`.
Knows nothing about time, precisions or bundles. Random weights: speed and numerics, not quality.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import clap_folder
from clap_engine.arrays import Float32
from clap_export import clap_model
from clap_export.msclap import checkpoint, random_weights, source, stand_in
from clap_export.source import Source

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "export"))

import msclap_oracle

MSCLAP, TRANSFORMERS = "msclap 2023", "ClapModel"
# The int8 form is chosen on the weights with outliers, so they come first.
OUTLIERS, PLAIN = "weights with outliers", "plain weights"
CASES = [(name, weights) for name in (MSCLAP, TRANSFORMERS) for weights in (OUTLIERS, PLAIN)]
PEERS = {
    (MSCLAP, "text"): "msclap 1.3.4 as shipped (torch eager, padded to 77 tokens)",
    (MSCLAP, "audio"): "msclap 1.3.4 as shipped (torch eager)",
    (TRANSFORMERS, "text"): "transformers' ClapModel (torch eager; one text is not padded)",
    (TRANSFORMERS, "audio"): "transformers' ClapFeatureExtractor and ClapModel (torch eager)",
}
_LAYOUTS = {MSCLAP: "msclap 2023's layout", TRANSFORMERS: "laion/clap-htsat-unfused's layout"}


@dataclass(frozen=True)
class Model:
    """`embed_text`: text -> [1, D]; `embed_audio`: waveforms [B, T] -> [B, D], in torch."""

    name: str
    weights: str
    source: Source
    embed_text: Callable[[str], Float32]
    embed_audio: Callable[[Float32], Float32]

    @property
    def subject(self) -> str:
        """For the record."""
        return subject(self.name, self.weights)


def subject(name: str, weights: str) -> str:
    """What a figure belongs to."""
    return f"{_LAYOUTS[name]}, seed 0, {weights}"


def make(name: str, weights: str, folder: Path, *, layers: int | None = None) -> Model:
    """`layers` cuts every stack of layers to at most so many; `folder` is for a ClapModel's."""
    build = _msclap if name == MSCLAP else _transformers
    return Model(name, weights, *build(weights == OUTLIERS, folder, layers))


def _msclap(outliers: bool, _: Path, layers: int | None) -> tuple[Source, Any, Any]:
    """CLAPWrapper's own methods; its loading, which asks the hub, is not among them."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    state = random_weights.random_state("2023", seed=0, layers=layers, outliers=outliers)
    tokenizer = stand_in.gpt2_tokenizer_json()
    # GPT-2's tokenizer gives no token types; msclap would hand them to the tower.
    fast = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(tokenizer.decode()),
        model_input_names=["input_ids", "attention_mask"],
    )
    package = msclap_oracle.wrapper(state, tokenizer=fast)

    def embed_text(text: str) -> Float32:
        return np.asarray(package.get_text_embeddings([text]).numpy(), np.float32)

    def embed_audio(waveforms: Float32) -> Float32:
        """What get_audio_embeddings does after reading files."""
        given = torch.from_numpy(waveforms)[:, None]
        return np.asarray(package._get_audio_embeddings(given).numpy(), np.float32)

    made = source.make(checkpoint.Checkpoint(state, "0" * 64, "2023"), tokenizer)
    return made, embed_text, embed_audio


def _transformers(outliers: bool, folder: Path, layers: int | None) -> tuple[Source, Any, Any]:
    """As the examples of ClapModel's documentation have it."""
    clap_folder.write(folder, outliers=outliers, layers=layers)
    return clap_model.read(folder), *clap_folder.functions(folder)
