"""The kinds of backends under test, and what each needs installed.

In:  nothing.
Out: names of modules; the embedding space of the tests' vectors.
Knows nothing about what backends promise.
"""

from __future__ import annotations

from collections.abc import Callable

from postgres_server import PACKAGE

from clap_engine.backends import Space

SPACE = Space("5" * 64, 512, "fake", "0" * 64)
NEEDS = {
    "local": (),
    "pgvector": ("psycopg", PACKAGE),
    "qdrant-local": ("qdrant_client",),
    "qdrant-edge": ("qdrant_edge",),
}
# Gives the URL of a new place.
Place = Callable[[], str]
