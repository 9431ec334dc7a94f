"""tokenizer.json as msclap uses it, from the files in which GPT-2 and BERT come.

In:  a folder with tokenizer.json, or with vocab.json and merges.txt, or with vocab.txt.
Out: the bytes of one tokenizer.json, without truncation and padding of its own.
Knows nothing about towers or bundles.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clap_engine.errors import ClapError
from clap_export.errors import SourceError
from clap_export.minilm import bare_tokenizer

PAD, SPACE, END_OF_TEXT = 0, 220, 50_256
FILES = {
    "gpt2": ("tokenizer.json", ("vocab.json", "merges.txt")),
    "bert-base-uncased": ("tokenizer.json", ("vocab.txt",)),
}
SIZES = {"gpt2": 50_257, "bert-base-uncased": 30_522}
# Ids that any tokenizer of the model gives, stand-ins included.
CHECKS = {
    "gpt2": ("a! <|endoftext|>", [64, PAD, SPACE, END_OF_TEXT]),
    "bert-base-uncased": ("A", [101, 1037, 102]),
}


class TokenizerError(ClapError, ValueError):
    """A tokenizer is damaged, or not the one that the weights were trained with."""


def read(folder: Path, model: str) -> bytes:
    """The tokenizer of `model` (a key of FILES) from `folder`, as msclap uses it."""
    whole, parts = FILES[model]
    if (folder / whole).is_file():
        data = _bare((folder / whole).read_bytes(), folder / whole)
    elif all((folder / name).is_file() for name in parts):
        first, *more = (_text(folder / name) for name in parts)
        data = _from_bpe(first, more[0], folder) if more else _from_words(first)
    else:
        raise SourceError(missing(model, folder))
    try:
        data = with_pad_token(data) if model == "gpt2" else data
        _check(data, model, folder)
    except (ValueError, TypeError, KeyError) as error:
        if isinstance(error, TokenizerError):
            raise
        raise TokenizerError(f"the tokenizer in {folder} is damaged ({error!r})") from error
    return data


def missing(model: str, folder: Path | None) -> str:
    """What to say where the files of `model` are not at hand."""
    whole, parts = FILES[model]
    where = "no --tokenizer was given" if folder is None else f"{folder} holds no {whole}"
    return (
        f"the tokenizer of {model} is missing ({where}): put {whole}, or {' and '.join(parts)}, "
        f"of https://huggingface.co/{model} into a folder and give --tokenizer FOLDER"
    )


def byte_symbols() -> list[str]:
    """The 256 letters in which byte-level BPE writes bytes, by token id (as GPT-2 numbers them)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(b) for b in printable] + [chr(256 + i) for i in range(256 - len(printable))]


def gpt2_json(vocabulary: Mapping[str, int], merges: Sequence[tuple[str, str]]) -> bytes:
    """tokenizer.json of a byte-level BPE; `vocabulary` may lack the end of text."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    settings = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_special(END_OF_TEXT, "<|endoftext|>", normalized=True)],
        "normalizer": None,
        "pre_tokenizer": {**byte_level, "use_regex": True},
        "post_processor": {**byte_level, "trim_offsets": False, "use_regex": True},
        "decoder": {**byte_level, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {**vocabulary, "<|endoftext|>": END_OF_TEXT},
            # As text, which every release of the tokenizers package reads.
            "merges": [f"{left} {right}" for left, right in merges],
        },
    }
    return with_pad_token(_dump(settings))


def with_pad_token(data: bytes) -> bytes:
    """msclap declares `!` GPT-2's padding, a special token: `!!` is then two tokens, not one."""
    settings = json.loads(data)
    if not any(token["content"] == "!" for token in settings["added_tokens"]):
        settings["added_tokens"].insert(0, _special(PAD, "!", normalized=False))
    return _dump(settings)


def _bare(data: bytes, path: Path) -> bytes:
    try:
        return bare_tokenizer(data)
    except (ValueError, TypeError) as error:
        raise TokenizerError(f"{path} is not a tokenizer ({error}); fetch it again") from error


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise TokenizerError(f"{path} is not UTF-8 text; fetch it again") from error


def _from_bpe(vocabulary: str, merges: str, folder: Path) -> bytes:
    try:
        ids = json.loads(vocabulary)
        lines = [line for line in merges.splitlines() if line and not line.startswith("#version")]
        return gpt2_json(ids, [(a, b) for a, b in (line.split(" ") for line in lines)])
    except (ValueError, TypeError) as error:
        raise TokenizerError(f"vocab.json or merges.txt in {folder} is damaged: {error}") from error


def _from_words(vocabulary: str) -> bytes:
    """BERT's uncased WordPiece from its list of words, one a line."""
    from tokenizers import BertWordPieceTokenizer

    ids = {word: i for i, word in enumerate(vocabulary.splitlines())}
    return bare_tokenizer(BertWordPieceTokenizer(ids, lowercase=True).to_str().encode())


def _check(data: bytes, model: str, folder: Path) -> None:
    """TokenizerError unless a text gives the ids that the weights were trained with."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_str(data.decode())
    except Exception as error:  # tokenizers raises nothing narrower
        raise TokenizerError(f"the tokenizer in {folder} can't be loaded: {error}") from error
    text, wanted = CHECKS[model]
    found = tokenizer.encode(text).ids
    if found[-len(wanted) :] != wanted or tokenizer.get_vocab_size() != SIZES[model]:
        raise TokenizerError(
            f"the tokenizer in {folder} is not {model}'s: {text!r} gives {found}, which should "
            f"end with {wanted}, and it knows {tokenizer.get_vocab_size()} tokens of "
            f"{SIZES[model]}; the weights would read other words than were written"
        )


def _special(token_id: int, content: str, *, normalized: bool) -> dict[str, Any]:
    plain = {"single_word": False, "lstrip": False, "rstrip": False}
    return {"id": token_id, "content": content, **plain, "normalized": normalized, "special": True}


def _dump(settings: Mapping[str, Any]) -> bytes:
    return json.dumps(settings, ensure_ascii=False, separators=(",", ":")).encode()
