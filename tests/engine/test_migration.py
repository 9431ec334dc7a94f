"""Laws of a migration: the old collection serves until the new one is whole; nothing is lost."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_embedder import FakeEmbedder, hashed

import clap_engine
from clap_engine.arrays import Float32, l2_normalize
from clap_engine.catalogue import Catalogue
from clap_engine.collection import Collection
from clap_engine.database import Database
from clap_engine.errors import (
    CollectionError,
    IntegrityError,
    LockedError,
    NotFoundError,
    SpaceMismatchError,
)
from clap_engine.index.labels import Labels
from clap_engine.migration import MigrateReport, migrate
from clap_engine.records import Tuning


class Other(FakeEmbedder):
    """Another space: fewer dims, other vectors."""

    bundle_id = "other"
    revision = "1" * 64
    dim = 256
    ladder = (32, 64, 128, 256)

    def __init__(self, space_id: str = "6" * 64, hook: Callable[[Any], None] | None = None) -> None:
        super().__init__(space_id)
        self.hook = hook

    def embed_text(self, texts: list[str]) -> Float32:
        return self._moved(super().embed_text(texts))

    def embed_windows(self, source: Any) -> tuple[Float32, Any, float]:
        if self.hook is not None:
            self.hook(source)
        vectors, spans, duration_s = super().embed_windows(source)
        return self._moved(vectors), spans, duration_s

    def _moved(self, vectors: Float32) -> Float32:
        return l2_normalize(np.ascontiguousarray(vectors[:, ::-1][:, : self.dim]))


PLAN = Tuning("flat", 32, 5, 0, 0, 12, 5, 0.9, 0.9, 1.0, 20, "given", 0, 0.0)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Twelve sounds in a folder, two of them in a subfolder."""
    root = tmp_path / "sounds"
    (root / "sub").mkdir(parents=True)
    for i in range(12):
        (root / ("sub" if i < 2 else "") / f"{i:02d}.wav").write_bytes(b"sound" + bytes([i]) * i)
    return root


def index(folder: Path, files: Path, embedder: FakeEmbedder, **options: Any) -> None:
    with Collection.open(folder, embedder=embedder, create=True, **options) as sounds:
        paths = sorted(files.rglob("*.wav"))
        report = sounds.add(paths, root=files, metadata=[{"n": i} for i in range(len(paths))])
        assert not report.failed
        sounds.declare_filters(["n"])
        sounds.rebuild()


@pytest.fixture
def old(tmp_path: Path, files: Path) -> Path:
    index(tmp_path / "old.clap", files, FakeEmbedder())
    return tmp_path / "old.clap"


def answers(folder: Path, embedder: FakeEmbedder) -> list[Any]:
    with Collection.open(folder, embedder=embedder, read_only=True) as sounds:
        assert sounds.verify() == []
        found = [sounds.search(text, k=50, shortlist="all").hits for text in ("banjo", "rain")]
        few = sounds.search("banjo", k=50, where={"n": {"<": 5}}).hits
        return [sounds.keys(), found, few, sounds.info()["filters"]]


def serves(folder: Path) -> bool:
    """Whether the old space is what the collection answers in."""
    with Collection.open(folder, embedder=FakeEmbedder()) as sounds:
        return sounds.search(hashed(b"sound" + bytes([7]) * 7, 1)[0], k=1).hits[0].key == "07.wav"


