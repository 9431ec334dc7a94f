"""Tokenizers for tests and benchmarks, where the models' own files are not at hand.

In:  nothing; BERT's vocabulary comes from the sentence encoder's package.
Out: tokenizer.json as bytes.
Knows nothing about the words that real tokenizers know.
"""

from __future__ import annotations

import json
from itertools import product
from string import ascii_lowercase

from clap_export import minilm
from clap_export.corpus import lexicon
from clap_export.msclap import tokenizer


def gpt2_tokenizer_json() -> bytes:
    """50,257 tokens in GPT-2's form: 0 is `!`, 220 the lone space, 50256 the end of text.

    Words of the corpus are one token each, as GPT-2's frequent words are; the rest is filler.
    """
    symbols = tokenizer.byte_symbols()
    vocabulary = {symbol: i for i, symbol in enumerate(symbols)}
    merges: list[tuple[str, str]] = []

    def add(left: str, right: str) -> None:
        if left + right not in vocabulary and len(vocabulary) < tokenizer.END_OF_TEXT:
            vocabulary[left + right] = len(vocabulary)
            merges.append((left, right))

    known = lexicon.load().known
    words = [word for name in sorted(known) for phrase in known[name] for word in phrase.split()]
    plain = dict.fromkeys(w for w in words if w.isascii() and w.isalpha())
    for start, word in product(("Ġ", ""), plain):
        left = start + word[0] if start else word[0]
        if start:
            add(start, word[0])
        for letter in word[1:]:
            add(left, letter)
            left += letter
    pairs = ["".join(pair) for pair in product(ascii_lowercase, repeat=2)]
    for first, second in product(ascii_lowercase, repeat=2):
        add(first, second)
    for left, right in product(pairs, pairs):
        add(left, right)
    return tokenizer.gpt2_json(vocabulary, merges)


def roberta_tokenizer_json() -> bytes:
    """GPT-2's stand-in under RoBERTa's numbering: <s> 0, <pad> 1, </s> 2, <unk> 3."""
    settings = json.loads(gpt2_tokenizer_json())
    own = ("<s>", "<pad>", "</s>", "<unk>")
    model = settings["model"]
    old = sorted(model["vocab"], key=model["vocab"].__getitem__)[:-1]  # without the end of text
    names = [*own, *old]
    model["vocab"] = {name: i for i, name in enumerate(names)}
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": True}
    settings["added_tokens"] = [
        {"id": i, "content": name, **plain, "special": True} for i, name in enumerate(own)
    ]
    settings["post_processor"] = {
        "type": "RobertaProcessing",
        "sep": ["</s>", 2],
        "cls": ["<s>", 0],
        "trim_offsets": True,
        "add_prefix_space": False,
    }
    return json.dumps(settings, ensure_ascii=False, separators=(",", ":")).encode()


def bert_tokenizer_json() -> bytes:
    """The uncased WordPiece vocabulary of MiniLM, which is BERT's own."""
    return minilm.load().tokenizer_json
