"""Broad words: what a clip is apart from its class, as one asks with few answers to choose from.

In:  the attributes of a clip.
Out: for each question (music or speech? which family? slow or fast?) its answers with phrases that
     training may read, and the answer that is true of a clip.
Knows nothing about captions, sounds or encoders.

A clip of two sounds has no one answer to any of these.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from clap_export.corpus.captions import instrument_names
from clap_export.corpus.classes import INSTRUMENTS, family

Attributes = Mapping[str, str]
SOURCE_OF = {"speech": "speech", "effect": "effect"}  # all other kinds are music


@cache
def phrases() -> dict[str, dict[str, tuple[str, ...]]]:
    """{question: {answer: phrases}}."""
    text = files("clap_export.corpus").joinpath("words", "broad.json").read_text(encoding="utf-8")
    tables: dict[str, dict[str, list[str]]] = json.loads(text)
    for name, more in instrument_names()["families"].items():
        own = tables["family"][name]
        own += [phrase for phrase in more if phrase not in own]
    return {
        question: {answer: tuple(said) for answer, said in table.items()}
        for question, table in tables.items()
    }


def truth(question: str, clip: Attributes) -> str | None:
    """The answer that is true of a clip, None where none is, or nobody knows."""
    if is_scene(clip):
        return None
    if question == "source":
        return SOURCE_OF.get(clip["kind"], "music")
    found = of_family(clip) if question == "family" else clip.get(question)
    return found if found in phrases()[question] else None


def is_scene(clip: Attributes) -> bool:
    """Whether it has two sounds, of which either would be right."""
    return "then" in clip or "with" in clip


def of_family(clip: Attributes) -> str | None:
    """The clip's General MIDI family, where its class leaves no doubt."""
    if "family" in clip or clip["kind"] != "instrument":
        return clip.get("family")
    families = {family(program) for program in INSTRUMENTS[clip["class"]]}
    return families.pop() if len(families) == 1 else None