@pytest.mark.parametrize("granularity", ["window", "clip", "both"])
def test_a_migrated_collection_is_one_that_was_indexed_anew(
    tmp_path: Path, files: Path, granularity: str
) -> None:
    folder = tmp_path / "old.clap"
    index(folder, files, FakeEmbedder(), granularity=granularity)
    index(tmp_path / "fresh.clap", files, Other(), granularity=granularity)
    with Collection.open(folder, read_only=True) as sounds:
        before = sounds.info()
    assert migrate(folder, Other()) == MigrateReport(str(folder), 12, 12, (), (), True)
    assert answers(folder, Other()) == answers(tmp_path / "fresh.clap", Other())
    assert not (folder / "migration").exists()
    with pytest.raises(SpaceMismatchError, match=r"other.*fake"):
        Collection.open(folder, embedder=FakeEmbedder())
    with Collection.open(folder, embedder=Other()) as sounds:
        after = sounds.info()
        assert after["granularity"] == granularity
        assert (after["tail_rows"], after["dim"], after["bundle_id"]) == (0, 256, "other")
        assert (after["created_s"], after["format"]) == (before["created_s"], before["format"])
        assert after["generation"] > before["generation"]
        embedder = sounds._embedder
        assert isinstance(embedder, Other)
        report = sounds.add(sorted(files.rglob("*.wav")), root=files)
        assert (report.unchanged, embedder.embedded) == (12, [])


def test_it_is_a_name_of_the_package(old: Path) -> None:
    assert clap_engine.migrate is migrate
    assert clap_engine.migrate(old, Other()).is_switched


def test_the_old_collection_serves_until_the_switch(old: Path) -> None:
    seen: list[bool] = []
    migrate(old, Other(hook=lambda _: seen.append(serves(old))))
    assert seen == [True] * 12


def test_whoever_has_it_open_is_told(old: Path) -> None:
    with (
        Collection.open(old, embedder=FakeEmbedder()) as writer,
        Collection.open(old, embedder=FakeEmbedder(), read_only=True) as reader,
    ):
        assert len(reader.search("banjo", where={"n": 3}).hits) == 1
        migrate(old, Other())
        for call in (
            lambda: reader.search("banjo"),
            lambda: reader.search("banjo", where={"n": 3}),
            lambda: writer.add([b"x"], keys=["x"]),
            lambda: writer.remove("07.wav"),
            writer.rebuild,
            reader.info,
        ):
            with pytest.raises(SpaceMismatchError, match="other"):
                call()
        with Collection.open(old, embedder=Other()) as again:  # the lock was given back
            assert again.remove("07.wav")


