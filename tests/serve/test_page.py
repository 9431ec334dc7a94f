"""The page in a real browser: type, see, play, drop, follow a link; by keyboard, on a phone."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from served import Client, Serving

playwright = pytest.importorskip("playwright.sync_api")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs chromium")
DROP = """([name, data]) => {
  const bytes = Uint8Array.from(atob(data), (char) => char.charCodeAt(0));
  const moved = new DataTransfer();
  moved.items.add(new File([bytes], name, { type: "audio/wav" }));
  document.getElementById("drop").dispatchEvent(
    new DragEvent("drop", { bubbles: true, cancelable: true, dataTransfer: moved }));
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sandbox = [] if os.geteuid() else ["--no-sandbox"]  # chromium refuses root a sandbox
    options = [*sandbox, "--autoplay-policy=no-user-gesture-required", "--disable-dev-shm-usage"]
    with playwright.sync_playwright() as tools:
        running = tools.chromium.launch(executable_path=BROWSER, args=options)
        yield running
        running.close()


@pytest.fixture
def page(browser: Any, server: Serving) -> Iterator[Any]:
    """A page whose console stays silent and that asks no other server for anything."""
    base = f"http://127.0.0.1:{server.client.port}"
    context = browser.new_context(base_url=base, viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    said: list[str] = []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("request", lambda request: _is_own(request.url, base) or said.append(request.url))
    yield opened
    context.close()
    assert not said


def _is_own(url: str, base: str) -> bool:
    return url.startswith((base, "data:", f"blob:{base}"))


def _keys(page: Any) -> list[str]:
    page.wait_for_selector(".hit")
    return [str(row.get_attribute("data-key")) for row in page.locator(".hit").all()]


def _until(page: Any, expression: str) -> None:
    """Wait for it to be true; playwright's own way evaluates text in the page, which may not."""
    deadline = time.monotonic() + 20
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, f"never true: {expression}"
        page.wait_for_timeout(20)


def _until_it_shows(page: Any, keys: list[str]) -> None:
    """Wait for these hits: the first of two answers may be the same clip."""
    shown = "[...document.querySelectorAll('.hit')].map((row) => row.dataset.key)"
    _until(page, f"JSON.stringify({shown}) === JSON.stringify({json.dumps(keys)})")


def _found(client: Client, body: dict[str, Any]) -> list[str]:
    return [hit["key"] for hit in client.post("/v1/search", body).json["hits"]]


def test_type_and_see(page: Any, client: Client) -> None:
    page.goto("/")
    _until(page, "document.activeElement.id === 'text'")  # keys pressed before go nowhere
    page.keyboard.type("a steady tone")
    page.keyboard.press("Enter")
    assert _keys(page) == _found(client, {"text": "a steady tone"})
    assert re.fullmatch(r"9 hits in [\d.]+ ms", page.inner_text("#status"))
    assert "text" in page.get_attribute("#timings", "aria-label")
    assert page.locator("#timings i").count() >= 4
    assert "kind" in page.locator(".hit .facts").first.inner_text()
    assert page.evaluate("location.hash") == "#text=a+steady+tone"


def test_exclude_filter_and_count(page: Any, client: Client) -> None:
    page.goto("/")
    page.fill("#text", "a tone")
    page.fill("#negatives", "white noise, a dog")
    page.fill("#filters", "kind = nois, year >= 1966")
    page.select_option("#k", "5")
    page.keyboard.press("Tab")
    page.click("#go")
    body = {"text": "a tone", "negatives": ["white noise", "a dog"], "k": 5,
            "filters": {"and": [{"kind": "nois"}, {"year": {">=": 1966}}]}}  # fmt: skip
    _until(page, "document.querySelectorAll('.hit').length === 2")
    assert _keys(page) == _found(client, body)
    page.fill("#filters", "year ~ 1")
    page.click("#go")
    page.wait_for_selector("#status.bad")
    assert "not understood" in page.inner_text("#status")
    page.fill("#filters", "{year")
    page.click("#go")
    _until(page, "document.getElementById('status').textContent.includes('no JSON')")


def test_follow_a_link_and_go_back(page: Any, client: Client) -> None:
    page.goto("/#text=rain&negatives=wind&k=5")
    first = _keys(page)
    assert first == _found(client, {"text": "rain", "negatives": ["wind"], "k": 5})
    assert page.input_value("#negatives") == "wind"
    page.locator(".hit .side button").nth(2).click()
    _until(page, "location.hash.includes('near')")
    alike = _found(client, {"near": first[2], "negatives": ["wind"], "k": 5})
    assert alike != first
    _until_it_shows(page, alike)
    assert page.inner_text("#near-key") == first[2]
    page.go_back()
    _until(page, "document.getElementById('text').value === 'rain'")
    _until_it_shows(page, first)


def test_play_from_the_matching_span(page: Any, client: Client) -> None:
    page.goto("/#near=long.wav")
    page.wait_for_selector(".hit audio")
    hit = client.post("/v1/search", {"near": "long.wav", "k": 1}).json["hits"][0]
    row = page.locator(".hit").first
    assert row.get_attribute("data-key") == "long.wav"
    player = row.locator("audio")
    assert float(player.get_attribute("data-start")) == hit["start_s"]
    _until(page, "document.querySelector('.hit audio').readyState >= 1")
    player.evaluate("one => { one.muted = true; return one.play(); }")
    _until(page, f"document.querySelector('.hit audio').currentTime > {hit['start_s']} + 0.02")
    other = page.locator(".hit audio").nth(1)
    other.evaluate("one => { one.muted = true; return one.play(); }")
    _until(page, "document.querySelector('.hit audio').paused")


def test_drop_a_sound(page: Any, sounds_root: Path) -> None:
    page.goto("/")
    data = base64.b64encode((sounds_root / "noise-3.wav").read_bytes()).decode()
    _until(page, "document.getElementById('about').textContent !== ''")
    page.evaluate(DROP, ["mine.wav", data])
    assert _keys(page)[0] == "noise-3.wav"
    assert page.inner_text("#chosen-name") == "mine.wav"
    assert "decode" in page.get_attribute("#timings", "aria-label")
    page.click("#forget")
    assert not page.is_visible("#chosen")


def test_choose_a_file_that_is_no_sound(browser: Any, server: Serving, tmp_path: Path) -> None:
    """The refusal is shown; the browser's own console tells of the status, too."""
    (tmp_path / "notes.wav").write_text("no sound")
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{server.client.port}/")
    page.set_input_files("#file", tmp_path / "notes.wav")
    page.wait_for_selector("#status.bad")
    assert "can be read" in page.inner_text("#status")
    context.close()


def test_the_map_shows_hits_and_leads_to_clips(page: Any) -> None:
    page.goto("/#text=a+tone")
    keys = _keys(page)
    page.wait_for_selector("#map[aria-label*=hits]")
    assert f"1: {keys[0]}" in page.get_attribute("#map", "aria-label")
    assert "9 of 9 clips" in page.inner_text("#map-note")
    page.focus("#map")
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#tip") == keys[0]
    assert page.locator(".hit.lit").get_attribute("data-key") == keys[0]
    page.keyboard.press("Enter")
    _until(page, f"document.getElementById('near-key').textContent === {json.dumps(keys[0])}")
    assert page.evaluate("location.hash").startswith("#near=")


def test_all_is_reached_by_keyboard_and_has_a_name(page: Any) -> None:
    page.goto("/#text=a+tone")
    _keys(page)
    nameless = page.evaluate("""() => [...document.querySelectorAll(
        "input, select, button, audio, canvas, [tabindex='0']")].filter((one) => one.offsetParent
        && !(one.labels && one.labels.length) && !one.getAttribute("aria-label")
        && !one.textContent.trim()).map((one) => one.outerHTML)""")
    assert nameless == []
    seen = set()
    page.evaluate("document.activeElement.blur()")
    for _ in range(80):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
    assert {"text", "go", "negatives", "filters", "k", "file", "map", "AUDIO", "BUTTON"} <= seen


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone(browser: Any, server: Serving, scheme: str) -> None:
    context = browser.new_context(viewport={"width": 360, "height": 740}, color_scheme=scheme)
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{server.client.port}/#text=a+tone")
    _keys(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    light = sum(map(int, re.findall(r"\d+", ground)[:3])) / 3 > 128
    assert light == (scheme == "light")
    context.close()
