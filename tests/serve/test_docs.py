"""What docs/serve.md types works as it stands, in the order in which it stands."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from served import Client, sound

PAGE = Path(__file__).resolve().parents[2] / "docs" / "serve.md"


def _lines() -> list[str]:
    if not PAGE.is_file():  # tests of the installed wheel run without docs
        return []
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    return [line for block in blocks for line in block.splitlines() if "curl " in line]


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
@pytest.mark.parametrize("line", _lines())
def test_a_line_is_answered(line: str, client: Client, tmp_path: Path) -> None:
    (tmp_path / "sound.wav").write_bytes(sound())
    command = line.replace("localhost:8000", f"localhost:{client.port}")
    command = command.replace("rain.ogg", "noise-1.wav").replace("curl -s", "curl -sf")
    done = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, command
    if "/metrics" not in line:
        assert json.loads(done.stdout)


def test_every_route_is_in_the_docs(client: Client) -> None:
    if not PAGE.is_file():
        pytest.skip("runs in the source tree only")
    text = PAGE.read_text(encoding="utf-8")
    for path in client.get("/openapi.json").json["paths"]:
        assert f"{path}`" in text or f"`{path}" in text, path
