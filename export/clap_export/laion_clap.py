"""A checkpoint of laion_clap's training code (UCS-CLAP's, too) as a source of a conversion.

In:  a file of weights under laion_clap's names: HTSAT (tiny) and RoBERTa; RoBERTa's tokenizer.
Out: `Source`.
Knows nothing about precisions or bundles. A T5 text tower, fusion and other sizes are refused by
name: no hand-written graph has them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from clap_engine.arrays import Float32, Int64
from clap_engine.manifest import AudioSpec, TextSpec
from clap_export.errors import CheckpointError, SourceError
from clap_export.graphs import bert_graph, htsat_graph
from clap_export.graphs.bert_graph import ROBERTA
from clap_export.minilm import bare_tokenizer
from clap_export.msclap import checkpoint, layout, reference
from clap_export.msclap.source import frontend_npz
from clap_export.source import AudioSource, Source, TextSource

AUDIO, TEXT = "audio_branch.", "text_branch."
RATE_HZ, WINDOW_S, HOP = 48_000, 10.0, 480
DIM, HIDDEN = 512, 768
VOCABULARY, POSITIONS, PAD = 50_265, 514, 1
MAX_TOKENS = 77  # what laion_clap's own tokenizer call cuts at
# Of the training loss alone.
_UNUSED = re.compile(r"^(text|audio)_transform\.")
_FUSED = re.compile(r"\.fusion_model\.|\.mel_conv2d\.")


def read(path: Path, tokenizer: Path | None, layers: int | None = None) -> Source:
    """The towers in `path`; `layers` as in `layout.shapes`."""
    state = checkpoint.weights(path, under="state_dict")
    _check_kind(state, path)
    wanted = shapes(layers)
    needed = {key: shape for key, shape in wanted.items() if not _is_unused(key)}
    found = {key: value.shape for key, value in state.items() if not _is_unused(key)}
    checkpoint.check_names(found, needed, path)
    digest = checkpoint.digest(path)
    return Source(
        id="ucs-clap",
        description="A CLAP of laion_clap's architecture (HTSAT, RoBERTa), by clap-export.",
        digest=digest,
        native_dim=DIM,
        text=_text(state, _tokenizer(tokenizer)),
        audio=_audio(state),
        logit_scale=float(np.exp(state["logit_scale_a"])),
        licences={
            "code": "MIT",
            "weights": "unknown",
            "training_data": "not stated with the weights",
        },
        notice=f"This bundle holds the weights of {path.name}, converted to ONNX and partly\n"
        "quantized. Their licence is unknown to clap-export. The text tower is a fine-tuned\n"
        "RoBERTa by Meta AI (MIT): https://github.com/facebookresearch/fairseq\n",
        producer={"checkpoint": f"{path.name}, sha256 {digest}"},
        templates=("This is a sound of {}.", "{}"),
    )


def shapes(layers: int | None = None) -> layout.Shapes:
    """Every key with its shape."""
    result: layout.Shapes = {"logit_scale_a": (), "logit_scale_t": ()}
    result |= layout.htsat(AUDIO, layers)
    result |= layout.bert(TEXT, layers, vocabulary=VOCABULARY, positions=POSITIONS, segments=1)
    for side in ("text", "audio"):
        result |= {
            f"{side}_projection.0.weight": (DIM, HIDDEN),
            f"{side}_projection.0.bias": (DIM,),
            f"{side}_projection.2.weight": (DIM, DIM),
            f"{side}_projection.2.bias": (DIM,),
        }
    return result


def _is_unused(key: str) -> bool:
    """As in msclap, but RoBERTa's first token goes through the pooler."""
    if _UNUSED.match(key):
        return True
    return layout.is_unused(key) and not key.startswith(f"{TEXT}pooler.")


def _check_kind(state: Mapping[str, Any], path: Path) -> None:
    if any(key.startswith(f"{TEXT}encoder.block.") for key in state):
        raise CheckpointError(
            f"{path} has a T5 text tower ({TEXT}encoder.block...), which can't be converted; "
            "RoBERTa's can"
        )
    fused = sorted(key for key in state if _FUSED.search(key))
    if fused:
        raise CheckpointError(
            f"{path} has feature fusion ({fused[0]}), which is not supported; train or fetch an "
            "unfused model"
        )


def _tokenizer(folder: Path | None) -> bytes:
    path = None if folder is None else folder / "tokenizer.json"
    if path is None or not path.is_file():
        raise SourceError(
            "the tokenizer of roberta-base is missing: put tokenizer.json of "
            "https://huggingface.co/FacebookAI/roberta-base into a folder and give "
            "--tokenizer FOLDER"
        )
    return bare_tokenizer(path.read_bytes())


def _text(state: Mapping[str, Float32], tokenizer_json: bytes) -> TextSource:
    spec = TextSpec(
        tokenizer="tokenizer.json",
        max_tokens=MAX_TOKENS,
        pad_id=PAD,
        prefix="",
        suffix="",
        graphs={},
        keep_last=1,
        native_dim=DIM,
    )
    return TextSource(
        spec=spec,
        tokenizer_json=tokenizer_json,
        build=lambda head: bert_graph.build(
            state,
            TEXT,
            head=head,
            max_tokens=MAX_TOKENS,
            config=ROBERTA,
            projection="text_projection.",
        ),
        reference=lambda ids, mask: _embed_text(state, ids, mask),
    )


def _audio(state: Mapping[str, Float32]) -> AudioSource:
    samples = round(WINDOW_S * RATE_HZ)
    spec = AudioSpec(
        rate_hz=RATE_HZ,
        window_s=WINDOW_S,
        hop_s=WINDOW_S,
        n_fft=layout.N_FFT,
        hop=HOP,
        pad=layout.N_FFT // 2,
        n_mels=layout.N_MELS,
        n_frames=samples // HOP + 1,
        floor_db=None,
        padding="repeat_pad",
        frontend="frontend.npz",
        graphs={},
        frame_s=None,
        reference="one",
        amin=1e-10,
        pad_mode="reflect",
        native_dim=DIM,
    )
    return AudioSource(
        spec=spec,
        frontend=frontend_npz(state, AUDIO),
        build=lambda head: htsat_graph.build(
            state, AUDIO, n_frames=spec.n_frames, head=head, projection="audio_projection."
        ),
        reference=lambda log_mel: _embed_log_mel(state, log_mel),
    )


def _embed_text(state: Mapping[str, Float32], input_ids: Int64, mask: Int64) -> Float32:
    """[B, L] -> native [B, 512], with transformers' RoBERTa."""
    import torch

    with torch.inference_mode():
        model = reference.text_model(state, TEXT, "roberta")
        given = torch.from_numpy(input_ids), torch.from_numpy(mask)
        pooled = model(given[0], attention_mask=given[1]).pooler_output
        return reference.two_layers(state, "text_projection.", pooled)


def _embed_log_mel(state: Mapping[str, Float32], log_mel: Float32) -> Float32:
    """[B, F, M] -> native [B, 512]."""
    import torch

    with torch.inference_mode():
        pooled = reference.htsat(state, AUDIO, torch.from_numpy(log_mel))
        return reference.two_layers(state, "audio_projection.", pooled)
