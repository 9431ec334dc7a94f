"""The model card of clap-mini: what it was trained on, what it can and can't do, in figures.

In:  the figures that `clap_export.finish` measured, the facts of the training run.
Out: markdown, without a title.
Knows nothing about weights or graphs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

WORST = 15
KIND_NAMES = {
    "instrument": "instruments (General MIDI)",
    "drum": "drums and grooves",
    "genre": "genres (small arrangements)",
    "effect": "sound effects",
    "speech": "manners of speech",
}


def training_card(figures: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """The body of the card."""
    return "\n\n".join(
        [
            _what(facts),
            _quality(figures),
            _zero_shot(figures["zero_shot"]),
            _limits(),
            _data(facts),
        ]
    )


def _what(facts: Mapping[str, Any]) -> str:
    return (
        "A demonstration model that is small enough to ship with the package. The audio tower (a "
        f"convolutional network) was trained from scratch on {facts['clips']:,} five-second clips, "
        "all of them synthetic; the text tower is the frozen sentence encoder all-MiniLM-L6-v2 "
        "with one linear head, drawn towards the classes that a text speaks of. Both heads "
        "were trained with a symmetric contrastive loss over the first 32, 64, 128, 256 and 512 "
        "dims."
    )


def _quality(figures: Mapping[str, Any]) -> str:
    rows = [
        ("captions in training's wording", figures["known"]),
        ("dictionary words never seen in training", figures["dictionary"]),
        ("names and other words never seen in training", figures["names"]),
        ("both of these together", figures["unseen"]),
        ("the same, without class anchors", figures["unseen_without_anchors"]),
    ]
    lines = [
        "## Retrieval on the held-out gallery",
        "",
        f"{figures['gallery']:,} clips of another SoundFont, other voices and other effect "
        "parameters than training had, in the shares of the corpus. Each caption names its exact "
        "class, half of them claim more; a hit is a clip among the top k that truly has all that "
        f"the caption claims. Chance: hit@1 {figures['chance_hit@1']:.3f}, hit@10 "
        f"{figures['chance_hit@10']:.3f}.",
        "",
        "| captions | hit@1 | hit@5 | hit@10 | hit@10, 32 dims |",
        "|---|---|---|---|---|",
    ]
    for name, row in rows:
        lines.append(
            f"| {name} | {row['hit@1']:.3f} | {row['hit@5']:.3f} | {row['hit@10']:.3f} "
            f"| {row['hit@10 d=32']:.3f} |"
        )
    lines += [
        "",
        'In "words never seen" no content word of the query, in any inflection, stands in any '
        "training caption, and the claims stop at the class. Two phrases a class were drawn by lot "
        "from plain wording, and taken out of training with all phrases that share a word with "
        "them; where a class can spare no plain phrase (most instruments: everything calls a piano "
        "a piano), the lot fell on names and jargon instead. The table has phrases of which a "
        "dictionary knows every word apart from those with names of players, makers and pieces, "
        "foreign words or sounds spelled out: those take knowledge of the world that a small "
        "encoder lacks. A shortlist of 100 by the first 32 dims holds "
        f"{figures['shortlist_100_of_32_holds_top_10']:.3f} of the top ten by all 512.",
    ]
    return "\n".join(lines)


def _zero_shot(table: Mapping[str, Mapping[str, float]]) -> str:
    lines = [
        "## Zero-shot classification of the same gallery, by plain class names",
        "",
        "| kind | classes | clips | top-1 | top-5 |",
        "|---|---|---|---|---|",
    ]
    for kind, row in table.items():
        lines.append(
            f"| {KIND_NAMES[kind]} | {row['classes']:.0f} | {row['clips']:.0f} "
            f"| {row['top1']:.3f} | {row['top5']:.3f} |"
        )
    return "\n".join(lines)


def _limits() -> str:
    return (
        "## What it can't do\n\n"
        "Everything it knows is synthetic: recorded sound from the world is far from what it "
        "heard, and figures on real recordings are not known (none could be had where it was "
        "trained). It does not know words in speech or lyrics, melodies, artists or loudness "
        "(log-mels are taken relative to each window's peak). Tempo, register and key are "
        "weak. Do not use it to filter content or to decide about "
        "people. For serious work convert one of the large public CLAP models."
    )


def _data(facts: Mapping[str, Any]) -> str:
    return (
        "## Training\n\n"
        f"{facts['classes']} classes, {facts['phrases']:,} phrases with {facts['vocabulary']:,} "
        f"distinct content words. {facts['samples']:,} clips seen in {facts['minutes']:.0f} "
        f"minutes ({facts['machine']}). Sources: FluidR3_GM (MIT) and MuseScore_General (MIT, "
        "parts CC0) through FluidSynth, voices of espeak-ng (GPL-3.0-or-later, only run), effects "
        "by code of this project; held out: sf_GMbank (public domain), four espeak-ng voices, "
        "three languages, and two bands of every effect parameter. Words: written for this "
        "project, and lemmas of WordNet 3.0 (Princeton University). "
        "Repeat: `clap-export corpus`, `clap-export train mini`, `clap-export pack mini`."
    )


def exam_section(exam: Mapping[str, Any]) -> str:
    """The exam of the packed graphs (`clap-export exam --json`), and what they are good and bad at.

    A figure without a bar is one for which none was set.
    """
    lines = [
        "## Exam of these graphs",
        "",
        "Held-out clips as above; effects of unseen generators are made in ways that training "
        "never heard. Intervals are percentile bootstraps over clips (95 %).",
        "",
        "| | figure | interval | clips | due | aim |",
        "|---|---|---|---|---|---|",
    ]
    for mark in exam["marks"]:
        span = "" if mark["low"] is None else f"{mark['low']:.3f}-{mark['high']:.3f}"
        due, aim = ("" if mark[bar] is None else f"{mark[bar]:g}" for bar in ("due", "aim"))
        lines.append(
            f"| {mark.get('label', mark['name'])} | {mark['value']:.3f} | {span} "
            f"| {mark['clips']} | {due} | {aim} |"
        )
    ranked = sorted(exam["by_class"].items(), key=lambda item: (item[1], item[0]))
    strong = [name for name, value in ranked if value == 1.0]
    weak = ", ".join(f"{_plain(name)} ({value:.2f})" for name, value in ranked[:WORST])
    lines += [
        "",
        f"By name, among the classes of their kind: every clip is found of {len(strong)} of the "
        f"{len(ranked)} classes; weakest are {weak}. A class has few clips here, so one of these "
        "shares says little alone.",
    ]
    return "\n".join(lines)


def _plain(name: str) -> str:
    return name.replace("_", " ")
