"""Captions by retrieval: nothing unsure is said, silence is told, banks are checked."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sounds import encode, noise, tone

from clap_engine import bundle as bundles
from clap_engine import cli, demo
from clap_engine.arrays import l2_normalize
from clap_engine.async_engine import AsyncEngine
from clap_engine.engine import Engine
from clap_engine.errors import AudioError, DeadlineError, NotFoundError, TaskError
from clap_engine.tasks import bank as banks
from clap_engine.tasks.compose import CONFIDENCE, Composer
from clap_engine.tasks.scores import Background

Run = Callable[..., tuple[int, str, str]]
RATE_HZ = 32_000
SPANS = np.array([[0.0, 5.0], [5.0, 10.0], [10.0, 15.0]])
KILN = {
    "description": "Kilns",
    "kinds": {"machine": "a machine"},
    "sources": {"kiln fan": {"say": "a kiln fan", "texts": ["fan"], "kind": "machine"},
                "rain": {"say": "rain on the roof"}},
    "attributes": {"state": {"carriers": ["fan"], "of": ["machine"], "apart": True, "values": {
        "worn": {"say": "its bearing worn", "forms": ["{} that squeaks"]}}}},
}  # fmt: skip


def bank_of(**changes: Any) -> banks.PhraseBank:
    """The kiln's bank with some parts changed."""
    return banks.read("kiln", json.dumps({**KILN, **changes}).encode())


def composer(bank: banks.PhraseBank, dim: int = 8, seed: int = 0) -> Composer:
    """Texts get random rows."""
    rng = np.random.default_rng(seed)

    def embed(texts: tuple[str, ...]) -> Any:
        return l2_normalize(rng.normal(size=(len(texts), dim)).astype(np.float32))

    return Composer(bank, embed, 20.0, Background(0.0, 0.2))


@pytest.fixture(scope="module")
def engine(bundle: bundles.Bundle) -> Iterator[Engine]:
    with Engine(bundle, threads=1) as engine:
        yield engine


@pytest.fixture(scope="module")
def samples() -> dict[str, Path]:
    return {sample.label: sample.path for sample in demo.read_samples()}


def test_samples_are_told_by_what_they_are(engine: Engine, samples: dict[str, Path]) -> None:
    """Law: on eight sample clips every source that is claimed is the true one, and half are."""
    names = ["police_siren", "bird_song", "bongos_and_congas", "gunshot", "rain", "church_bell",
             "piano", "dog_bark"]  # fmt: skip
    right = 0
    for name in names:
        found = engine.caption(samples[name])
        claims = {claim.attribute: claim for claim in found.claims}
        assert all(claim.confidence >= CONFIDENCE for claim in found.claims)
        assert found.tokens == ()
        assert found.score == pytest.approx(
            math.log(min(claim.confidence for claim in found.claims))
        )
        if "source" in claims:
            assert claims["source"].value == name.replace("_", " ")
            right += 1
    assert right >= 4
    assert engine.caption(samples["bird_song"]).text.startswith("Birdsong")


def test_the_same_sound_gets_the_same_words(engine: Engine, samples: dict[str, Path]) -> None:
    assert engine.caption(samples["rain"]) == engine.caption(samples["rain"].read_bytes())


def test_a_higher_confidence_only_leaves_claims_out() -> None:
    """Law: for random sounds and texts, what is claimed at more is claimed at less, and no word of
    a claim below the confidence stands in the sentence (200 sounds, seed 0)."""
    bank = banks.load()
    made = composer(bank, 32)
    rng = np.random.default_rng(0)
    says = {(a.name, v.name): v.say for a in bank.attributes for v in a.values}
    for row in l2_normalize(rng.normal(size=(200, 32)).astype(np.float32)):
        every = made.claims(row[None], SPANS[:1])
        before: set[Any] | None = None
        for least in (0.0, 0.3, 0.6, 0.9, 1.0):
            kept = made.kept(every, least)
            assert all(claim.confidence >= least for claim in kept)
            text = made.sentence(kept)
            told = {(claim.attribute, claim.value) for claim in kept}
            for key, say in says.items():
                if key not in told and f"{say}," in f"{text},":
                    assert any(say in says.get(other, "") for other in told)
            attributes = {claim.attribute for claim in kept} - set(banks.LEVELS)
            if before is not None:
                assert attributes <= before
            before = attributes
        assert made.caption(row[None], SPANS[:1], 1.0).text == bank.nothing


