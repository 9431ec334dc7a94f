"""May a bundle be passed on? What its licences say, read strictly.

In:  the `licences` of a manifest, the names of its files.
Out: nothing, or LicenceError with the reason.
Knows nothing about towers. No legal advice: it refuses what can't be told, it allows nothing new.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from clap_export.errors import LicenceError

# Weights under these may be passed on unchanged, commercially or not, with their notices.
FREE = frozenset(
    {
        "MIT", "APACHE-2.0", "BSD-2-CLAUSE", "BSD-3-CLAUSE", "CC0-1.0", "CC-BY-4.0", "ISC",
        "MS-PL", "UNLICENSE", "GPL-2.0", "GPL-3.0", "CC-BY-SA-4.0",
    }
)  # fmt: skip
# Each of these wants derived works under itself alone; two different ones can't be met together.
# MS-PL wants that of source code, and the graphs hold what serves as such.
SHARE_ALIKE = frozenset({"MS-PL", "GPL-2.0", "GPL-3.0", "CC-BY-SA-4.0"})
NEEDED_FILES = ("NOTICE",)
_SPLIT = re.compile(r"\s*(?:;|,|\band\b)\s*")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9.-]*\d|MS-PL|MIT|ISC|Unlicense|[A-Za-z][A-Za-z0-9.-]+")


def check_redistributable(licences: Mapping[str, str], files: Iterable[str]) -> None:
    """LicenceError unless every licence of the weights is known, free, and all can be met."""
    weights = licences.get("weights", "")
    found = [_identifier(part) for part in _SPLIT.split(weights) if part.strip()]
    unknown = [name for name in found if name.upper() not in FREE]
    if not found or unknown:
        raise LicenceError(
            f"the weights' licence is {weights!r}; only {', '.join(sorted(FREE))} are known to "
            "allow passing them on. Name it with `convert --weights-licence` if you know it"
        )
    alike = sorted({name.upper() for name in found} & SHARE_ALIKE)
    if len(alike) > 1:
        raise LicenceError(
            f"the weights are under {' and '.join(alike)}, each of which excludes the other; "
            "replace one tower"
        )
    missing = sorted(set(NEEDED_FILES) - set(files))
    if missing:
        raise LicenceError(f"the bundle lacks {', '.join(missing)}; convert it again")


def _identifier(part: str) -> str:
    """The licence's name in `sentence encoder Apache-2.0` or `MS-PL`: the last word that is one."""
    words = [word.strip("()") for word in part.split()]
    known = [word for word in words if word.upper() in FREE]
    return known[-1] if known else part.strip()
