"""Mapper, decoder and search find msclap's own captions, id for id, for the same sound."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msclap_oracle
import numpy as np
import onnx
import pytest
import torch

from clap_engine.beams import BeamSettings, Decoder, search
from clap_engine.errors import ArrayError
from clap_engine.session import GraphSession
from clap_export.graphs import gpt2_decoder_graph, mapper_graph
from clap_export.msclap import layout, random_weights

HIDDEN, VOCABULARY, POSITIONS, PREFIX, NATIVE, LAYERS = 128, 500, 64, 6, 32, 2
STOP = 220
State = dict[str, np.ndarray]


def small_state(seed: int) -> State:
    """A clapcap of two layers, lively enough not to repeat its first word for ever."""
    random = np.random.default_rng(seed)

    def normal(*shape: int, size: float = 1.0) -> np.ndarray:
        return random.normal(0, size, shape).astype(np.float32)

    def norm(name: str) -> State:
        gain, bias = 1 + normal(HIDDEN, size=0.1), normal(HIDDEN, size=0.1)
        return {f"{name}.weight": gain, f"{name}.bias": bias}

    def matrix(name: str, rows: int, columns: int, bias: int) -> State:
        weight = normal(rows, columns, size=2 * HIDDEN**-0.5)
        return {f"{name}.weight": weight, f"{name}.bias": normal(bias, size=0.1)}

    state = {
        "gpt.transformer.wte.weight": normal(VOCABULARY, HIDDEN, size=0.2),
        "gpt.transformer.wpe.weight": normal(POSITIONS, HIDDEN, size=0.5),
        **norm("gpt.transformer.ln_f"),
        "clap_project.prefix_const": normal(PREFIX, HIDDEN),
        **matrix("clap_project.linear", PREFIX * HIDDEN, NATIVE, PREFIX * HIDDEN),
    }
    state["gpt.lm_head.weight"] = state["gpt.transformer.wte.weight"]
    for i in range(LAYERS):
        name = f"gpt.transformer.h.{i}."
        state |= norm(f"{name}ln_1") | norm(f"{name}ln_2")
        for part, rows, columns in (
            ("attn.c_attn", HIDDEN, 3 * HIDDEN),
            ("attn.c_proj", HIDDEN, HIDDEN),
            ("mlp.c_fc", HIDDEN, 4 * HIDDEN),
            ("mlp.c_proj", 4 * HIDDEN, HIDDEN),
        ):
            state |= matrix(name + part, rows, columns, columns)
        name = f"clap_project.transformer.layers.{i}."
        state |= norm(f"{name}norm1") | norm(f"{name}norm2")
        state[f"{name}attn.to_queries.weight"] = normal(HIDDEN, HIDDEN, size=HIDDEN**-0.5)
        state[f"{name}attn.to_keys_values.weight"] = normal(2 * HIDDEN, HIDDEN, size=HIDDEN**-0.5)
        state |= matrix(f"{name}attn.project", HIDDEN, HIDDEN, HIDDEN)
        state |= matrix(f"{name}mlp.fc1", 2 * HIDDEN, HIDDEN, 2 * HIDDEN)
        state |= matrix(f"{name}mlp.fc2", HIDDEN, 2 * HIDDEN, HIDDEN)
    return state


class Package(torch.nn.Module):
    """msclap's mapper and GPT-2 over a state, without the audio tower."""

    def __init__(self, state: State) -> None:
        super().__init__()
        from transformers import GPT2Config, GPT2LMHeadModel

        table, places = (state[f"gpt.transformer.{name}.weight"] for name in ("wte", "wpe"))
        learned, linear = (state[f"clap_project.{n}"] for n in ("prefix_const", "linear.weight"))
        hidden = table.shape[1]
        layers = sum(key.endswith("attn.c_attn.weight") for key in state)
        depth = sum(key.endswith("attn.to_queries.weight") for key in state)
        self.gpt = GPT2LMHeadModel(
            GPT2Config(
                vocab_size=len(table), n_positions=len(places), n_embd=hidden,
                n_layer=layers, n_head=hidden // 64,
            )
        )  # fmt: skip
        mapper = msclap_oracle.modules().mapper
        self.clap_project = mapper.TransformerMapper(
            linear.shape[1], hidden, len(learned), len(linear) // hidden, depth
        )
        wanted = self.state_dict().keys()
        own = {k: torch.from_numpy(np.array(v)) for k, v in state.items() if k in wanted}
        assert not self.load_state_dict(own, strict=False).unexpected_keys
        assert own.keys() == {key for key in wanted if ".attn.bias" not in key}
        self.eval()

    @torch.no_grad()
    def prefix(self, native: np.ndarray) -> np.ndarray:
        """CLAPWrapper.generate_caption's lines between tower and search."""
        x = torch.from_numpy(native)
        x = x / x.norm(2, -1).reshape(-1, 1)
        return self.clap_project(x).numpy()

    def captions(self, prefix: np.ndarray, **settings: Any) -> list[tuple[int, ...]]:
        """CLAPWrapper._generate_beam itself: the ids of all beams, best first."""
        stop = settings.pop("stop", STOP)
        tokenizer = SimpleNamespace(encode=lambda _: [stop, 1], decode=lambda ids: ids.tolist())
        shell = SimpleNamespace(clapcap=self, tokenizer=tokenizer)
        search = msclap_oracle.modules().wrapper._generate_beam
        return [tuple(ids) for ids in search(shell, embed=torch.from_numpy(prefix), **settings)]


