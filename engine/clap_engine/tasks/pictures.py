"""Pictures without a display: what event timelines and planes of classes are drawn with.

In:  sizes and texts.
Out: matplotlib's figures (extra `plot`), saved as PNG or SVG.
Knows nothing about what is drawn. No state of pyplot is touched.
"""

from __future__ import annotations

import os
import warnings
from typing import Any

from clap_engine.errors import DependencyError, TaskError

SUFFIXES = (".png", ".svg")


def figure(width: float, height: float) -> Any:
    """A matplotlib Figure of so many inches; DependencyError where matplotlib is missing."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise DependencyError(
            "pictures need matplotlib; pip install 'clap-engine[plot]'"
        ) from error
    made = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(made)
    return made


def check_path(path: str | os.PathLike[str]) -> None:
    """TaskError unless the name ends as a picture's does: before anything is computed."""
    if not os.fspath(path).lower().endswith(SUFFIXES):
        raise TaskError(f"{os.fspath(path)} is no name of a picture; end it with .png or .svg")


def words(text: str) -> str:
    """A label as matplotlib shall write it: no mathematics, no control characters."""
    return " ".join(text.split()).replace("$", r"\$")


def save(made: Any, path: str | os.PathLike[str]) -> None:
    """PNG or SVG, by the name's end; characters that the font lacks become boxes."""
    check_path(path)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)
        made.savefig(path, dpi=120)
