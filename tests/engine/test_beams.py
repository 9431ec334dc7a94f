"""The tree of beams finds what msclap's own loop finds when it recomputes every sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from clap_engine.beams import Beam, BeamSettings, Decoder, best, search

WIDTH, VOCABULARY, PREFIX, PLACES = 16, 97, 5, 40


class Toy:
    """One attention layer in numpy, behind the decoder graph's names."""

    def __init__(self, seed: int) -> None:
        random = np.random.default_rng(seed)
        self.table = random.normal(0, 1, (VOCABULARY, WIDTH))
        self.places = random.normal(0, 1, (PLACES, WIDTH))
        self.qkv = random.normal(0, WIDTH**-0.5, (3, WIDTH, WIDTH))
        self.out = random.normal(0, WIDTH**-0.5, (WIDTH, VOCABULARY))
        self.calls: list[tuple[int, ...]] = []

    def run(self, outputs: Sequence[str], inputs: Mapping[str, Any]) -> list[np.ndarray]:
        assert list(outputs) == ["logits", "key.0", "value.0"]
        self.calls.append(inputs["past_key.0"].shape)
        x = np.concatenate([inputs["prefix"], self.table[inputs["input_ids"]]], axis=1)
        x = x + self.places[inputs["positions"]]
        query, key, value = (x @ weight for weight in self.qkv)
        key = np.concatenate([inputs["past_key.0"][:, 0], key], axis=1)
        value = np.concatenate([inputs["past_value.0"][:, 0], value], axis=1)
        scores = query @ key.transpose(0, 2, 1) + inputs["mask"][:, 0]
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        x = np.tanh(x + weights / weights.sum(axis=-1, keepdims=True) @ value)
        logits = x[:, inputs["read"]] @ self.out
        return [logits.astype(np.float32), key[:, None], value[:, None]]

    def whole(self, prefix: np.ndarray, sentences: list[list[int]]) -> np.ndarray:
        """[K, V] scores of the next token, every place computed anew under a causal mask."""
        rows = []
        for ids in sentences:
            n = len(prefix) + len(ids)
            inputs = {
                "prefix": prefix[None],
                "input_ids": np.array([ids], np.int64),
                "positions": np.arange(n)[None],
                "mask": np.where(np.tri(n, dtype=bool), 0, -1e9)[None, None],
                "read": np.array([n - 1]),
                "past_key.0": np.zeros((1, 1, 0, WIDTH)),
                "past_value.0": np.zeros((1, 1, 0, WIDTH)),
            }
            rows.append(self.run(["logits", "key.0", "value.0"], inputs)[0][0, 0])
        return np.stack(rows).astype(np.float64)


def by_the_book(toy: Toy, prefix: np.ndarray, settings: BeamSettings) -> list[Beam]:
    """CLAPWrapper._generate_beam, statement by statement, in float64."""
    k = settings.beams
    lengths, stopped = np.ones(k), np.zeros(k, bool)
    sentences: list[list[int]] = [[]]
    scores = np.zeros(1)
    for i in range(settings.max_tokens):
        logits = toy.whole(prefix, sentences) / settings.temperature
        logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
        if i == 0:
            order = np.argsort(-logits[0])[:k]
            scores, sentences, tokens = logits[0, order], [[] for _ in order], order
        else:
            logits[stopped] = -np.inf
            logits[stopped, 0] = 0
            sums = scores[:, None] + logits
            lengths[~stopped] += 1
            means = sums / lengths[:, None]
            order = np.argsort(-means.ravel())[:k]
            source, tokens = np.divmod(order, VOCABULARY)
            lengths, stopped = lengths[source], stopped[source]
            sentences = [sentences[place] for place in source]
            scores = means.ravel()[order] * lengths
        sentences = [[*ids, int(token)] for ids, token in zip(sentences, tokens, strict=True)]
        stopped = stopped | (tokens == settings.stop_id)
        if stopped.all():
            break
    scores = scores / lengths
    return [
        Beam(tuple(sentences[place][: int(lengths[place])]), float(scores[place]))
        for place in np.argsort(-scores)
    ]


def decoder(toy: Toy) -> Decoder:
    return Decoder(toy, layers=1, heads=1, head_dim=WIDTH)


def prefixes(seed: int, clips: int) -> np.ndarray:
    random = np.random.default_rng([seed, 1])
    return random.normal(0, 1, (clips, PREFIX, WIDTH)).astype(np.float32)


