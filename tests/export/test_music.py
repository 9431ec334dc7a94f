"""What clips of music claim is what their notes do: tempo, mode, register, harmony, grooves."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from clap_export.corpus import arrangements, classes, drums, genres, grooves, music, playing, tonal
from clap_export.corpus.draw import Draw
from clap_export.corpus.synth import DRUM_CHANNEL, Note

pytestmark = pytest.mark.export

SECONDS = 5.0


def draw(seed: int) -> Draw:
    return Draw(np.random.default_rng(seed), held_out=seed % 2 == 1)


def onsets(notes: list[Note]) -> np.ndarray:
    """Times at which something begins; the notes of a chord begin together."""
    times = np.array(sorted(note.start_s for note in notes))
    return times[np.concatenate([[True], np.diff(times) > 0.02])]


def test_tempo_is_the_pace_of_the_notes() -> None:
    seen: Counter[str] = Counter()
    for seed in range(600):
        name = tuple(classes.INSTRUMENTS)[seed % len(classes.INSTRUMENTS)]
        notes, attributes = music.solo(draw(seed), name, SECONDS)
        if "tempo" not in attributes:
            assert attributes["texture"] == "sustained"
            continue
        pace = float(np.median(np.diff(onsets(notes))))
        seen[attributes["tempo"]] += 1
        if attributes["tempo"] == "slow":
            assert pace > 0.35
        elif attributes["tempo"] == "fast":
            assert pace < 0.25
    assert min(seen["slow"], seen["fast"]) > 100


# How well each of the twelve keys fits major and minor, from listening tests (Krumhansl and
# Kessler, 1982).
PROFILES = {
    "major": (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88),
    "minor": (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17),
}


def heard_mode(notes: list[Note]) -> str:
    """The mode of the key whose profile the sounding notes are most like, of all 24 keys."""
    weight = np.zeros(12)
    for note in notes:
        weight[note.key % 12] += note.duration_s
    fits = {
        (mode, root): float(np.corrcoef(np.roll(profile, root), weight)[0, 1])
        for mode, profile in PROFILES.items()
        for root in range(12)
    }
    return max(fits, key=lambda key: fits[key])[0]


@pytest.mark.parametrize("texture", ["chords", "melody", "arpeggio", "scale"])
@pytest.mark.parametrize("mode", tonal.MODES)
def test_mode_is_spelt_by_the_notes(texture: str, mode: str) -> None:
    other = {"major": 3, "minor": 4}[mode]
    heard: Counter[str] = Counter()
    for seed in range(60):
        times = [0.4 * i for i in range(12)]
        root = 60 + seed % 8
        notes = tonal.tonal_notes(draw(seed), texture, 60, 79, times, [0.4] * 12, 0, mode, root)
        third = sum((note.key - root) % 12 == 7 - other for note in notes)
        false_third = sum((note.key - root) % 12 == other for note in notes)
        assert third > 0
        assert third > 2 * false_third
        heard[heard_mode(notes)] += 1
    # A scale has all notes of its relative key too, so a listener goes by where it begins.
    assert heard[mode] >= (36 if texture == "scale" else 52)


def test_nothing_without_a_key_claims_a_mode() -> None:
    claimed: Counter[str] = Counter()
    for seed in range(500):
        name = tuple(classes.INSTRUMENTS)[seed % len(classes.INSTRUMENTS)]
        _, attributes = music.solo(draw(seed), name, SECONDS)
        if "mode" in attributes:
            claimed[attributes["mode"]] += 1
            assert name not in music.NO_MODE
            assert attributes["texture"] in music.TONAL
    assert min(claimed.values()) > 60


def test_registers_lie_apart() -> None:
    keys: dict[str, list[float]] = {"low": [], "high": []}
    for seed in range(300):
        notes, attributes = music.solo(draw(seed), "cello", SECONDS)
        if attributes["register"] in keys:
            keys[attributes["register"]].append(float(np.mean([n.key for n in notes])))
    assert np.percentile(keys["low"], 95) < np.percentile(keys["high"], 5)


@pytest.mark.parametrize("name", classes.GENRES)
def test_the_parts_of_a_piece_share_its_harmony(name: str) -> None:
    arrangement = arrangements.ARRANGEMENTS[name]
    for seed in range(6):
        notes, programs, _, attributes = genres.arrange(draw(seed), name, SECONDS)
        assert {n.channel for n in notes} <= {*programs, DRUM_CHANNEL}
        assert all(0 <= n.key < 128 and 0 < n.velocity < 128 for n in notes)
        assert all(0 <= n.start_s < SECONDS + 0.1 for n in notes)
        assert len(programs) >= 2
        assert ("mode" in attributes) == arrangement.shows_mode


def test_every_genre_has_an_arrangement_and_several_variants() -> None:
    assert set(arrangements.ARRANGEMENTS) == set(classes.GENRES)
    for arrangement in arrangements.ARRANGEMENTS.values():
        patterns = [len(part.patterns) for part in arrangement.parts]
        assert len(patterns) >= 3
        assert np.prod(patterns) * len(arrangement.progressions) >= 12


def test_a_piece_in_major_has_the_major_third() -> None:
    for name in ("lullaby", "church_hymn", "string_quartet"):
        for seed in range(20):
            piece, progression, _ = genres.compose(draw(seed), arrangements.ARRANGEMENTS[name], 5.0)
            mode = genres.mode_of(arrangements.ARRANGEMENTS[name], progression)
            tonics = [c for c in piece.chords if c.root == piece.root % 12]
            assert tonics
            assert all((4 if mode == "major" else 3) in chord.steps for chord in tonics)


@pytest.mark.parametrize("name", grooves.GROOVES)
def test_grooves_fill_their_bars(name: str) -> None:
    assert len(grooves.GROOVES[name]) >= 4
    for bar in grooves.GROOVES[name]:
        lengths = {len(pattern) for pattern in bar.values()}
        assert lengths <= {12, 16}
        assert len(lengths) == 1
        assert set("".join(bar.values())) <= set("xo.")
    notes = drums.groove_notes(draw(4), name, 120.0, SECONDS)
    assert max(n.start_s for n in notes) > SECONDS - 1.2
    assert all(n.channel == DRUM_CHANNEL for n in notes)


def test_every_drum_class_plays() -> None:
    assert set(drums.PIECES) | set(grooves.GROOVES) | {"snare_roll", "tom_fill"} == set(
        classes.DRUMS
    )
    for name in classes.DRUMS:
        for seed in range(6):
            notes, _, _ = drums.percussion(draw(seed), name, SECONDS)
            assert notes
            assert all(n.start_s < SECONDS for n in notes[:1])


def test_families_are_those_of_general_midi() -> None:
    assert len(classes.FAMILIES) == 15
    assert [classes.family(p) for p in (0, 7, 8, 40, 73, 119)] == [
        "piano", "piano", "chromatic_percussion", "strings", "pipe", "percussive",
    ]  # fmt: skip


def test_playing_changes_colour_and_not_the_notes() -> None:
    notes = [Note(0.0, 1.0, 0, 60, 80), Note(1.0, 1.0, DRUM_CHANNEL, 38, 80)]
    assert [n.key for n in playing.louder(notes, 0.5)] == [60, 38]
    assert {n.velocity for n in playing.louder(notes, 0.5)} == {40}
    assert sorted(n.key for n in playing.octaves(notes, 12)) == [38, 60, 72]
    for seed in range(40):
        how = playing.play(draw(seed), notes, 40)
        assert abs(how.stretch) <= 2
        assert all(abs(semitones) <= 2 for _, _, semitones in how.bends)
