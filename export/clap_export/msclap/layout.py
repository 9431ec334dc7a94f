"""The layout of msclap's checkpoints: every key with its shape, and which keys nothing needs.

In:  a version, "2022", "2023" or "clapcap"; perhaps a depth to cut the towers to.
Out: shapes by key, in the order of msclap 1.3.4's own state dict.
Knows nothing about files or values.
"""

from __future__ import annotations

import re

Shapes = dict[str, tuple[int, ...]]

VERSIONS = ("2022", "2023", "clapcap")
HIDDEN = 768  # of BERT base and of GPT-2
NATIVE = 1024  # what both projections end in
CLASSES = 527  # of AudioSet, for heads that embedding doesn't use
N_FFT, N_MELS = 1024, 64
HTSAT_DEPTHS = (2, 2, 6, 2)
HTSAT_WIDTH, HTSAT_HEADS = 96, 4  # of the first stage; each stage doubles both
HTSAT_WINDOW, HTSAT_GRID = 8, 64  # tokens on a side: of an attention window, of the first stage
TEXT_LAYERS, MAPPER_LAYERS = 12, 8
CNN14_CHANNELS = (64, 128, 256, 512, 1024, 2048)
CNN14_OUT = 2048
PREFIX = 40  # rows of clapcap's prefix: learned, and again as many from the sound
# Heads for AudioSet classes, BERT's pooler, counters, and constants that the graphs compute:
# present in the file or not, they change no embedding.
UNUSED = re.compile(
    r"\.num_batches_tracked$|\.relative_position_index$|\.attn_mask$|htsat\.(tscam_conv|head)\."
    r"|\.fc_audioset\.|\.embeddings\.position_ids$|\.pooler\.|\.h\.\d+\.attn\.(bias|masked_bias)$"
)
# GPT-2's output layer is its embedding table under a second name.
TIED = {"gpt.lm_head.weight": "gpt.transformer.wte.weight"}


def is_unused(key: str) -> bool:
    """Does no graph need this weight?"""
    return UNUSED.search(key) is not None


def shapes(version: str, layers: int | None = None) -> Shapes:
    """Every key of the version's checkpoint with its shape, those that nothing needs included.

    `layers` cuts every stack of transformer layers to at most so many, for quick tests; CNN14,
    which has no stack, gets a sixteenth of its channels instead.
    """
    if version == "2022":
        audio = _cnn14("audio_encoder.base.", narrow=layers is not None)
        text = bert("caption_encoder.base.", layers)
        return _clap(audio, CNN14_OUT, text)
    audio = htsat("audio_encoder.base.htsat.", layers)
    if version == "2023":
        text = _gpt2("caption_encoder.base.", _cut(TEXT_LAYERS, layers))
        return _clap(audio, HIDDEN, text)
    if version == "clapcap":
        return {
            **htsat("clap.base.htsat.", layers),
            **_projection("clap.projection.", HIDDEN),
            **_gpt2("gpt.transformer.", _cut(TEXT_LAYERS, layers)),
            "gpt.lm_head.weight": (50_257, HIDDEN),
            **_mapper("clap_project.", _cut(MAPPER_LAYERS, layers)),
        }
    raise ValueError(f"version {version!r}; {', '.join(VERSIONS)} are known")


def _cut(depth: int, layers: int | None) -> int:
    return depth if layers is None else min(depth, layers)


def _clap(audio: Shapes, audio_width: int, text: Shapes) -> Shapes:
    return {
        "logit_scale": (),
        **audio,
        **_projection("audio_encoder.projection.", audio_width),
        **text,
        **_projection("caption_encoder.projection.", HIDDEN),
    }


def _projection(name: str, width: int) -> Shapes:
    return {
        f"{name}linear1.weight": (NATIVE, width),
        f"{name}linear2.weight": (NATIVE, NATIVE),
        **_norm(f"{name}layer_norm", NATIVE),
    }


def _norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _linear(name: str, out: int, width: int) -> Shapes:
    return {f"{name}.weight": (out, width), f"{name}.bias": (out,)}


def _batch_norm(name: str, width: int) -> Shapes:
    return {
        **_norm(name, width),
        f"{name}.running_mean": (width,),
        f"{name}.running_var": (width,),
        f"{name}.num_batches_tracked": (),
    }


