"""Attributes -> words: captions that claim only what is exactly true of a clip.

In:  a clip's attributes, the lexicon and a numpy Generator.
Out: `Caption`: the text, and the attributes that it claims.
Knows nothing about sounds or embeddings.

A caption is satisfied by every clip that has all claimed attributes, not by its own clip alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from clap_export.corpus.lexicon import Lexicon, is_dictionary

# The words of every attribute value that captions may claim. {p} is the class phrase.
ATTRIBUTE_FORMS: dict[str, dict[str, tuple[str, ...]]] = {
    "texture": {
        "melody": ("{p} melody", "{p} playing a tune", "a melody on {p}", "a tune played on {p}"),
        "chords": ("{p} chords", "chords on {p}", "{p} playing chords"),
        "arpeggio": ("{p} arpeggio", "arpeggio on {p}", "broken chords on {p}"),
        "scale": ("{p} scale", "{p} playing a scale", "a scale run on {p}"),
        "sustained": ("long note on {p}", "{p} holding a long sustained note", "sustained {p}"),
        "repeated": (
            "repeated note on {p}",
            "{p} repeating the same note",
            "one note again and again on {p}",
        ),
    },
    "tempo": {
        "slow": ("slow {p}", "{p} played slowly", "unhurried {p}", "{p}, slow tempo"),
        "fast": ("fast {p}", "{p} played fast", "quick lively {p}", "rapid {p}"),
    },
    "register": {
        "low": ("low {p}", "deep low-pitched {p}", "{p} in a low register"),
        "high": ("high {p}", "high-pitched {p}", "{p} in a high register"),
    },
    "space": {
        "hall": (
            "{p} in a large hall",
            "{p} with long reverb",
            "reverberant {p}",
            "{p} echoing in a cathedral",
        ),
    },
    "quality": {
        "noisy": ("noisy recording of {p}", "{p} with background noise", "{p} in loud hiss"),
        "muffled": ("muffled {p}", "{p}, muffled and dull", "{p} behind a wall"),
        "radio": ("{p} over the radio", "{p} from a small radio", "lo-fi {p}"),
    },
    "timing": {
        "once": ("one {p}", "a single {p}", "{p}, once"),
        "repeated": ("repeated {p}", "{p} several times", "{p} again and again"),
    },
    "count": {
        "one": ("single {p}", "one {p}", "{p}, once"),
        "several": ("a few hits of {p}", "{p}, several times"),
        "repeated": ("{p} pattern", "{p} rhythm", "steady {p}"),
    },
}
# Carriers name no class; they wrap a caption that claims whatever it claimed before.
CARRIERS = (
    "{p}",
    "{p}",
    "{p}",
    "{p}",
    "the sound of {p}",
    "sound of {p}",
    "a recording of {p}",
    "{p} sound",
    "{p} recording",
    "audio of {p}",
    "a clip of {p}",
    "{p} sample",
)
CARRIERS_BY_KIND: dict[str, tuple[str, ...]] = {
    "instrument": ("{p} solo", "music with {p}", "someone playing {p}", "{p} music"),
    "drum": ("{p} loop", "{p} sample", "{p} one shot"),
    "genre": ("{p} music", "a piece of {p}", "{p} track", "a short {p} excerpt"),
    "effect": ("{p} sound effect", "{p} noise", "sfx {p}", "the noise of {p}"),
    "speech": ("a voice recording, {p}", "{p} speech", "recording of {p}"),
}
# Of every hundred captions so many claim the class alone, one attribute more, two more.
CLAIMS = (0.5, 0.35, 0.15)
# Of the captions that the class anchors begin with. Towers and heads are trained on plain wording:
# wide phrases among their captions cost known wording a point, and shortlists by 32 dims three.
WIDE_SHARE = 0.4


@dataclass(frozen=True)
class Caption:
    text: str
    claims: dict[str, str]

    def is_true_of(self, attributes: Mapping[str, str]) -> bool:
        """Whether a clip has every attribute that the caption claims."""
        return all(attributes.get(name) == value for name, value in self.claims.items())


def pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]


def claimable(attributes: Mapping[str, str]) -> list[str]:
    """The attributes of a clip that have words."""
    return [
        name
        for name, value in attributes.items()
        if name in ATTRIBUTE_FORMS and value in ATTRIBUTE_FORMS[name]
    ]


def compose(
    rng: np.random.Generator,
    phrase: str,
    attributes: Mapping[str, str],
    claims: tuple[float, float, float] = CLAIMS,
) -> Caption:
    """A caption around `phrase`, claiming the class and up to two more attributes."""
    names = claimable(attributes)
    rng.shuffle(names)
    count = int(rng.choice(3, p=claims))
    text = phrase
    claimed = {"class": attributes["class"]}
    for name in names[:count]:
        text = pick(rng, ATTRIBUTE_FORMS[name][attributes[name]]).format(p=text)
        claimed[name] = attributes[name]
    own = CARRIERS_BY_KIND[attributes["kind"]] if count == 0 else ()
    return Caption(pick(rng, CARRIERS + own).format(p=text), claimed)


def known(rng: np.random.Generator, lexicon: Lexicon, attributes: Mapping[str, str]) -> Caption:
    """A caption in the wording of training."""
    return compose(rng, pick(rng, lexicon.known[attributes["class"]]), attributes)


def training(rng: np.random.Generator, lexicon: Lexicon, attributes: Mapping[str, str]) -> Caption:
    """A caption of anything that training may read, its wide phrases included."""
    phrases = lexicon.wide[attributes["class"]]
    if not phrases or rng.random() >= WIDE_SHARE:
        return known(rng, lexicon, attributes)
    return compose(rng, pick(rng, phrases), attributes)


def unseen(
    rng: np.random.Generator, lexicon: Lexicon, attributes: Mapping[str, str], part: str
) -> Caption | None:
    """A caption whose every content word is absent from training; it claims the class alone.

    The first two unseen phrases of a class are for the "report" alone, the third, if there is
    one, for "development" (choosing hyper-parameters). "dictionary" and "names" are the two halves
    of the report: phrases of dictionary words alone, and the others. None where the class has no
    such phrase.
    """
    name = attributes["class"]
    drawn = lexicon.unseen[name]
    phrases = drawn[2:] if part == "development" else drawn[:2]
    if part in ("dictionary", "names"):
        phrases = tuple(p for p in phrases if is_dictionary(p) is (part == "dictionary"))
    if not phrases:
        return None
    carriers = tuple(form for form in CARRIERS if form.count(" ") <= 2)
    return Caption(pick(rng, carriers).format(p=pick(rng, phrases)), {"class": name})
