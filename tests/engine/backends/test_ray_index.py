"""A catalogue embedded by two processes of a local Ray is the one that one process embeds."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fake_embedder import child_environment
from sounds import encode, noise

from clap_engine import shards
from clap_engine.collection import Collection

RATE_HZ = 16_000

pytestmark = pytest.mark.skipif(
    not (importlib.util.find_spec("ray") and importlib.util.find_spec("pyarrow")),
    reason="ray is not installed",
)


def index(*arguments: object, files_per_shard: int = 4) -> dict[str, Any]:
    """`clap-engine index` in a process of its own: Ray starts threads and processes."""
    code = (
        "import sys; from clap_engine import cli, ray_index; "
        f"ray_index.index.__kwdefaults__['files_per_shard'] = {files_per_shard}; "
        "sys.exit(cli.main(sys.argv[1:]))"
    )
    environment = {**child_environment(), "RAY_raylet_start_wait_time_s": "300"}
    environment.pop("RAY_ADDRESS", None)
    command = [sys.executable, "-c", code, "index", "--json", *map(str, arguments)]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode in (0, 1), done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.slow
def test_two_workers_make_what_one_process_makes(tmp_path: Path) -> None:
    folder, alone, shared = tmp_path / "in", tmp_path / "alone.clap", tmp_path / "shared.clap"
    folder.mkdir()
    for i in range(12):
        (folder / f"{i}.wav").write_bytes(encode(noise(i, RATE_HZ * (1 + i % 7)), RATE_HZ))
    (folder / "bad.wav").write_bytes(b"no sound")
    ray = ("--ray", "--ray-workers", 2)
    index(folder, "--into", alone, "--threads", 1)
    made = index(folder, "--into", shared, *ray)
    assert (made["clips"], made["stored"], made["shards"], made["workers"]) == (12, 12, 4, 2)
    assert [failure["key"] for failure in made["failed"]] == ["bad.wav"]
    assert not Path(f"{shared}.shards").exists()
    with Collection.open(alone) as one, Collection.open(shared) as other:
        assert one.keys() == other.keys()
        assert not other.verify()
        queries = [next(one._states.reader.rows_after(-1)).vectors[i] for i in range(12)]
        for query in queries:
            hits = [s.search(query.astype("f4"), 12, shortlist="all").hits for s in (one, other)]
            assert hits[0] == hits[1]
    # The plain command finds nothing to do, and neither does Ray's: bad.wav is tried again.
    assert index(folder, "--into", shared, "--threads", 1)["unchanged"] == 12
    again = index(folder, "--into", shared, *ray)
    assert (again["unchanged"], again["stored"], again["shards"]) == (12, 0, 1)
    # What an interrupted run finished is not embedded again, save for the shard that was lost.
    shutil.rmtree(shared)
    kept = tmp_path / "kept"
    index(folder, "--into", shared, *ray, "--shards", kept)
    full = [name for name in shards.names(kept) if len(list(kept.glob(f"{name}.npz")))]
    os.unlink(kept / f"{full[0]}.json")
    shutil.rmtree(shared)
    resumed = index(folder, "--into", shared, *ray, "--shards", kept)
    assert (resumed["clips"], resumed["stored"]) == (12, 12)
    assert 8 <= resumed["resumed"] < 12
