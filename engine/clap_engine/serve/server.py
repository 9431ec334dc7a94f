"""One server from its start to its graceful end.

In:  an engine, an open collection, settings.
Out: requests served until SIGTERM or SIGINT; those under way then are finished.
Knows nothing about the command line.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn

from clap_engine.collection import Collection
from clap_engine.engine import Engine
from clap_engine.errors import CollectionError
from clap_engine.serve.app import app_of
from clap_engine.serve.fleet import Fleet, Lifeline
from clap_engine.serve.metrics import Tally
from clap_engine.serve.protocol import MAX_HEAD_BYTES, protocol_of
from clap_engine.serve.settings import Settings


def check_settings(settings: Settings) -> None:
    """Refuses to serve the whole network without a key."""
    if not settings.is_loopback and not settings.api_keys:
        raise CollectionError(
            f"{settings.host} is reachable from other machines and there is no API key; give "
            "--api-key-file, set CLAP_ENGINE_API_KEY, or serve 127.0.0.1"
        )


class Server(uvicorn.Server):
    """Tells when it answers; `should_exit = True` ends it gracefully, as a signal does."""

    on_ready: Callable[[], None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listens, then tells."""
        await super().startup(sockets)
        if self.on_ready is not None:
            self.on_ready()


def server_of(
    engine: Engine,
    sounds: Collection,
    settings: Settings,
    tally: Tally | None = None,
    place: int = 0,
) -> Server:
    """The server, not yet running; see `app_of`."""
    config = uvicorn.Config(
        app_of(engine, sounds, settings, tally, place),
        http=protocol_of(settings),
        loop="auto" if settings.is_native else "asyncio",
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=round(settings.idle_timeout_s),
        timeout_graceful_shutdown=round(settings.grace_s),
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
    )
    return Server(config)


def run(
    engine: Engine, sounds: Collection, settings: Settings, on_ready: Callable[[str], None]
) -> None:
    """Serve until a signal comes; `on_ready` is told the address when requests are answered."""
    check_settings(settings)
    with listening(settings) as (listener, address):
        if settings.workers > 1:
            _run_many(engine, sounds, settings, listener, lambda: on_ready(address))
            return
        with _signals_end_gracefully():
            server = server_of(engine, sounds, settings)
            server.on_ready = lambda: on_ready(address)
            server.run(sockets=[listener])


def _run_many(
    engine: Engine,
    sounds: Collection,
    settings: Settings,
    listener: socket.socket,
    on_ready: Callable[[], None],
) -> None:
    """The same by several processes; a snapshot is opened here, and they share its memory."""
    tally = Tally(settings.workers)

    def serve(place: int, lifeline: Lifeline) -> None:
        # Connections to a live collection don't outlive a fork: each opens it for itself.
        own = sounds if sounds.is_snapshot else engine.collection(sounds.path, read_only=True)
        with own, _signals_end_gracefully():
            server = server_of(engine, own, settings, tally, place)
            server.on_ready = lifeline.ready
            lifeline.watch(lambda: setattr(server, "should_exit", True))
            server.run(sockets=[listener])

    fleet = Fleet(
        settings.workers, serve, grace_s=settings.grace_s + 5.0, on_replaced=tally.replaced
    )
    fleet.run(on_ready)


@contextmanager
def listening(settings: Settings) -> Iterator[tuple[socket.socket, str]]:
    """A socket that listens, and its address; CollectionError where the port is taken."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # asyncio turns Nagle's algorithm off only where the protocol is named: without, a response of
    # two writes waits 40 ms for the client's acknowledgement of the first.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((settings.host, settings.port))
        listener.listen(256)
    except (OSError, OverflowError) as error:
        listener.close()
        raise CollectionError(
            f"{settings.host}:{settings.port} can't be served: {error}; choose another --port"
        ) from error
    with listener:
        host, port = listener.getsockname()[:2]
        name = f"[{host}]" if family == socket.AF_INET6 else host
        yield listener, f"http://{name}:{port}"


@contextmanager
def _signals_end_gracefully() -> Iterator[None]:
    """uvicorn raises the signal that ended it once more: nobody shall die of it."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in kept:
        signal.signal(number, lambda *_: None)
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
