"""A comparison as one page of HTML that needs nothing else: no script, no other file, no network.

In:  a `Comparison`.
Out: the page's text; it suits light and dark, wide and narrow.
Knows nothing about how figures are computed. What comes from outside is escaped; the page's own
policy forbids it to fetch or run anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from clap_engine import __version__
from clap_engine.comparison import drawings
from clap_engine.comparison.results import Comparison, Correlation, Model, Separated
from clap_engine.evaluation import Estimate

STYLE = """
:root { color-scheme: light dark; --ink: #1c1c1e; --soft: #5c5c66; --line: #d5d5dc; --paper: #fff;
  --a: #0b62c4; --b: #b3470b; --light: 42%; }
@media (prefers-color-scheme: dark) { :root { --ink: #ececf1; --soft: #a6a6b3; --line: #3c3c46;
  --paper: #17171b; --a: #6cb1ff; --b: #ffa25e; --light: 66%; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
p, figcaption { color: var(--soft); } .a { color: var(--a); } .b { color: var(--b); }
.wide { overflow-x: auto; } table { border-collapse: collapse; }
th, td { padding: .25rem .7rem .25rem 0; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: middle; } td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
.pair { display: flex; flex-wrap: wrap; gap: 1rem; } figure { margin: 0; }
svg { max-width: 100%; height: auto; } svg text { font-size: 12px; fill: var(--soft); }
svg .end { text-anchor: end; } .axis { stroke: var(--line); fill: none; }
.class { fill: hsl(var(--hue) 60% var(--light)); fill-opacity: .6; }
.class polygon { fill: none; stroke: hsl(var(--hue) 60% var(--light)); }
svg .a { fill: var(--a); stroke: var(--a); } svg .b { fill: var(--b); stroke: var(--b); }
"""
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
# A table of thousands of classes helps nobody.
MOST_CLASSES = 300

Row = Sequence[str]


def page(found: Comparison) -> str:
    """The whole document."""
    title = f"{found.a.name} and {found.b.name}"
    parts = [_models(found), _figures(found), _rungs(found), *_separation(found), _speed(found)]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f'<h1><span class="a">{escape(found.a.name)}</span> and '
        f'<span class="b">{escape(found.b.name)}</span></h1>\n'
        f"<p>{escape(_what(found))}</p>\n" + "\n".join(part for part in parts if part)
        + f"\n<p>clap-engine {escape(__version__)}</p>\n</body>\n</html>\n"
    )  # fmt: skip


def _what(found: Comparison) -> str:
    text = f"{found.clips} of {found.listed} clips of {found.data} ({found.layout}, {found.split})"
    text += f", {found.captions} captions" if found.captions else ""
    text += "".join(f", {count} classes of {task}" for task, count in found.classes.items())
    return (
        f"{text}. Intervals of {100 * found.level:.0f} % by bootstrap over clips, "
        f"{found.resamples} draws, seed {found.seed}. Clips that one side can't read are in no "
        "figure of either."
    )


def _models(found: Comparison) -> str:
    def of(model: Model) -> Row:
        return (
            model.name, model.revision[:12], model.precision, str(model.dim),
            *(_mb(size) for size in (model.total_bytes, model.audio_bytes, model.text_bytes)),
        )  # fmt: skip

    header = "model", "revision", "precision", "dims", "MB", "audio graph", "text graph"
    rows = [_marked(mark, of(model)) for mark, model in (("a", found.a), ("b", found.b))]
    return _table(header, rows, numbers=range(3, 7))


def _mb(size: int | None) -> str:
    return "" if size is None else f"{size / 1e6:.1f}"


def _marked(mark: str, row: Row) -> Row:
    """The first cell in the side's colour; all escaped."""
    first, *rest = (escape(cell) for cell in row)
    return f'<span class="{mark}">{first}</span>', *rest


def _figures(found: Comparison) -> str:
    if not found.figures:
        return ""
    rows = [
        (escape(one.name), drawings.interval(one), _shown(one.a), _shown(one.b),
         f"<strong>{_shown(one.difference)}</strong>" if one.is_clear
         else _shown(one.difference))
        for one in found.figures
    ]  # fmt: skip
    header = "figure", "0 to 1", found.a.name, found.b.name, "difference"
    return (
        f"<h2>Figures</h2>\n{_table(header, rows, numbers=(2, 3, 4))}\n"
        "<p>A difference in bold has an interval without 0; it is that of both on the same "
        "clips, drawn together.</p>"
    )


def _shown(one: Estimate) -> str:
    if one.low is None or one.high is None:
        return f"{one.value:.3f}"
    return f"{one.value:.3f} [{one.low:.2f}, {one.high:.2f}]"


def _rungs(found: Comparison) -> str:
    chosen = [name for name in found.rungs[-1].figures
              if name.endswith(("accuracy", "audio mAP@10"))]  # fmt: skip
    rows = []
    for rung in found.rungs:
        agreed = rung.agreement
        dims = str(rung.dim_a) if rung.dim_a == rung.dim_b else f"{rung.dim_a} / {rung.dim_b}"
        pairs = [f"{x:.3f} / {y:.3f}" for x, y in (rung.figures[name] for name in chosen)]
        shares = (agreed.same_class, agreed.only_a, agreed.only_b, agreed.same_first,
                  agreed.neighbours)  # fmt: skip
        rows.append((dims, *pairs, *("" if s is None else f"{s:.3f}" for s in shares)))
    header = ("dims", *chosen, "same class", "only a right", "only b right",
              "same clip first", "same neighbours")  # fmt: skip
    return f"<h2>Agreement by rung</h2>\n{_table(header, rows, numbers=range(len(header)))}"


def _separation(found: Comparison) -> Iterable[str]:
    if found.separation is None:
        return
    sides = [("a", found.a.name, found.separation[0]), ("b", found.b.name, found.separation[1])]
    rows = [_marked(mark, (name, *_separated(side))) for mark, name, side in sides]
    header = ("model", "silhouette", "purity", "Fisher", "Davies-Bouldin", "nearest middle",
              "plane tells accuracy", "all dims tell it")  # fmt: skip
    yield f"<h2>Separation of {found.separated} clips</h2>\n" + _table(
        header, rows, numbers=range(1, 8)
    )
    planes = [
        f'<figure>{drawings.plane(side.figures, name)}<figcaption><span class="{mark}">'
        f"{escape(name)}</span>: the plane holds {100 * side.figures.plane.share:.0f} % of the "
        "variance</figcaption></figure>"
        for mark, name, side in sides
    ]
    yield f'<div class="pair">{"".join(planes)}</div>'
    yield (
        "<h2>Does the picture predict accuracy?</h2>\n<figure>"
        f"{drawings.predicted([(name, side) for _, name, side in sides])}</figure>\n<p>Each mark "
        f"is a class ({escape(sides[0][2].accuracy_of)} accuracy). Rank correlations over classes "
        "stand in the table above; an interval that holds 0 says that the picture tells "
        "nothing.</p>"
    )
    confused = [
        (f'<span class="{mark}">{escape(name)}</span>', escape(one.label),
         escape(one.taken_for), f"{one.count} of {one.count / one.share:.0f}")
        for mark, name, side in sides for one in side.figures.confusions[:10]
    ]  # fmt: skip
    if confused:
        yield "<h2>Taken for each other</h2>\n" + _table(
            ("model", "class", "taken for", "clips"), confused, numbers=(3,)
        )
    yield _classes(found, sides)


def _separated(side: Separated) -> Row:
    figures = side.figures
    return (
        f"{figures.silhouette:.3f}", f"{figures.purity:.3f}", _optional(figures.fisher),
        _optional(figures.davies_bouldin), f"{figures.accuracy:.3f}",
        _correlation(side.plane_tells), _correlation(side.all_dims_tell),
    )  # fmt: skip


def _optional(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"


def _correlation(one: Correlation | None) -> str:
    return "none" if one is None else f"{one.rho:.2f} [{one.low:.2f}, {one.high:.2f}]"


def _classes(found: Comparison, sides: Sequence[tuple[str, str, Separated]]) -> str:
    (_, _, a), (_, _, b) = sides
    other = {point.label: point for point in b.classes}
    rows = [
        (escape(one.label), str(one.count), f"{one.accuracy:.2f}", f"{two.accuracy:.2f}",
         f"{one.plane:.2f}", f"{two.plane:.2f}", f"{one.all_dims:.2f}", f"{two.all_dims:.2f}")
        for one in a.classes[:MOST_CLASSES]
        if (two := other.get(one.label)) is not None
    ]  # fmt: skip
    header = ("class", "clips", "right a", "right b", "plane a", "plane b", "all dims a",
              "all dims b")  # fmt: skip
    left = f" (the first {MOST_CLASSES})" if len(a.classes) > MOST_CLASSES else ""
    return (
        f"<details><summary>{len(a.classes)} classes{left}</summary>\n"
        f"{_table(header, rows, numbers=range(1, 8))}</details>"
    )


def _speed(found: Comparison) -> str:
    if not found.speed:
        return ""
    rows = [
        (escape(name), f"{one.a_ms:.2f}", f"{one.b_ms:.2f}", f"{one.ratio:.2f}", str(one.calls))
        for name, one in found.speed.items()
    ]
    header = "one", f"{found.a.name}, ms", f"{found.b.name}, ms", "b / a", "calls"
    return (
        f"<h2>Speed</h2>\n{_table(header, rows, numbers=range(1, 5))}\n"
        "<p>Medians, in alternating bursts in one process, on the machine that made this page.</p>"
    )


def _table(header: Row, rows: Iterable[Row], numbers: Iterable[int] = ()) -> str:
    """Cells are HTML already; header cells are texts."""
    right, aligned = set(numbers), ' class="n"'

    def line(kind: str, cells: Row) -> str:
        return "".join(
            f"<{kind}{aligned if i in right else ''}>{cell}</{kind}>"
            for i, cell in enumerate(cells)
        )

    body = "".join(f"<tr>{line('td', row)}</tr>" for row in rows)
    head = line("th", [escape(cell) for cell in header])
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="wide">{table}</div>'
