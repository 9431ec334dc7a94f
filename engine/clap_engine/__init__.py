"""The lean runtime: embed, search and describe sound by words, without PyTorch.

In:  nothing at import; `load()` opens a bundle.
Out: the names below, each imported when it is first used.
Knows nothing about any library that takes time to import.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clap_engine.async_collection import AsyncCollection as AsyncCollection
    from clap_engine.async_engine import AsyncEngine as AsyncEngine
    from clap_engine.clips import ClipWindows as ClipWindows
    from clap_engine.deadline import Deadline as Deadline
    from clap_engine.engine import Engine as Engine
    from clap_engine.errors import ArrayError as ArrayError
    from clap_engine.errors import AudioError as AudioError
    from clap_engine.errors import ClapError as ClapError
    from clap_engine.errors import ClosedError as ClosedError
    from clap_engine.errors import CollectionError as CollectionError
    from clap_engine.errors import DeadlineError as DeadlineError
    from clap_engine.errors import DependencyError as DependencyError
    from clap_engine.errors import DimError as DimError
    from clap_engine.errors import DownloadError as DownloadError
    from clap_engine.errors import FilterError as FilterError
    from clap_engine.errors import ForkedError as ForkedError
    from clap_engine.errors import GraphError as GraphError
    from clap_engine.errors import InstallError as InstallError
    from clap_engine.errors import IntegrityError as IntegrityError
    from clap_engine.errors import LockedError as LockedError
    from clap_engine.errors import ManifestError as ManifestError
    from clap_engine.errors import NotFoundError as NotFoundError
    from clap_engine.errors import OverloadedError as OverloadedError
    from clap_engine.errors import PrecisionWarning as PrecisionWarning
    from clap_engine.errors import RebuildWarning as RebuildWarning
    from clap_engine.errors import SpaceMismatchError as SpaceMismatchError
    from clap_engine.errors import TaskError as TaskError
    from clap_engine.errors import TextError as TextError
    from clap_engine.errors import TruncationWarning as TruncationWarning
    from clap_engine.limits import Limits as Limits
    from clap_engine.loading import load as load
    from clap_engine.migration import migrate as migrate
    from clap_engine.query import Clip as Clip
    from clap_engine.query import Near as Near
    from clap_engine.query import Query as Query

__version__ = "0.2.0"

_ERRORS = (
    "ArrayError",
    "AudioError",
    "ClapError",
    "ClosedError",
    "CollectionError",
    "DeadlineError",
    "DependencyError",
    "DimError",
    "DownloadError",
    "FilterError",
    "ForkedError",
    "GraphError",
    "InstallError",
    "IntegrityError",
    "LockedError",
    "ManifestError",
    "NotFoundError",
    "OverloadedError",
    "PrecisionWarning",
    "RebuildWarning",
    "SpaceMismatchError",
    "TaskError",
    "TextError",
    "TruncationWarning",
)
_HOME = {
    "AsyncCollection": "clap_engine.async_collection",
    "AsyncEngine": "clap_engine.async_engine",
    "Clip": "clap_engine.query",
    "ClipWindows": "clap_engine.clips",
    "Deadline": "clap_engine.deadline",
    "Engine": "clap_engine.engine",
    "Limits": "clap_engine.limits",
    "Near": "clap_engine.query",
    "Query": "clap_engine.query",
    "load": "clap_engine.loading",
    "migrate": "clap_engine.migration",
    **dict.fromkeys(_ERRORS, "clap_engine.errors"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'clap_engine' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
