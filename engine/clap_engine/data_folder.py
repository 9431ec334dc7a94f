"""Where a user's own bundles are kept, by the custom of the platform.

In:  the environment, read when asked.
Out: a folder, which need not be there.
Knows nothing about bundles.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

_OURS = "clap-engine"


def models() -> Path:
    """The folder of installed bundles.

    $XDG_DATA_HOME/clap-engine/models, without that variable ~/.local/share; on macOS below
    ~/Library/Application Support, on Windows below %LOCALAPPDATA%.
    """
    return _data_home() / _OURS / "models"


def _data_home() -> Path:
    named = os.environ.get("XDG_DATA_HOME", "")
    if os.path.isabs(named):  # the standard wants others to be ignored
        return Path(named)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support"
    local = os.environ.get("LOCALAPPDATA", "")
    if sys.platform == "win32" and local:
        return Path(local)
    return Path.home() / ".local" / "share"
