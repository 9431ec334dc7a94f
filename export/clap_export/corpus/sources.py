"""One class -> its sound, before any room or microphone: fonts, generators and voices.

In:  a Draw, a class id, the SoundFonts to draw from.
Out: waveform float64 [T] at 32 kHz, and what is exactly true of it.
Knows nothing about rooms, schedules or files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from clap_export.corpus import drums, effects, genres, music, playing, recorded, room, speech
from clap_export.corpus.classes import INSTRUMENTS, KIND_OF, family
from clap_export.corpus.draw import Draw
from clap_export.corpus.fonts import Font
from clap_export.corpus.synth import DRUM_CHANNEL, FINE_TUNE, PLAIN, Note, Playing, Synth

SILENT = 2e-3  # peak under which a preset has no sound at these keys
TRIES = 4
UNISON_SHARE = 0.1  # instruments that two fonts play together
SPLIT_SHARE = 0.2  # pieces whose drums come from another font than the rest

# General MIDI's own sound effects: the sampled source of some effect classes.
SAMPLED_EFFECTS = {
    "breathing": (121, 60),
    "ocean_waves": (122, 60),
    "bird_song": (123, 66),
    "telephone_ring": (124, 64),
    "helicopter": (125, 58),
    "applause": (126, 60),
    "gunshot": (127, 58),
}
SAMPLED_SHARE = 0.3
RECORDED_SHARE = 0.3  # of a class of which training recordings were fetched


@dataclass(frozen=True)
class Sources:
    """Where a split's sounds come from."""

    fonts: tuple[Font, ...]
    folder: Path
    generators: str = "known"  # or "unseen": the effect generators that training never runs

    def font(self, draw: Draw, programs: frozenset[int]) -> Font:
        """A font by its weight, among those that may play these programs."""
        fit = [font for font in self.fonts if font.without.isdisjoint(programs)]
        odds = [font for font in fit or self.fonts[:1] for _ in range(max(1, font.weight))]
        return draw.choice(odds)

    def synth(self, font: Font) -> Synth:
        return load(font.path(self.folder))


@lru_cache(maxsize=8)
def load(font: Path) -> Synth:
    return Synth(font)


def rendered(
    draw: Draw,
    sources: Sources,
    notes: Sequence[Note],
    programs: dict[int, int],
    kit: int,
    how: Playing = PLAIN,
) -> tuple[np.ndarray, Font]:
    """The notes through one of the fonts; another one, and the standard kit, where a preset turns
    out to be silent."""
    wanted = frozenset(programs.values())
    wave, font = np.zeros(room.LENGTH, np.float32), sources.fonts[0]
    for _ in range(TRIES):
        font = sources.font(draw, wanted)
        voice = sources.synth(font)
        if wanted <= voice.programs:
            wave = voice.render(notes, programs, kit, room.SECONDS, how)
            if np.abs(wave).max() > SILENT:
                break
        kit = 0
    return wave, font


def instrument(draw: Draw, sources: Sources, name: str) -> tuple[np.ndarray, dict[str, str]]:
    notes, attributes = music.solo(draw, name, room.SECONDS)
    program = draw.choice(INSTRUMENTS[name])
    how = playing.play(draw, notes, program)
    if draw.chance(0.35):
        notes = playing.louder(notes, draw.uniform(0.55, 1.25))
    if attributes["texture"] in ("melody", "scale", "repeated") and draw.chance(0.07):
        notes = playing.octaves(notes, draw.choice((12, -12)))
        attributes.pop("register")
    wave, font = rendered(draw, sources, notes, {0: program}, 0, how)
    attributes |= {"program": str(program), "family": family(program), "font": font.name}
    if draw.chance(UNISON_SHARE):
        other, _ = rendered(
            draw, sources, notes, {0: program}, 0, playing.play(draw, notes, program)
        )
        late = draw.integer(100, 900)
        wave = wave / max(SILENT, float(np.abs(wave).max()))
        other = other / max(SILENT, float(np.abs(other).max())) * draw.uniform(0.4, 0.9)
        wave[late:] += other[:-late]
    return wave, attributes


def drum(draw: Draw, sources: Sources, name: str) -> tuple[np.ndarray, dict[str, str]]:
    notes, kit, attributes = drums.percussion(draw, name, room.SECONDS)
    if draw.chance(0.4):
        notes = playing.louder(notes, draw.uniform(0.5, 1.3))
    wave, font = rendered(draw, sources, notes, {}, kit, playing.strike(draw))
    return wave, {**attributes, "font": font.name}


def genre(draw: Draw, sources: Sources, name: str) -> tuple[np.ndarray, dict[str, str]]:
    notes, programs, kit, attributes = genres.arrange(draw, name, room.SECONDS)
    how = playing.play(draw, ())
    how = Playing({k: v for k, v in how.shifts.items() if k == FINE_TUNE})
    beats = [note for note in notes if note.channel == DRUM_CHANNEL]
    tones = [note for note in notes if note.channel != DRUM_CHANNEL]
    if not (beats and draw.chance(SPLIT_SHARE)):
        wave, font = rendered(draw, sources, notes, programs, kit, how)
        return wave, {**attributes, "font": font.name}
    wave, font = rendered(draw, sources, tones, programs, kit, how)
    struck, _ = rendered(draw, sources, beats, {}, kit, playing.strike(draw))
    wave = wave / max(SILENT, float(wave.std()))
    struck = struck / max(SILENT, float(struck.std()))
    return wave + struck * draw.uniform(0.6, 1.2), {**attributes, "font": font.name}


def effect(draw: Draw, sources: Sources, name: str) -> tuple[np.ndarray, dict[str, str]]:
    if sources.generators == "unseen":
        made = draw.choice(unseen_generators()[name])(draw)
    elif name in SAMPLED_EFFECTS and draw.chance(SAMPLED_SHARE):
        program, key = SAMPLED_EFFECTS[name]
        key += draw.integer(-7, 7)
        notes = [Note(0.0, draw.uniform(1.5, 4.5), 0, key, draw.integer(80, 120))]
        made, _ = rendered(draw, sources, notes, {0: program}, 0)
    else:
        taken = recording(draw, sources, name)
        made = draw.choice(effects.GENERATORS[name])(draw) if taken is None else taken
    return np.asarray(made, dtype=np.float64), {}


def recording(draw: Draw, sources: Sources, name: str) -> np.ndarray | None:
    """A recording of the class, now and then; never for the held-out gallery, nor where none were
    fetched."""
    waves = recorded.training(sources.folder / recorded.FOLDER).get(name)
    if draw.held_out or not waves or not draw.chance(RECORDED_SHARE):
        return None
    return recorded.sound(draw, waves)


def unseen_generators() -> dict[str, tuple[effects.Generator, ...]]:
    """The effect generators that only the split `unseen_generator` runs."""
    return dict(getattr(effects, "HELD_OUT_GENERATORS", {}))


def sound(draw: Draw, sources: Sources, name: str) -> tuple[np.ndarray, dict[str, str]]:
    """Any class: float64 [T] and its attributes, class and kind among them."""
    kind = KIND_OF[name]
    if kind == "instrument":
        wave, more = instrument(draw, sources, name)
    elif kind == "drum":
        wave, more = drum(draw, sources, name)
    elif kind == "genre":
        wave, more = genre(draw, sources, name)
    elif kind == "effect":
        wave, more = effect(draw, sources, name)
    else:
        wave, more = speech.speak(draw, name), {}
    return np.asarray(wave, dtype=np.float64), {"class": name, "kind": kind, **more}