def _front_end(name: str) -> Shapes:
    kernel = (N_FFT // 2 + 1, 1, N_FFT)
    return {
        f"{name}spectrogram_extractor.stft.conv_real.weight": kernel,
        f"{name}spectrogram_extractor.stft.conv_imag.weight": kernel,
        f"{name}logmel_extractor.melW": (N_FFT // 2 + 1, N_MELS),
        **_batch_norm(f"{name}bn0", N_MELS),
    }


def _cnn14(name: str, narrow: bool) -> Shapes:
    channels = [c // 16 if narrow else c for c in CNN14_CHANNELS]
    result = _front_end(name)
    for i, (before, after) in enumerate(zip([1, *channels], channels, strict=False), 1):
        block = f"{name}conv_block{i}."
        result |= {
            f"{block}conv1.weight": (after, before, 3, 3),
            f"{block}conv2.weight": (after, after, 3, 3),
            **_batch_norm(f"{block}bn1", after),
            **_batch_norm(f"{block}bn2", after),
        }
    result |= _linear(f"{name}fc1", CNN14_OUT, channels[-1])
    return result | _linear(f"{name}fc_audioset", CLASSES, CNN14_OUT)


def htsat(name: str, layers: int | None = None) -> Shapes:
    """HTSAT's tiny size, with its front end and its heads for AudioSet."""
    result = _front_end(name)
    result |= {f"{name}patch_embed.proj.weight": (HTSAT_WIDTH, 1, 4, 4)}
    result |= {f"{name}patch_embed.proj.bias": (HTSAT_WIDTH,)}
    result |= _norm(f"{name}patch_embed.norm", HTSAT_WIDTH)
    for stage, full in enumerate(HTSAT_DEPTHS):
        width, heads = HTSAT_WIDTH << stage, HTSAT_HEADS << stage
        grid = HTSAT_GRID >> stage
        for i in range(_cut(full, layers)):
            # The last stage is one window: nothing to shift.
            shifted = i % 2 == 1 and grid > HTSAT_WINDOW
            result |= _swin_block(f"{name}layers.{stage}.blocks.{i}.", width, heads, grid, shifted)
        if stage + 1 < len(HTSAT_DEPTHS):
            down = f"{name}layers.{stage}.downsample."
            result |= {f"{down}reduction.weight": (2 * width, 4 * width)}
            result |= _norm(f"{down}norm", 4 * width)
    result |= _norm(f"{name}norm", width)
    result |= {f"{name}tscam_conv.weight": (CLASSES, width, 2, 3)}
    result |= {f"{name}tscam_conv.bias": (CLASSES,)}
    return result | _linear(f"{name}head", CLASSES, CLASSES)


def _swin_block(name: str, width: int, heads: int, grid: int, shifted: bool) -> Shapes:
    places = HTSAT_WINDOW**2
    mask: Shapes = {f"{name}attn_mask": ((grid // HTSAT_WINDOW) ** 2, places, places)}
    return {
        **(mask if shifted else {}),
        **_norm(f"{name}norm1", width),
        f"{name}attn.relative_position_bias_table": ((2 * HTSAT_WINDOW - 1) ** 2, heads),
        f"{name}attn.relative_position_index": (places, places),
        **_linear(f"{name}attn.qkv", 3 * width, width),
        **_linear(f"{name}attn.proj", width, width),
        **_norm(f"{name}norm2", width),
        **_linear(f"{name}mlp.fc1", 4 * width, width),
        **_linear(f"{name}mlp.fc2", width, 4 * width),
    }


def bert(
    name: str,
    layers: int | None = None,
    *,
    vocabulary: int = 30_522,
    positions: int = 512,
    segments: int = 2,
) -> Shapes:
    """BERT's base size, which RoBERTa shares."""
    result: Shapes = {
        f"{name}embeddings.word_embeddings.weight": (vocabulary, HIDDEN),
        f"{name}embeddings.position_embeddings.weight": (positions, HIDDEN),
        f"{name}embeddings.token_type_embeddings.weight": (segments, HIDDEN),
        **_norm(f"{name}embeddings.LayerNorm", HIDDEN),
    }
    for i in range(_cut(TEXT_LAYERS, layers)):
        layer = f"{name}encoder.layer.{i}."
        for part in ("query", "key", "value"):
            result |= _linear(f"{layer}attention.self.{part}", HIDDEN, HIDDEN)
        result |= _linear(f"{layer}attention.output.dense", HIDDEN, HIDDEN)
        result |= _norm(f"{layer}attention.output.LayerNorm", HIDDEN)
        result |= _linear(f"{layer}intermediate.dense", 4 * HIDDEN, HIDDEN)
        result |= _linear(f"{layer}output.dense", HIDDEN, 4 * HIDDEN)
        result |= _norm(f"{layer}output.LayerNorm", HIDDEN)
    return result | _linear(f"{name}pooler.dense", HIDDEN, HIDDEN)


def _gpt2(name: str, layers: int) -> Shapes:
    """GPT-2 keeps its weights as [in, out], other than nn.Linear."""
    result: Shapes = {
        f"{name}wte.weight": (50_257, HIDDEN),
        f"{name}wpe.weight": (1_024, HIDDEN),
    }
    for i in range(layers):
        layer = f"{name}h.{i}."
        result |= _norm(f"{layer}ln_1", HIDDEN)
        result |= _conv1d(f"{layer}attn.c_attn", HIDDEN, 3 * HIDDEN)
        result |= _conv1d(f"{layer}attn.c_proj", HIDDEN, HIDDEN)
        result |= _norm(f"{layer}ln_2", HIDDEN)
        result |= _conv1d(f"{layer}mlp.c_fc", HIDDEN, 4 * HIDDEN)
        result |= _conv1d(f"{layer}mlp.c_proj", 4 * HIDDEN, HIDDEN)
    return result | _norm(f"{name}ln_f", HIDDEN)


def _conv1d(name: str, width: int, out: int) -> Shapes:
    return {f"{name}.weight": (width, out), f"{name}.bias": (out,)}


def _mapper(name: str, layers: int) -> Shapes:
    """clapcap's mapper; its attention has no biases but at the end, its MLP doubles the width."""
    result: Shapes = {f"{name}prefix_const": (PREFIX, HIDDEN)}
    for i in range(layers):
        layer = f"{name}transformer.layers.{i}."
        result |= _norm(f"{layer}norm1", HIDDEN)
        result |= {f"{layer}attn.to_queries.weight": (HIDDEN, HIDDEN)}
        result |= {f"{layer}attn.to_keys_values.weight": (2 * HIDDEN, HIDDEN)}
        result |= _linear(f"{layer}attn.project", HIDDEN, HIDDEN)
        result |= _norm(f"{layer}norm2", HIDDEN)
        result |= _linear(f"{layer}mlp.fc1", 2 * HIDDEN, HIDDEN)
        result |= _linear(f"{layer}mlp.fc2", HIDDEN, 2 * HIDDEN)
    return result | _linear(f"{name}linear", PREFIX * HIDDEN, NATIVE)
