"""A `ClapModel` of transformers (LAION's CLAP among them) as a source of a conversion.

In:  a folder as the hub has it: config.json, weights, preprocessor_config.json, tokenizer.json.
Out: `Source`.
Knows nothing about the hub, precisions or bundles. Fusion (four crops of a long clip in one
embedding) is another function, which a window's embedding can't express: refused by name.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from clap_engine.arrays import Float32, Int64
from clap_engine.manifest import AudioSpec, TextSpec
from clap_export.errors import CheckpointError, SourceError
from clap_export.graphs import bert_graph, htsat_graph, htsat_names
from clap_export.graphs.bert_graph import BertConfig
from clap_export.minilm import bare_tokenizer
from clap_export.msclap import checkpoint
from clap_export.source import AudioSource, Source, TextSource

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
OTHERS = ("config.json", "preprocessor_config.json", "tokenizer.json")
UNKNOWN = "unknown"
TEMPLATES = ("This is a sound of {}.", "{}")
PADDINGS = {"repeatpad": "repeat_pad", "repeat": "repeat", "pad": "zero"}
# Buffers that older files hold and newer models compute.
_BUFFERS = re.compile(
    r"position_ids$|relative_position_index$|num_batches_tracked$|token_type_ids$"
)


def read(folder: Path) -> Source:
    """The model in `folder`; every weight checked by name and shape against its configuration."""
    for name in OTHERS:
        if not (folder / name).is_file():
            raise SourceError(
                f"{folder} lacks {name}; get {', '.join(OTHERS)} and {' or '.join(WEIGHTS)} of "
                "the model from the hub into one folder"
            )
    settings = {name: _json(folder / name) for name in OTHERS[:2]}
    path = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if path is None:
        raise SourceError(f"{folder} lacks {' and '.join(WEIGHTS)}; either is needed")
    _check_kind(settings["config.json"], settings["preprocessor_config.json"], folder)
    reference = _Reference(settings["config.json"])
    state = checkpoint.weights(path)
    reference.load(state, path)
    config = reference.config
    native = int(config.projection_dim)
    name = re.sub(r"[^a-z0-9._-]+", "-", folder.resolve().name.lower()).strip("-.") or "clap"
    digest = checkpoint.digest(path)
    return Source(
        id=name,
        description=f"{folder.resolve().name}, a ClapModel of transformers, by clap-export.",
        digest=digest,
        native_dim=native,
        text=_text(state, reference, (folder / "tokenizer.json").read_bytes()),
        audio=_audio(state, reference, settings["preprocessor_config.json"]),
        logit_scale=float(np.exp(state["logit_scale_a"])),
        licences={
            "code": "Apache-2.0",
            "weights": _licence(folder),
            "training_data": "not stated with the weights",
        },
        notice=(
            f"This bundle holds the weights of {folder.resolve().name}, converted to ONNX and\n"
            f"partly quantized. Their licence: {_licence(folder)}. The model code is that of\n"
            "transformers by Hugging Face (Apache-2.0).\n"
        ),
        producer={"checkpoint": f"{path.name}, sha256 {digest}"},
        templates=TEMPLATES,
    )


class _Reference:
    """transformers' own model over the weights: what graphs are compared with."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        import torch
        import transformers as hf

        self.config: Any = hf.ClapConfig.from_dict(dict(config))
        with torch.device("meta"):
            self.model: Any = hf.ClapModel(self.config)

    def load(self, state: Mapping[str, Float32], path: Path) -> None:
        """CheckpointError for weights that are missing, unknown or of another shape."""
        import torch

        own = self.model.state_dict()
        wanted = {k: tuple(v.shape) for k, v in own.items() if not _BUFFERS.search(k)}
        found = {k: v.shape for k, v in state.items() if not _BUFFERS.search(k)}
        checkpoint.check_names(found, wanted, path)
        tensors = {k: torch.from_numpy(np.ascontiguousarray(state[k])) for k in wanted}
        for name, buffer in self.model.named_buffers():
            tensors.setdefault(name, _buffer(name, buffer, self.config))
        self.model.load_state_dict(tensors, strict=False, assign=True)
        for name, buffer in list(self.model.named_buffers()):
            if buffer.is_meta:
                owner, _, last = name.rpartition(".")
                self.model.get_submodule(owner).register_buffer(last, tensors[name])
        self.model.eval()

    def text(self, input_ids: Int64, attention_mask: Int64) -> Float32:
        """[B, L] -> native [B, N], before the norm that get_text_features takes."""
        import torch

        with torch.inference_mode():
            ids, mask = torch.from_numpy(input_ids), torch.from_numpy(attention_mask)
            pooled = self.model.text_model(input_ids=ids, attention_mask=mask).pooler_output
            return np.asarray(self.model.text_projection(pooled).numpy(), np.float32)

    def audio(self, log_mel: Float32) -> Float32:
        """[B, F, M] -> native [B, N]."""
        import torch

        with torch.inference_mode():
            features = torch.from_numpy(log_mel)[:, None]
            pooled = self.model.audio_model(input_features=features).pooler_output
            return np.asarray(self.model.audio_projection(pooled).numpy(), np.float32)


