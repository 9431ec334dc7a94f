"""msclap's towers in plain torch, written for reading, not for speed: what graphs are gated by.

In:  a state dict with the checkpoint's keys; token ids, or log-mels.
Out: native embeddings [B, 1024], as msclap's own modules give them.
Knows nothing about ONNX. Shares no code with the graphs: that is its use.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from clap_engine.arrays import Float32, Int64
from clap_export.msclap.layout import HTSAT_WINDOW

State = Mapping[str, Float32]


def embed_text(state: State, version: str, input_ids: Int64, attention_mask: Int64) -> Float32:
    """int64 [B, L] twice -> native [B, 1024]; ids padded with 0, as msclap pads."""
    base = "caption_encoder.base."
    ids, mask = torch.from_numpy(input_ids), torch.from_numpy(attention_mask)
    with torch.inference_mode():
        if version == "2022":
            pooled = text_model(state, base, "bert")(ids, attention_mask=mask)[0][:, 0]
        else:
            hidden = text_model(state, base, "gpt2")(ids, attention_mask=mask)[0]
            pooled = hidden[torch.arange(len(ids)), torch.ne(ids, 0).sum(-1) - 1]
        return _numpy(_project(state, "caption_encoder.projection.", pooled))


def embed_log_mel(state: State, version: str, log_mel: Float32) -> Float32:
    """[B, F, 64] -> native [B, 1024]."""
    side = "clap." if version == "clapcap" else "audio_encoder."
    x = torch.from_numpy(log_mel)
    with torch.inference_mode():
        if version == "2022":
            pooled = _cnn14(state, f"{side}base.", x)
        else:
            pooled = htsat(state, f"{side}base.htsat.", x)
        return _numpy(_project(state, f"{side}projection.", pooled))


def log_mel(state: State, version: str, windows: Float32) -> Float32:
    """[B, T] -> [B, F, 64]: with the kernels and filters that the checkpoint itself holds."""
    base = {"2022": "audio_encoder.base.", "2023": "audio_encoder.base.htsat."}
    prefix = base.get(version, "clap.base.htsat.")
    with torch.inference_mode():
        kernels = [
            _get(state, f"{prefix}spectrogram_extractor.stft.conv_{part}.weight")
            for part in ("real", "imag")
        ]
        n_fft = kernels[0].shape[2]
        padded = functional.pad(
            torch.from_numpy(windows)[:, None], (n_fft // 2, n_fft // 2), mode="reflect"
        )
        power = sum(functional.conv1d(padded, kernel, stride=320).square() for kernel in kernels)
        mel = torch.as_tensor(power).transpose(1, 2) @ _get(state, f"{prefix}logmel_extractor.melW")
        return _numpy(10 * mel.clamp_min(1e-10).log10())


def text_model(state: State, prefix: str, kind: str) -> Any:
    """transformers' own model over the weights, as deep as they are."""
    import transformers as hf

    own = {key[len(prefix) :]: torch.from_numpy(value) for key, value in state.items()
           if key.startswith(prefix)}  # fmt: skip
    # On the meta device nothing is drawn or stored: `assign` puts the given weights in place.
    with torch.device("meta"):
        if kind != "gpt2":
            model: Any = _bert(hf, own, kind)
            positions = len(own["embeddings.position_embeddings.weight"])
            model.embeddings.position_ids = torch.arange(positions, device="cpu")[None]
            model.embeddings.token_type_ids = torch.zeros(
                (1, positions), dtype=torch.long, device="cpu"
            )
        else:
            layers = sum(key.endswith("ln_1.bias") for key in own)
            config = hf.GPT2Config(n_layer=layers)
            model = hf.GPT2Model(config)
            for block in model.h:
                block.attn.bias = torch.ones(
                    1, 1, 1024, 1024, dtype=torch.bool, device="cpu"
                ).tril()
    model.load_state_dict(own, strict=False, assign=True)
    return model.eval()


def _bert(hf: Any, own: Mapping[str, Tensor], kind: str) -> Any:
    """BERT, or RoBERTa with its pooler."""
    layers = sum(key.endswith("intermediate.dense.bias") for key in own)
    if kind == "bert":
        return hf.BertModel(hf.BertConfig(num_hidden_layers=layers), add_pooling_layer=False)
    words, places = (
        len(own[f"embeddings.{part}_embeddings.weight"]) for part in ("word", "position")
    )
    config = hf.RobertaConfig(
        num_hidden_layers=layers,
        vocab_size=words,
        max_position_embeddings=places,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
    )
    return hf.RobertaModel(config)


def two_layers(state: State, prefix: str, x: Tensor) -> Float32:
    """laion_clap's projection: W2 relu(W1 x + b1) + b2."""
    return _numpy(_linear(state, f"{prefix}2", _linear(state, f"{prefix}0", x).relu()))


def _project(state: State, prefix: str, x: Tensor) -> Tensor:
    first = x @ _get(state, f"{prefix}linear1.weight").T
    second = functional.gelu(first) @ _get(state, f"{prefix}linear2.weight").T
    return _norm(state, f"{prefix}layer_norm", first + second)


def _cnn14(state: State, prefix: str, log_mel: Tensor) -> Tensor:
    """[B, F, M] -> [B, 2048]: six blocks of two convolutions, mean and maximum over time."""
    x = _batch_norm(state, f"{prefix}bn0", log_mel, axis=2)[:, None]
    for block in range(1, 7):
        for i in (1, 2):
            name = f"{prefix}conv_block{block}."
            x = functional.conv2d(x, _get(state, f"{name}conv{i}.weight"), padding=1)
            x = _batch_norm(state, f"{name}bn{i}", x, axis=1).relu()
        if block < 6:
            x = functional.avg_pool2d(x, 2)
    x = x.mean(dim=3)
    return _linear(state, f"{prefix}fc1", x.amax(dim=2) + x.mean(dim=2)).relu()


