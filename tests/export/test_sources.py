"""Fonts, rooms, codecs and scenes: every class sounds, differs, and comes again from its seed."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest

from clap_export.corpus import codec, drums, fonts, layers, render, room, sources, synth
from clap_export.corpus.classes import CLASSES, KIND_OF
from clap_export.corpus.draw import Draw
from clap_export.corpus.fonts import Font
from clap_export.corpus.synth import DRUM_CHANNEL, RATE_HZ, Note, Playing
from clap_export.exam_tasks import PATTERNS

pytestmark = pytest.mark.export

FOLDER = fonts.folder()
# A machine has the fonts of its packages; those that are fetched are tested where they are.
INSTALLED = [font for font in fonts.ALL if font.path(FOLDER).is_file()]
needs_fonts = pytest.mark.skipif(
    not {fonts.FLUID, fonts.HELD_OUT} <= set(INSTALLED),
    reason="apt-get install fluid-soundfont-gm csound-soundfont",
)


def draw(seed: int, held_out: bool = False) -> Draw:
    return Draw(np.random.default_rng(seed), held_out)


def spectrum(x: np.ndarray) -> np.ndarray:
    return np.abs(np.fft.rfft(x))


def test_no_font_trains_and_measures() -> None:
    training = {font.sha256 for font in fonts.TRAINING}
    assert len(training) == len(fonts.TRAINING) >= 4
    assert {fonts.HELD_OUT.sha256, fonts.ANOTHER.sha256}.isdisjoint(training)
    assert all(font.weight > 0 for font in fonts.TRAINING)
    assert all(font.licence and font.package for font in fonts.ALL)


def test_no_font_plays_what_it_shares_with_a_held_out_one() -> None:
    made = sources.Sources(fonts.TRAINING, FOLDER)
    for seed in range(200):
        program = seed % 120
        assert program not in made.font(draw(seed), frozenset({program})).without


def test_every_program_is_left_to_several_fonts() -> None:
    for program in range(120):
        assert sum(program not in font.without for font in fonts.TRAINING) >= 3


def test_missing_fonts_are_named_with_the_remedy(tmp_path: Path) -> None:
    lacking = Font("No_Font", "no-package", "usr/share/no.sf2", "0", "none", 1)
    with pytest.raises(FileNotFoundError, match=r"No_Font.*clap-export corpus --fonts"):
        fonts.check((lacking,), tmp_path)


@pytest.mark.skipif(shutil.which("npm") is None, reason="needs npm's command to be there")
def test_a_file_with_another_digest_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    font = Font("Changed", "npm:changed@1", "package/changed.sf2", "0" * 64, "none", 1)

    def unpack(font: Font, at: Path) -> Path:
        (at / "changed.sf2").write_bytes(b"RIFF")
        return at / "changed.sf2"

    monkeypatch.setattr(fonts, "ALL", (font,))
    monkeypatch.setattr(fonts, "_from_npm", unpack)
    with pytest.raises(ValueError, match=hashlib.sha256(b"RIFF").hexdigest()):
        fonts.install(tmp_path)
    assert not font.path(tmp_path).exists()
    monkeypatch.setattr(
        fonts,
        "ALL",
        (Font("Same", font.package, font.member, hashlib.sha256(b"RIFF").hexdigest(), "none", 1),),
    )
    (path,) = fonts.install(tmp_path)
    assert path.read_bytes() == b"RIFF"


@pytest.mark.parametrize("font", INSTALLED, ids=lambda font: font.name)
def test_fonts_have_the_programs_they_are_asked_for(font: Font) -> None:
    if font is fonts.MUSESCORE:
        pytest.skip("its decoding takes twenty seconds; the corpus tests load it")
    voice = sources.load(font.path(FOLDER))
    assert set(range(120)) - font.without <= voice.programs
    assert voice.kits


@needs_fonts
def test_a_program_that_a_font_lacks_is_refused() -> None:
    """FluidSynth alone would go on with whatever the channel played before."""
    voice = sources.load(fonts.FLUID.path(FOLDER))
    with pytest.raises(ValueError, match=r"no programs \[300\]"):
        voice.render([Note(0.0, 0.1, 0, 60, 80)], {0: 300}, 0, 0.2)


@needs_fonts
def test_every_drum_piece_sounds_and_none_like_another() -> None:
    """Mean log-mels of single strokes: each piece is nearest to itself in another tuning."""
    made = sources.Sources((fonts.FLUID,), FOLDER)
    mels = []
    for up in (0.0, 60.0):
        row = []
        for keys in drums.PIECES.values():
            notes = [Note(0.1, 0.3, DRUM_CHANNEL, keys[0], 100)]
            how = Playing({synth.FINE_TUNE: up})
            wave = made.synth(fonts.FLUID).render(notes, {}, 0, room.SECONDS, how)
            assert np.abs(wave).max() > sources.SILENT
            row.append(render.log_mel()(wave[None])[0].ravel())
        mels.append(np.stack(row))
    apart = np.abs(mels[0][:, None] - mels[1][None]).mean(axis=2)
    assert (apart.argmin(axis=1) == np.arange(len(drums.PIECES))).all()


@needs_fonts
@pytest.mark.parametrize(
    "name", ["side_stick", "open_hi_hat", "timbales", "vibraslap", "cuica", "oboe", "tango"]
)
def test_music_sounds_and_comes_again_from_its_seed(name: str) -> None:
    for seed in range(3):
        made = sources.Sources((fonts.FLUID, fonts.HELD_OUT), FOLDER)
        wave, attributes = sources.sound(draw(seed), made, name)
        again, same = sources.sound(draw(seed), made, name)
        assert attributes == same
        assert attributes["class"] == name
        assert np.abs(wave).max() > sources.SILENT
        # FluidSynth's dither and envelopes are not reset to the bit; a soft sound is near them.
        mels = [
            np.maximum(render.log_mel()(np.float32(w / np.abs(w).max())[None]), -55.0)
            for w in (wave, again)
        ]
        assert np.abs(mels[0] - mels[1]).mean() < 1.0


@needs_fonts
def test_the_generators_shift_pitch_brightness_and_size() -> None:
    voice = sources.load(fonts.HELD_OUT.path(FOLDER))
    notes = [Note(0.0, 1.9, 0, 60, 100)]
    hz = np.fft.rfftfreq(2 * RATE_HZ, 1 / RATE_HZ)

    def pitch_hz(how: Playing) -> float:
        found = spectrum(voice.render(notes, {0: 73}, 0, 2.0, how))
        band = (hz > 200) & (hz < 400)
        return float(hz[band][found[band].argmax()])

    plain = pitch_hz(Playing())
    assert plain == pytest.approx(261.6, rel=0.01)
    assert pitch_hz(Playing({synth.FINE_TUNE: 50.0})) == pytest.approx(plain * 2 ** (1 / 24), 0.004)
    # A stretch plays another key's samples at the same pitch.
    assert pitch_hz(Playing(stretch=2)) == pytest.approx(plain, rel=0.01)
    bent = Playing(bends=((0.0, 0, -2.0),))
    assert pitch_hz(bent) == pytest.approx(plain * 2 ** (-1 / 6), rel=0.01)

    def centre_hz(how: Playing) -> float:
        found = spectrum(voice.render(notes, {0: 48}, 0, 2.0, how))
        return float((hz * found).sum() / found.sum())

    assert centre_hz(Playing({synth.FILTER_CUTOFF: -3600.0})) < 0.8 * centre_hz(Playing())
    # Nothing of it stays for the next clip.
    assert pitch_hz(Playing()) == pytest.approx(plain, rel=1e-3)


@pytest.mark.parametrize("name", sorted(codec.available()))
def test_codecs_keep_the_sound_in_step(name: str) -> None:
    t = np.arange(room.LENGTH) / RATE_HZ
    x = (0.4 * np.sin(2 * np.pi * 440 * t) * (np.sin(2 * np.pi * 1.5 * t) > 0)).astype(np.float32)
    y = codec.round_trip(draw(1), x, name)
    assert y.shape == x.shape
    assert y.dtype == np.float32
    lag = np.fft.irfft(np.fft.rfft(x) * np.conj(np.fft.rfft(y))).argmax()
    assert min(lag, room.LENGTH - lag) < 0.05 * RATE_HZ
    assert float((y**2).sum()) == pytest.approx(float((x**2).sum()), rel=0.2)


def test_this_machine_writes_the_codecs() -> None:
    """libsndfile 1.2 has all of them; where one is missing, the sounds just stay as they are."""
    assert {"vorbis", "opus"} <= codec.available()


def test_a_room_is_linear_and_as_long_as_it_says() -> None:
    for decay_s, n in ((0.3, room.SMALL), (2.0, room.LARGE)):
        impulse = np.fft.irfft(room.response(draw(2), n, decay_s, 0.4), n)
        early = float((impulse[: int(decay_s * RATE_HZ)] ** 2).sum())
        assert early > 0.99 * float((impulse**2).sum())
        tail = float((impulse[1:] ** 2).sum())
        assert 0.1 < tail < 3.0


def test_microphones_differ_and_stay_within_reason() -> None:
    curves = np.stack([20 * np.log10(room.microphone(draw(seed))) for seed in range(60)])
    middle = curves[:, room.CURVE_POINTS // 3 : 2 * room.CURVE_POINTS // 3]
    assert np.abs(middle).max() < 45
    assert middle.std(axis=0).min() > 1.5


def test_a_sequence_is_first_the_one_and_then_the_other() -> None:
    t = np.arange(room.LENGTH) / RATE_HZ
    low, high = np.sin(2 * np.pi * 300 * t), np.sin(2 * np.pi * 3000 * t)
    for seed in range(20):
        wave = layers.sequence(draw(seed), low, high)
        assert wave.shape == (room.LENGTH,)
        halves = spectrum(wave[: int(1.2 * RATE_HZ)]), spectrum(wave[int(2.8 * RATE_HZ) :][:38_400])
        hz = np.fft.rfftfreq(38_400, 1 / RATE_HZ)
        is_low = [float((half[hz < 1000] ** 2).sum() / (half**2).sum()) for half in halves]
        assert is_low[0] > 0.9
        assert is_low[1] < 0.2


def test_what_lies_under_a_mixture_is_softer_and_there() -> None:
    t = np.arange(room.LENGTH) / RATE_HZ
    low, high = np.sin(2 * np.pi * 300 * t), 5 * np.sin(2 * np.pi * 3000 * t)
    found = spectrum(layers.mixture(draw(3), low, high, (8.0, 16.0))) ** 2
    hz = np.fft.rfftfreq(room.LENGTH, 1 / RATE_HZ)
    below_db = 10 * np.log10(found[hz < 1000].sum() / found[hz > 1000].sum())
    assert 7.9 < below_db < 16.1


def test_a_fragment_has_silence_around_it() -> None:
    x = draw(4).noise(room.LENGTH)
    for seed in range(10):
        part = layers.fragment(draw(seed), x)
        loud = np.flatnonzero(np.abs(part) > 1e-6)
        assert 0.7 < (loud[-1] - loud[0]) / RATE_HZ < 2.7


@needs_fonts
def test_attributes_name_the_program_and_the_second_sound() -> None:
    names = [name for name in CLASSES["instrument"] if name != "piano"]
    seen: set[str] = set()
    for index in range(80):
        clip = render.render_clip(names[index % 8], index, 3, "train", (fonts.FLUID,), FOLDER)
        assert 0 <= int(clip.attributes["program"]) < 120
        assert clip.attributes["kind"] == "instrument"
        for relation in {"then", "with"} & clip.attributes.keys():
            assert clip.attributes[relation] in KIND_OF
            assert clip.attributes[relation] != clip.attributes["class"]
            seen.add(relation)
        if "then" in clip.attributes:
            assert not {"mode", "tempo", "texture"} & clip.attributes.keys()
        if clip.attributes.get("length") == "short":
            assert "tempo" not in clip.attributes
            seen.add("length")
    assert seen == {"then", "with", "length"}


def test_the_other_splits_are_what_they_say() -> None:
    assert {KIND_OF[name] for name in render.schedule(400, 0, "another_font")} == set(render.MUSIC)
    unseen = sources.unseen_generators()
    assert set(render.schedule(400, 0, "unseen_generator")) == set(unseen)
    assert set(render.schedule(400, 0, "grooves")) == set(PATTERNS)
    assert render.split_sources("held_out", FOLDER, fonts.TRAINING).fonts == (fonts.HELD_OUT,)
    assert render.split_sources("another_font", FOLDER, fonts.TRAINING).fonts == (fonts.ANOTHER,)
    assert render.split_sources("unseen_generator", FOLDER).generators == "unseen"


def test_a_corpus_of_other_fonts_is_refused(tmp_path: Path) -> None:
    next(render.render(tmp_path, "train", 1, fonts=(fonts.FLUID,)))
    with pytest.raises(ValueError, match="another corpus"):
        next(render.render(tmp_path, "train", 1, fonts=fonts.TRAINING))
