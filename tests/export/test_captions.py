"""Captions of two sounds, of programs and families, and in the style of searches."""

from __future__ import annotations

import numpy as np
import pytest

from clap_export.corpus import captions, lexicon
from clap_export.corpus.captions import Caption

pytestmark = pytest.mark.export

WORDS = lexicon.load()
SCENE = {"class": "dog_bark", "kind": "effect", "then": "door_slam"}
MIX = {"class": "flute", "kind": "instrument", "with": "piano", "mode": "minor", "tempo": "slow"}
SOLO = {"class": "violin", "kind": "instrument", "program": "40", "family": "strings"}


def drawn(clip: dict[str, str], count: int = 400, seed: int = 0) -> list[Caption]:
    rng = np.random.default_rng(seed)
    return [captions.known(rng, WORDS, clip) for _ in range(count)]


@pytest.mark.parametrize("clip", [SCENE, MIX, SOLO])
def test_every_caption_is_true_of_its_clip(clip: dict[str, str]) -> None:
    rng = np.random.default_rng(1)
    said = drawn(clip) + [captions.training(rng, WORDS, clip) for _ in range(400)]
    assert all(caption.is_true_of(clip) for caption in said)


@pytest.mark.parametrize(("clip", "joined"), [(SCENE, "then"), (MIX, "with")])
def test_captions_of_two_sounds_name_both(clip: dict[str, str], joined: str) -> None:
    both = [caption for caption in drawn(clip) if joined in caption.claims]
    assert 0.5 < len(both) / 400 < 0.7
    for caption in both:
        assert any(phrase in caption.text for phrase in WORDS.known[clip[joined]])


def test_captions_claim_major_and_minor() -> None:
    said = [caption for caption in drawn(MIX) if "mode" in caption.claims]
    assert said
    assert all("minor" in caption.text for caption in said)


def test_some_captions_name_the_program_or_the_family() -> None:
    said = drawn(SOLO, 1000)
    programs = [caption for caption in said if "program" in caption.claims]
    families = [caption for caption in said if caption.claims.keys() == {"family"}]
    assert 0.08 < len(programs) / 1000 < 0.16
    assert 0.02 < len(families) / 1000 < 0.07
    assert not families[0].is_true_of({**SOLO, "family": "brass"})


def test_searches_claim_what_the_caption_claimed() -> None:
    rng = np.random.default_rng(2)
    caption = Caption("the sound of a barking dog", {"class": "dog_bark"})
    said = [captions.searched(rng, caption) for _ in range(300)]
    assert {each.claims["class"] for each in said} == {"dog_bark"}
    assert len({each.text for each in said}) > 40
    assert not any(" the " in f" {each.text} " for each in said)


def test_a_slip_changes_one_longer_word() -> None:
    rng = np.random.default_rng(3)
    for _ in range(100):
        words = captions.slipped(rng, "old creaking door").split()
        assert words[0] == "old"
        assert words[2] == "door"
        assert abs(len(words[1]) - len("creaking")) <= 1
    assert captions.slipped(rng, "a big dog") == "a big dog"
