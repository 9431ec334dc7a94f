"""Attributes -> words: captions that claim only what is exactly true of a clip.

In:  a clip's attributes, the lexicon and a numpy Generator.
Out: `Caption`: the text, and the attributes that it claims.
Knows nothing about sounds or embeddings.

A caption is satisfied by every clip that has all claimed attributes, not by its own clip alone; by
a clip of two sounds also where it claims no more than the class of the second one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

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
    "mode": {
        "major": (
            "{p} in a major key",
            "{p} in major",
            "bright {p} in a major key",
            "major key {p}",
            "happy {p} in major",
        ),
        "minor": (
            "{p} in a minor key",
            "{p} in minor",
            "sad {p} in a minor key",
            "minor key {p}",
            "dark {p} in minor",
        ),
    },
    "length": {
        "short": (
            "short {p}",
            "brief {p}",
            "{p} for a moment",
            "{p}, then silence",
            "a second of {p}",
        ),
    },
}
# Captions of two sounds: {p} is the class phrase, {q} that of the second class.
PAIR_FORMS: dict[str, tuple[str, ...]] = {
    "then": (
        "{p}, then {q}",
        "{p} then {q}",
        "{p} followed by {q}",
        "first {p}, then {q}",
        "{p}, after it {q}",
        "{p}, next {q}",
        "{q} after {p}",
    ),
    "with": (
        "{p} over {q}",
        "{p} with {q}",
        "{p} with {q} in the background",
        "{p} and {q}",
        "{p} and {q} together",
        "{p} while {q}",
        "{p}, {q} behind it",
        "{p} mixed with {q}",
    ),
}
PAIR_SHARE = 0.6  # of the captions of clips with two sounds: they name both
# Of the captions of instruments: they name the General MIDI program, or its family alone.
PROGRAM_SHARE = 0.12
FAMILY_SHARE = 0.04
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
# What people write around the thing that they look for; it says nothing about the sound.
USES = (
    "{p} for a film",
    "{p} for a video",
    "{p} for a game",
    "{p} for a podcast",
    "{p} for a trailer",
    "{p} for youtube",
    "{p} free download",
    "{p} stock audio",
    "{p} wav",
    "{p} mp3",
    "{p} sfx",
    "{p} foley",
    "{p} hd",
    "{p} high quality",
    "{p} royalty free",
    "{p} ringtone",
    "{p} audio library",
    "{p} pack",
    "good {p}",
    "best {p}",
    "need {p}",
    "looking for {p}",
    "clean {p}",
    "raw {p} studio recording",
)
# Of every hundred captions so many claim the class alone, one attribute more, two more.
CLAIMS = (0.5, 0.35, 0.15)
# Of the captions that the class anchors begin with. Towers and heads are trained on plain wording:
# wide phrases among their captions cost known wording a point, and shortlists by 32 dims three.
WIDE_SHARE = 0.4
SEARCHED_SHARE = 0.2  # of the same captions: in the style of searches
DROPPED = frozenset({"a", "an", "the", "of", "on", "in", "with", "and", "someone", "playing"})
MIN_SLIPPED = 4  # letters: shorter words would become others
# The carriers of questions; this list stays as it is, so that figures stay comparable.
QUESTION_CARRIERS = tuple(form for form in CARRIERS if form.count(" ") <= 2)


@dataclass(frozen=True)
class Caption:
    text: str
    claims: dict[str, str]

    def is_true_of(self, attributes: Mapping[str, str]) -> bool:
        """Whether a clip has every attribute that the caption claims."""
        if self.claims.keys() == {"class"}:
            sounds = (attributes.get(name) for name in ("class", "then", "with"))
            return self.claims["class"] in sounds
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
    return worded(rng, lexicon, attributes, lexicon.known)


def training(rng: np.random.Generator, lexicon: Lexicon, attributes: Mapping[str, str]) -> Caption:
    """A caption of anything that training may read: wide phrases, and the style of searches."""
    is_wide = bool(lexicon.wide[attributes["class"]]) and rng.random() < WIDE_SHARE
    caption = worded(rng, lexicon, attributes, lexicon.wide if is_wide else lexicon.known)
    return searched(rng, caption) if rng.random() < SEARCHED_SHARE else caption


def phrasing(
    rng: np.random.Generator, lexicon: Lexicon, attributes: Mapping[str, str]
) -> Caption | None:
    """A caption around a phrasing that training never reads, in words that it may read elsewhere;
    it claims the class alone. None where the class has none."""
    name = attributes["class"]
    if not lexicon.held[name]:
        return None
    text = pick(rng, QUESTION_CARRIERS).format(p=pick(rng, lexicon.held[name]))
    return Caption(text, {"class": name})


def worded(
    rng: np.random.Generator,
    lexicon: Lexicon,
    attributes: Mapping[str, str],
    phrases: Mapping[str, Sequence[str]],
) -> Caption:
    """A caption around one of the class's `phrases`, the program's name, the family, or two of
    the clip's sounds."""
    draw = rng.random()
    if "family" in attributes and draw < FAMILY_SHARE:
        name = pick(rng, instrument_names()["families"][attributes["family"]])
        return Caption(
            pick(rng, QUESTION_CARRIERS).format(p=name), {"family": attributes["family"]}
        )
    if "program" in attributes and draw < FAMILY_SHARE + PROGRAM_SHARE:
        name = pick(rng, instrument_names()["programs"][attributes["program"]])
        caption = compose(rng, name, attributes)
        return Caption(caption.text, {**caption.claims, "program": attributes["program"]})
    phrase = pick(rng, phrases[attributes["class"]])
    joined = next((name for name in PAIR_FORMS if name in attributes), None)
    if joined is None or draw > PAIR_SHARE:
        return compose(rng, phrase, attributes)
    other = attributes[joined]
    text = pick(rng, PAIR_FORMS[joined]).format(p=phrase, q=pick(rng, lexicon.known[other]))
    return Caption(text, {"class": attributes["class"], joined: other})