def test_a_search_across_the_switch_does_not_mix(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Old numbers name no new clip: the search in flight starts again and is told."""
    with Collection.open(old, embedder=FakeEmbedder()) as sounds:
        real = type(sounds._states.reader).labels
        calls: list[int] = []

        def labels(self: Any, clips: Any) -> Any:
            calls.append(len(clips))
            if len(calls) == 1:
                migrate(old, Other())
                found = real(self, clips)
                assert found == {}
                return found
            return real(self, clips)

        monkeypatch.setattr(type(sounds._states.reader), "labels", labels)
        # As of clips that are newer than the derived files, whose own labels are those of old.
        monkeypatch.setattr(Labels, "of", lambda self, clips: {})
        with pytest.raises(SpaceMismatchError):
            sounds.search("banjo")


def test_sources_that_are_gone_are_named_and_keep_it_from_switching(old: Path, files: Path) -> None:
    with Collection.open(old, embedder=FakeEmbedder()) as sounds:
        sounds.add([b"from memory"], keys=["memory"])
    (files / "05.wav").rename(files / "05.kept")
    (files / "06.wav").write_bytes(b"bad now")
    for number in range(2):
        embedder = Other()
        report = migrate(old, embedder)
        assert not report.is_switched
        assert (report.clips, report.embedded) == (10, 10 - 10 * number)
        missing = dict(report.missing)
        assert list(missing) == ["05.wav", "06.wav", "memory"]
        assert "does not exist" in missing["05.wav"]
        assert "no sound" in missing["06.wav"]
        assert "from memory" in missing["memory"]
        assert serves(old)
    (files / "05.kept").rename(files / "05.wav")
    embedder = Other()
    report = migrate(old, embedder, drop_missing=True)
    assert (report.is_switched, report.clips, report.embedded) == (True, 11, 1)
    assert [key for key, _ in report.missing] == ["06.wav", "memory"]
    assert embedder.embedded[0] == str(files / "05.wav")
    with Collection.open(old, embedder=Other()) as sounds:
        assert len(sounds) == 11
        assert sounds.verify() == []


def test_a_file_that_changed_is_noticed(old: Path, files: Path) -> None:
    (files / "03.wav").write_bytes(b"another sound")
    report = migrate(old, Other())
    assert (report.is_switched, report.changed) == (True, ("03.wav",))
    with Collection.open(old, embedder=Other()) as sounds:
        query = Other()._moved(hashed(b"another sound", 2))[0]
        hit = sounds.search(query, k=1).hits[0]
        assert (hit.key, hit.metadata) == ("03.wav", {"n": 1})
        assert sounds.add([files / "03.wav"], root=files).unchanged == 1


def test_a_file_that_went_after_it_was_embedded_is_not_missing(old: Path, files: Path) -> None:
    (files / "11.wav").rename(files / "11.kept")
    assert not migrate(old, Other()).is_switched
    (files / "11.kept").rename(files / "11.wav")
    with Collection.open(old, embedder=FakeEmbedder()) as sounds:
        sounds.add([files / "04.wav"], root=files, metadata=[{"n": 400}])
    (files / "04.wav").unlink()
    report = migrate(old, Other())
    assert (report.is_switched, report.missing, report.embedded) == (True, (), 1)
    with Collection.open(old, embedder=Other()) as sounds:  # its facts came along all the same
        found = sounds.search("x", k=50, where={"n": 400}).hits
        assert [hit.key for hit in found] == ["04.wav"]


def test_an_interrupted_migration_goes_on_where_it_stopped(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clap_engine.ingest.BATCH_CLIPS", 2)

    def interrupt(source: Any) -> None:
        if str(source).endswith("07.wav"):
            raise KeyboardInterrupt

    first, progress = Other(hook=interrupt), []
    with pytest.raises(KeyboardInterrupt):
        migrate(old, first, progress=lambda done, key: progress.append((done, key)))
    assert serves(old)
    done = len(first.embedded)
    assert 0 < done < 12
    assert len(progress) <= done
    with pytest.raises(NotFoundError):  # the draft is no collection
        Collection.open(old / "migration", embedder=Other())
    second = Other()
    report = migrate(old, second)
    assert (report.is_switched, report.embedded, len(second.embedded)) == (
        True,
        12 - done,
        12 - done,
    )
    assert len(answers(old, Other())[0]) == 12


def test_what_changes_meanwhile_is_caught_up_with(old: Path, files: Path, tmp_path: Path) -> None:
    (files / "late.wav").write_bytes(b"a late sound")

    def change(source: Any) -> None:
        if not str(source).endswith("10.wav"):
            return
        with Collection.open(old, embedder=FakeEmbedder()) as sounds:
            sounds.remove("02.wav")
            sounds.add([files / "late.wav"], root=files, metadata=[{"n": 90}])
            (files / "03.wav").write_bytes(b"changed and indexed")
            sounds.add([files / "03.wav"], root=files)
            sounds.add([files / "04.wav"], root=files, metadata=[{"n": 40}])

    report = migrate(old, Other(hook=change))
    assert (report.is_switched, report.missing, report.changed) == (True, (), ())
    keys, _, few, _ = answers(old, Other())
    assert "02.wav" not in keys
    assert "late.wav" in keys
    assert len(keys) == 12
    assert sorted(hit.metadata["n"] for hit in few) == [1, 3, 4]
    with Collection.open(old, embedder=Other()) as sounds:
        found = sounds.search(Other()._moved(hashed(b"changed and indexed", 4))[0], k=1)
        assert found.hits[0].key == "03.wav"


def test_a_writer_keeps_it_from_switching_and_loses_nothing(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clap_engine.migration._LOCK_TIMEOUT_S", 0.1)
    with Collection.open(old, embedder=FakeEmbedder()) as writer:
        writer.add([b"x"], keys=["x"])
        writer.remove("x")
        with pytest.raises(LockedError):
            migrate(old, Other())
        assert serves(old)
    embedder = Other()
    assert migrate(old, embedder).is_switched
    assert embedder.embedded == []


def test_two_migrations_at_once(old: Path) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def hold(_: Any) -> None:
        inside.set()
        assert go_on.wait(60)

    thread = threading.Thread(target=migrate, args=(old, Other(hook=hold)))
    thread.start()
    assert inside.wait(60)
    with pytest.raises(LockedError, match="another migration"):
        migrate(old, Other())
    go_on.set()
    thread.join()
    assert len(answers(old, Other())[0]) == 12


def test_into_another_folder(old: Path, files: Path, tmp_path: Path) -> None:
    index(tmp_path / "fresh.clap", files, Other())
    with pytest.raises(ZeroDivisionError):  # cut off
        migrate(old, Other(hook=lambda _: 1 // 0), into=tmp_path / "new.clap")
    (files / "05.wav").rename(files / "05.kept")
    assert not migrate(old, Other(), into=tmp_path / "new.clap").is_switched
    assert not (tmp_path / "new.clap").exists()
    with pytest.raises(NotFoundError):
        Collection.open(tmp_path / ".new.clap.migration", embedder=Other())
    (files / "05.kept").rename(files / "05.wav")
    report = migrate(old, Other(), into=tmp_path / "new.clap")
    assert (report.path, report.embedded) == (str(tmp_path / "new.clap"), 1)
    assert answers(tmp_path / "new.clap", Other()) == answers(tmp_path / "fresh.clap", Other())
    assert serves(old)
    assert not (tmp_path / ".new.clap.migration").exists()
    with pytest.raises(CollectionError, match="there already"):
        migrate(old, Other(), into=tmp_path / "new.clap")
    with pytest.raises(CollectionError, match="backup"):
        migrate(old, FakeEmbedder(), into=tmp_path / "other.clap")


def test_a_draft_that_was_cut_off_before_it_got_its_name(
    old: Path, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its database has its last name then, and perhaps a log: both are taken up again."""
    place = tmp_path / "new.clap"
    copy = tmp_path / "copy"

    def killed(*_: Any) -> None:
        (draft,) = tmp_path.glob(".new.clap.migration")
        with contextlib.closing(Catalogue(draft / "collection.sqlite", read_only=False)) as made:
            made.put_tuning(PLAN)  # a commit that is in the log alone
            assert (draft / "collection.sqlite-wal").stat().st_size > 0
            shutil.copytree(draft, copy)  # as a kill leaves it
        raise KeyboardInterrupt

    with monkeypatch.context() as patches:
        patches.setattr("clap_engine.migration._rebuild", killed)
        with pytest.raises(KeyboardInterrupt):
            migrate(old, Other(), into=place)
    shutil.rmtree(tmp_path / ".new.clap.migration")
    copy.rename(tmp_path / ".new.clap.migration")
    for i in range(40):
        (files / f"more {i}.wav").write_bytes(b"more" + bytes([i]))
    with Collection.open(old, embedder=FakeEmbedder()) as sounds:
        sounds.add(sorted(files.glob("more*")), root=files)
    embedder = Other()
    assert migrate(old, embedder, into=place).is_switched
    assert len(embedder.embedded) == 40
    with Collection.open(place) as sounds:
        assert sounds.info()["plan"] is not None
    assert len(answers(place, Other())[0]) == 52


@pytest.mark.parametrize("is_rotten", [False, True])
def test_the_tuned_plan_is_dropped(old: Path, is_rotten: bool) -> None:
    with Collection.open(old, embedder=FakeEmbedder()) as sounds:
        sounds._open_writer().put_tuning(PLAN)
        assert sounds.info()["plan"] is not None
        if is_rotten:
            sounds._open_writer()._db.execute("UPDATE plan SET shortlist = 1")
    migrate(old, Other())
    with Collection.open(old, embedder=Other()) as sounds:
        assert sounds.info()["plan"] is None


def test_a_draft_for_another_model_is_begun_anew(old: Path) -> None:
    def interrupt(source: Any) -> None:
        if str(source).endswith("07.wav"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        migrate(old, Other("7" * 64, hook=interrupt))
    assert (old / "migration").is_dir()
    embedder = Other()
    assert migrate(old, embedder).embedded == 12
    assert len(answers(old, Other())[0]) == 12


@pytest.mark.parametrize("how", ["flip", "truncate", "empty"])
def test_a_draft_that_rotted_is_never_switched_to(
    old: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    with monkeypatch.context() as patches:

        def fail(*_: Any) -> None:
            raise LockedError("the switch fails")

        patches.setattr("clap_engine.catalogue.Catalogue.take_over", fail)
        with pytest.raises(LockedError):
            migrate(old, Other())
    (file,) = (old / "migration").glob("*.draft")
    data = bytearray(file.read_bytes())
    if how == "flip":
        data[data.find(Other()._moved(hashed(b"sound", 2))[0].astype(np.float16).tobytes())] ^= 1
    file.write_bytes({"flip": data, "truncate": data[:20_000], "empty": b""}[how])
    try:
        report = migrate(old, Other())
    except IntegrityError:
        assert serves(old)
        shutil.rmtree(old / "migration")
        report = migrate(old, Other())
    assert report.is_switched
    assert len(answers(old, Other())[0]) == 12


def test_once_more_is_no_harm(old: Path) -> None:
    migrate(old, Other())
    (old / "migration").mkdir()  # as a kill just after the switch leaves it
    assert migrate(old, Other()) == MigrateReport(str(old), 12, 0, (), (), True)
    assert not (old / "migration").exists()


def test_an_empty_collection_moves_as_well(tmp_path: Path) -> None:
    Collection.open(tmp_path / "c", embedder=FakeEmbedder(), create=True).close()
    assert migrate(tmp_path / "c", Other()).is_switched
    with Collection.open(tmp_path / "c", embedder=Other()) as sounds:
        assert sounds.add([b"x"], keys=["x"]).added == 1
    with pytest.raises(NotFoundError):
        migrate(tmp_path / "nowhere", Other())


def test_the_switch_is_one_transaction(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever statement of it fails, the old collection is whole."""
    real, struck = Database._run, []
    at = [0]

    def failing(self: Database, sql: str, values: Any, many: bool) -> Any:
        if "staged" in sql or "collection" in sql or sql.startswith(("DELETE", "COMMIT")):
            at[0] -= 1
            if at[0] == 0:
                struck.append(sql)
                raise sqlite3.OperationalError("disk I/O error")
        return real(self, sql, values, many)

    with monkeypatch.context() as patches:
        patches.setattr(
            "clap_engine.catalogue.Catalogue.take_over",
            lambda *_: (_ for _ in ()).throw(LockedError("not yet")),
        )
        with pytest.raises(LockedError):
            migrate(old, Other())
    n = 0  # all is embedded: what follows is little but the switch
    while True:
        n += 1
        at[0] = n
        with monkeypatch.context() as patches:
            patches.setattr(Database, "_run", failing)
            try:
                report = migrate(old, Other())
            except (CollectionError, OSError):
                report = None
        if report is not None and report.is_switched:
            break
        with Collection.open(old, embedder=FakeEmbedder()) as sounds:
            assert sounds.verify() == []
            assert len(sounds) == 12
        assert serves(old)
    assert len(struck) > 8
    assert len(answers(old, Other())[0]) == 12