def common(toy: Toy, prefix: np.ndarray, beams: int) -> int:
    """A token that the search meets early, so that some beams stop and others go on."""
    free = search(decoder(toy), prefix, BeamSettings(beams, 6, -1))
    return free[0][-1].tokens[2]


@pytest.mark.parametrize("beams", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize("seed", range(4))
def test_beams_are_those_of_the_plain_loop(seed: int, beams: int) -> None:
    """Same ids, same order; scores to 1e-5 (float32 against float64)."""
    toy, prefix = Toy(seed), prefixes(seed, 1)
    for stop_id in (-1, common(toy, prefix, beams)):
        settings = BeamSettings(beams, 14, stop_id)
        (found,) = search(decoder(toy), prefix, settings)
        wanted = by_the_book(toy, prefix[0], settings)
        assert [beam.tokens for beam in found] == [beam.tokens for beam in wanted]
        assert [beam.score for beam in found] == pytest.approx(
            [beam.score for beam in wanted], abs=1e-5
        )


@pytest.mark.parametrize("beams", [1, 3])
def test_clips_of_a_batch_do_not_meet(beams: int) -> None:
    """Six clips at once, which stop at different times, find what each finds alone."""
    toy, prefix = Toy(3), prefixes(3, 6)
    settings = BeamSettings(beams, 12, common(toy, prefix, beams))
    together = search(decoder(toy), prefix, settings)
    alone = [search(decoder(toy), prefix[i : i + 1], settings)[0] for i in range(6)]
    assert [[beam.tokens for beam in beams] for beams in together] == [
        [beam.tokens for beam in beams] for beams in alone
    ]
    assert len({len(beams[0].tokens) for beams in together}) > 1


def test_clips_that_have_ended_cost_nothing() -> None:
    toy, prefix = Toy(3), prefixes(3, 6)
    settings = BeamSettings(1, 12, common(toy, prefix, 1))  # the first clip ends early
    toy.calls.clear()
    search(decoder(toy), prefix, settings)
    counts = [shape[0] for shape in toy.calls]
    assert counts[0] == 6
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] < 6


def test_one_beam_is_greedy() -> None:
    toy, prefix = Toy(1), prefixes(1, 1)
    (found,) = search(decoder(toy), prefix, BeamSettings(1, 10, -1))
    ids: list[int] = []
    for _ in range(10):
        ids.append(int(toy.whole(prefix[0], [ids]).argmax()))
    assert found[0].tokens == tuple(ids)


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_temperature_divides_the_scores(temperature: float) -> None:
    toy, prefix = Toy(2), prefixes(2, 1)
    settings = BeamSettings(4, 8, -1, temperature)
    (found,) = search(decoder(toy), prefix, settings)
    wanted = by_the_book(toy, prefix[0], settings)
    assert [beam.tokens for beam in found] == [beam.tokens for beam in wanted]


def test_a_stop_at_once_ends_the_search() -> None:
    toy, prefix = Toy(0), prefixes(0, 1)
    first = int(toy.whole(prefix[0], [[]]).argmax())
    toy.calls.clear()
    (found,) = search(decoder(toy), prefix, BeamSettings(1, 20, first))
    assert found[0].tokens == (first,)
    assert len(toy.calls) == 1


def test_one_token_asks_the_decoder_once() -> None:
    toy = Toy(0)
    (found,) = search(decoder(toy), prefixes(0, 1), BeamSettings(5, 1, -1))
    assert [len(beam.tokens) for beam in found] == [1] * 5
    assert len(toy.calls) == 1


@pytest.mark.parametrize("width", [5, 127, 128, 129, 1280, 1281, 50_257])
@pytest.mark.parametrize("k", [1, 5])
def test_the_best_are_those_of_a_full_sort(width: int, k: int) -> None:
    """Exactly, at widths around the blocks'."""
    x = np.random.default_rng(width).normal(size=(2, 3, width)).astype(np.float32)
    values, places = best(x, k)
    order = np.argsort(-x, axis=-1)[..., :k]
    assert np.array_equal(places, order)
    assert np.array_equal(values, np.take_along_axis(x, order, axis=-1))


def test_the_best_of_equal_values_are_distinct() -> None:
    _, places = best(np.zeros((1, 2_000), np.float32), 5)
    assert len(set(places[0].tolist())) == 5
