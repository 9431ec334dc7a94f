"""Laws of the text front end: trimmed, never silently cut, defined for any string."""

from __future__ import annotations

import json
import random
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tiny_bundle import WORDS, make_files, make_manifest, tokenizer_json
from tokenizers import Tokenizer, models, pre_tokenizers

from clap_engine.bundle import Bundle
from clap_engine.errors import ManifestError, TextError, TruncationWarning
from clap_engine.limits import Limits
from clap_engine.text import TextFrontEnd

SPEC = make_manifest(make_files()).text
CLS, SEP = WORDS.index("[CLS]"), WORDS.index("[SEP]")


@pytest.fixture(scope="module")
def front() -> TextFrontEnd:
    return TextFrontEnd(SPEC, tokenizer_json())


@pytest.fixture(scope="module")
def shipped(bundle: Bundle) -> TextFrontEnd:
    spec = bundle.manifest.text
    return TextFrontEnd(spec, bundle.read(spec.tokenizer))


def ids(front: TextFrontEnd, text: str) -> list[int]:
    ((input_ids, attention_mask),) = front.tokenize([text])
    assert input_ids.dtype == attention_mask.dtype == np.int64
    assert input_ids.shape == attention_mask.shape == (1, input_ids.size)
    assert (attention_mask == 1).all()
    return [int(i) for i in input_ids[0]]


def words(text: str) -> list[int]:
    return [CLS, *(WORDS.index(word) for word in text.split()), SEP]


def test_ids_of_each_text_alone_without_padding(front: TextFrontEnd) -> None:
    texts = ["a slow banjo melody", "dog barks", "rain on a tin roof"]
    assert [list(t.input_ids[0]) for t in front.tokenize(texts)] == [words(t) for t in texts]
    assert front.tokenize([]) == []


def test_case_and_space_do_not_matter(front: TextFrontEnd) -> None:
    assert ids(front, "  A  Slow\tbanjo\r\nMELODY ") == words("a slow banjo melody")


@pytest.mark.parametrize("mark", ["\0", "\x1b", "\x07", "\x7f", "\x85", "\ud800", "\n"])
def test_control_characters_and_surrogates_count_as_spaces(
    front: TextFrontEnd, shipped: TextFrontEnd, mark: str
) -> None:
    assert ids(front, f"{mark}dog{mark}barks{mark}{mark}") == words("dog barks")
    assert ids(shipped, f"dog{mark}barks") == ids(shipped, "dog barks")


@pytest.mark.parametrize("text", ["", " ", "\n\t", "\0\0", "\ud800", "\u3000", "\u200b", "\ufeff"])
def test_a_text_without_words_is_refused(
    front: TextFrontEnd, shipped: TextFrontEnd, text: str
) -> None:
    for one in (front, shipped):
        with pytest.raises(TextError, match="text 1"):
            one.tokenize(["dog", text])


@pytest.mark.parametrize("text", [None, 3, b"dog", ["dog"], np.str_])
def test_what_is_no_text_is_refused(front: TextFrontEnd, text: Any) -> None:
    with pytest.raises(TextError, match="give str"):
        front.tokenize([text])


@pytest.mark.parametrize("texts", ["dog", b"dog"])
def test_one_text_instead_of_a_list_is_refused(front: TextFrontEnd, texts: Any) -> None:
    with pytest.raises(TextError, match="list"):
        front.tokenize(texts)


def test_long_texts_are_refused_by_the_limit() -> None:
    front = TextFrontEnd(SPEC, tokenizer_json(), Limits(max_text_chars=9))
    assert ids(front, "dog barks") == words("dog barks")
    with pytest.raises(TextError, match="max_text_chars allows 9"):
        front.tokenize(["dog barks!"])


