"""Zero-shot tasks of the exam: which names a clip is given to choose from, and which is right.

In:  embeddings of clips, what is true of them, a function from texts to embeddings.
Out: the place of the right name among all, for each clip.
Knows nothing about corpora, intervals or bars.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

import numpy as np

from clap_engine.arrays import Float32, Int64, l2_normalize
from clap_export.corpus import broad, captions, lexicon
from clap_export.corpus.classes import CLASSES, FAMILIES

Attributes = broad.Attributes
Embed = Callable[[Sequence[str]], Float32]
# Patterns are grooves of a kit; all others are single pieces of it.
PATTERNS = tuple(
    name
    for name in CLASSES["drum"]
    if name.endswith("beat") or name in ("samba_percussion", "marching_drums", "latin_percussion")
)
SINGLE_DRUMS = tuple(name for name in CLASSES["drum"] if name not in PATTERNS)
# What is also asked of a second held-out font.
OF_MUSIC = ("families", "programs", "instruments", "genres", "drum patterns", "single drums")
SOURCES = {
    "speech": ("speech", "a person talking", "a human voice speaking"),
    "music": ("music", "a musical instrument playing", "a piece of music"),
    "effect": ("a sound effect", "an everyday noise", "an environmental sound"),
}
TEMPI = {
    "slow": ("slow music", "music played slowly", "slow tempo"),
    "fast": ("fast music", "music played fast", "fast tempo"),
}
MODES = {
    "major": ("music in a major key", "a melody in major"),
    "minor": ("music in a minor key", "a melody in minor"),
}


@dataclass(frozen=True)
class Task:
    """Names to choose from; a name of several texts is the mean of their embeddings."""

    name: str
    label: str
    names: Mapping[str, Sequence[str]]
    truth: Callable[[Attributes], str | None]
    ks: tuple[int, ...] = (1,)
    is_of_classes: bool = False


def answer(task: Task, audio: Float32, clips: Sequence[Attributes], embed: Embed) -> Int64:
    """[N, D], N clips that have a truth -> [N] places from 0 on; ties go to the first name."""
    texts = [text for said in task.names.values() for text in said]
    rows = iter(embed(texts))
    names = l2_normalize(
        np.stack([np.sum([next(rows) for _ in said], axis=0) for said in task.names.values()])
    )
    order = np.argsort(-(audio @ names.T), axis=1, kind="stable")
    known = list(task.names)
    target = np.array([known.index(str(task.truth(clip))) for clip in clips])
    return np.asarray(np.argmax(order == target[:, None], axis=1), np.int64)


def tasks(split: str) -> tuple[Task, ...]:
    """The tasks of a split: effects of unseen generators are asked by name alone, all that is
    asked of another font says so."""
    if split == "unseen_generator":
        return (_of_classes("effects, unseen generator", "effect", CLASSES["effect"]),)
    if split == "another_font":
        return tuple(
            replace(task, name=f"{task.name}, another font", label=f"{task.label}, another font")
            for task in every()
            if task.name in OF_MUSIC
        )
    return every()


def _of_classes(label: str, kind: str, names: Sequence[str]) -> Task:
    plain = lexicon.load().known

    def truth(clip: Attributes) -> str | None:
        return clip["class"] if clip["class"] in names and not broad.is_scene(clip) else None

    return Task(
        label.partition(" by name")[0],
        label,
        {name: (plain[name][0],) for name in names},
        truth,
        is_of_classes=True,
    )


def _one_of(attribute: str, names: Mapping[str, object]) -> Callable[[Attributes], str | None]:
    def truth(clip: Attributes) -> str | None:
        value = clip.get(attribute)
        return value if value in names and not broad.is_scene(clip) else None

    return truth


@cache
def every() -> tuple[Task, ...]:
    """The tasks of known generators."""
    named = captions.instrument_names()
    families = {name: (named["families"][name][0],) for name in FAMILIES}

    return (
        Task("families", "15 GM families, by name", families, partial(broad.truth, "family")),
        Task(
            "programs",
            "120 GM programs, by name",
            named["programs"],
            _one_of("program", named["programs"]),
            ks=(1, 5),
        ),
        _of_classes("instruments by name", "instrument", CLASSES["instrument"]),
        _of_classes("effects by name", "effect", CLASSES["effect"]),
        _of_classes("genres by name", "genre", CLASSES["genre"]),
        _of_classes("drum patterns by name", "drum", PATTERNS),
        _of_classes("single drums by name", "drum", SINGLE_DRUMS),
        _of_classes("manners of speech by name", "speech", CLASSES["speech"]),
        Task(
            "speech, music, effect",
            "speech against music against effect",
            SOURCES,
            partial(broad.truth, "source"),
        ),
        Task("slow or fast", "tempo, slow against fast", TEMPI, _one_of("tempo", TEMPI)),
        Task("major or minor", "major against minor", MODES, _one_of("mode", MODES)),
    )
