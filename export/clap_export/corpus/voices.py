"""Who speaks: the voices and languages of two engines, and what they say.

In:  a Draw and the kind of speaker.
Out: waveform float64 [T], mono, at 32 kHz.
Knows nothing about manners of speaking or places.

espeak-ng (GPL-3.0-or-later: formants) and flite (BSD-like: recorded diphones and clustered
frames) are only run; nothing of them is distributed. flite is optional: without it espeak-ng
speaks its lines, and a corpus says in its recipe which engines it had.
"""

from __future__ import annotations

import io
import shutil
import subprocess
from functools import lru_cache

import numpy as np
import soundfile
import soxr

from clap_export.corpus.draw import Draw
from clap_export.corpus.synth import RATE_HZ

SENTENCES: dict[str, tuple[str, ...]] = {
    "en": (
        "the committee will meet on thursday to discuss the budget",
        "please remember to close the window before you leave",
        "i have never seen a river as wide as this one",
        "turn left at the next corner and walk two blocks",
        "our guests arrived late because the road was blocked",
        "the recipe needs three eggs and a cup of sugar",
        "he told us a long story about his grandfather's farm",
        "what time does the library open in the morning",
        "she bought a ticket but never went to the show",
        "the results were better than anyone had expected",
        "could you send me the report by the end of the day",
        "most of the houses on this street were built last century",
        "well, i suppose we could try it again tomorrow",
        "no, no, that is not what i meant at all",
        "yes of course, come in and sit down",
        "if you ask me the second half was much better",
        "and then the dog ran straight into the lake",
        "this is the last call for passengers to the north",
    ),
    "en-us": (
        "good evening and welcome to the program",
        "we will be back after a short break",
        "the weather tomorrow will be mild with some clouds",
    ),
    "en-gb-scotland": ("there is a path along the shore that few people know",),
    "de": ("morgen fahren wir mit dem zug in die berge", "das fenster steht seit gestern offen"),
    "fr": (
        "nous avons mangé dans un petit restaurant près du port",
        "il faut partir avant la nuit",
    ),
    "es": (
        "mañana vamos a visitar a mis abuelos en el campo",
        "no encuentro las llaves de la casa",
    ),
    "it": ("il treno per la città parte fra dieci minuti",),
    "nl": ("morgen gaan we met de fiets naar het strand", "heb je mijn sleutels gezien"),
    "sv": ("i morgon åker vi till sjön om vädret blir bra",),
    "tr": ("yarın sabah erkenden yola çıkmamız gerekiyor",),
    "ru": ("завтра утром мы поедем к морю", "где моя книга"),
    "fi": ("huomenna lähdemme järvelle jos sää on hyvä",),
    "hu": ("holnap reggel korán indulunk a hegyekbe",),
    "hi": ("कल सुबह हम बाजार जाएंगे",),
    "pl": ("jutro pojedziemy nad morze z całą rodziną",),
    "pt": ("o mercado fica aberto até as oito horas",),
    "el": ("αύριο το πρωί θα πάμε στη θάλασσα",),
}
# Voice variants of espeak-ng, some of them by its Klatt synthesizer; the held-out ones speak only
# in the gallery.
MEN = (
    "m1", "m2", "m3", "m5", "m6", "m8", "Denis", "Gene", "Mike", "john", "edward", "Lee", "klatt",
    "klatt3",
)  # fmt: skip
MEN_HELD_OUT = ("m4", "m7", "victor")
WOMEN = ("f1", "f2", "f5", "Annie", "steph", "Alicia", "aunty", "anika")
WOMEN_HELD_OUT = ("f3", "f4", "grandma")
LANGUAGES = ("en", "en-us", "de", "fr", "es", "it", "nl", "sv", "tr", "ru", "fi", "hu", "hi")
LANGUAGES_HELD_OUT = ("en-gb-scotland", "pl", "pt", "el")
# flite's: another way of speaking altogether. awb (a Scot) is for the gallery alone.
FLITE = {"man": ("rms", "kal16"), "woman": ("slt",), "any": ("rms", "kal16", "slt")}
FLITE_HELD_OUT = {"man": ("awb",), "woman": (), "any": ("awb",)}
FLITE_SHARE = 0.2


@lru_cache(maxsize=1)
def has_flite() -> bool:
    return shutil.which("flite") is not None


def engines() -> str:
    """What a recipe says of the engines at hand."""
    return "espeak-ng flite" if has_flite() else "espeak-ng"


def say(text: str, voice: str, words_per_minute: int, pitch: int, gap: int = 0) -> np.ndarray:
    """espeak-ng's rendering as float64 at 32 kHz; RuntimeError with the remedy without it.

    gap is the pause between words, in hundredths of a second.
    """
    command = ["espeak-ng", "-v", voice, "-s", str(words_per_minute), "-p", str(pitch)]
    command += ["-g", str(gap)] if gap else []
    try:
        result = subprocess.run([*command, "--stdout", text], capture_output=True, check=True)
    except FileNotFoundError as error:
        raise RuntimeError("espeak-ng is not installed; apt-get install espeak-ng") from error
    return _read(result.stdout)


def say_flite(text: str, voice: str, stretch: float, pitch_hz: float) -> np.ndarray:
    """flite's rendering as float64 at 32 kHz; stretch 1.2 speaks a fifth slower."""
    command = ["flite", "-voice", voice, "--setf", f"duration_stretch={stretch:.3f}"]
    command += ["--setf", f"int_f0_target_mean={pitch_hz:.1f}", "-t", text, "-o", "/dev/stdout"]
    return _read(subprocess.run(command, capture_output=True, check=True).stdout)


def _read(data: bytes) -> np.ndarray:
    wave, rate = soundfile.read(io.BytesIO(data), dtype="float64")
    return np.asarray(soxr.resample(wave, rate, RATE_HZ, quality="HQ"))


def voice(draw: Draw, kind: str) -> str:
    """A language and a variant of espeak-ng."""
    men, women = (MEN_HELD_OUT, WOMEN_HELD_OUT) if draw.held_out else (MEN, WOMEN)
    languages = LANGUAGES_HELD_OUT if draw.held_out else LANGUAGES
    language = "en" if draw.chance(0.5) else draw.choice(languages)
    variant = draw.choice({"man": men, "woman": women, "any": men + women}[kind])
    return f"{language}+{variant}"


def sentence(draw: Draw, speaker: str) -> str:
    lines = SENTENCES[speaker.split("+")[0]]
    return ", ".join(draw.choice(lines) for _ in range(2))


def plain(draw: Draw, kind: str = "any", rate: tuple[float, float] = (125, 200)) -> np.ndarray:
    """A sentence or two by one speaker."""
    names = (FLITE_HELD_OUT if draw.held_out else FLITE)[kind]
    other = bool(names) and draw.chance(FLITE_SHARE)
    speaker = voice(draw, kind)
    pitch = {"man": (15, 55), "woman": (40, 80), "any": (20, 75)}[kind]
    speed, height = draw.uniform(*rate), draw.uniform(*pitch)
    if other and has_flite():
        name = draw.choice(names)
        hz = (150 if name == "slt" else 85) * (1 + height / 120)
        return say_flite(sentence(draw, "en"), name, float(np.clip(165 / speed, 0.5, 2)), hz)
    gap = draw.integer(0, 6) if draw.chance(0.3) else 0
    return say(sentence(draw, speaker), speaker, int(speed), int(height), gap)
