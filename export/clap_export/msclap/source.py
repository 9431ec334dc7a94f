"""A checkpoint of msclap -> a `Source`: its towers, front ends, licences.

In:  `Checkpoint`s, the tokenizer's bytes.
Out: `Source`.
Knows nothing about files, precisions or bundles. What msclap really does, which is not what its
configuration says, is in docs/convert.md; the constants below follow the code.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from functools import partial
from importlib.resources import files

import numpy as np

from clap_engine.arrays import Float32
from clap_engine.manifest import AudioSpec, CaptionSpec, TextSpec
from clap_export.errors import CheckpointError
from clap_export.graphs import (
    bert_graph,
    cnn14_graph,
    gpt2_decoder_graph,
    gpt2_graph,
    htsat_graph,
    mapper_graph,
)
from clap_export.msclap import reference, tokenizer
from clap_export.msclap.checkpoint import FILES, Checkpoint
from clap_export.msclap.layout import N_FFT, N_MELS, NATIVE
from clap_export.source import AudioSource, CaptionSource, Source, TextSource

RATE_HZ, HOP = 44_100, 320
WINDOW_S = {"2022": 5.0, "2023": 7.0, "clapcap": 7.0}
MODELS = {"2022": "bert-base-uncased", "2023": "gpt2", "clapcap": "gpt2"}
MAX_TOKENS = {"2022": 100, "2023": 77}
CAPTION_TOKENS, CAPTION_BEAMS = 67, 5  # msclap's own defaults
# The kernels of the checkpoint against the DFT that the runtime takes instead of them.
KERNEL_ERROR = 1e-5
WEIGHTS_LICENCE = "MS-PL"
CODE_LICENCE = "MIT"
TEMPLATE = "this is a sound of {}"
_TEXT_ORIGIN = {
    "gpt2": "GPT-2 by OpenAI (modified MIT licence): https://github.com/openai/gpt-2",
    "bert-base-uncased": "BERT by Google (Apache-2.0): https://github.com/google-research/bert",
}


def make(
    checkpoint: Checkpoint, tokenizer_json: bytes, captions: Checkpoint | None = None
) -> Source:
    """The source of a bundle; `captions` is a clapcap checkpoint, `checkpoint` then 2023's."""
    version = checkpoint.version
    if version not in MAX_TOKENS:
        raise CheckpointError(f"version {version} has no text tower; give {FILES['2023']} as well")
    model = MODELS[version]
    name = version if captions is None else "clapcap"
    scale = float(np.exp(checkpoint.state["logit_scale"]))
    digest = checkpoint.digest if captions is None else captions.digest
    return Source(
        id=f"msclap-{name}",
        description=f"Microsoft CLAP, version {name}, converted by clap-export.",
        digest=digest,
        native_dim=NATIVE,
        text=_text(checkpoint, tokenizer_json),
        audio=_audio(checkpoint),
        logit_scale=min(scale, 1e6),
        licences={
            "code": CODE_LICENCE,
            "weights": WEIGHTS_LICENCE,
            "training_data": "not stated with the weights; see arXiv:2309.05767",
        },
        notice=_notice(name, model),
        producer={"checkpoint": f"msclap {name}, sha256 {digest}"},
        templates=(TEMPLATE, "{}"),
        files={"LICENSE.weights": files("clap_export.msclap").joinpath("MS-PL.txt").read_bytes()},
        caption=None if captions is None else _caption(captions, checkpoint),
    )


