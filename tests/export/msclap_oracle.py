"""msclap's own modules over a given state dict: what every parity test of its towers compares with.

In:  a state dict {name: float32 array} with the checkpoint's names; version 2022, 2023 or clapcap.
Out: msclap's modules in eval mode, or its CLAPWrapper as users hold it.
Knows nothing about graphs. For tests and benchmarks only.

msclap can't be imported or built as it stands: torchaudio's extension is a CUDA build that wants
libc10_cuda, torchaudio.load wants torchcodec, and GPT-2's model and tokenizer are asked of the hub
even when a checkpoint is given. Here the extension is stubbed, soundfile reads, and the text
models are built from their configurations with as many layers as the state holds.
"""

from __future__ import annotations

import random
import re
import sys
import types
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray

State = Mapping[str, NDArray[np.float32]]

# Version -> what msclap calls its audio and its text tower.
TOWERS = {
    "2022": ("Cnn14", "bert-base-uncased"),
    "2023": ("HTSAT", "gpt2"),
    "clapcap": ("HTSAT", "gpt2"),
}
# In the modules but perhaps not in a state: constants they make themselves, and what no embedding
# needs (tags, framewise maps).
UNNEEDED = re.compile(
    r"relative_position_index$|attn_mask$|attn\.(masked_)?bias$|position_ids$|num_batches_tracked$"
    r"|tscam_conv\.|htsat\.head\.|fc_audioset\.|pooler\.|^logit_scale$|lm_head\.weight$"
)


def modules() -> types.SimpleNamespace:
    """msclap's modules: `wrapper`, `clap`, `htsat`, `audio`, `mapper`."""
    _stub_torchaudio()
    with warnings.catch_warnings():  # the import filters every warning for the whole process
        warnings.simplefilter("ignore")
        from msclap import CLAPWrapper
        from msclap.models import audio, clap, htsat, mapper
    return types.SimpleNamespace(
        wrapper=CLAPWrapper.CLAPWrapper, clap=clap, htsat=htsat, audio=audio, mapper=mapper
    )


def audio_encoder(state: State, version: str = "2023") -> Any:
    """AudioEncoder: waveform [B, T] -> (native [B, 1024], tags)."""
    prefix = "clap." if version == "clapcap" and _has(state, "clap.base.") else "audio_encoder."
    own = _under(state, prefix)
    d_out, d_in = own["projection.linear1.weight"].shape
    front_end = (44_100, 1024, 320, 64, 50, 14_000)
    with _shapes_of(own):
        model = modules().clap.AudioEncoder(TOWERS[version][0], d_in, d_out, *front_end, 527)
    return _load(model, own)


def log_mel(encoder: Any, waveform: NDArray[np.float32]) -> NDArray[np.float32]:
    """[B, T] -> [B, F, 64]: what msclap's front end gives its tower, before the batch norm."""
    base = getattr(encoder.base, "htsat", encoder.base)
    with torch.no_grad():
        power = base.spectrogram_extractor(torch.from_numpy(waveform))
        return np.asarray(base.logmel_extractor(power)[:, 0].numpy(), np.float32)


def embed_log_mel(encoder: Any, log_mel: NDArray[np.float32]) -> NDArray[np.float32]:
    """[B, F, 64] -> native [B, 1024]: the encoder behind its front end."""
    base = getattr(encoder.base, "htsat", encoder.base)
    with (
        mock.patch.object(base, "spectrogram_extractor", torch.nn.Identity()),
        mock.patch.object(base, "logmel_extractor", torch.nn.Identity()),
        torch.no_grad(),
    ):
        return np.asarray(encoder(torch.from_numpy(log_mel)[:, None])[0].numpy(), np.float32)


def caption_encoder(state: State, version: str = "2023") -> Any:
    """TextEncoder: {"input_ids", "attention_mask", ...} [B, L] -> native [B, 1024]."""
    own = _under(state, "caption_encoder.")
    d_out, d_in = own["projection.linear1.weight"].shape
    with _offline(own):
        model = modules().clap.TextEncoder(d_out, TOWERS[version][1], d_in)
    return _load(model, own)


