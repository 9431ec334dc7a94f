"""One sound -> a caption: five beams, twenty tokens, from the sound's embedding on.

In:  msclap's mapper, GPT-2 and beam search as shipped, and our graphs over the same seeded weights
     in true layout, plain and with outliers; the same embeddings by turns; two threads each.
Out: the ratio; that float32 finds msclap's own ids; how near int8 is.
Knows nothing about the audio tower, which test_clap_audio.py measures: it adds one window to
both sides, some 3 % of msclap's time and a fifth of ours.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from clap_engine.arrays import Float32
from clap_engine.beams import Beam, BeamSettings, Decoder, search
from clap_engine.session import GraphSession
from clap_export import quantize_captions
from clap_export.graphs import gpt2_decoder_graph, mapper_graph
from clap_export.msclap import layout, random_weights
from clap_export.parity import Gate
from race import check_goal, milliseconds, note, race
from towers import THREADS

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "export"))

import msclap_oracle

pytestmark = pytest.mark.usefixtures("two_threads")

BEAMS, TOKENS, STOP, GOAL = 5, 20, 220, 15.0
PEER = "msclap 1.3.4 as shipped (torch eager, no key/value cache)"


@dataclass(frozen=True)
class Contenders:
    """msclap over a state, and what it says of an embedding; our graphs by precision."""

    package: Any
    graphs: dict[str, tuple[bytes, bytes]]  # precision -> mapper, decoder
    sizes: gpt2_decoder_graph.DecoderShape
    parity: quantize_captions.SpokenParity
    form: str

    def msclaps(self, native: Float32) -> list[tuple[int, ...]]:
        """CLAPWrapper.generate_caption after the audio tower: the ids of all beams."""
        tokenizer = SimpleNamespace(encode=lambda _: [STOP, 1], decode=lambda ids: ids.tolist())
        shell = SimpleNamespace(clapcap=self.package, tokenizer=tokenizer)
        with torch.no_grad():
            x = torch.from_numpy(native)
            x = x / x.norm(2, -1).reshape(-1, 1)
            prefix = self.package.clap_project(x).view(-1, layout.PREFIX, self.sizes.hidden)
            generate = msclap_oracle.modules().wrapper._generate_beam
            found = generate(shell, beam_size=BEAMS, embed=prefix, entry_length=TOKENS)
        return [tuple(ids) for ids in found]

    def ours(self, precision: str) -> Any:
        """native [1, D] -> beams, graphs loaded."""
        mapper, decoder = (
            GraphSession(data, name="caption", threads=THREADS) for data in self.graphs[precision]
        )
        sizes, settings = self.sizes, BeamSettings(BEAMS, TOKENS, STOP)

        def run(native: Float32) -> list[Beam]:
            (prefix,) = mapper.run(["prefix"], {"native": native})
            state = Decoder(decoder, sizes.layers, sizes.heads, sizes.head_dim)
            return search(state, prefix, settings)[0]

        return run


@pytest.fixture(scope="module", params=["plain", "outliers"])
def contenders(request: pytest.FixtureRequest, smoke: bool) -> Contenders:
    state = random_weights.random_state(
        "clapcap", seed=0, layers=1 if smoke else None, outliers=request.param == "outliers"
    )
    mapper, decoder = mapper_graph.build(state), gpt2_decoder_graph.build(state)
    spoken = quantize_captions.quantize(mapper, decoder, natives(1, 24), Gate())
    return Contenders(
        package=msclap_oracle.clapcap(state),
        graphs={
            "fp32": (mapper.SerializeToString(), decoder.SerializeToString()),
            "int8": (spoken.mapper.SerializeToString(), spoken.decoder.SerializeToString()),
        },
        sizes=gpt2_decoder_graph.shape(state),
        parity=spoken.parity,
        form=spoken.form,
    )


def natives(seed: int, n: int) -> Float32:
    """[n, 1024]: norms near 32, as msclap's projection leaves them."""
    return np.random.default_rng(seed).standard_normal((n, layout.NATIVE), np.float32)


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_caption_one_sound(
    benchmark: Any,
    request: pytest.FixtureRequest,
    contenders: Contenders,
    precision: str,
    smoke: bool,
) -> None:
    """Law: float32 finds msclap's ids, all beams of them; int8 passed its gate."""
    given = [row[None] for row in natives(2, 3)]
    ours = contenders.ours(precision)
    result = race(benchmark, ours, contenders.msclaps, given, rounds=1 if smoke else 3, burst=1)
    same = [beam.tokens for beam in result.ours] == result.peer
    assert same or precision != "fp32"
    fixture = request.node.callspec.params["contenders"]
    weights = "plain weights" if fixture == "plain" else "weights with outliers"
    note(
        benchmark,
        f"clapcap: caption of 5 beams and 20 tokens, {precision}, {weights}",
        PEER,
        milliseconds(result.ours_s),
        milliseconds(result.peer_s),
        result.ratio,
        goal=GOAL if precision == "int8" else None,
        threads=THREADS,
        processor_ratio=result.processor_ratio,
        subject=f"clapcap's layout, seed 0, {weights}",
        same_ids=same,
        form=contenders.form,
        parity=contenders.parity.as_json(),
        decoder_mb=round(len(contenders.graphs[precision][1]) / 1e6, 1),
    )
    if precision == "int8":
        check_goal(result.ratio, GOAL, smoke)
