"""The loaded towers of one bundle: made when first needed, given back when long unused.

In:  an opened bundle, how its graphs are to run, how long a tower may lie idle.
Out: encoders, one of each kind; events when one comes or goes.
Knows nothing about sounds, texts or collections.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from clap_engine import hugepages
from clap_engine.bundle import Bundle
from clap_engine.errors import ClosedError, ForkedError
from clap_engine.events import Observer, TowerEvent

if TYPE_CHECKING:
    from clap_engine.caption import Captioner
    from clap_engine.encoders import AudioEncoder, TextEncoder

T = TypeVar("T")


class Towers:
    """Text, audio and caption encoders. Safe in many threads.

    An idle tower is let go of, not closed: a call that still holds it ends as it should, and its
    memory is given back then.
    """

    def __init__(
        self,
        bundle: Bundle,
        settings: Mapping[str, Any],
        observer: Observer,
        *,
        idle_unload_s: float | None = None,
        latency_budget_ms: float | None = None,
    ) -> None:
        """`settings` are keywords of every encoder, `latency_budget_ms` of the two towers'."""
        if idle_unload_s is not None and not idle_unload_s > 0:
            raise ValueError(f"idle_unload_s is {idle_unload_s!r}; give seconds above 0, or None")
        self.bundle = bundle
        self.text_bundle = bundle  # another of the same space, once texts were swapped to it
        self._settings = settings
        self._of_towers = {**settings, "is_wanted": True, "latency_budget_ms": latency_budget_ms}
        self._observer = observer
        self._idle_unload_s = idle_unload_s
        self._loaded: dict[str, Any] = {}
        self._timer: threading.Timer | None = None
        self._renew()
        self._used_s: dict[str, float] = {}
        self._is_closed = False

    @property
    def text(self) -> TextEncoder:
        """The text tower, made by the first call."""
        return self._get("text", lambda: self.made_text(self.text_bundle))

    def made_text(self, bundle: Bundle) -> TextEncoder:
        """A text tower of another bundle, with the same settings."""
        from clap_engine.encoders import TextEncoder

        return TextEncoder(bundle, **self._of_towers)

    def take_text(self, bundle: Bundle, encoder: TextEncoder) -> None:
        """Serve texts by this tower from now on; whoever holds the one before ends with it."""
        with self._making["text"], self._guard:
            is_closed = self._is_closed
            if not is_closed:
                self.text_bundle = bundle
                self._loaded["text"], self._used_s["text"] = encoder, time.monotonic()
                if self._idle_unload_s is not None:
                    self._watch(self._idle_unload_s)
        if is_closed:
            encoder.close()
            self.check_open()

    @property
    def audio(self) -> AudioEncoder:
        """The audio tower, made by the first call."""
        from clap_engine.encoders import AudioEncoder

        return self._get("audio", lambda: AudioEncoder(self.bundle, **self._of_towers))

    @property
    def caption(self) -> Captioner:
        """The captioner, made by the first call."""
        from clap_engine.caption import Captioner

        return self._get("caption", lambda: Captioner(self.bundle, **self._settings))

    @property
    def loaded(self) -> tuple[str, ...]:
        """Names of the towers that are there, sorted."""
        return tuple(sorted(self._loaded))

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._is_closed

    def check_open(self) -> None:
        """ClosedError after `close`; ForkedError in a child that can't use its parent's towers."""
        if self._is_closed:
            raise ClosedError("the engine is closed; call clap_engine.load() again")
        if os.getpid() != self._pid:
            if self._loaded:
                # onnxruntime's threads don't survive fork(): a run in the child waits for ever.
                raise ForkedError(
                    "this engine's towers were loaded before fork(); load an engine in the child, "
                    "or start processes with 'spawn'"
                )
            self._renew()  # another thread of the parent may have held a lock at the fork

    def close(self) -> None:
        """Free all graphs; a second call does nothing."""
        with self._guard:
            self._is_closed = True
            loaded, self._loaded = list(self._loaded.values()), {}
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        for encoder in loaded:
            encoder.close()

    def _renew(self) -> None:
        self._guard = threading.Lock()
        # One each, so that loading a large audio graph holds up no text.
        self._making = {name: threading.Lock() for name in ("text", "audio", "caption")}
        self._timer = None
        self._pid = os.getpid()

    def _get(self, name: str, make: Callable[[], T]) -> T:
        self.check_open()
        encoder: T | None = self._loaded.get(name)
        if encoder is None:
            with self._making[name]:
                encoder = self._loaded.get(name)
                if encoder is None:
                    encoder = self._made(name, make)
        if self._idle_unload_s is not None:
            self._used_s[name] = time.monotonic()
            if self._timer is None:
                with self._guard:
                    self._watch(self._idle_unload_s)
        return encoder

    def _made(self, name: str, make: Callable[[], T]) -> T:
        began_s = time.perf_counter()
        encoder = make()
        with self._guard:
            self._used_s[name] = time.monotonic()
            is_closed = self._is_closed
            if not is_closed:
                self._loaded[name] = encoder
        if is_closed:
            encoder.close()  # type: ignore[attr-defined]
            self.check_open()
        self._observer.tell(TowerEvent(name, True, (time.perf_counter() - began_s) * 1e3))
        return encoder

    def _watch(self, wait_s: float) -> None:
        """Look again in `wait_s`, by one sleeping thread, unless one sleeps already."""
        if self._timer is None and self._loaded and not self._is_closed:
            timer = self._timer = threading.Timer(wait_s, self._unload_idle)
            timer.name, timer.daemon = "clap-engine-idle", True
            timer.start()

    def _unload_idle(self) -> None:
        """Let go of towers that were not used for long; sleep until the next one may be due."""
        limit_s = self._idle_unload_s or 0.0
        with self._guard:
            self._timer = None
            began_s = time.perf_counter()
            left_s = {
                name: self._used_s[name] + limit_s - time.monotonic() for name in self._loaded
            }
            gone = {name: self._loaded.pop(name) for name, left in left_s.items() if left <= 0}
            self._watch(max(0.01, min((left_s[name] for name in self._loaded), default=0.0)))
        if gone:
            names = list(gone)
            gone.clear()  # the graphs go with the last reference
            hugepages.give_back_freed()
            for name in names:
                self._observer.tell(TowerEvent(name, False, (time.perf_counter() - began_s) * 1e3))
