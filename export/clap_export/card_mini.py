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


DESCRIPTION = "A small demonstration model: rendered music, effects and speech."
TRAINING_DATA = (
    "sounds rendered with FluidR3_GM (MIT), MuseScore_General (MIT, CC0), GeneralUser GS (its own "
    "licence: any use in music), Sonivox EAS (Apache-2.0), FreePats (GPL-2+ with an exception for "
    "what is played with it), espeak-ng voices and DSP code of this project; 53 recordings (CC0, "
    "CC-BY 3.0, public domain)"
)
CREDITS = """The audio tower and the heads learned from sounds; none of these is contained. They
were rendered with the SoundFonts FluidR3 GM (Frank Wen, MIT), MuseScore General (S. Christian
Collins, MIT and CC0), GeneralUser GS (S. Christian Collins, GeneralUser GS License v2.0), Sonivox
EAS (Sonic Network Inc., Apache-2.0) and FreePats (the FreePats project, GPL-2+ with an exception:
what is played with its patches is not covered by it), spoken by espeak-ng, made by this project's
signal processing, or are among 53 recordings:
CC0 and public domain: Kenney's game sounds (of arcade), sonic-pi-samples, openttd-opensfx and
supertuxkart-data, in part.
CC-BY 3.0: of openttd-opensfx by Janis Lukss, Wuzzy, eliasheuninck, Leon Milo, Cheeseheadburger,
digifishmusic, patchen, icmusic, roscoetoon, lonemonk, Bluesy1905, han1, l0calh05t, Anton,
JFBSAUVE, bigpickle51 and Metzik; of supertuxkart-data by SnapJunkie, Mike Koenig, snottyboi,
Tomlija, Stickinthemud, Marianne Gagnon, Magne Djupvik, dADDoiT, Dawid Gan, nicStage and
Jean-Manuel Clemencon; of asterisk-core-sounds-ru-wav by Maxim Topal.
"""


def training_card(figures: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """The body of the card."""
    return "\n\n".join(
        [
            _what(facts),
            _quality(figures),
            _zero_shot(figures["zero_shot"]),
            LIMITS,
            LARGE_MODELS,
            _data(facts),
        ]
    )


def _what(facts: Mapping[str, Any]) -> str:
    return (
        "A demonstration model that is small enough to ship with the package. The audio tower (a "
        "convolutional network, and beside it key profiles that tell major from minor) learned "
        f"from {facts['clips']:,} five-second clips, all but a few of them synthetic; the text "
        "tower is the frozen sentence encoder all-MiniLM-L6-v2 with one linear head, drawn towards "
        "the classes that a text speaks of. Both heads were trained with a symmetric contrastive "
        "loss over the first 32, 64, 128, 256 and 512 dims."
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


LIMITS = """## What it can't do

Nearly everything it knows is synthetic. Recorded sound from the world is far from what it heard,
and it names most of it wrongly: the rows of recorded sounds below are what to expect. It does not
know words in speech or lyrics, melodies, artists or loudness (log-mels are taken relative to each
window's peak). Register is weak, and so are instruments among all 120 programs. It must not be
used to monitor, judge or identify people, to raise alarms that anybody relies on, or to filter
content without a person who looks. For serious work convert one of the large public CLAP models."""

LARGE_MODELS = """## Beside the large public models

Their figures are published ones, on recordings that could not be had where clap-mini was made, so
there is no row on which they meet. The nearest of its own are the recorded sounds of the exam
below. `clap-engine evaluate` gives any bundle's figures on a copy of these sets.

| | parameters | ESC-50 | UrbanSound8K | AudioCaps, text to audio R@1 / R@10 |
|---|---|---|---|---|
| msclap 2023, by its authors | 28 M + 124 M | 93.9 | 82.3 | |
| msclap 2023, measured by others | the same | 89.9 | 83.0 | 20.3 / 65.3 |
| LAION larger_clap_general, measured by others | 194 M | 90.5 | 79.6 | 28.0 / 70.4 |
| clap-mini | 6 M + 23 M | not measured | not measured | not measured |"""


def _data(facts: Mapping[str, Any]) -> str:
    began = ", begun with earlier weights of this project" if facts["goes_on"] else ""
    if facts.get("kept"):
        began += f", which are {100 * facts['kept']:.0f} % of the mean that ships"
    return (
        "## Training\n\n"
        f"{facts['classes']} classes, {facts['phrases']:,} phrases with {facts['vocabulary']:,} "
        f"distinct content words. {facts['samples']:,} clips seen in {facts['minutes']:.0f} "
        f"minutes ({facts['machine']}){began}. Data: {TRAINING_DATA}; NOTICE names whose work that "
        "is. Held out: sf_GMbank (public domain) and a second font, four espeak-ng voices, three "
        "languages, two bands of every effect parameter and, of 113 effects, one way of making "
        "them. Words: written for this project, and lemmas of WordNet 3.0 (Princeton University). "
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
