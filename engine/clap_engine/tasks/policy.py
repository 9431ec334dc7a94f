"""What shall not pass: categories of sound, the texts for and against each, and what to do.

In:  the name of a policy that comes along, the path of a JSON file, or its bytes.
Out: `Policy`, every field checked.
Knows nothing about models or sounds.

The file: {"description": "...", "categories": {NAME: {...}}}. A category has `for`, texts of what
is looked for, and perhaps `against`, texts of what must not be taken for it; or, in place of both,
`below_dbfs`, and is then about level alone. The other fields are those of `Category`, by default
as written there. A misspelt field is refused, never ignored.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from clap_engine.errors import NotFoundError, TaskError
from clap_engine.tasks import settings
from clap_engine.tasks.labels import Labels
from clap_engine.tasks.settings import ACTIONS

MAX_CATEGORIES = 1_000
MAX_BYTES = 1024**2


@dataclass(frozen=True)
class Category:
    """One kind of sound: `wanted` are the texts for it, `unwanted` those against.

    A span begins and ends at the probability `release`, must reach `threshold` in between, and
    counts from `min_duration_s` on; spans less than `merge_s` apart are one. The category is met
    if its spans cover at least `min_share` of the sound (0: any span is enough).
    """

    name: str
    wanted: tuple[str, ...] = ()
    unwanted: tuple[str, ...] = ()
    below_dbfs: float | None = None
    threshold: float = 0.85
    release: float = 0.05
    min_duration_s: float = 0.0
    merge_s: float = 1.0
    min_share: float = 0.0
    action: str = "review"


@dataclass(frozen=True)
class Policy:
    """The categories, in the file's order."""

    name: str
    description: str
    categories: tuple[Category, ...]

    @property
    def texts(self) -> Labels:
        """All texts as labels: two a category, for and against; those about level have none."""
        groups = [
            some
            for category in self.categories
            if category.below_dbfs is None
            for some in (category.wanted, category.unwanted)
            if some
        ]
        starts = [sum(map(len, groups[:place])) for place in range(len(groups))]
        return Labels(
            tuple(map(str, range(len(groups)))),
            tuple(text for some in groups for text in some),
            tuple(starts),
        )


def names() -> tuple[str, ...]:
    """The policies that come along."""
    return settings.names("policies")


def load(given: str | os.PathLike[str] | Policy) -> Policy:
    """A policy by its name, or from a file; NotFoundError, or TaskError where it is malformed."""
    if isinstance(given, Policy):
        return given
    path = Path(given)
    if str(given) in names():
        path = settings.data_folder("policies") / f"{given}.json"
    try:
        if path.stat().st_size > MAX_BYTES:
            raise TaskError(f"{path} is larger than the {MAX_BYTES} bytes of a policy")
        return read(path.stem, path.read_bytes())
    except FileNotFoundError as error:
        raise NotFoundError(
            f"{given} is neither a file nor a policy that comes along ({', '.join(names())})"
        ) from error
    except IsADirectoryError as error:
        raise TaskError(f"{given} is a directory; give a policy's file") from error


def read(name: str, data: bytes) -> Policy:
    """A policy from its JSON."""
    try:
        tree = json.loads(data.decode("utf-8"), object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError) as error:
        if isinstance(error, TaskError):
            raise
        raise TaskError(f"policy {name} is no JSON: {error}") from error
    if not isinstance(tree, dict) or tree.keys() != {"description", "categories"}:
        raise TaskError(f"policy {name} must hold description and categories, and nothing else")
    found = tree["categories"]
    if not isinstance(found, dict) or not 1 <= len(found) <= MAX_CATEGORIES:
        raise TaskError(f"policy {name} must hold 1 to {MAX_CATEGORIES} categories by their names")
    categories = tuple(_category(key, value) for key, value in found.items())
    return Policy(name, str(tree["description"]), categories)


_NUMBERS = {
    "threshold": (0.0, 1.0), "release": (0.0, 1.0), "min_duration_s": (0.0, 1e6),
    "merge_s": (0.0, 1e4), "min_share": (0.0, 1.0), "below_dbfs": (-300.0, 0.0),
}  # fmt: skip


def _category(name: str, tree: Any) -> Category:
    """One category, checked."""
    if not name.strip() or not isinstance(tree, dict):
        raise TaskError(f"category {name!r:.60} must have a name and be an object")
    allowed = ({field.name for field in fields(Category)} | {"for", "against"}) - {
        "name", "wanted", "unwanted",
    }  # fmt: skip
    if unknown := sorted(tree.keys() - allowed):
        raise TaskError(
            f"category {name!r:.60} has {unknown[0]!r:.60}; allowed are "
            + ", ".join(sorted(allowed))
        )
    if ("for" in tree) == ("below_dbfs" in tree) or ("against" in tree and "for" not in tree):
        raise TaskError(f"category {name!r:.60} needs either `for` (and `against`) or `below_dbfs`")
    values: dict[str, Any] = {"name": name}
    for key, field in (("for", "wanted"), ("against", "unwanted")):
        if key in tree:
            if not isinstance(tree[key], list):
                raise TaskError(f"`{key}` of category {name!r:.60} must be a list of texts")
            if tree[key] or key == "for":
                values[field] = Labels.of(tree[key], f"`{key}` of category {name!r:.40}").names
    for key, (least, most) in _NUMBERS.items():
        if key in tree:
            values[key] = _number(f"{key} of category {name!r:.60}", tree[key], least, most)
    made = Category(**values, action=tree.get("action", Category.action))
    if made.action not in ACTIONS:
        raise TaskError(f"action of category {name!r:.60} must be one of {', '.join(ACTIONS)}")
    if not 0 < made.release <= made.threshold < 1:
        raise TaskError(f"category {name!r:.60} needs 0 < release <= threshold < 1")
    return made


def _number(what: str, value: Any, least: float, most: float) -> float:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not least <= value <= most:
        raise TaskError(f"{what} is {value!r:.40}; give a number from {least:g} to {most:g}")
    return float(value)


def _no_duplicates(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise TaskError("a key stands twice in the policy; give each once")
    return found
