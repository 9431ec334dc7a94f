"""One text of 8 tokens -> its embedding.

In:  the engine and torch's BertModel with the same weights, the same texts by turns.
Out: the ratio; how near the embeddings are; peak memory of each alone.
Knows nothing about search.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import clap_engine
import process
import subject as subjects
from clap_engine.engine import Engine
from peer import TextPeer
from race import milliseconds, note, race
from subject import Subject

# Six words: with [CLS] and [SEP] eight tokens.
TEXTS = (
    "a slow banjo melody at night",
    "rain on a roof at night",
    "a man talks over loud traffic",
    "the sound of a church bell",
    "a very fast rock drum loop",
    "low string chords in a hall",
)
# Measured 3e-6; another order of adding up moves the last digits of float32.
REBUILT = 1e-4


def test_embed_one_text(
    benchmark: Any, engine: Engine, text_peer: TextPeer, subject: Subject, smoke: bool
) -> None:
    """Law: int8 keeps the cosine that its bundle promises, float32 is torch to 1e-4."""
    tokenizer = subject.encoder.tokenizer_json.decode()
    assert {token_count(tokenizer, text) for text in TEXTS} == {8}
    ours = engine.embed_text(TEXTS)
    theirs = np.concatenate([text_peer.embed(text) for text in TEXTS])
    cosine = subjects.cosines(ours, theirs)
    assert cosine.min() >= subject.tolerance
    with clap_engine.load(subject.reference.path, precision="fp32", threads=1) as rebuilt:
        assert np.abs(rebuilt.embed_text(TEXTS) - theirs).max() <= REBUILT

    result = race(
        benchmark,
        lambda text: engine.embed_text([text]),
        text_peer.embed,
        TEXTS,
        rounds=10 if smoke else 300,
    )

    assert subjects.cosines(result.ours, result.peer).min() >= subject.tolerance
    note(
        benchmark,
        "embed one text of 8 tokens",
        "torch eager (BertModel, float32)",
        milliseconds(result.ours_s),
        milliseconds(result.peer_s),
        result.ratio,
        ratio_by_turns=result.ratio_by_turns,
        processor_ratio=result.processor_ratio,
        cosine_min=float(cosine.min()),
        peak_rss_mb=process.peak_mb(
            "text", (subject.bundle.path, [*TEXTS]), (subject.peer_folder, [*TEXTS])
        ),
        subject=subject.name,
    )


def token_count(tokenizer_json: str, text: str) -> int:
    """With the tokens that open and close a text."""
    from tokenizers import Tokenizer

    return len(Tokenizer.from_str(tokenizer_json).encode(text).ids)
