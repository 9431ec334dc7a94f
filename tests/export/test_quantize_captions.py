"""int8 caption graphs: what they keep, what they share, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from test_caption_graphs import HIDDEN, PREFIX, VOCABULARY, session, small_state, sounds

from clap_export import parts, quantize_captions
from clap_export.graphs import gpt2_decoder_graph, mapper_graph
from clap_export.parity import Gate, GateError
from clap_export.product_forms import Form
from clap_export.quantize_captions import compare_scores, condition_tokens, whole_sentence

EVERYTHING = Gate(centred_mean=-1, top10=0, zero_shot=0)


def heard(seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    prefix = random.normal(0, 1, (1, PREFIX, HIDDEN)).astype(np.float32)
    return whole_sentence(prefix, random.integers(0, VOCABULARY, (1, 12)), 2, 2, 64)


def uneven(seed: int) -> dict[str, np.ndarray]:
    """A state whose last norm has the gains of trained transformers, and two loud channels."""
    state = small_state(seed)
    gain, bias = (state[f"gpt.transformer.ln_f.{part}"] for part in ("weight", "bias"))
    gain *= np.exp(0.5 * np.random.default_rng(seed).standard_normal(HIDDEN)).astype(np.float32)
    bias[:2] += np.array([60, -50], np.float32)
    return state


def test_conditioning_of_the_shared_table_changes_nothing() -> None:
    """To 1e-4 of scores near 10: it is the same function."""
    model = gpt2_decoder_graph.build(uneven(0))
    changed = condition_tokens(model, [heard(1), heard(2)])
    a, b = (session(m).run(["logits"], heard(3))[0] for m in (model, changed))
    assert np.abs(a - b).max() < 1e-4 * np.abs(a).max()


def test_int8_is_near_and_stores_the_table_once() -> None:
    state = small_state(0)
    mapper, decoder = mapper_graph.build(state), gpt2_decoder_graph.build(state)
    spoken = quantize_captions.quantize(mapper, decoder, sounds(0, 8), EVERYTHING)
    assert spoken.form == "TENSOR + TENSOR"
    assert spoken.parity.centred_mean > 0.95
    assert spoken.parity.n == 4 * (1 + 8 + 8)
    sizes = [int(np.prod(t.dims)) for t in spoken.decoder.graph.initializer]
    assert sizes.count(VOCABULARY * HIDDEN) == 1
    assert spoken.decoder.ByteSize() < 0.4 * decoder.ByteSize()


def test_the_table_must_be_conditioned_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: without it, outliers before the last product cost half of what is left."""
    state = uneven(0)
    models = mapper_graph.build(state), gpt2_decoder_graph.build(state)
    with_it = quantize_captions.quantize(*models, sounds(0, 8)).parity
    monkeypatch.setattr(quantize_captions, "condition_tokens", lambda model, samples: model)
    without = quantize_captions.quantize(*models, sounds(0, 8)).parity
    assert 1 - with_it.centred_mean < 0.5 * (1 - without.centred_mean)


def test_the_safer_form_takes_clips_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantize_captions, "FORMS", ((Form.ROWS, Form.ROWS),))
    state = small_state(0)
    models = mapper_graph.build(state), gpt2_decoder_graph.build(state)
    spoken = quantize_captions.quantize(*models, sounds(0, 8))
    for model in (spoken.mapper, spoken.decoder):
        assert not parts.is_dynamic(model.SerializeToString())
    native = sounds(1, 3)
    mapper = session(spoken.mapper)
    (together,) = mapper.run(["prefix"], {"native": native})
    alone = [mapper.run(["prefix"], {"native": row[None]})[0][0] for row in native]
    assert np.abs(together - np.stack(alone)).max() < 1e-5 * np.abs(together).max()


def test_what_differs_too_much_is_refused_by_its_figures() -> None:
    state = small_state(0)
    models = mapper_graph.build(state), gpt2_decoder_graph.build(state)
    strict = Gate(centred_mean=0.99999, top10=1.0, zero_shot=1.0)
    with pytest.raises(GateError, match=r"centred cosine of next-token scores .*at least 0.99999"):
        quantize_captions.quantize(*models, sounds(0, 8), strict)


def test_scores_compared_with_themselves_and_with_others() -> None:
    random = np.random.default_rng(0)
    scores = random.normal(size=(30, 200)).astype(np.float32)
    same = compare_scores(scores, scores + random.normal(size=(30, 1)).astype(np.float32))
    assert same.centred_min == pytest.approx(1, abs=1e-5)
    assert (same.top1, same.top10) == (1, 1)
    other = compare_scores(scores, scores[::-1])
    assert other.centred_mean < 0.2
    assert other.top1 < 0.2


def test_near_ties_are_no_decisions() -> None:
    scores = np.zeros((2, 50), np.float32)
    scores[0, :2] = 1, 0.95
    scores[1, :2] = 1, 0.5
    found = compare_scores(scores, scores[:, ::-1])
    assert found.decided == 1
