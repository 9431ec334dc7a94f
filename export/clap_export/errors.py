"""Errors of the exporter, leaves of clap_engine's tree.

In:  nothing.
Out: exception classes.
Knows nothing about anything else in the package.
"""

from __future__ import annotations

from clap_engine.errors import ClapError


class CheckpointError(ClapError, ValueError):
    """A checkpoint can't be trusted: damaged, of another version, or with other weights."""


class SourceError(ClapError, FileNotFoundError):
    """A file that a conversion needs is neither here nor on the hub; names where to put it."""


class OutputError(ClapError, FileExistsError):
    """The folder to write is taken."""


class HeadError(ClapError, ValueError):
    """A head file is damaged or fits another source space."""


class PairsError(ClapError, ValueError):
    """A file of sounds and captions, or what it names, can't be trained or measured on."""


class TrainingError(ClapError, ValueError):
    """A run can't go on: another plan's checkpoint, too few clips, values that are not finite."""


class LicenceError(ClapError, PermissionError):
    """What may not be passed on, or can't be told to be free, was to be packed for others."""