def clapcap(state: State) -> Any:
    """ClapCaptionModel with `clap` (the audio encoder), `clap_project` (the mapper) and `gpt`."""
    mapper = modules().mapper
    audio = types.SimpleNamespace(audio_encoder=audio_encoder(state, "clapcap"))
    prefix = state["clap_project.prefix_const"]
    size = int(state["clap_project.linear.weight"].shape[1])
    layers = _count(state, r"clap_project\.transformer\.layers\.(\d+)\.")
    with _offline(_under(state, "gpt.")):
        model = mapper.ClapCaptionModel(
            audio, "gpt2", len(prefix), len(prefix), size, layers, True, "transformer"
        )
    return _load(model, {name: value for name, value in state.items() if name != "logit_scale"})


def wrapper(state: State, version: str = "2023", *, tokenizer: Any = None) -> Any:
    """CLAPWrapper as shipped, over `state`; `tokenizer` is what AutoTokenizer would have fetched.

    Its clock is the fair one for benchmarks: every method of it is msclap's own.
    """
    import yaml

    shell = modules().wrapper.__new__(modules().wrapper)
    config = Path(sys.modules["msclap"].__file__ or "").parent / f"configs/config_{version}.yml"
    shell.args = types.SimpleNamespace(**yaml.safe_load(config.read_text()))
    shell.np_str_obj_array_pattern = re.compile(r"[SaUO]")
    shell.default_collate_err_msg_format = "found {}"
    shell.use_cuda = False
    shell.tokenizer = tokenizer
    gpt = version != "2022"
    shell.token_keys = ["input_ids", "attention_mask"]
    if not gpt:
        shell.token_keys.insert(1, "token_type_ids")
    elif tokenizer is not None:
        tokenizer.add_special_tokens({"pad_token": "!"})
    if version == "clapcap":
        shell.clapcap = clapcap(state)
        shell.args.prefix_dim, shell.args.text_model = shell.args.d_proj, shell.args.text_decoder
    else:
        # Not an nn.Module: tests often want one tower alone.
        shell.clap = types.SimpleNamespace(logit_scale=torch.tensor(float(np.log(1 / 0.07))))
        if "logit_scale" in state:
            shell.clap.logit_scale = torch.tensor(np.asarray(state["logit_scale"]))
        if _has(state, "audio_encoder."):
            shell.clap.audio_encoder = audio_encoder(state, version)
        if _has(state, "caption_encoder."):
            shell.clap.caption_encoder = caption_encoder(state, version)
    return shell


@contextmanager
def fixed_crop(start: int) -> Iterator[None]:
    """msclap crops long files at this sample instead of at a random one."""
    with mock.patch.object(random, "randrange", return_value=start):
        yield


def _stub_torchaudio() -> None:
    """An extension that is said not to be there, and a reader that is."""
    if "torchaudio" in sys.modules:
        return
    stub: Any = types.ModuleType("torchaudio._extension")
    stub._IS_TORCHAUDIO_EXT_AVAILABLE = False
    stub._IS_ALIGN_AVAILABLE = False
    stub.fail_if_no_align = lambda function: function
    sys.modules["torchaudio._extension"] = stub
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torchaudio

    def load(path: Any, **_: Any) -> tuple[torch.Tensor, int]:
        wave, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
        return torch.from_numpy(np.ascontiguousarray(wave.T)), rate_hz

    torchaudio.load = load


def _load(model: Any, state: State) -> Any:
    """`model` in eval mode over `state`; KeyError for anything needed that is missing or alien."""
    tensors = {name: torch.from_numpy(np.array(value)) for name, value in state.items()}
    own = model.state_dict()
    for name in tensors.keys() & own.keys():
        if own[name].shape != tensors[name].shape:  # CNN14 narrowed: its sizes are in its code
            place, _, last = name.rpartition(".")
            getattr(model.get_submodule(place), last).data = torch.empty_like(tensors[name])
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    strange = [name for name in (*missing, *unexpected) if not UNNEEDED.search(name)]
    if strange:
        raise KeyError(f"missing or unexpected in the state: {', '.join(strange[:10])}")
    return model.eval()