def session(model: onnx.ModelProto) -> GraphSession:
    return GraphSession(model.SerializeToString(), name="graph under test")


def decoder(state: State) -> Decoder:
    sizes = gpt2_decoder_graph.shape(state)
    graph = session(gpt2_decoder_graph.build(state))
    return Decoder(graph, sizes.layers, sizes.heads, sizes.head_dim)


def sounds(seed: int, n: int, width: int = NATIVE) -> np.ndarray:
    """Unnormalised, as msclap's projection leaves them."""
    return np.random.default_rng([seed, 1]).normal(0, 1, (n, width)).astype(np.float32)


@pytest.mark.parametrize("seed", range(4))
def test_captions_are_msclaps(seed: int) -> None:
    """All beams of 1 to 5, id for id, with a stop that comes early, late or never."""
    state = small_state(seed)
    package, ours = Package(state), decoder(state)
    prefix = package.prefix(sounds(seed, 1))
    different = set()
    for beams in (1, 2, 3, 4, 5):
        (free,) = search(ours, prefix, BeamSettings(beams, 20, -1))
        different.update(free[0].tokens)
        for stop in (STOP, free[-1].tokens[3], free[0].tokens[12]):
            (found,) = search(ours, prefix, BeamSettings(beams, 20, stop))
            wanted = package.captions(prefix, beam_size=beams, entry_length=20, stop=stop)
            assert [beam.tokens for beam in found] == wanted
    assert len(different) > 5  # a sentence that repeats one word shows nothing


def test_temperature_is_msclaps() -> None:
    state = small_state(5)
    package = Package(state)
    prefix = package.prefix(sounds(5, 1))
    (found,) = search(decoder(state), prefix, BeamSettings(3, 12, STOP, temperature=1.7))
    wanted = package.captions(prefix, beam_size=3, entry_length=12, temperature=1.7)
    assert [beam.tokens for beam in found] == wanted


@pytest.mark.parametrize("batch", [1, 3])
def test_the_mapper_is_msclaps(batch: int) -> None:
    """To 1e-5, of values near 5; the L2 norm of the embedding is inside."""
    state = small_state(0)
    native = sounds(0, batch) * 30
    (found,) = session(mapper_graph.build(state)).run(["prefix"], {"native": native})
    wanted = Package(state).prefix(native)
    assert found.shape == (batch, PREFIX, HIDDEN)
    assert np.abs(found - wanted).max() < 1e-5 * np.abs(wanted).max()


def test_scores_are_gpt2s_at_every_step_and_batch_size() -> None:
    """Prefix, then one id at a time: what GPT-2 says of the whole sentence, to 1e-4."""
    state = small_state(1)
    package, ours = Package(state), decoder(state)
    prefix = package.prefix(sounds(1, 3))
    ids = np.random.default_rng(0).integers(0, VOCABULARY, (3, 9))
    embedded = state["gpt.transformer.wte.weight"][ids]
    with torch.no_grad():
        whole = torch.from_numpy(np.concatenate([prefix, embedded], axis=1))
        wanted = package.gpt(inputs_embeds=whole).logits[:, PREFIX - 1 :].numpy()
    steps = [ours.start(prefix)]
    for t in range(9):
        sees = np.ones((3, 1, PREFIX + t + 1), bool)
        steps.append(ours.step(ids[:, t : t + 1], PREFIX + t, sees))
    assert np.abs(np.concatenate(steps, axis=1) - wanted).max() < 1e-4


def test_the_sizes_are_read_off_the_keys() -> None:
    sizes = gpt2_decoder_graph.shape(small_state(0))
    assert sizes == gpt2_decoder_graph.DecoderShape(2, 2, 64, HIDDEN, VOCABULARY, POSITIONS)


def test_the_table_of_tokens_is_stored_once() -> None:
    model = gpt2_decoder_graph.build(small_state(0))
    sizes = [int(np.prod(tensor.dims)) for tensor in model.graph.initializer]
    assert sizes.count(VOCABULARY * HIDDEN) == 1


@pytest.mark.parametrize(
    ("gone", "build"),
    [
        ("gpt.transformer.wpe.weight", gpt2_decoder_graph.build),
        ("gpt.transformer.h.0.", gpt2_decoder_graph.build),
        ("clap_project.prefix_const", mapper_graph.build),
        ("clap_project.transformer.layers.1.mlp.fc2.bias", mapper_graph.build),
    ],
)
def test_a_state_that_lacks_a_part_is_refused(gone: str, build: Any) -> None:
    state = {key: value for key, value in small_state(0).items() if not key.startswith(gone)}
    with pytest.raises(ArrayError, match="needed|not in the state"):
        build(state)


@pytest.mark.slow
@pytest.mark.parametrize("outliers", [False, True])
def test_captions_at_full_size(outliers: bool) -> None:
    """The true layout, all layers: the same ids from sound to caption, beam 5, 20 tokens."""
    state = random_weights.random_state("clapcap", seed=3, outliers=outliers)
    state = {key: value for key, value in state.items() if not key.startswith("clap.")}
    package, ours = Package(state), decoder(state)
    native = sounds(3, 2, layout.NATIVE)
    (prefix,) = session(mapper_graph.build(state)).run(["prefix"], {"native": native})
    wanted = package.prefix(native)
    assert np.abs(prefix - wanted).max() < 1e-4 * np.abs(wanted).max()
    for i, found in enumerate(search(ours, prefix, BeamSettings(5, 20, STOP))):
        beams = package.captions(prefix[i : i + 1], beam_size=5, entry_length=20)
        assert [beam.tokens for beam in found] == beams