def htsat(state: State, prefix: str, log_mel: Tensor) -> Tensor:
    """[B, F, M] -> [B, 768]: the mean token of a Swin transformer."""
    x = _batch_norm(state, f"{prefix}bn0", log_mel, axis=2)
    x = functional.interpolate(x[:, None], (1024, 64), mode="bicubic", align_corners=True)
    # Four stripes of 256 frames, one above the other: [B, 256, 256].
    x = x[:, 0].transpose(1, 2).reshape(len(x), 64, 4, 256).transpose(1, 2).reshape(-1, 256, 256)
    weight, bias = (_get(state, f"{prefix}patch_embed.proj.{name}") for name in ("weight", "bias"))
    x = functional.conv2d(x[:, None], weight, bias, stride=4).permute(0, 2, 3, 1)
    x = _norm(state, f"{prefix}patch_embed.norm", x)
    for stage in range(4):
        name = f"{prefix}layers.{stage}."
        block = 0
        while f"{name}blocks.{block}.norm1.weight" in state:
            shift = HTSAT_WINDOW // 2 if block % 2 and x.shape[1] > HTSAT_WINDOW else 0
            x = _swin_block(state, f"{name}blocks.{block}.", x, shift)
            block += 1
        if stage < 3:
            parts = [x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)]
            x = _norm(state, f"{name}downsample.norm", torch.cat(parts, dim=3))
            x = x @ _get(state, f"{name}downsample.reduction.weight").T
    return _norm(state, f"{prefix}norm", x).mean(dim=(1, 2))


def _swin_block(state: State, name: str, x: Tensor, shift: int) -> Tensor:
    """[B, G, G, C] -> the same: attention within windows of 8 by 8 tokens, then an MLP."""
    batch, grid, _, width = x.shape
    side, per_row = HTSAT_WINDOW, grid // HTSAT_WINDOW
    y = torch.roll(_norm(state, f"{name}norm1", x), (-shift, -shift), dims=(1, 2))
    y = y.reshape(batch, per_row, side, per_row, side, width).transpose(2, 3)
    y = y.reshape(batch, per_row**2, side**2, width)
    table = _get(state, f"{name}attn.relative_position_bias_table")
    heads = table.shape[1]
    qkv = _linear(state, f"{name}attn.qkv", y)
    qkv = qkv.reshape(*y.shape[:3], 3, heads, width // heads).permute(3, 0, 1, 4, 2, 5)
    scores = qkv[0] @ qkv[1].transpose(-1, -2) * (width // heads) ** -0.5
    scores = scores + table[_relative()].permute(2, 0, 1)
    if shift:
        scores = scores + _apart(grid, shift)[None, :, None]
    y = (scores.softmax(dim=-1) @ qkv[2]).transpose(2, 3).reshape(y.shape)
    y = _linear(state, f"{name}attn.proj", y)
    y = y.reshape(batch, per_row, per_row, side, side, width).transpose(2, 3)
    x = x + torch.roll(y.reshape(x.shape), (shift, shift), dims=(1, 2))
    y = functional.gelu(_linear(state, f"{name}mlp.fc1", _norm(state, f"{name}norm2", x)))
    return x + _linear(state, f"{name}mlp.fc2", y)


def _relative() -> Tensor:
    """[64, 64]: the bias table's row for a pair of tokens, by their distance down and right."""
    place = torch.stack(torch.meshgrid(*[torch.arange(HTSAT_WINDOW)] * 2, indexing="ij")).flatten(1)
    apart: Tensor = place[:, :, None] - place[:, None] + HTSAT_WINDOW - 1
    return apart[0] * (2 * HTSAT_WINDOW - 1) + apart[1]


def _apart(grid: int, shift: int) -> Tensor:
    """[windows, 64, 64]: far below any score where a rolled window joins opposite edges.

    msclap writes -100, whose softmax leaves denormals: 20 times slower, 2e-6 apart.
    """
    edge = (torch.arange(grid) >= grid - HTSAT_WINDOW).int() + (torch.arange(grid) >= grid - shift)
    region = edge[:, None] * 3 + edge
    windows = region.unfold(0, HTSAT_WINDOW, HTSAT_WINDOW).unfold(1, HTSAT_WINDOW, HTSAT_WINDOW)
    windows = windows.flatten(2).flatten(0, 1)
    return torch.where(windows[:, :, None] == windows[:, None], 0.0, -1e4)


def _batch_norm(state: State, name: str, x: Tensor, axis: int) -> Tensor:
    mean, variance, weight, bias = (
        _get(state, f"{name}.{part}") for part in ("running_mean", "running_var", "weight", "bias")
    )
    y = functional.batch_norm(x.transpose(1, axis), mean, variance, weight, bias)
    return y.transpose(1, axis)


def _norm(state: State, name: str, x: Tensor) -> Tensor:
    weight, bias = (_get(state, f"{name}.{part}") for part in ("weight", "bias"))
    return functional.layer_norm(x, (len(weight),), weight, bias)


def _linear(state: State, name: str, x: Tensor) -> Tensor:
    return x @ _get(state, f"{name}.weight").T + _get(state, f"{name}.bias")


def _get(state: State, key: str) -> Tensor:
    return torch.from_numpy(state[key])


def _numpy(x: Tensor) -> Float32:
    return np.asarray(x.numpy(), np.float32)