def _buffer(name: str, buffer: Any, config: Any) -> Any:
    """Constants of the model, which no file needs to hold."""
    import torch

    if name.endswith("position_ids"):
        return torch.arange(buffer.shape[-1])[None]
    if name.endswith("relative_position_index"):
        side = int(config.audio_config.window_size)
        place = torch.stack(torch.meshgrid(*[torch.arange(side)] * 2, indexing="ij")).flatten(1)
        apart: torch.Tensor = place[:, :, None] - place[:, None] + side - 1
        return apart[0] * (2 * side - 1) + apart[1]
    return torch.zeros(buffer.shape, dtype=buffer.dtype)


def _text(state: Mapping[str, Float32], reference: _Reference, tokenizer: bytes) -> TextSource:
    settings = reference.config.text_config
    pad = int(settings.pad_token_id)
    spec = TextSpec(
        tokenizer="tokenizer.json",
        # RoBERTa's positions begin after the padding's.
        max_tokens=int(settings.max_position_embeddings) - pad - 1,
        pad_id=pad,
        prefix="",
        suffix="",
        graphs={},
        keep_last=1,
        native_dim=int(reference.config.projection_dim),
    )
    config = BertConfig(
        heads=int(settings.num_attention_heads),
        eps=float(settings.layer_norm_eps),
        padding_id=pad,
        pooler=True,
    )
    return TextSource(
        spec=spec,
        tokenizer_json=bare_tokenizer(tokenizer),
        build=lambda head: bert_graph.build(
            state,
            "text_model.",
            head=head,
            max_tokens=spec.max_tokens,
            config=config,
            projection="text_projection.",
        ),
        reference=reference.text,
    )


def _audio(
    state: Mapping[str, Float32], reference: _Reference, settings: Mapping[str, Any]
) -> AudioSource:
    import transformers as hf

    extractor = hf.ClapFeatureExtractor(**dict(settings))
    samples = int(extractor.nb_max_samples)
    hop, n_fft = int(extractor.hop_length), int(extractor.fft_window_size)
    window = hf.audio_utils.window_function(n_fft, "hann")
    buffer = io.BytesIO()
    np.savez(
        buffer,
        window=np.asarray(window, np.float32),
        mel=np.asarray(extractor.mel_filters_slaney, np.float32),
    )
    spec = AudioSpec(
        rate_hz=int(extractor.sampling_rate),
        window_s=samples / int(extractor.sampling_rate),
        hop_s=samples / int(extractor.sampling_rate),
        n_fft=n_fft,
        hop=hop,
        pad=n_fft // 2,
        n_mels=int(extractor.feature_size),
        n_frames=samples // hop + 1,
        floor_db=None,
        padding=PADDINGS[extractor.padding],
        frontend="frontend.npz",
        graphs={},
        frame_s=None,
        reference="one",
        amin=1e-10,
        pad_mode="reflect",
        native_dim=int(reference.config.projection_dim),
    )
    names = htsat_names.from_transformers(state)
    return AudioSource(
        spec=spec,
        frontend=buffer.getvalue(),
        build=lambda head: htsat_graph.build(
            names,
            htsat_names.PREFIX,
            n_frames=spec.n_frames,
            head=head,
            projection=htsat_names.PROJECTION,
        ),
        reference=reference.audio,
    )


def _check_kind(config: Mapping[str, Any], front_end: Mapping[str, Any], folder: Path) -> None:
    if config.get("model_type") != "clap":
        raise CheckpointError(
            f"{folder} holds a model of type {config.get('model_type')!r}; 'clap' can be converted"
        )
    fused = config.get("audio_config", {}).get("enable_fusion", False)
    if fused or front_end.get("truncation") == "fusion":
        raise CheckpointError(
            f"{folder} holds a model with feature fusion, which is not supported; convert an "
            "unfused one, such as laion/clap-htsat-unfused"
        )
    if front_end.get("padding", "repeatpad") not in PADDINGS or front_end.get("top_db") is not None:
        raise CheckpointError(
            f"{folder}: padding {front_end.get('padding')!r} with top_db "
            f"{front_end.get('top_db')!r}; {', '.join(PADDINGS)} without top_db can be converted"
        )


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON ({error}); fetch it again") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} holds {type(found).__name__}; an object is needed")
    return found


def _licence(folder: Path) -> str:
    """What the model card's front matter says, or unknown."""
    card = folder / "README.md"
    if not card.is_file():
        return UNKNOWN
    found = re.search(r"^license:\s*(\S+)\s*$", card.read_text("utf-8", "replace"), re.MULTILINE)
    return found[1] if found else UNKNOWN
