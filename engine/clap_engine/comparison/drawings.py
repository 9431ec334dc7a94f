"""Pictures as SVG text, for a page that needs nothing else.

In:  points, classes, figures.
Out: `<svg>` elements; colours are the page's own variables, so that they suit light and dark.
Knows nothing about models. What comes from outside is escaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from clap_engine.arrays import Float64
from clap_engine.comparison.results import Figure, Separated
from clap_engine.evaluation import Estimate
from clap_engine.tasks.separation import Separation
from clap_engine.tasks.separation_files import ellipse

WIDTH, HEIGHT, EDGE = 460, 400, 40
# More points than this are thinned out, more classes get no outlines.
MOST_POINTS, MOST_OUTLINES = 3_000, 40
# Degrees of hue between two classes: as far apart as can be, however many there are.
GOLDEN = 137.508


def plane(found: Separation, name: str) -> str:
    """The two directions of most variance, a colour for each class."""
    points = _fitted(found.plane.points)
    labels = np.array(found.labels)
    step = -(-len(points) // MOST_POINTS)
    parts = []
    for number, one in enumerate(found.classes):
        mine = points[labels == one.label]
        hue = round(number * GOLDEN % 360)
        dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in mine[::step])
        if len(mine) > 2 and len(found.classes) <= MOST_OUTLINES:
            outline = " ".join(f"{x:.1f},{y:.1f}" for x, y in ellipse(mine, 49))
            dots += f'<polygon points="{outline}"/>'
        said = escape(f"{one.label}: {one.count} clips, silhouette {one.silhouette:.2f}")
        parts.append(f'<g class="class" style="--hue:{hue}"><title>{said}</title>{dots}</g>')
    said = f"{name}: the plane holds {100 * found.plane.share:.0f} % of the variance"
    return _svg(WIDTH, HEIGHT, said, "".join(parts))


def predicted(sides: Sequence[tuple[str, Separated]]) -> str:
    """Accuracy of each class of two clips or more over its silhouette in the plane; a mark of its
    own for each side."""
    ranked = [[point for point in side.classes if point.count > 1] for _, side in sides]
    low = min((point.plane for points in ranked for point in points), default=0.0)
    low = min(low, 0.0)

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - low) / (1.0 - low)
        return EDGE + across * (WIDTH - 2 * EDGE), HEIGHT - EDGE - y * (HEIGHT - 2 * EDGE)

    ends = place(low, 0.0), place(1.0, 1.0)
    (left, bottom), (right, top) = ends
    parts = [
        f'<path class="axis" d="M{left:.0f} {top:.0f}V{bottom:.0f}H{right:.0f}"/>'
        f'<text x="{left:.0f}" y="{bottom + 16:.0f}">{low:.2f}</text>'
        f'<text x="{right:.0f}" y="{bottom + 16:.0f}" class="end">1 silhouette in the plane</text>'
        f'<text x="{left - 6:.0f}" y="{bottom:.0f}" class="end">0</text>'
        f'<text x="{left - 6:.0f}" y="{top + 4:.0f}" class="end">1</text>'
        f'<text x="{left:.0f}" y="{top - 10:.0f}">accuracy of the class</text>'
    ]
    for mark, points in zip(("a", "b"), ranked, strict=True):
        for point in points:
            x, y = place(point.plane, point.accuracy)
            said = escape(f"{point.label}: plane {point.plane:.2f}, right {point.accuracy:.2f}")
            shape = (
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4">' if mark == "a"
                else f'<rect x="{x - 3.5:.1f}" y="{y - 3.5:.1f}" width="7" height="7">'
            )  # fmt: skip
            end = "</circle>" if mark == "a" else "</rect>"
            parts.append(f'<g class="{mark}">{shape}<title>{said}</title>{end}</g>')
    return _svg(WIDTH, HEIGHT, "accuracy of classes over their silhouette", "".join(parts))


def interval(figure: Figure) -> str:
    """Both sides of a figure with their intervals on a line from 0 to 1."""
    parts = ['<path class="axis" d="M4 18H196"/>']
    for mark, one, y in (("a", figure.a, 9), ("b", figure.b, 27)):
        parts.append(f'<g class="{mark}">{_bar(one, y)}</g>')
    said = f"{figure.name}: {figure.a.value:.3f} and {figure.b.value:.3f}"
    return _svg(200, 36, said, "".join(parts))


def _bar(one: Estimate, y: int) -> str:
    def x(value: float) -> float:
        return 4 + 192 * min(max(value, 0.0), 1.0)

    line = ""
    if one.low is not None and one.high is not None:
        line = f'<path d="M{x(one.low):.1f} {y}H{x(one.high):.1f}"/>'
    return f'{line}<circle cx="{x(one.value):.1f}" cy="{y}" r="4"/>'


def _fitted(points: Float64) -> Float64:
    """[N, 2] moved and scaled alike in both directions, so that all lie in the picture."""
    middle = (points.max(axis=0) + points.min(axis=0)) / 2
    reach = max(float(np.ptp(points, axis=0).max()), 1e-9)
    scale = (min(WIDTH, HEIGHT) - 2 * EDGE) / reach
    moved = (points - middle) * scale * np.array([1.0, -1.0])
    return np.asarray(moved + np.array([WIDTH / 2, HEIGHT / 2]), np.float64)


def _svg(width: int, height: int, said: str, body: str) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{escape(said)}">{body}</svg>'
    )