def frontend_npz(state: Mapping[str, Float32], prefix: str) -> bytes:
    """Window and mel filters as the checkpoint holds them, never computed again.

    The kernel of frequency 0 is the window itself.
    """
    kernels = [
        state[f"{prefix}spectrogram_extractor.stft.conv_{part}.weight"][:, 0]
        for part in ("real", "imag")
    ]
    window = kernels[0][0]
    angle = -2 * np.pi / N_FFT * (np.arange(N_FFT // 2 + 1)[:, None] * np.arange(N_FFT) % N_FFT)
    for kernel, wave in zip(kernels, (np.cos(angle), np.sin(angle)), strict=True):
        error = float(np.abs(kernel - wave * window).max())
        if error > KERNEL_ERROR:
            raise CheckpointError(
                f"the STFT kernels differ by {error:.2g} from a windowed Fourier transform (at "
                f"most {KERNEL_ERROR:g}): they were trained, which no bundle can express"
            )
    buffer = io.BytesIO()
    mel = state[f"{prefix}logmel_extractor.melW"]
    np.savez(buffer, window=np.ascontiguousarray(window), mel=np.ascontiguousarray(mel))
    return buffer.getvalue()


def audio_prefix(version: str) -> str:
    """What the names of the audio tower begin with."""
    return {"2022": "audio_encoder.base.", "2023": "audio_encoder.base.htsat."}.get(
        version, "clap.base.htsat."
    )


def changed_audio(checkpoint: Checkpoint, captions: Checkpoint) -> list[str]:
    """Weights of clapcap's audio tower that are not 2023's; none where it was frozen throughout."""
    pairs = {
        key: "audio_encoder." + key.removeprefix("clap.")
        for key in captions.state
        if key.startswith("clap.")
    }
    return [
        key
        for key, twin in pairs.items()
        if not np.allclose(captions.state[key], checkpoint.state[twin], rtol=1e-5, atol=1e-7)
    ]


def _text(checkpoint: Checkpoint, tokenizer_json: bytes) -> TextSource:
    version, state = checkpoint.version, checkpoint.state
    gpt2 = MODELS[version] == "gpt2"
    graph = gpt2_graph if gpt2 else bert_graph
    spec = TextSpec(
        tokenizer="tokenizer.json",
        max_tokens=MAX_TOKENS[version],
        pad_id=tokenizer.PAD,
        prefix="",
        suffix=" <|endoftext|>" if gpt2 else "",
        graphs={},
        keep_last=2 if gpt2 else 1,
        native_dim=NATIVE,
    )
    return TextSource(
        spec=spec,
        tokenizer_json=tokenizer_json,
        build=lambda head: graph.build(state, head=head, max_tokens=spec.max_tokens),
        reference=partial(reference.embed_text, state, version),
    )


def _audio(checkpoint: Checkpoint) -> AudioSource:
    version, state = checkpoint.version, checkpoint.state
    prefix = audio_prefix(version)
    samples = round(WINDOW_S[version] * RATE_HZ)
    spec = AudioSpec(
        rate_hz=RATE_HZ,
        window_s=WINDOW_S[version],
        hop_s=WINDOW_S[version],
        n_fft=N_FFT,
        hop=HOP,
        pad=N_FFT // 2,
        n_mels=N_MELS,
        n_frames=samples // HOP + 1,
        floor_db=None,
        padding="repeat",
        frontend="frontend.npz",
        graphs={},
        frame_s=None,
        reference="one",
        amin=1e-10,
        pad_mode="reflect",
        native_dim=NATIVE,
    )
    graph = cnn14_graph if version == "2022" else htsat_graph
    return AudioSource(
        spec=spec,
        frontend=frontend_npz(state, prefix),
        build=lambda head: graph.build(state, prefix, n_frames=spec.n_frames, head=head),
        reference=partial(reference.embed_log_mel, state, version),
    )


def _caption(captions: Checkpoint, checkpoint: Checkpoint) -> CaptionSource:
    state = captions.state
    changed = changed_audio(checkpoint, captions)
    sizes = gpt2_decoder_graph.shape(state)
    spec = CaptionSpec(
        mapper={},
        decoder={},
        tokenizer="tokenizer.json",
        prefix_length=len(state["clap_project.prefix_const"]),
        native_dim=NATIVE,
        hidden=sizes.hidden,
        layers=sizes.layers,
        heads=sizes.heads,
        head_dim=sizes.head_dim,
        vocabulary=sizes.vocabulary,
        max_positions=sizes.positions,
        stop_id=tokenizer.SPACE,  # not the end of text: see msclap's generate_beam
        beam=CAPTION_BEAMS,
        max_tokens=CAPTION_TOKENS,
    )
    return CaptionSource(
        spec=spec,
        build_mapper=lambda: mapper_graph.build(state),
        build_decoder=lambda: gpt2_decoder_graph.build(state),
        reference=partial(reference.embed_log_mel, state, "clapcap") if changed else None,
    )


def _notice(name: str, model: str) -> str:
    return (
        f"This bundle holds the weights of Microsoft CLAP, version {name}, converted to ONNX and\n"
        "partly quantized: https://huggingface.co/microsoft/msclap\n"
        f"The hub lists them under {WEIGHTS_LICENCE} (Microsoft Public License), whose text is in\n"
        "LICENSE.weights. The code that made them, https://github.com/microsoft/CLAP, is MIT.\n"
        f"The text tower is a fine-tuned {_TEXT_ORIGIN[model]}\n"
        "It comes without any warranty, and no name or trademark of its authors is licensed.\n"
    )
