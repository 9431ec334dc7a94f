"""One question to a language model behind an OpenAI-compatible API, within a deadline.

In:  an address, a model's name, the name of a variable that holds the key; messages.
Out: the text of the model's reply, or ModelError: nothing else, whatever the other side does.
Knows nothing about answers. What comes back is data: whoever asks must check it.

Over http.client: no redirect is followed, no proxy and no cookie is used, and nothing that the
other side sends names an address. The key is read when it is needed and stands in no message,
log or repr.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from clap_engine.deadline import Deadline
from clap_engine.errors import ClapError, TaskError

_CHUNK = 1 << 14


class ModelError(ClapError, ConnectionError):
    """The model gave nothing that can be used; the message says why, without what it sent."""


@dataclass(frozen=True)
class LanguageModel:
    """Where a language model is reached and what it may take.

    `base_url` is such as "http://127.0.0.1:8080/v1"; `key_env` the variable with its key, which
    may be unset. `timeout_s` is for all that one answer asks of it, `max_bytes` for one reply.
    """

    base_url: str
    model: str
    key_env: str = "OPENAI_API_KEY"
    timeout_s: float = 10.0
    max_bytes: int = 1 << 18
    max_tokens: int = 800

    def __post_init__(self) -> None:
        if not isinstance(self.base_url, str) or not isinstance(self.model, str):
            raise TaskError("base_url and model must be text")
        try:
            parts = urlsplit(self.base_url)
            is_bad = parts.port == 0  # a port that is no number raises
        except ValueError as error:
            raise TaskError(f"the model's address makes no sense ({error})") from error
        is_bad |= parts.scheme not in ("http", "https") or not parts.hostname
        is_bad |= bool(parts.username or parts.password or parts.query or parts.fragment)
        is_bad |= any(not 33 <= ord(char) <= 126 for char in self.base_url)
        if is_bad:
            raise TaskError(
                "the model's address must be http://host/path or https://host/path, without a "
                "name, password, query or fragment; the key belongs into a variable"
            )
        if not self.model or len(self.model) > 256:
            raise TaskError("model must be a name of 1 to 256 characters")
        for name, most in (("timeout_s", 3600), ("max_bytes", 1 << 26), ("max_tokens", 1 << 20)):
            value = getattr(self, name)
            kinds = (int, float) if name == "timeout_s" else (int,)
            is_number = isinstance(value, kinds) and not isinstance(value, bool)
            if not is_number or not 0 < value <= most:
                raise TaskError(f"{name} is {value!r:.40}; give more than 0, at most {most}")

    def reply(self, messages: Sequence[dict[str, str]], deadline: Deadline) -> str:
        """The text of the reply; ModelError when there is none by the deadline.

        The exchange runs in a thread of its own, so that nothing, not even a lookup of the host's
        name, holds the caller longer; its connection is cut when the time is over.
        """
        exchange = _Exchange(self, messages)
        thread = threading.Thread(target=exchange.run, name="clap-engine-model", daemon=True)
        deadline.watch(exchange.done.set)
        try:
            thread.start()
            exchange.done.wait(deadline.remaining_s)
        finally:
            deadline.unwatch(exchange.done.set)
            exchange.cut()
        if exchange.error is not None:
            raise ModelError(exchange.error)
        if exchange.text is None:
            raise ModelError("it gave no reply in time")
        return exchange.text


class _Exchange:
    """One request and its reply; `done` is set when there is a text or an error."""

    def __init__(self, model: LanguageModel, messages: Sequence[dict[str, str]]) -> None:
        self._model = model
        self._messages = list(messages)
        self._guard = threading.Lock()
        self._socket: socket.socket | None = None
        self._is_cut = False
        self.done = threading.Event()
        self.text: str | None = None
        self.error: str | None = None

    def run(self) -> None:
        """Ask; whatever happens ends in `text` or `error`."""
        text: str | None = None
        error: str | None = None
        try:
            text = self._asked()
        except ModelError as found:
            error = str(found)
        except (OSError, http.client.HTTPException, ValueError, RecursionError) as found:
            error = f"the exchange failed ({type(found).__name__})"
        with self._guard:
            if not self._is_cut:
                self.text, self.error = text, error
        self.done.set()

    def cut(self) -> None:
        """End the connection, so that the thread ends soon."""
        with self._guard:
            self._is_cut = True
            if self._socket is not None:
                with suppress(OSError):  # it may have ended already
                    self._socket.shutdown(socket.SHUT_RDWR)

    def _asked(self) -> str:
        parts = urlsplit(self._model.base_url)
        kind = (
            http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        )
        connection = kind(parts.hostname or "", parts.port, timeout=self._model.timeout_s)
        try:
            connection.connect()
            with self._guard:
                self._socket = connection.sock
                if self._is_cut:
                    raise ModelError("it gave no reply in time")
            body = json.dumps(
                {
                    "model": self._model.model,
                    "messages": self._messages,
                    "max_tokens": self._model.max_tokens,
                    "temperature": 0,
                    "stream": False,
                }
            ).encode()
            headers = {"Content-Type": "application/json", "Accept": "application/json"}
            key = os.environ.get(self._model.key_env)
            if key:
                headers["Authorization"] = f"Bearer {key}"
            connection.request("POST", f"{parts.path.rstrip('/')}/chat/completions", body, headers)
            response = connection.getresponse()
            if response.status != 200:
                raise ModelError(f"it answered with status {response.status}, 200 is needed")
            return _content(self._read(response))
        finally:
            with self._guard:
                self._socket = None
            connection.close()

    def _read(self, response: http.client.HTTPResponse) -> bytes:
        data = bytearray()
        while chunk := response.read(min(_CHUNK, self._model.max_bytes + 1 - len(data))):
            data += chunk
            if len(data) > self._model.max_bytes:
                raise ModelError(f"its reply has more than {self._model.max_bytes} bytes")
        return bytes(data)


def _content(data: bytes) -> str:
    """The text in a reply as the API shapes it."""
    try:
        record: Any = json.loads(data)
        content = record["choices"][0]["message"]["content"]
    except (ValueError, RecursionError, KeyError, IndexError, TypeError) as error:
        raise ModelError("its reply is not of the API's shape") from error
    if not isinstance(content, str) or not content.strip():
        raise ModelError("its reply holds no text")
    return content