def test_truncation_keeps_the_end_mark_and_warns_once(front: TextFrontEnd) -> None:
    longest = " ".join(["dog"] * (SPEC.max_tokens - 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(ids(front, longest)) == SPEC.max_tokens
    with pytest.warns(TruncationWarning, match="2 of 3 texts .* 19 tokens.* reads 16") as caught:
        tokens = front.tokenize([longest + " barks", "dog", longest + " barks" * 3])
    assert [warning.filename for warning in caught] == [__file__]
    assert list(tokens[0].input_ids[0]) == list(tokens[2].input_ids[0]) == words(longest)


def test_ten_thousand_characters_of_one_word_are_bounded(shipped: TextFrontEnd) -> None:
    for text in ("a " * 5_000, "a" * 10_000, "♪" * 10_000, "!" * 10_000):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TruncationWarning)
            (tokens,) = shipped.tokenize([text])
        assert tokens.input_ids.shape[1] <= 128


def test_prefix_and_suffix_surround_the_text_and_survive_truncation() -> None:
    spec = replace(SPEC, prefix="rain ", suffix=" roof !", max_tokens=9)
    front = TextFrontEnd(spec, tokenizer_json())
    assert ids(front, "dog barks") == words("rain dog barks roof !")
    with pytest.warns(TruncationWarning):
        cut = ids(front, "dog " * 8)
    assert cut == words("rain dog dog dog dog roof !")
    with pytest.raises(TextError):
        front.tokenize(["\u200b"])


def test_a_byte_level_suffix_survives_truncation() -> None:
    """The shape of GPT-2's text towers: ' <end>' closes each text, pooled at its last token."""
    letters = pre_tokenizers.ByteLevel.alphabet()
    vocabulary = {letter: place for place, letter in enumerate(sorted(letters))}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens(["<end>"])
    end, space = tokenizer.token_to_id("<end>"), tokenizer.token_to_id("Ġ")
    spec = replace(SPEC, suffix=" <end>", max_tokens=6)
    front = TextFrontEnd(spec, tokenizer.to_str().encode())
    assert ids(front, "dog")[-2:] == [space, end]
    with pytest.warns(TruncationWarning):
        cut = ids(front, "banjo melody")
    assert cut == [*(vocabulary[letter] for letter in "banj"), space, end]


def gpt2_like(**changes: Any) -> tuple[TextFrontEnd, dict[str, int], list[int]]:
    """A byte-level tokenizer whose texts end with ' <|endoftext|>', as GPT-2's towers want it."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: place for place, letter in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens(["<|endoftext|>"])
    spec = replace(SPEC, **{"suffix": " <|endoftext|>", "max_tokens": 8, "keep_last": 2} | changes)
    end = [tokenizer.token_to_id("Ġ"), tokenizer.token_to_id("<|endoftext|>")]
    return TextFrontEnd(spec, tokenizer.to_str().encode()), vocabulary, end


@pytest.mark.parametrize("n", [1, 5, 6, 7, 20, 300])
def test_a_cut_text_keeps_its_last_ids(n: int) -> None:
    front, letters, end = gpt2_like()
    text = ("abcdefghij" * 30)[:n]
    wanted = [*(letters[letter] for letter in text[:6]), *end]
    if n <= 6:
        assert ids(front, text) == wanted
    else:
        with pytest.warns(TruncationWarning, match=f"up to {n + 2} tokens; the model reads 8"):
            assert ids(front, text) == wanted


@pytest.mark.parametrize("keep_last", [0, 1, 2, 4])
def test_keep_last_says_how_many(keep_last: int) -> None:
    front, letters, end = gpt2_like(keep_last=keep_last)
    with pytest.warns(TruncationWarning):
        found = ids(front, "abcdefghij")
    kept = keep_last or 2  # without it the suffix is found by its place
    whole = [*(letters[letter] for letter in "abcdefghij"), *end]
    assert found == whole[: 8 - kept] + whole[-kept:]


@pytest.mark.parametrize("text", ["a <|endoftext|> b", "<|endoftext|>b", "b <|endoftext|>"])
def test_a_special_token_in_a_text_is_read_and_moves_no_end(text: str) -> None:
    front, letters, end = gpt2_like(max_tokens=16)
    parts = text.split("<|endoftext|>")
    left, right = ([letters[letter.replace(" ", "Ġ")] for letter in part] for part in parts)
    assert ids(front, text) == [*left, end[1], *right, *end]
    with pytest.warns(TruncationWarning):
        cut = ids(front, text + "c" * 30)
    assert len(cut) == 16
    assert cut[-2:] == end


def test_a_special_token_alone_is_a_text_or_a_text_error(front: TextFrontEnd) -> None:
    gpt2, _, end = gpt2_like()
    assert ids(gpt2, "<|endoftext|>") == [end[1], *end]
    assert ids(front, "[SEP] dog [PAD]") == [CLS, SEP, WORDS.index("dog"), 0, SEP]


def test_tokens_of_a_text_do_not_depend_on_company_or_threads(shipped: TextFrontEnd) -> None:
    texts = ["a slow banjo melody", "dog", "Glühwürmchen & naïve ♪ 音", "rain on a tin roof, far"]
    alone = [ids(shipped, text) for text in texts]
    assert [list(t.input_ids[0]) for t in shipped.tokenize(texts)] == alone
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda text: ids(shipped, text), texts * 20)) == alone * 20


def with_part(name: str, part: dict[str, Any]) -> bytes:
    """tokenizer.json with another normalizer, template or model; the first two make it panic."""
    return json.dumps({**json.loads(tokenizer_json()), name: part}).encode()


TEMPLATE = json.loads(tokenizer_json())["post_processor"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"\xff\xfe",
        b"null",
        tokenizer_json()[:-30],
        tokenizer_json().replace(b"WordPiece", b"WordPeace"),
        tokenizer_json().replace(b"BertNormalizer", b"\xff"),
        with_part("normalizer", {"type": "Precompiled", "precompiled_charsmap": "AA=="}),
        with_part("post_processor", {**TEMPLATE, "special_tokens": {}}),
        with_part("model", {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "q"}),
    ],
    ids=range(10),
)
def test_what_is_no_tokenizer_is_a_manifest_error(data: bytes) -> None:
    with pytest.raises(ManifestError, match=r"tokenizer\.json"):
        TextFrontEnd(SPEC, data)


class PanicException(BaseException):
    """What pyo3 raises for a panic: no subclass of Exception."""


@pytest.mark.parametrize(
    ("raised", "seen"),
    [
        (PanicException("index out of bounds"), TextError),
        (ValueError("no"), TextError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_panics_are_translated_and_interrupts_are_not(
    raised: BaseException, seen: type[BaseException]
) -> None:
    front = TextFrontEnd(SPEC, tokenizer_json())

    class Broken:
        def encode(self, text: str) -> None:
            raise raised

    front._tokenizer = Broken()
    with pytest.raises(seen):
        front.tokenize(["dog"])


PLANES = [(0x20, 0x7F), (0x80, 0x2FF), (0x300, 0x36F), (0x590, 0x8FF), (0x2000, 0x206F)]
PLANES += [(0x3000, 0x9FFF), (0xAC00, 0xD7FF), (0xD800, 0xDFFF), (0xE000, 0xFFFF)]
PLANES += [(plane << 16, (plane << 16) + 0xFFFF) for plane in range(1, 17)]


def check_every_plane(front: TextFrontEnd, cases: int, seed: int) -> None:
    """Any string gives ids within the limits, or a TextError."""
    shuffled = random.Random(seed)
    read = 0
    for _ in range(cases):
        low, high = shuffled.choice(PLANES)
        size = shuffled.choice((1, 2, 10, 100, 1_000))
        text = "".join(chr(shuffled.randint(low, high)) for _ in range(size))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TruncationWarning)
            try:
                (tokens,) = front.tokenize([text])
            except TextError:
                continue
        read += 1
        assert 3 <= tokens.input_ids.size <= 128
    assert read > cases // 4


def test_every_plane_of_unicode(shipped: TextFrontEnd) -> None:
    check_every_plane(shipped, 500, seed=5)


@pytest.mark.slow
def test_every_plane_of_unicode_in_full(shipped: TextFrontEnd) -> None:
    check_every_plane(shipped, 5_000, seed=6)


def test_ten_megabytes_are_refused_unread(shipped: TextFrontEnd) -> None:
    with pytest.raises(TextError, match="max_text_chars"):
        shipped.tokenize(["a" * 10_000_000])
