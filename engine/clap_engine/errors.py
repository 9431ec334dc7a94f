"""The error tree: one root, and each error is also the builtin that a caller would expect.

In:  nothing.
Out: exception and warning classes.
Knows nothing about anything else in the package.
"""

from __future__ import annotations


class ClapError(Exception):
    """Root of every error that clap-engine raises on purpose."""


class DependencyError(ClapError, ImportError):
    """An optional library is missing, or two that exclude each other are installed."""


class AudioError(ClapError, ValueError):
    """A sound cannot be read, or lies outside the limits."""


class TextError(ClapError, ValueError):
    """A text is empty or lies outside the limits."""


class ArrayError(ClapError, ValueError):
    """An array has the wrong shape, dtype or a value that is not finite."""


class DimError(ClapError, ValueError):
    """A dim is not a rung of the ladder."""


class ManifestError(ClapError, ValueError):
    """A bundle's manifest is malformed or asks for something that is not allowed."""


class IntegrityError(ClapError, OSError):
    """Bytes on disk differ from what was written: torn, rotten or swapped."""


class DownloadError(ClapError, ConnectionError):
    """A file could not be fetched whole: not there, too long, too slow or cut off."""


class InstallError(ClapError, ValueError):
    """A bundle can't be installed as asked: its name is taken, or makes no sense."""


class NotFoundError(ClapError, FileNotFoundError):
    """A bundle, collection or file that was named does not exist."""


class GraphError(ClapError, RuntimeError):
    """onnxruntime refused a graph or failed while it ran."""


class CollectionError(ClapError, ValueError):
    """A collection was asked for something that it cannot do."""


class TaskError(ClapError, ValueError):
    """A task was given labels, examples, a policy or a setting that is not allowed."""


class FilterError(CollectionError):
    """A metadata filter is malformed or asks for something that is not allowed."""


class SpaceMismatchError(CollectionError):
    """A collection was made in another embedding space than the bundle's."""


class LockedError(ClapError, BlockingIOError):
    """Another process writes to this collection."""


class ClosedError(ClapError, RuntimeError):
    """The object was closed before this call."""


class OverloadedError(ClapError, RuntimeError):
    """More calls are in flight than the limits allow; nothing was begun, try again later."""


class DeadlineError(ClapError, TimeoutError):
    """A call did not end within its `timeout_s`; nothing was half done.

    Where clips were added, `report` is the AddReport of those that are there.
    """

    report: object = None


class ForkedError(ClapError, RuntimeError):
    """A native handle opened before fork() was used in the child process."""


class TruncationWarning(UserWarning):
    """A text had more tokens than the model reads; the rest was left out."""


class PrecisionWarning(UserWarning):
    """Another precision than the best for this machine was chosen."""


class RebuildWarning(UserWarning):
    """A derived file of a collection was torn, stale or corrupt and is being rebuilt."""
