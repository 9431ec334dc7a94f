"""The command line: each verb's report, its JSON and its exit code, on the bundle that ships."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sounds import encode, noise, tone
from tiny_bundle import make_bundle

from clap_engine import cli, demo
from clap_engine.demo import QUERIES, DemoQuery, Sample

RATE_HZ = 16_000
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four sounds, one of them in a subfolder."""
    root = tmp_path / "sounds"
    (root / "low").mkdir(parents=True)
    (root / "noise.flac").write_bytes(encode(noise(1, 3 * RATE_HZ), RATE_HZ, "flac"))
    (root / "short.ogg").write_bytes(encode(tone(880, RATE_HZ, RATE_HZ // 2), RATE_HZ, "ogg"))
    (root / "long.mp3").write_bytes(encode(tone(440, RATE_HZ, 12 * RATE_HZ), RATE_HZ, "mp3"))
    (root / "low" / "hum.wav").write_bytes(encode(tone(50, RATE_HZ, 2 * RATE_HZ), RATE_HZ))
    return root


@pytest.fixture
def indexed(run: Run, folder: Path, tmp_path: Path) -> Path:
    into = tmp_path / "sounds.clap"
    assert run("index", folder, "--into", into)[0] == 0
    return into


def test_index_then_again_then_changed(run: Run, folder: Path, tmp_path: Path) -> None:
    into = tmp_path / "x.clap"
    code, out, _ = run("index", folder, "--into", into, "--json")
    first = json.loads(out)
    assert (code, first["added"], first["clips"], first["failed"]) == (0, 4, 4, [])
    assert first["times_real_time"] > 0
    again = json.loads(run("index", folder, "--into", into, "--json")[1])
    assert (again["added"], again["updated"], again["unchanged"]) == (0, 0, 4)
    (folder / "noise.flac").write_bytes(encode(noise(2, RATE_HZ), RATE_HZ, "flac"))
    (folder / "new.wav").write_bytes(encode(noise(3, RATE_HZ), RATE_HZ))
    third = json.loads(run("index", folder, "--into", into, "--json")[1])
    assert (third["added"], third["updated"], third["unchanged"]) == (1, 1, 3)


def test_granularity_is_what_the_collection_was_made_with(
    run: Run, folder: Path, tmp_path: Path
) -> None:
    into = tmp_path / "both.clap"
    assert run("index", folder, "--into", into, "--granularity", "both")[0] == 0
    assert json.loads(run("info", into, "--json")[1])["granularity"] == "both"
    assert run("index", folder, "--into", into)[0] == 0
    code, _, err = run("index", folder, "--into", into, "--granularity", "clip")
    assert code == cli.USAGE
    assert "both" in err
    assert "clip" in err
    assert run("search", into, "a low hum", "-k", 2)[0] == 0
    assert run("index", folder, "--into", into, "--ray", "--granularity", "both")[0] == cli.USAGE


def test_prune_removes_what_is_gone(run: Run, folder: Path, indexed: Path) -> None:
    (folder / "low" / "hum.wav").unlink()
    kept = json.loads(run("index", folder, "--into", indexed, "--json")[1])
    assert (kept["pruned"], kept["clips"]) == ([], 4)
    pruned = json.loads(run("index", folder, "--into", indexed, "--prune", "--json")[1])
    assert (pruned["pruned"], pruned["clips"]) == (["low/hum.wav"], 3)


def test_search_in_json(run: Run, indexed: Path) -> None:
    code, out, _ = run("search", indexed, "a low hum", "-k", 3, "--json")
    result = json.loads(out)
    assert code == 0
    assert len(result["hits"]) == 3
    scores = [hit["score"] for hit in result["hits"]]
    assert scores == sorted(scores, reverse=True)
    assert {"load", "tokenize", "text", "shortlist", "rerank"} <= set(result["timings_ms"])
    assert result["space_id"]


def test_search_in_a_pipe_is_tab_separated(run: Run, indexed: Path) -> None:
    code, out, err = run("search", indexed, "a low hum", "-k", 2)
    assert code == 0
    rows = [line.split("\t") for line in out.splitlines()]
    assert [len(row) for row in rows] == [4, 4]
    assert rows[0][0] == "1"
    assert "text" in err


def test_search_on_a_terminal_is_a_table(
    run: Run, indexed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    out = run("search", indexed, "a low hum", "-k", 2)[1]
    assert out.splitlines()[0].split() == ["#", "score", "span", "clip"]
    assert len(out.splitlines()) == 3


def test_a_clip_finds_itself(run: Run, folder: Path, indexed: Path) -> None:
    example = folder / "low" / "hum.wav"
    code, out, _ = run("search", indexed, "--by-example", example, "--json")
    best = json.loads(out)["hits"][0]
    assert code == 0
    assert best["key"] == "low/hum.wav"
    assert best["score"] == pytest.approx(1, abs=2e-3)


def test_a_search_by_several_things_with_a_filter(run: Run, folder: Path, indexed: Path) -> None:
    example = folder / "low" / "hum.wav"
    code, out, _ = run(
        "search", indexed, "a hum", "--plus", "low", "--minus", "noise", "--by-example", example,
        "--near", "low/hum.wav", "--where", '{"key": {"prefix": "low/"}}', "--collapse", "0.99",
        "--diversity", "0.2", "--min-score", "-1", "--min-calibrated", "0", "--json",
    )  # fmt: skip
    hits = json.loads(out)["hits"]
    assert code == 0
    assert [hit["key"] for hit in hits] == ["low/hum.wav"]
    assert hits[0]["duplicates"] == []
    assert 0 <= hits[0]["calibrated"] <= 1


def test_tune_keeps_a_plan_that_search_explains(run: Run, indexed: Path, tmp_path: Path) -> None:
    code, out, err = run("tune", indexed, "--target", "0.9")
    assert (code, out.splitlines()[-1].split("\t")[-1]) == (0, "chosen")
    assert "chosen: exact, recall 1.000" in err
    texts = tmp_path / "texts.txt"
    texts.write_text("".join(f"sound number {i}\n\n" for i in range(30)), encoding="utf-8")
    code, out, _ = run("tune", indexed, "--queries", texts, "--budget-ms", "1000", "--json")
    found = json.loads(out)
    assert (code, found["is_met"], found["tuning"]["queries"]) == (0, True, 30)
    assert json.loads(run("info", indexed, "--json")[1])["plan"] == found["tuning"]
    _, out, err = run("search", indexed, "a tone", "--explain")
    assert "plan: tuned" in err
    assert len(out.splitlines()) == 4
    explained = json.loads(run("search", indexed, "a tone", "--explain", "--json")[1])["explain"]
    assert [stage["name"] for stage in explained["stages"]] == ["exact", "rerank"]
    assert run("tune", indexed, "--target", "2")[0] == cli.USAGE
    assert run("tune", indexed, "--queries", tmp_path / "none.txt")[0] == cli.NOT_FOUND


def test_a_hit_says_where_in_a_long_clip(run: Run, indexed: Path) -> None:
    hits = json.loads(run("search", indexed, "a tone", "--json")[1])["hits"]
    (long,) = [hit for hit in hits if hit["key"] == "long.mp3"]
    assert long["end_s"] - long["start_s"] == pytest.approx(5.0)
    (short,) = [hit for hit in hits if hit["key"] == "short.ogg"]
    assert (short["start_s"], short["end_s"]) == (0, pytest.approx(0.5, abs=0.01))


@pytest.mark.parametrize("extra", [["--json"], []])
def test_info_tells_a_bundle_from_a_collection(
    run: Run, indexed: Path, tmp_path: Path, extra: list[str]
) -> None:
    tiny = make_bundle(tmp_path / "tiny")
    for path, kind in ((indexed, "collection"), (tiny, "bundle"), ("clap-mini", "bundle")):
        code, out, _ = run("info", path, *extra)
        assert code == 0
        found = json.loads(out)["kind"] if extra else out.splitlines()[0].split(": ")[1]
        assert found == kind


def test_verify_is_quiet_about_whole_things(run: Run, indexed: Path) -> None:
    for path in (indexed, "clap-mini"):
        code, out, _ = run("verify", path, "--json")
        assert (code, json.loads(out)["problems"]) == (0, [])


def test_models_lists_what_load_finds(run: Run, tmp_path: Path) -> None:
    make_bundle(tmp_path / "models" / "tiny")
    code, out, _ = run("models", "--models-dir", tmp_path / "models", "--json")
    assert code == 0
    assert [record["name"] for record in json.loads(out)] == ["clap-mini", "tiny"]
    out = run("models")[1]
    assert out.split("\t")[0] == "clap-mini"


def test_a_bundle_of_models_dir_is_found_by_name(run: Run, tmp_path: Path) -> None:
    make_bundle(tmp_path / "models" / "tiny")
    assert run("verify", "tiny", "--models-dir", tmp_path / "models")[0] == 0
    assert run("verify", "tiny")[0] == 3


def test_doctor_is_content_with_the_bundle_that_ships(run: Run) -> None:
    code, out, _ = run("doctor", "--json")
    found = json.loads(out)
    states = {check["name"]: check["state"] for check in found["checks"]}
    assert (code, found["problems"]) == (0, 0)
    assert {"onnxruntime", "numpy", "audio", "hnswlib", "text int8", "audio int8"} <= set(states)


def test_doctor_sees_goldens_that_differ(run: Run, tmp_path: Path) -> None:
    """The control: the tiny bundle's goldens are random rows, which no graph reproduces."""
    code, out, _ = run("doctor", make_bundle(tmp_path / "tiny"))
    assert code == 1
    assert "problem" in out
    assert "1. " in out


@pytest.fixture
def samples(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Sample]:
    """The demo with these sounds and two queries instead of the packaged ones."""
    made = [Sample(path, path.stem, "tone") for path in sorted(folder.glob("*.*"))]
    queries = (
        DemoQuery("instrument", "a tone", frozenset({"tone"})),
        DemoQuery("effect", "rain", frozenset({"rain"})),
    )
    monkeypatch.setattr(demo, "read_samples", lambda: made)
    monkeypatch.setattr(demo, "QUERIES", queries)
    return made


def test_demo_reports_every_query(run: Run, samples: list[Sample]) -> None:
    code, out, _ = run("demo")
    assert code == 0
    assert "instrument: 'a tone'  (right)" in out
    assert "effect: 'rain'  (not right)" in out
    assert f"by example: {samples[0].path.name!r}  (right)" in out
    assert "x real time" in out
    assert all(stage in out for stage in ("tokenize", "text", "shortlist", "rerank"))


def test_demo_keeps_its_collection_if_told(run: Run, samples: list[Sample], tmp_path: Path) -> None:
    into = tmp_path / "demo.clap"
    code, out, _ = run("demo", "--into", into, "--json")
    record = json.loads(out)
    assert (code, record["indexing"]["clips"]) == (0, len(samples))
    assert len(record["answers"]) == 3
    assert samples[0].path.name not in [hit["key"] for hit in record["answers"][-1]["hits"]]
    assert json.loads(run("info", into, "--json")[1])["clips"] == len(samples)


def test_demo_asks_a_dozen_questions_of_different_kinds() -> None:
    assert len(QUERIES) >= 12
    assert {"instrument", "effect", "speech", "genre", "composite", "unseen words"} <= {
        query.kind for query in QUERIES
    }


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fly"],
        ["index", "x"],
        ["search"],
        ["search", "x.clap", "a dog", "-k", "0"],
        ["doctor", "--threads", "none"],
    ],
)
def test_wrong_usage_is_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_every_exit_code_is_documented() -> None:
    text = cli.parser().format_help()
    used = {0, 1, 130, cli.USAGE, *(code for _, code in cli.CODES)}
    assert all(f"\n  {code:<4} " in text for code in used)


def test_the_module_is_the_command() -> None:
    command = [sys.executable, "-m", "clap_engine", "--version"]
    found = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    assert found.stdout.startswith("clap-engine ")


def test_help_is_quick_and_loads_no_library() -> None:
    """`--help` answers without numpy or onnxruntime."""
    code = (
        "import sys; from clap_engine.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "assert not {'numpy', 'onnxruntime', 'tokenizers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)
