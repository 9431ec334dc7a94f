"""README.md and NOTICE of a bundle.

In:  the manifest, the scalars that the trainer left.
Out: markdown.
Knows nothing about graphs or files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clap_engine.manifest import Manifest
from clap_export import minilm
from clap_export.card_mini import CREDITS, exam_section, training_card
from clap_export.tower_parity import said

RANDOM = (
    "**The heads and the audio tower of this bundle are random.** It exists so that everything "
    "else can be built and tested; its answers mean nothing.\n"
)


def notice(is_trained: bool) -> str:
    """Whose work the bundle holds and learned from, and under which licence."""
    held = (
        "This bundle contains the sentence encoder all-MiniLM-L6-v2 by the sentence-transformers\n"
        f"project ({minilm.LICENCE}), converted to ONNX and quantized:\n"
        "https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2\n"
        "Its base, MiniLM-L6-H384-uncased by nreimers after Microsoft's MiniLM (MIT), and\n"
        "the vocabulary of BERT by Google (Apache-2.0) are part of it.\n"
    )
    return f"{held}\n{CREDITS}" if is_trained else held


def model_card(manifest: Manifest, scalars: Mapping[str, Any]) -> str:
    """What the model is, what it was trained on, what it can and can't do, in figures."""
    lines = [f"# {manifest.id}", "", manifest.description, ""]
    if not scalars:
        lines += [RANDOM]
    if "facts" in scalars:
        lines += [training_card(scalars["figures"], scalars["facts"]), ""]
    if "exam" in scalars:
        lines += [exam_section(scalars["exam"]), ""]
    lines += [
        "## Files",
        "",
        f"Audio: {manifest.audio.rate_hz} Hz, windows of {manifest.audio.window_s:g} s. "
        f"Text: at most {manifest.text.max_tokens} tokens. "
        f"Embeddings: {manifest.dim} dims, prefixes of {_list(manifest.ladder)} work alone.",
        "",
        "| licence | |",
        "|---|---|",
        *(f"| {name.replace('_', ' ')} | {text} |" for name, text in manifest.licences.items()),
        "",
        "## Quantized against float32",
        "",
        "| graph | n | centred cosine | top-1 | top-10 |",
        "|---|---|---|---|---|",
    ]
    for name, row in manifest.parity.items():
        if isinstance(row, dict) and "centred_mean" in row:
            lines.append(
                f"| {name} | {row['n']} | {row['centred_mean']:.4f} "
                f"(least {row['centred_min']:.4f}) | {row['top1']:.3f} | {row['top10']:.3f} |"
            )
    return "\n".join(lines) + "\n"


def converted_card(manifest: Manifest) -> str:
    """README.md of a converted model: what it is, its licences, how near it is to its source."""
    exact = manifest.parity["fp32"]
    sample = manifest.parity["measured_on"]
    lines = [
        f"# {manifest.id}",
        "",
        manifest.description,
        "",
        f"Audio: {manifest.audio.rate_hz} Hz, windows of {manifest.audio.window_s:g} s. "
        f"Text: at most {manifest.text.max_tokens} tokens. Embeddings: {manifest.dim} dims, "
        f"ladder {_list(manifest.ladder)}.",
        "",
        "| licence | |",
        "|---|---|",
        *(f"| {name.replace('_', ' ')} | {text} |" for name, text in manifest.licences.items()),
        "",
        f"## Parity, on {sample['texts']} texts and {sample['sounds']} sounds",
        "",
        "Float32 against the source in torch, largest difference of one entry: "
        + ", ".join(f"{name} {error:g}" for name, error in exact["max_error"].items())
        + ".",
        "",
        "| against float32 | centred cosine, text | audio | top-1 | top-10 | zero-shot | least |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in manifest.parity.items():
        if isinstance(row, dict) and "both" in row:
            cosine = [row[side]["centred_mean"] for side in ("text", "audio")]
            least = min(row[side]["centred_min"] for side in ("text", "audio"))
            lines.append(
                f"| {name} | {cosine[0]:.4f} | {cosine[1]:.4f} | {row['both']['top1']:.3f} "
                f"| {row['both']['top10']:.3f} | {said(row['zero_shot']['agreement'])} of "
                f"{row['zero_shot']['decided']} | {least:.4f} |"
            )
    head = manifest.parity.get("head", {})
    if "loss" in head:
        lines += ["", "## What the head loses of the source's own ranking", ""]
        lines += ["| dims | top-10 kept | top-1 kept | score error, 99 % |", "|---|---|---|---|"]
        lines += [
            f"| {rung} | {row['top10']:.3f} | {row['top1']:.3f} | {row['error']:.4f} |"
            for rung, row in head["loss"].items()
        ]
    return "\n".join(lines) + "\n"


def _list(dims: tuple[int, ...]) -> str:
    return ", ".join(map(str, dims))