@contextmanager
def _shapes_of(state: State) -> Iterator[None]:
    """HTSAT as deep and wide as `state`, where msclap knows one size only."""
    tower = modules().htsat.HTSAT_Swin_Transformer
    layer = r"base\.htsat\.layers\."
    sizes: dict[str, Any] = {}
    if stages := _count(state, layer + r"(\d+)\."):
        table = "base.htsat.layers.{}.blocks.0.attn.relative_position_bias_table"
        sizes = {
            "embed_dim": len(state["base.htsat.patch_embed.proj.bias"]),
            "depths": [_count(state, layer + rf"{i}\.blocks\.(\d+)\.") for i in range(stages)],
            "num_heads": [state[table.format(i)].shape[1] for i in range(stages)],
        }
    make = tower.__init__

    def init(self: Any, **own: Any) -> None:
        make(self, **own, **sizes)

    with mock.patch.object(tower, "__init__", init), _unfilled():
        yield


@contextmanager
def _unfilled() -> Iterator[None]:
    """Modules leave their weights as they are in memory: drawing them takes longer than a test."""
    fills = ("kaiming_uniform_", "uniform_", "normal_", "trunc_normal_", "xavier_uniform_")
    with ExitStack() as stack:
        for name in fills:
            stack.enter_context(mock.patch.object(torch.nn.init, name, _as_it_is))
        stack.enter_context(mock.patch.object(modules().htsat, "trunc_normal_", _as_it_is))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")  # torch.meshgrid without indexing
        yield


def _as_it_is(tensor: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
    return tensor


@contextmanager
def _offline(state: State) -> Iterator[None]:
    """`from_pretrained` builds from a configuration of the depth and width that `state` has."""
    from transformers import BertConfig, BertModel, GPT2Config, GPT2LMHeadModel, GPT2Model
    from transformers.modeling_utils import no_init_weights

    found = modules()

    def config(name: str) -> Any:
        if "gpt" in name:
            (table,) = (value for key, value in state.items() if key.endswith("wte.weight"))
            (places,) = (value for key, value in state.items() if key.endswith("wpe.weight"))
            hidden = int(table.shape[1])
            return GPT2Config(
                vocab_size=len(table),
                n_positions=len(places),
                n_embd=hidden,
                n_layer=_count(state, r"\bh\.(\d+)\."),
                n_head=max(1, hidden // 64),
            )
        words, places = (
            state[f"base.embeddings.{kind}_embeddings.weight"] for kind in ("word", "position")
        )
        hidden = int(words.shape[1])
        return BertConfig(
            vocab_size=len(words),
            max_position_embeddings=len(places),
            hidden_size=hidden,
            num_hidden_layers=_count(state, r"encoder\.layer\.(\d+)\."),
            num_attention_heads=max(1, hidden // 64),
            intermediate_size=len(state["base.encoder.layer.0.intermediate.dense.bias"]),
        )

    class Auto:
        @staticmethod
        def from_pretrained(name: str) -> Any:
            return (GPT2Model if "gpt" in name else BertModel)(config(name))

    class Decoder:
        @staticmethod
        def from_pretrained(name: str) -> Any:
            return GPT2LMHeadModel(config(name))

    with (
        mock.patch.object(found.clap, "AutoModel", Auto),
        mock.patch.object(found.mapper, "GPT2LMHeadModel", Decoder),
        no_init_weights(),
        _unfilled(),
    ):
        yield


def _under(state: State, prefix: str) -> dict[str, NDArray[np.float32]]:
    return {name[len(prefix) :]: v for name, v in state.items() if name.startswith(prefix)}


def _has(state: State, prefix: str) -> bool:
    return any(name.startswith(prefix) for name in state)


def _count(state: State, pattern: str) -> int:
    """One more than the highest number that `pattern` finds in the names."""
    found = (re.search(pattern, name) for name in state)
    return max((int(match[1]) + 1 for match in found if match), default=0)
