"""Text -> token ids: the only module that talks to tokenizers.

In:  str, of any content; the bytes of a tokenizer.json.
Out: input_ids and attention_mask int64 [1, L] per text, trimmed: no padding; ids back as text.
Knows nothing about graphs, bundles or search.

What a text may hold is defined here: control characters, NUL and lone surrogates count as
spaces; a text in which nothing is left for the model to read is refused. The name of a special
token inside a text (`<|endoftext|>`, `[SEP]`) is read as that token, as the models' own
tokenizers do; it moves no end: what closes a text is still what the bundle says.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from tokenizers import Tokenizer

from clap_engine.arrays import Int64
from clap_engine.errors import ClapError, ManifestError, TextError, TruncationWarning
from clap_engine.limits import DEFAULT_LIMITS, Limits
from clap_engine.manifest import TextSpec

_UNREADABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")

T = TypeVar("T")


class TokenIds(NamedTuple):
    """One text for the graph: both int64 [1, L]."""

    input_ids: Int64
    attention_mask: Int64


class TextFrontEnd:
    """The bundle's tokenizer with its prefix, suffix and longest text. Safe in many threads."""

    def __init__(
        self, spec: TextSpec, tokenizer_json: bytes, limits: Limits = DEFAULT_LIMITS
    ) -> None:
        self._spec = spec
        self._limits = limits
        self._tokenizer = _guarded(
            lambda: _load(tokenizer_json),
            lambda error: ManifestError(
                f"{spec.tokenizer} is not a tokenizer ({error}); pack the bundle again"
            ),
        )

    def tokenize(self, texts: Sequence[str]) -> list[TokenIds]:
        """N texts -> N pairs [1, L], L at most max_tokens; TruncationWarning if one is longer."""
        if isinstance(texts, (str, bytes)):
            raise TextError("one text was given where a list is needed; write [text]")
        cleaned = [self._clean(text, i) for i, text in enumerate(texts)]
        pairs = [self._encode(text, i) for i, text in enumerate(cleaned)]
        lengths = [length for _, length in pairs if length > self._spec.max_tokens]
        if lengths:
            warnings.warn(
                f"{len(lengths)} of {len(pairs)} texts have up to {max(lengths)} tokens; the model "
                f"reads {self._spec.max_tokens}, the rest was left out; shorten them",
                TruncationWarning,
                stacklevel=_levels_to_caller(),
            )
        return [token_ids for token_ids, _ in pairs]

    def _clean(self, text: str, index: int) -> str:
        if not isinstance(text, str):
            raise TextError(f"text {index} is {type(text).__name__}; give str")
        if len(text) > self._limits.max_text_chars:
            raise TextError(
                f"text {index} has {len(text)} characters; max_text_chars allows "
                f"{self._limits.max_text_chars}; shorten it"
            )
        cleaned = _UNREADABLE.sub(" ", text).strip()
        if not cleaned:
            raise TextError(f"text {index} is empty; describe a sound in words")
        return cleaned

    def _encode(self, text: str, index: int) -> tuple[TokenIds, int]:
        """The trimmed ids of a cleaned text, and how many there would have been."""
        spec = self._spec
        whole = spec.prefix + text + spec.suffix
        encoding = _guarded(
            lambda: self._tokenizer.encode(whole),
            lambda error: TextError(f"text {index} can't be tokenized: {error}"),
        )
        ids = encoding.ids
        if len(ids) <= spec.max_tokens and not spec.prefix and not spec.suffix:
            special = encoding.special_tokens_mask
            first = encoding.token_to_chars(special.index(0)) if 0 in special else None
            if first is not None and first[0] < first[1]:  # the rule below, where all is plain
                row = np.asarray([ids], np.int64)
                return TokenIds(row, np.ones_like(row)), len(ids)
        # Tokens that belong to the text itself, not to the template or the suffix after it.
        end = len(spec.prefix) + len(text)
        body = [
            place
            for place, (special, (start, stop)) in enumerate(
                zip(encoding.special_tokens_mask, encoding.offsets, strict=True)
            )
            if not special and stop > len(spec.prefix) and start < end and stop > start
        ]
        if not body:
            raise TextError(f"text {index} holds nothing that the model reads; use plain words")
        excess = len(ids) - spec.max_tokens
        if excess > 0 and spec.keep_last:
            ids = ids[: spec.max_tokens - spec.keep_last] + ids[-spec.keep_last :]
        elif excess > 0:
            # The suffix and the closing token stay: the model was trained to end with them.
            last = body[-1] + 1
            ids = ids[: max(last - excess, 0)] + ids[last:]
        row = np.asarray([ids[: spec.max_tokens]], np.int64)
        return TokenIds(row, np.ones_like(row)), len(encoding.ids)


class Detokenizer:
    """Token ids -> text, by the tokenizer that made them. Safe in many threads."""

    def __init__(self, tokenizer_json: bytes, name: str) -> None:
        self._tokenizer = _guarded(
            lambda: _load(tokenizer_json),
            lambda error: ManifestError(
                f"{name} is not a tokenizer ({error}); pack the bundle again"
            ),
        )

    def text(self, ids: Sequence[int]) -> str:
        """Special tokens are written out, bytes that are no UTF-8 become U+FFFD."""
        return _guarded(
            lambda: str(self._tokenizer.decode(list(ids), skip_special_tokens=False)),
            lambda error: TextError(f"token ids can't be turned into text: {error}"),
        )


def _load(tokenizer_json: bytes) -> Any:
    tokenizer = Tokenizer.from_str(tokenizer_json.decode("utf-8"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.encode("sound")  # some broken templates load, and panic at the first text
    return tokenizer


def _levels_to_caller() -> int:
    """Frames from the function that warns to the first one outside the package.

    Python shows a repeated warning once for each line that it blames: that line is the user's.
    """
    levels, frame = 1, sys._getframe(1)
    while frame.f_back and frame.f_globals.get("__name__", "").startswith("clap_engine."):
        levels, frame = levels + 1, frame.f_back
    return levels


def _guarded(work: Callable[[], T], translate: Callable[[str], ClapError]) -> T:
    """`work()`, every failure of the library translated; its panics derive from BaseException."""
    try:
        return work()
    except Exception as error:
        raise translate(_said(error)) from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise translate(_said(error)) from error


def _said(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