def test_levels_that_are_told_agree() -> None:
    """Law: kind and family of a claimed source are its own, whatever is unsure."""
    bank = banks.load()
    made = composer(bank, 32, seed=1)
    by_name = {source.name: source for source in bank.sources}
    rng = np.random.default_rng(1)
    for row in l2_normalize(rng.normal(size=(100, 32)).astype(np.float32)):
        of = {c.attribute: c.value for c in made.kept(made.claims(row[None], SPANS[:1]), 0.0)}
        if "source" in of:
            own = by_name[of["source"]]
            assert of.get("family", own.family) == own.family
            assert of.get("kind", own.kind) == own.kind
        elif {"family", "kind"} <= of.keys():
            pairs = {(source.family, source.kind) for source in bank.sources}
            assert (of["family"], of["kind"]) in pairs


def test_a_claim_says_where_it_fits_best() -> None:
    made = composer(bank_of())
    rows = l2_normalize(np.stack([noise(1, 8), made._sources[0], noise(2, 8)]))
    (source,) = (c for c in made.claims(rows, SPANS) if c.attribute == "source")
    if source.value == "kiln fan":
        assert (source.start_s, source.end_s) == (5.0, 10.0)
    once = banks.load()
    told = {c.attribute for c in composer(once, 8).claims(rows, SPANS)}
    assert "timing" not in told
    assert "space" in told


def test_silence_needs_no_model(engine: Engine, samples: dict[str, Path]) -> None:
    quiet = np.zeros(RATE_HZ, np.float32)
    found = engine.caption((quiet, RATE_HZ))
    assert (found.text, found.score) == ("Silence.", 0.0)
    assert [(c.attribute, c.value, c.confidence) for c in found.claims] == [
        ("level", "silence", 1.0)
    ]
    barely = engine.caption((tone(440, RATE_HZ, RATE_HZ, level=1e-3), RATE_HZ))
    assert barely.text != "Silence."
    half = np.concatenate([noise(0, 5 * RATE_HZ, level=0.3), np.zeros(5 * RATE_HZ, np.float32)])
    whole, each = engine.caption((half, RATE_HZ)), engine.caption_windows((half, RATE_HZ))
    assert (whole.start_s, whole.end_s) == (0.0, 10.0)
    assert each[1].text == "Silence."
    first = engine.caption((half[: 5 * RATE_HZ], RATE_HZ))
    assert each[0].text == whole.text == first.text
    for ours, alone in zip(whole.claims, first.claims, strict=True):
        assert ours.value == alone.value
        assert ours.confidence == pytest.approx(alone.confidence, abs=1e-5)


def test_one_source_is_not_claimed_of_everything(engine: Engine, samples: dict[str, Path]) -> None:
    """Law: a bank of one source still knows what is none of it."""
    bank = banks.read("one", b'{"description": "", "sources": {"dog bark": {"say": "a dog"}}}')
    assert engine.caption(samples["dog_bark"], bank=bank).text == "A dog."
    for name in ("piano", "rain", "chainsaw"):
        found = engine.caption(samples[name], bank=bank)
        assert (found.text, found.claims) == (bank.nothing, ())
        assert found.score < 0


def test_thousands_of_sources(engine: Engine, samples: dict[str, Path]) -> None:
    sources = {f"machine {number}": {} for number in range(1_200)}
    bank = banks.read("many", json.dumps({"description": "", "sources": sources}).encode())
    assert engine.caption(samples["rain"], bank=bank, min_confidence=0.99).claims == ()


