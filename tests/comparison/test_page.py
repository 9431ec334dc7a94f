"""The page of a comparison: whole, harmless, readable in light and dark, asks for nothing."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clap_engine.comparison import Comparison, compare_rows
from clap_engine.comparison.page import page

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
EVIL = "<script>alert(1)</script>\"&'><img src=x onerror=alert(2)>"
VOID = {"meta", "br", "img", "path", "circle", "rect", "polygon"}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """Classes whose names are attacks."""
    folder = tmp_path_factory.mktemp("rows") / "<b>evil&"
    folder.mkdir()
    rng = np.random.default_rng(0)
    middles = np.repeat(rng.normal(size=(7, 12)), 6, axis=0)
    for name, spread in (("a.npy", 0.2), ("b.npy", 2.0)):
        np.save(folder / name, middles + spread * rng.normal(size=middles.shape))
    names = [f'"{EVIL} {i // 6}"'.replace(EVIL, EVIL.replace('"', '""')) for i in range(42)]
    (folder / "labels.csv").write_text("label\n" + "\n".join(names), "utf-8")
    return compare_rows(folder / "a.npy", folder / "b.npy", folder / "labels.csv", resamples=100)


class Tags(HTMLParser):
    """Every tag with its attributes; fails where they don't nest."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def test_nothing_from_outside_is_a_tag(found: Comparison) -> None:
    """Law: names of classes and files stand in the page as text; there is no script, no handler of
    events, and nothing that would be fetched."""
    text = page(found)
    tags = Tags()
    tags.feed(text)
    assert not tags.open
    assert not {"script", "img", "link", "iframe", "object"} & {tag for tag, _ in tags.seen}
    for _, attributes in tags.seen:
        assert not any(name.startswith("on") or name in ("src", "href") for name in attributes)
    assert "alert(1)" in text
    assert not re.search(r"https?://|url\(|@import", text)
    assert "default-src 'none'" in text


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    tools = pytest.importorskip("playwright.sync_api")
    if BROWSER is None:
        pytest.skip("needs chromium")
    sandbox = [] if os.geteuid() else ["--no-sandbox"]  # chromium refuses root a sandbox
    with tools.sync_playwright() as started:
        running = started.chromium.launch(
            executable_path=BROWSER, args=[*sandbox, "--disable-dev-shm-usage"]
        )
        yield running
        running.close()


def _contrast(page: Any, selector: str) -> float:
    """Of a text with the page's ground, as WCAG 2.1 has it."""
    colours = page.evaluate(
        """(selector) => [document.querySelector(selector), document.body].map((one, i) =>
        getComputedStyle(one)[i ? "backgroundColor" : "color"].match(/[0-9.]+/g).map(Number))""",
        selector,
    )
    lights = []
    for colour in colours:
        linear = [
            c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
            for c in (value / 255 for value in colour[:3])
        ]
        lights.append(float(np.dot(linear, [0.2126, 0.7152, 0.0722])))
    return (max(lights) + 0.05) / (min(lights) + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_in_a_browser(
    browser: Any, found: Comparison, tmp_path: Path, scheme: str, width: int
) -> None:
    """Law: no message in the console, no request, no sideways scrolling, contrast of 4.5 at least,
    pictures with all points inside."""
    path = tmp_path / "page.html"
    path.write_text(page(found), "utf-8")
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 800})
    opened = context.new_page()
    said: list[str] = []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("dialog", lambda dialog: said.append(dialog.message) or dialog.dismiss())
    opened.on("request", lambda asked: asked.url.startswith("file:") or said.append(asked.url))
    opened.goto(path.as_uri())
    assert opened.locator("h1").inner_text().count(".npy") == 2
    assert opened.locator("svg").count() >= 5
    assert opened.locator("svg[role=img][aria-label]").count() == opened.locator("svg").count()
    assert opened.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    for selector in ("h1", "p", "h1 .a", "h1 .b", "td", "figcaption"):
        assert _contrast(opened, selector) >= 4.5, selector
    dark = opened.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (dark == "rgb(255, 255, 255)") == (scheme == "light")
    outside = opened.evaluate(
        """[...document.querySelectorAll("svg circle")].filter((dot) => {
          const frame = dot.ownerSVGElement.viewBox.baseVal;
          const [x, y] = [dot.cx.baseVal.value, dot.cy.baseVal.value];
          return !(x >= 0 && y >= 0 && x <= frame.width && y <= frame.height);
        }).length"""
    )
    assert outside == 0
    context.close()
    assert not said
