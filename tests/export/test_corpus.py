"""The corpus: shares, seeds, bands that training never sees, captions that claim only the truth."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from clap_export.corpus import captions, classes, effects, lexicon, music, render, room, stems
from clap_export.corpus.draw import HELD_OUT_BANDS, Draw
from clap_export.corpus.synth import HELD_OUT_FONT, RATE_HZ, TRAINING_FONTS, Note, Synth

pytestmark = pytest.mark.export

needs_fonts = pytest.mark.skipif(
    not HELD_OUT_FONT.exists() or not all(font.exists() for font in TRAINING_FONTS),
    reason="apt-get install fluid-soundfont-gm musescore-general-soundfont csound-soundfont",
)
needs_voice = pytest.mark.skipif(
    shutil.which("espeak-ng") is None, reason="apt-get install espeak-ng"
)


def test_every_effect_class_has_a_generator_and_no_other() -> None:
    assert set(effects.GENERATORS) == set(classes.EFFECTS)


def test_every_instrument_class_has_its_own_programs() -> None:
    programs = [p for group in classes.INSTRUMENTS.values() for p in group]
    assert sorted(programs) == sorted(set(programs))
    assert set(range(120)) - set(programs) == set()


@pytest.mark.parametrize("held_out", [False, True])
def test_training_and_gallery_draw_from_disjoint_bands(held_out: bool) -> None:
    draw = Draw(np.random.default_rng(3), held_out)
    units = [draw.unit() for _ in range(2000)]
    inside = [any(lo <= u < hi for lo, hi in HELD_OUT_BANDS) for u in units]
    assert all(inside) if held_out else not any(inside)


def test_the_schedule_keeps_the_shares_and_a_short_corpus_begins_a_long_one() -> None:
    names = render.schedule(36_000, 0, "train")
    kinds = Counter(classes.KIND_OF[name] for name in names)
    for kind, share in classes.SHARES.items():
        assert kinds[kind] / 36_000 == pytest.approx(share, abs=0.001)
    assert render.schedule(500, 0, "train") == names[:500]
    assert render.schedule(500, 1, "train") != names[:500]
    assert set(names) == set(classes.KIND_OF)


def test_captions_claim_only_what_is_true_of_their_clip() -> None:
    words, rng = lexicon.load(), np.random.default_rng(5)
    clip = {
        "class": "banjo", "kind": "instrument", "texture": "melody", "tempo": "slow",
        "register": "mid", "quality": "noisy",
    }  # fmt: skip
    other = {**clip, "tempo": "fast"}
    claimed: Counter[str] = Counter()
    for _ in range(400):
        caption = captions.known(rng, words, clip)
        assert caption.is_true_of(clip)
        assert caption.claims["class"] == "banjo"
        assert caption.is_true_of(other) == ("tempo" not in caption.claims)
        assert "register" not in caption.claims  # the middle register has no words
        claimed.update(list(caption.claims))
    assert claimed["tempo"] > 20
    assert claimed["quality"] > 20


@pytest.mark.parametrize("part", ["development", "report", "dictionary", "names"])
def test_unseen_captions_share_no_content_word_with_training(part: str) -> None:
    words, rng = lexicon.load(), np.random.default_rng(6)
    forms = [
        form for table in captions.ATTRIBUTE_FORMS.values() for f in table.values() for form in f
    ]
    forms += [*captions.CARRIERS, *(f for fs in captions.CARRIERS_BY_KIND.values() for f in fs)]
    seen = set(lexicon.vocabulary(words))
    for form in forms:
        seen |= set(stems.content_words(form.format(p=""), words.generic))
    for name, kind in classes.KIND_OF.items():
        caption = captions.unseen(rng, words, {"class": name, "kind": kind}, part)
        if caption is None:
            assert part != "report"
            continue
        content = stems.content_words(caption.text, words.generic)
        assert content
        assert not seen & set(content), caption.text
        assert caption.claims == {"class": name}


def test_development_phrases_are_not_reported() -> None:
    words, rng = lexicon.load(), np.random.default_rng(8)
    for name, phrases in words.development.items():
        clip = {"class": name, "kind": classes.KIND_OF[name]}
        texts = {str(captions.unseen(rng, words, clip, "report")) for _ in range(30)}
        assert not any(f"'{phrase}'" in text for phrase in phrases for text in texts)


def test_the_report_falls_into_dictionary_words_and_names() -> None:
    words, rng = lexicon.load(), np.random.default_rng(9)
    counts: Counter[str] = Counter()
    for name, kind in classes.KIND_OF.items():
        for part in ("dictionary", "names"):
            caption = captions.unseen(rng, words, {"class": name, "kind": kind}, part)
            if caption is not None:
                counts[part] += 1
                (phrase,) = [p for p in words.unseen[name] if p in caption.text][:1]
                assert lexicon.is_dictionary(phrase) is (part == "dictionary")
    assert counts["dictionary"] > 100
    assert counts["names"] > 100


def test_training_reads_wide_phrases_as_well() -> None:
    words, rng = lexicon.load(), np.random.default_rng(10)
    clip = {"class": "banjo", "kind": "instrument"}
    drawn = [captions.training(rng, words, clip).text for _ in range(400)]
    wide = sum(any(phrase in text for phrase in words.wide["banjo"]) for text in drawn)
    assert 0.3 < wide / len(drawn) < 0.55  # a wide phrase may also stand inside a plain one


def test_a_short_sound_is_placed_whole() -> None:
    draw = Draw(np.random.default_rng(0), held_out=False)
    sound = np.sin(np.arange(8000) * 0.3)
    for _ in range(40):
        placed, attributes = room.place(draw, sound)
        assert placed.shape == (room.LENGTH,)
        energy = float((placed**2).sum())
        if attributes.get("timing") == "once":
            assert energy == pytest.approx(float((sound**2).sum()), rel=1e-9)
        else:
            assert energy > float((sound**2).sum())


def test_recording_keeps_the_length_and_full_scale() -> None:
    for seed in range(20):
        draw = Draw(np.random.default_rng(seed), held_out=False)
        wave, _ = room.record(draw, draw.noise(room.LENGTH))
        assert wave.shape == (room.LENGTH,)
        assert wave.dtype == np.float32
        assert np.isfinite(wave).all()
        assert 0.05 < np.abs(wave).max() <= 1.0


@needs_fonts
def test_a_clip_does_not_hear_the_one_before_it() -> None:
    synth = Synth(HELD_OUT_FONT)
    loud = [Note(0.0, 9.0, 0, 60, 120), Note(0.0, 9.0, 9, 49, 120)]
    synth.render(loud, {0: 48}, 0, 2.0)
    silence = synth.render([], {0: 0}, 0, 1.0)
    # FluidSynth's dither is a step or two of 16 bits; the ringing string was 0.06.
    assert np.abs(silence).max() < 2.5 / 32768
    # The control: notes are there when asked for.
    assert np.abs(synth.render(loud, {0: 48}, 0, 2.0)).max() > 0.05


@needs_fonts
def test_low_and_high_registers_sound_low_and_high() -> None:
    synth = Synth(HELD_OUT_FONT)
    centroids = []
    for register in ("low", "high"):
        lo, hi = music.register_range("violin", register)
        draw = Draw(np.random.default_rng(1), held_out=False)
        notes = music.texture_notes(draw, "scale", lo, hi, 0.5, 4.0)
        spectrum = np.abs(np.fft.rfft(synth.render(notes, {0: 40}, 0, 4.0)))
        hz = np.fft.rfftfreq(4 * RATE_HZ, 1 / RATE_HZ)
        centroids.append(float((hz * spectrum).sum() / spectrum.sum()))
    assert centroids[1] > 1.2 * centroids[0]


def decibels_apart(a: render.Clip, b: render.Clip) -> float:
    """Mean difference of the log-mels."""
    return float(
        np.abs(render.log_mel()(a.waveform[None]) - render.log_mel()(b.waveform[None])).mean()
    )


@needs_fonts
@needs_voice
@pytest.mark.parametrize("split", ["train", "held_out"])
@pytest.mark.parametrize(
    "name", ["piano", "snare_drum", "rock_band", "dog_bark", "applause", "whispering"]
)
def test_a_clip_depends_on_its_seed_alone(name: str, split: str) -> None:
    first = render.render_clip(name, 7, 0, split)
    render.render_clip("church_organ", 8, 0, split)
    again = render.render_clip(name, 7, 0, split)
    assert first.attributes == again.attributes
    assert first.attributes["class"] == name
    # FluidSynth's dither and envelopes are not reset to the bit: the spectra agree to 1 dB.
    assert decibels_apart(first, again) < 1.0
    assert decibels_apart(first, render.render_clip(name, 9, 0, split)) > 4.0


@needs_fonts
@needs_voice
def test_rendering_resumes_where_chunks_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(render, "CHUNK", 4)
    names = ["rain", "beep", "claves", "flute"] * 2
    jobs = [
        render.Job(tmp_path, n, 4 * n, tuple(names[4 * n : 4 * n + 4]), 0, "train")
        for n in range(2)
    ]
    paths = [render.render_chunk(job) for job in jobs]
    log_mel, attributes = render.load(tmp_path)
    assert log_mel.shape == (8, 128, 64)
    assert log_mel.dtype == np.uint8
    assert [clip["class"] for clip in attributes] == names
    assert all(int(clip.max()) == 255 for clip in log_mel)  # each window peaks at 0 dB
    before = paths[0].stat().st_mtime_ns
    paths[1].unlink()
    monkeypatch.setattr(render, "schedule", lambda count, seed, split: names)
    progress = list(render.render(tmp_path, "train", 8, seed=0, workers=1))
    assert progress[0] == (4, 8)
    assert progress[-1] == (8, 8)
    assert paths[0].stat().st_mtime_ns == before
    again, _ = render.load(tmp_path)
    assert np.abs(again.astype(int) - log_mel.astype(int)).mean() < 1.0
    assert not list(tmp_path.glob("*.partial"))


def test_a_folder_of_another_corpus_is_refused(tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text(json.dumps({"split": "train", "count": 1}))
    with pytest.raises(ValueError, match="another corpus"):
        next(render.render(tmp_path, "train", 2))
