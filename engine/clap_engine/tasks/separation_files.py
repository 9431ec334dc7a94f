"""Embeddings that are ready, and the picture of a separation.

In:  an .npy of rows with a CSV of labels; a `Separation`.
Out: rows and labels; a PNG or SVG, drawn by matplotlib (extra `plot`).
Knows nothing about how figures are computed.
"""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import numpy as np

from clap_engine.arrays import Float32, Float64, check_array
from clap_engine.errors import NotFoundError, TaskError
from clap_engine.tasks import pictures
from clap_engine.tasks.separation import Separation

COLUMN = "label"
# Two standard deviations: nine tenths of a normal class (86 % in a plane).
DEVIATIONS = 2.0
COLOURS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f",
           "#bcbd22", "#17becf")  # fmt: skip


def read_rows(
    rows: str | os.PathLike[str], labels: str | os.PathLike[str]
) -> tuple[Float32, list[str]]:
    """(rows [N, D], labels): an .npy without pickles, a CSV with a column `label`, in its order."""
    try:
        array = np.load(rows, allow_pickle=False)
    except FileNotFoundError as error:
        raise NotFoundError(f"{rows} does not exist; give rows as .npy") from error
    except (ValueError, OSError, EOFError) as error:
        raise TaskError(f"{rows} is no .npy of numbers ({error})") from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise TaskError(f"{rows} holds several arrays; give an .npy with the rows alone")
    try:
        with Path(labels).open(newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream)
            if COLUMN not in (reader.fieldnames or ()):
                raise TaskError(f"{labels} has no column {COLUMN!r}; its first line names columns")
            found = [str(row[COLUMN] or "") for row in reader]
    except FileNotFoundError as error:
        raise NotFoundError(f"{labels} does not exist; give labels as CSV") from error
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise TaskError(f"{labels} is no CSV in UTF-8 ({error})") from error
    return check_array(array, shape=(len(found), None), name=str(rows)), found


def plot(found: Separation, path: str | os.PathLike[str], *, title: str = "") -> None:
    """Rows as points of the plane, and each class' ellipse of two standard deviations."""
    figure = pictures.figure(8, 7)
    axes = figure.add_subplot()
    labels = np.array(found.labels)
    for number, one in enumerate(found.classes):
        points = found.plane.points[labels == one.label]
        colour = COLOURS[number % len(COLOURS)]
        name = f"{pictures.words(one.label)} ({one.count})"
        axes.scatter(points[:, 0], points[:, 1], s=12, color=colour, alpha=0.6, label=name)
        if len(points) > 2:
            outline = ellipse(points)
            axes.plot(outline[:, 0], outline[:, 1], color=colour, linewidth=1.5)
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_title(
        f"{pictures.words(title)}: silhouette {found.silhouette:.2f}, purity {found.purity:.2f}; "
        f"the plane holds {100 * found.plane.share:.0f} % of the variance",
        fontsize=10,
    )
    if len(found.classes) <= 40:
        axes.legend(fontsize=7, ncols=1 + len(found.classes) // 20, loc="best")
    pictures.save(figure, path)


def ellipse(points: Float64, steps: int = 73) -> Float64:
    """[n, 2] -> [steps, 2], the outline of DEVIATIONS standard deviations."""
    values, vectors = np.linalg.eigh(np.cov(points.T))
    angle = np.linspace(0, 2 * np.pi, steps)
    circle = np.stack([np.cos(angle), np.sin(angle)])
    axes: Any = vectors * np.sqrt(np.maximum(values, 0.0)) * DEVIATIONS
    return np.asarray(points.mean(axis=0) + (axes @ circle).T, np.float64)
