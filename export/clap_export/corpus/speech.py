"""Speech by espeak-ng: voices, manners and the places where it is heard.

In:  a Draw and a class id.
Out: waveform float64 [T], mono, at 32 kHz, at most five seconds.
Knows nothing about captions.

espeak-ng (GPL-3.0-or-later) is only run; nothing of it is distributed.
"""

from __future__ import annotations

import io
import subprocess

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
    "pl": ("jutro pojedziemy nad morze z całą rodziną",),
    "pt": ("o mercado fica aberto até as oito horas",),
}
# Voice variants of espeak-ng; the last ones of each list speak only in the held-out gallery.
MEN, MEN_HELD_OUT = ("m1", "m2", "m3", "m5", "m6"), ("m4", "m7")
WOMEN, WOMEN_HELD_OUT = ("f1", "f2", "f5"), ("f3", "f4")
LANGUAGES, LANGUAGES_HELD_OUT = (
    ("en", "en-us", "de", "fr", "es", "it"),
    ("en-gb-scotland", "pl", "pt"),
)


def say(text: str, voice: str, words_per_minute: int, pitch: int) -> np.ndarray:
    """espeak-ng's rendering as float64 at 32 kHz; RuntimeError with the remedy without it."""
    command = ["espeak-ng", "-v", voice, "-s", str(words_per_minute), "-p", str(pitch)]
    command += ["--stdout", text]
    try:
        result = subprocess.run(command, capture_output=True, check=True)
    except FileNotFoundError as error:
        raise RuntimeError("espeak-ng is not installed; apt-get install espeak-ng") from error
    wave, rate = soundfile.read(io.BytesIO(result.stdout), dtype="float64")
    return np.asarray(soxr.resample(wave, rate, RATE_HZ, quality="HQ"))


def voice(draw: Draw, kind: str) -> str:
    men, women = (MEN_HELD_OUT, WOMEN_HELD_OUT) if draw.held_out else (MEN, WOMEN)
    languages = LANGUAGES_HELD_OUT if draw.held_out else LANGUAGES
    language = "en" if draw.chance(0.5) else draw.choice(languages)
    variant = draw.choice({"man": men, "woman": women, "any": men + women}[kind])
    return f"{language}+{variant}"


def sentence(draw: Draw, speaker: str) -> str:
    lines = SENTENCES[speaker.split("+")[0]]
    return ", ".join(draw.choice(lines) for _ in range(2))


def band(x: np.ndarray, lo_hz: float, hi_hz: float) -> np.ndarray:
    """Keeps lo_hz..hi_hz, with soft edges of a third of an octave."""
    spectrum = np.fft.rfft(x)
    hz = np.maximum(np.fft.rfftfreq(len(x), 1 / RATE_HZ), 1e-3)
    gain = 1 / (1 + (lo_hz / hz) ** 8) / (1 + (hz / hi_hz) ** 8)
    return np.asarray(np.fft.irfft(spectrum * gain, len(x)))


def echo(x: np.ndarray, delay_s: float, gain: float, repeats: int) -> np.ndarray:
    out = x.copy()
    for i in range(1, repeats + 1):
        shift = int(i * delay_s * RATE_HZ)
        if shift < len(x):
            out[shift:] += gain**i * x[: len(x) - shift]
    return out


def plain(draw: Draw, kind: str = "any", rate: tuple[float, float] = (135, 185)) -> np.ndarray:
    speaker = voice(draw, kind)
    pitch = {"man": (20, 50), "woman": (45, 75), "any": (20, 75)}[kind]
    return say(
        sentence(draw, speaker), speaker, int(draw.uniform(*rate)), int(draw.uniform(*pitch))
    )


def many(draw: Draw, count: int) -> np.ndarray:
    total = np.zeros(5 * RATE_HZ)
    for _ in range(count):
        one = plain(draw)
        shift = draw.integer(0, RATE_HZ)
        one = np.resize(np.roll(one, shift), len(total))
        total += one * draw.uniform(0.3, 1.0)
    return total


