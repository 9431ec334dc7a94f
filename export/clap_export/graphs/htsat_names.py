"""transformers' names of HTSAT's weights -> msclap's.

In:  the state dict of ClapModel or ClapAudioModelWithProjection.
Out: the same tower under the names that htsat_graph reads.
Knows nothing about graphs or configurations.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from clap_engine.arrays import Float32
from clap_engine.errors import GraphError

PREFIX, PROJECTION = "htsat.", "projection."
_NAMES = {
    "batch_norm.": "bn0.",
    ".layernorm_before.": ".norm1.",
    ".layernorm_after.": ".norm2.",
    ".attention.self.": ".attn.",
    ".attention.output.dense.": ".attn.proj.",
    ".intermediate.dense.": ".mlp.fc1.",
    ".output.dense.": ".mlp.fc2.",
}
# The fusion of four crops of a long clip: its convolutions and attentional weights.
_FUSION = re.compile(r"\.fusion_model\.|\.mel_conv2d\.")
_QUERY = re.compile(r"(.*\.attn\.)query\.(weight|bias)")


def from_transformers(
    state: Mapping[str, Float32],
    tower: str = "audio_model.audio_encoder.",
    projection: str = "audio_projection.",
) -> dict[str, Float32]:
    """The tower's names under PREFIX, the projection's under PROJECTION; query, key, value joined.

    GraphError for a model with fusion: one embedding of four crops is another function.
    """
    fused = sorted(name for name in state if name.startswith(tower) and _FUSION.search(name))
    if fused:
        raise GraphError(
            f"{fused[0]} belongs to a model with enable_fusion, which is not supported; "
            "convert an unfused one, such as laion/clap-htsat-unfused"
        )
    result: dict[str, Float32] = {}
    for name, value in state.items():
        if name.startswith(tower):
            result[PREFIX + _rename(name[len(tower) :])] = value
        elif name.startswith(projection):
            result[PROJECTION + name[len(projection) :]] = value
    for name in list(result):
        if match := _QUERY.fullmatch(name):
            parts = [
                result.pop(f"{match[1]}{part}.{match[2]}") for part in ("query", "key", "value")
            ]
            result[f"{match[1]}qkv.{match[2]}"] = np.concatenate(parts)
    return result


def _rename(name: str) -> str:
    for theirs, ours in _NAMES.items():
        name = name.replace(theirs, ours)
    return name