@cache
def instrument_names() -> dict[str, dict[str, tuple[str, ...]]]:
    """{"programs": {"0": names}, "families": {family: names}}; the first names are plain ones."""
    path = files("clap_export.corpus").joinpath("words", "programs.json")
    table = json.loads(path.read_text(encoding="utf-8"))
    return {
        "programs": {number: (name,) for number, name in table["programs"].items()},
        "families": {name: tuple(names) for name, names in table["families"].items()},
    }


def searched(rng: np.random.Generator, caption: Caption) -> Caption:
    """The caption as people type it into a search field: fragments without articles, plurals, a
    use, now and then a slip of the finger. It claims what it claimed."""
    words = [word for word in caption.text.replace(",", " ").split() if word not in DROPPED]
    words = words or caption.text.split()
    if rng.random() < 0.25 and len(words[-1]) > 3 and words[-1][-1] not in "sxyhz":
        words[-1] += "s"
    text = " ".join(words)
    if rng.random() < 0.5:
        text = pick(rng, USES).format(p=text)
    if rng.random() < 0.3:
        text = slipped(rng, text)
    return Caption(text, caption.claims)


def slipped(rng: np.random.Generator, text: str) -> str:
    """One of the longer words with two letters exchanged, one left out or one doubled."""
    words = text.split()
    places = [i for i, word in enumerate(words) if len(word) > MIN_SLIPPED and word.isalpha()]
    if not places:
        return text
    place = places[int(rng.integers(len(places)))]
    word = words[place]
    at = int(rng.integers(1, len(word) - 1))
    kind = int(rng.integers(3))
    if kind == 0:
        words[place] = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    elif kind == 1:
        words[place] = word[:at] + word[at + 1 :]
    else:
        words[place] = word[:at] + word[at] + word[at:]
    return " ".join(words)


def unseen(
    rng: np.random.Generator, lexicon: Lexicon, attributes: Mapping[str, str], part: str
) -> Caption | None:
    """A caption whose every content word is absent from training; it claims the class alone.

    "report" phrases only measure, "development" ones choose hyper-parameters. "dictionary" and
    "names" are the two halves of the report: phrases of dictionary words alone, and the others.
    None where the class has no such phrase.
    """
    name = attributes["class"]
    phrases = lexicon.development[name] if part == "development" else lexicon.unseen[name]
    if part in ("dictionary", "names"):
        phrases = tuple(p for p in phrases if is_dictionary(p) is (part == "dictionary"))
    if not phrases:
        return None
    return Caption(pick(rng, QUESTION_CARRIERS).format(p=pick(rng, phrases)), {"class": name})