@pytest.mark.parametrize(
    "changes",
    [
        {"sources": {}},
        {"sources": []},
        {"sources": {" ": {}}},
        {"sources": {"a": {"texts": []}}},
        {"sources": {"a": {"texts": ["x", "x"]}}},
        {"sources": {"a": {"texts": ["x", 3]}}},
        {"sources": {"a": {"say": ""}}},
        {"sources": {"a": {"kind": "no such"}}},
        {"sources": {"a": {"misspelt": ""}}},
        {"sources": {str(number): {} for number in range(10_001)}},
        {"misspelt": 1},
        {"description": 3},
        {"attributes": {"source": {"carriers": ["a"], "values": {}}}},
        {"attributes": {"a": {"carriers": ["a"], "values": {}}}},
        {"attributes": {"a": {"carriers": [], "values": {"v": {"say": "v", "forms": ["{}"]}}}}},
        {"attributes": {"a": {"carriers": ["a"], "values": {"v": {"say": "v", "forms": ["v"]}}}}},
        {"attributes": {"a": {"carriers": ["a"], "of": ["no such"],
                              "values": {"v": {"say": "v", "forms": ["{}"]}}}}},
        {"calibration": {"source": [1.0]}},
        {"calibration": {"source": [1.0, float("nan"), 1.0]}},
        {"calibration": {"no such": [1.0]}},
        {"calibration": {"state": {"no such": [1.0, 1.0]}}},
        {"words": {"nothing": ""}, "kinds": {"machine": ""}},
    ],
)  # fmt: skip
def test_bad_banks_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(TaskError):
        bank_of(**changes)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{",
        b"\xff",
        b"[" * 100_000,
        b'{"description": "", "description": "", "sources": {"a": {}}}',
    ],
)
def test_damaged_banks_are_refused(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bank.json"
    path.write_bytes(data)
    with pytest.raises(TaskError):
        banks.load(path)


def test_banks_are_found_or_not(tmp_path: Path) -> None:
    assert banks.names() == ("english",)
    shipped = banks.load("english")
    assert shipped is banks.load() is banks.load(shipped)
    assert len(shipped.sources) > 250
    assert "MIT" in shipped.licence
    assert all(source.family and source.kind for source in shipped.sources)
    with pytest.raises(NotFoundError, match="english"):
        banks.load(tmp_path / "none.json")
    with pytest.raises(TaskError):
        banks.load(tmp_path)
    with pytest.raises((TaskError, NotFoundError)):
        banks.load("x" * 5_000)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"min_confidence": 1.1}, TaskError),
        ({"min_confidence": float("nan")}, TaskError),
        ({"min_confidence": True}, TaskError),
        ({"min_confidence": "high"}, TaskError),
        ({"min_confidence": 0.5, "beams": 2}, TaskError),
        ({"bank": "english", "max_tokens": 5}, TaskError),
        ({"beams": 2}, NotFoundError),
        ({"bank": "no such"}, NotFoundError),
    ],
)
def test_settings_that_make_no_sense(
    engine: Engine, settings: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        engine.caption((noise(0, RATE_HZ), RATE_HZ), **settings)


def test_nan_and_no_time_are_errors(engine: Engine) -> None:
    with pytest.raises(AudioError):
        engine.caption((np.full(RATE_HZ, np.nan, np.float32), RATE_HZ))
    with pytest.raises(DeadlineError):
        engine.caption((noise(0, RATE_HZ), RATE_HZ), timeout_s=1e-6)


def test_awaited(bundle: bundles.Bundle, samples: dict[str, Path]) -> None:
    async def both() -> list[Any]:
        engine = AsyncEngine(Engine(bundle, threads=1))
        found = await engine.caption(samples["rain"], bank=bank_of(), min_confidence=0.0)
        each = await engine.caption_windows(samples["rain"], bank=bank_of(), min_confidence=0.0)
        await engine.close()
        return [found, *each]

    whole, each = asyncio.run(both())
    assert whole.claims == each.claims


def test_verb(run: Run, samples: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_bytes(b"x")
    (tmp_path / "quiet.wav").write_bytes(encode(np.zeros(RATE_HZ, np.float32), RATE_HZ))
    code, out, _ = run("caption", samples["bird_song"], tmp_path / "quiet.wav", "--json")
    first, second = json.loads(out)["captions"]
    assert code == 0
    assert first["text"].startswith("Birdsong")
    assert {"attribute", "value", "confidence", "start_s", "end_s"} == set(first["claims"][0])
    assert second["text"] == "Silence."
    bank = tmp_path / "kiln.json"
    bank.write_text(json.dumps(KILN), "utf-8")
    code, out, _ = run("caption", samples["rain"], "--bank", bank, "--min-confidence", 0.5)
    assert code == 0
    assert "Rain on the roof" in out
    assert run("caption", tmp_path / "bad.wav")[0] == cli.invocation.SOME_FAILED
    assert run("caption", samples["rain"], "--min-confidence", 2)[0] == cli.USAGE
    assert run("caption", samples["rain"], "--bank", tmp_path / "none")[0] == cli.NOT_FOUND
    assert run("caption", samples["rain"], "--beam", 2)[0] == cli.NOT_FOUND
