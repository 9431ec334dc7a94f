"""A ClapModel of transformers with seeded weights, in a folder as the hub has it.

In:  plain weights or such with outliers; how deep; a folder.
Out: the folder's files; the two functions that a user calls on them in torch.
Knows nothing about clap_engine, time or graphs: a process of transformers alone imports it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

Float32 = npt.NDArray[np.float32]

RATE_HZ = 48_000
DEPTHS, TEXT_LAYERS = (2, 2, 6, 2), 12
# transformers' names -> those whose roles random_weights knows.
_ROLES = {"batch_norm.": "bn0.", "layernorm_before.": "norm1.", "layernorm_after.": "norm2."}


def write(folder: Path, *, outliers: bool, layers: int | None = None) -> Path:
    """The architecture of laion/clap-htsat-unfused; `layers` cuts each stack to at most so many."""
    import transformers as hf
    from transformers.modeling_utils import no_init_weights

    from clap_export.msclap import random_weights, stand_in

    depths = [depth if layers is None else min(depth, layers) for depth in DEPTHS]
    text_layers = TEXT_LAYERS if layers is None else min(TEXT_LAYERS, layers)
    config = hf.ClapConfig(
        text_config={"num_hidden_layers": text_layers}, audio_config={"depths": depths}
    )
    with no_init_weights():
        model = hf.ClapModel(config)
    own = model.state_dict()
    shapes = {name: tuple(own[name].shape) for name in own if own[name].dtype.is_floating_point}
    roles = {_role(name): name for name in shapes}
    state = random_weights.fill(
        {role: shapes[name] for role, name in roles.items()},
        seed=0,
        rate_hz=RATE_HZ,
        outliers=outliers,
    )
    model.load_state_dict(
        {roles[role]: _tensor(value) for role, value in state.items()}, strict=False, assign=True
    )
    model.save_pretrained(folder)
    # As the hub has it for the unfused model.
    hf.ClapFeatureExtractor(
        truncation="rand_trunc", frequency_min=50, frequency_max=14_000
    ).save_pretrained(folder)
    (folder / "tokenizer.json").write_bytes(stand_in.roberta_tokenizer_json())
    return folder


def text_function(folder: Path) -> Callable[[str], Float32]:
    """text -> unit [1, D], as the documentation of get_text_features does it.

    `padding=True` pads to the longest of a batch: one text is not padded at all, as with
    ClapProcessor's own defaults. (LAION's own package pads to 77 instead.)
    """
    import torch
    from transformers import AutoTokenizer, ClapModel

    model = ClapModel.from_pretrained(folder).eval()
    return _text(model, AutoTokenizer.from_pretrained(folder), torch)


def audio_function(folder: Path) -> Callable[[Float32], Float32]:
    """waveforms [B, T] at 48 kHz -> unit [B, D], as the documentation of get_audio_features."""
    import torch
    from transformers import AutoFeatureExtractor, ClapModel

    model = ClapModel.from_pretrained(folder).eval()
    return _audio(model, AutoFeatureExtractor.from_pretrained(folder), torch)


def functions(
    folder: Path,
) -> tuple[Callable[[str], Float32], Callable[[Float32], Float32]]:
    """Both, over one model in memory."""
    import torch
    from transformers import AutoFeatureExtractor, AutoTokenizer, ClapModel

    model = ClapModel.from_pretrained(folder).eval()
    return (
        _text(model, AutoTokenizer.from_pretrained(folder), torch),
        _audio(model, AutoFeatureExtractor.from_pretrained(folder), torch),
    )


def _text(model: Any, tokenizer: Any, torch: Any) -> Callable[[str], Float32]:
    def embed(text: str) -> Float32:
        with torch.inference_mode():
            given = tokenizer([text], padding=True, return_tensors="pt")
            return np.asarray(model.get_text_features(**given).numpy(), np.float32)

    return embed


def _audio(model: Any, extractor: Any, torch: Any) -> Callable[[Float32], Float32]:
    def embed(waveforms: Float32) -> Float32:
        with torch.inference_mode():
            given = extractor(list(waveforms), sampling_rate=RATE_HZ, return_tensors="pt")
            return np.asarray(model.get_audio_features(**given).numpy(), np.float32)

    return embed


def _role(name: str) -> str:
    for theirs, known in _ROLES.items():
        name = name.replace(theirs, known)
    return name


def _tensor(value: npt.NDArray[Any]) -> torch.Tensor:
    import torch

    return torch.from_numpy(np.ascontiguousarray(value))
