"""A small sentence encoder and small weights, so that graphs are built in milliseconds.

In:  seeds.
Out: fixtures for the exporter's tests.
Knows nothing about what is tested.
"""

from __future__ import annotations

import signal
import string
from collections.abc import Iterator

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from clap_engine.arrays import l2_normalize
from clap_export.graphs.text_graph import Anchors, TextHead
from clap_export.minilm import EncoderConfig, SentenceEncoder
from clap_export.weights import Weights, random_weights


@pytest.fixture(autouse=True)
def ctrl_c() -> Iterator[None]:
    """Ctrl-C is Python's to handle: a background shell starts its children with it ignored."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, before)


SMALL = EncoderConfig(
    hidden=48, layers=2, heads=4, intermediate=96, vocabulary=600, positions=160, eps=1e-12
)


def small_tokenizer() -> bytes:
    """WordPiece over 590 made-up words."""
    words = [a + b + c for a in "bdgklmnprt" for b in "aeiou" for c in string.ascii_lowercase]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words]
    vocabulary = {token: i for i, token in enumerate(tokens[: SMALL.vocabulary])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer.to_str().encode()


@pytest.fixture(scope="session")
def small_encoder() -> SentenceEncoder:
    """Two seeded random layers with a few outlier channels, as trained encoders have them."""
    random = np.random.default_rng(0)
    h, m = SMALL.hidden, SMALL.intermediate

    def normal(*shape: int, size: float = 1.0) -> np.ndarray:
        return random.normal(0, size, shape).astype(np.float32)

    weights = {
        "embeddings.word_embeddings.weight": normal(SMALL.vocabulary, h),
        "embeddings.position_embeddings.weight": normal(SMALL.positions, h, size=0.2),
        "embeddings.token_type_embeddings.weight": normal(2, h, size=0.1),
        "embeddings.LayerNorm.weight": 1 + normal(h, size=0.1),
        "embeddings.LayerNorm.bias": normal(h, size=0.1),
    }
    for i in range(SMALL.layers):
        layer = f"encoder.layer.{i}."
        for part in ("query", "key", "value"):
            weights[f"{layer}attention.self.{part}.weight"] = normal(h, h, size=h**-0.5)
            weights[f"{layer}attention.self.{part}.bias"] = normal(h, size=0.1)
        for name, rows, columns in (
            ("attention.output", h, h),
            ("intermediate", m, h),
            ("output", h, m),
        ):
            weights[f"{layer}{name}.dense.weight"] = normal(rows, columns, size=columns**-0.5)
            weights[f"{layer}{name}.dense.bias"] = normal(rows, size=0.1)
        for name in ("attention.output", "output"):
            gain = 1 + normal(h, size=0.1)
            gain[:2] = 20  # what makes one activation scale for all channels a bad one
            weights[f"{layer}{name}.LayerNorm.weight"] = gain
            weights[f"{layer}{name}.LayerNorm.bias"] = normal(h, size=0.1)
        for name in ("attention.self.query", "attention.self.key", "attention.self.value"):
            weights[f"{layer}{name}.weight"][:, :2] /= 20
        weights[f"{layer}intermediate.dense.weight"][:, :2] /= 20
    return SentenceEncoder(
        weights=weights, config=SMALL, tokenizer_json=small_tokenizer(), digest="0" * 64
    )


@pytest.fixture(scope="session")
def small_weights() -> Weights:
    """Random weights whose text side fits `small_encoder`."""
    weights = random_weights(seed=1, n_anchors=20)
    random = np.random.default_rng(2)
    keys = l2_normalize(random.standard_normal((20, SMALL.hidden)).astype(np.float32))
    head = random.normal(0, SMALL.hidden**-0.5, (SMALL.hidden, 512)).astype(np.float32)
    return Weights(
        audio=weights.audio,
        head=TextHead(head),
        anchors=Anchors(keys, None, blend=0.3, tau=0.1),
        calibration=weights.calibration,
    )