def speak(draw: Draw, name: str) -> np.ndarray:
    """Speech of one class, cut at five seconds."""
    if name == "man_speaking":
        x = plain(draw, "man")
    elif name == "woman_speaking":
        x = plain(draw, "woman")
    elif name == "child_speaking":
        speaker = voice(draw, "woman")
        x = say(sentence(draw, speaker), speaker, int(draw.uniform(120, 170)), 99)
        factor = draw.uniform(1.18, 1.35)  # a shorter vocal tract: faster playback of slower speech
        x = np.interp(np.arange(0, len(x) - 1, factor), np.arange(len(x)), x)
    elif name == "whispering":
        language = voice(draw, "any").split("+")[0]
        x = say(sentence(draw, language), f"{language}+whisper", int(draw.uniform(120, 170)), 50)
    elif name == "fast_speech":
        x = plain(draw, rate=(270, 360))
    elif name == "slow_speech":
        x = plain(draw, rate=(80, 100))
    elif name == "robot_voice":
        x = plain(draw)
        hz = draw.log_uniform(35, 120)
        t = np.arange(len(x)) / RATE_HZ
        x = x * np.sin(2 * np.pi * hz * t)
        x = echo(x, draw.uniform(0.008, 0.02), 0.7, 4)
    elif name == "crowd_talking":
        x = band(many(draw, draw.integer(7, 11)), 150, draw.uniform(2500, 6000))
    elif name == "conversation":
        first, second = voice(draw, "man"), voice(draw, "woman")
        turns = []
        for i in range(4):
            speaker = (first, second)[i % 2]
            line = say(
                draw.choice(SENTENCES[speaker.split("+")[0]]),
                speaker,
                int(draw.uniform(160, 200)),
                (35, 65)[i % 2],
            )
            turns.append(line[: int(draw.uniform(0.9, 1.5) * RATE_HZ)])
            turns.append(np.zeros(int(draw.uniform(0.05, 0.2) * RATE_HZ)))
        x = np.concatenate(turns)
    elif name == "telephone_voice":
        x = band(plain(draw), draw.uniform(300, 450), draw.uniform(2400, 3200))
        x = np.tanh(x / max(1e-9, np.abs(x).max()) * draw.uniform(2, 6))
    elif name == "public_address":
        x = band(plain(draw), 350, draw.uniform(3500, 5000))
        x = echo(x, draw.uniform(0.18, 0.35), 0.55, 5)
    elif name == "counting_aloud":
        lowest = draw.integer(1, 20)
        numbers = ". ".join(str(lowest + i) for i in range(8))
        x = say(numbers, voice(draw, "any"), int(draw.uniform(110, 160)), int(draw.uniform(25, 75)))
    elif name == "shouting":
        speaker = voice(draw, "any")
        words = draw.choice(
            (
                "hey you! stop! come back here!",
                "look out! get down! run!",
                "help! over here! quick!",
            )
        )
        x = say(words, speaker, int(draw.uniform(150, 190)), int(draw.uniform(70, 99)))
        bins = np.fft.rfftfreq(len(x), 1 / RATE_HZ)
        tilt = 1 + (bins / 1500) ** 1.2 * draw.uniform(0.8, 1.6)  # raised voices are brighter
        x = np.fft.irfft(np.fft.rfft(x) * np.minimum(tilt, 8), len(x))
        x = np.tanh(x / max(1e-9, np.abs(x).max()) * draw.uniform(3, 6))
    else:  # distant_speech
        x = band(plain(draw), 120, draw.uniform(1200, 2200))
        tail = draw.noise(int(draw.uniform(0.8, 1.8) * RATE_HZ))
        tail *= np.exp(-np.arange(len(tail)) / (len(tail) / 5))
        n = len(x) + len(tail)
        wet = np.fft.irfft(np.fft.rfft(x, n) * np.fft.rfft(tail, n), n)[: len(x)]
        x = wet / max(1e-9, np.abs(wet).max()) + 0.15 * x
    return np.asarray(x[: 5 * RATE_HZ])
