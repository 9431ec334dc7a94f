"""msclap as its users load it: CLAPWrapper over a checkpoint's file.

In:  a state to write; a folder that `write` left.
Out: the folder; the CLAPWrapper.
Knows nothing about clap_engine, time or graphs.

Its constructor runs as shipped: GPT-2 as the hub's cache holds it (read only to be replaced), the
audio tower built with msclap's own random weights, the checkpoint read by torch.load,
load_state_dict. What it would ask the hub's cache for comes from the folder.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "export"))

CHECKPOINT, TEXT_MODEL = "CLAP_weights_2023.pth", "gpt2"
_BASE = "caption_encoder.base."


def write(folder: Path, state: Mapping[str, Any], tokenizer_json: bytes) -> Path:
    """The checkpoint, and in `gpt2/` what the hub's cache has of the text model."""
    import torch
    from transformers import GPT2Config, GPT2Model

    from clap_export.msclap import random_weights

    text = folder / TEXT_MODEL
    text.mkdir(parents=True)
    layers = sum(name.endswith(".ln_1.weight") for name in state)
    model = GPT2Model(GPT2Config(n_layer=layers))
    own = {name.removeprefix(_BASE): state[name] for name in state if name.startswith(_BASE)}
    tensors = {name: torch.from_numpy(own[name]) for name in model.state_dict() if name in own}
    model.load_state_dict(tensors, strict=False)
    model.save_pretrained(text)
    (text / "tokenizer.json").write_bytes(tokenizer_json)
    random_weights.save(state, folder / CHECKPOINT, "2023")
    return folder


def load(folder: Path) -> Any:
    """CLAPWrapper(model_fp=..., version="2023")."""
    import msclap_oracle

    found = msclap_oracle.modules()

    from transformers import AutoModel, AutoTokenizer

    class Auto:
        @staticmethod
        def from_pretrained(name: str) -> Any:
            return AutoModel.from_pretrained(folder / name)

    class Tokenizer:
        @staticmethod
        def from_pretrained(name: str) -> Any:
            return AutoTokenizer.from_pretrained(folder / name)

    wrapper = sys.modules[found.wrapper.__module__]
    with (
        mock.patch.object(found.clap, "AutoModel", Auto),
        mock.patch.object(wrapper, "AutoTokenizer", Tokenizer),
    ):
        return found.wrapper(model_fp=folder / CHECKPOINT, version="2023")
