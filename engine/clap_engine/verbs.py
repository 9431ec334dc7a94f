"""What each command does: a few calls of the facade, then a report.

In:  parsed arguments.
Out: text on standard output, progress on standard error, an exit code.
Knows nothing about argument syntax, graphs, audio or storage.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clap_engine import report, search_verbs
from clap_engine.errors import (
    AudioError,
    CollectionError,
    IntegrityError,
    ManifestError,
    NotFoundError,
)
from clap_engine.invocation import DAMAGED, INTERRUPTED, OK, SOME_FAILED, engine_of
from clap_engine.progress import ProgressLine

if TYPE_CHECKING:
    from clap_engine.bundle import Bundle
    from clap_engine.collection import Collection


def demo(arguments: argparse.Namespace) -> int:
    """Index the packaged clips and ask a dozen questions."""
    from clap_engine import demo as demonstration

    samples = demonstration.read_samples()
    with ExitStack() as stack:
        engine = stack.enter_context(engine_of(arguments))
        into = arguments.into
        if into is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="clap-demo-"))
            into = Path(folder) / "demo.clap"
        sounds = stack.enter_context(engine.collection(into, create=True))
        indexing = demonstration.index(engine, sounds, samples)
        answers = list(demonstration.answers(sounds, samples))
    right = sum(answer.is_right for answer in answers)
    if arguments.json:
        report.print_json(
            {
                "indexing": asdict(indexing),
                "answers": [
                    {
                        "kind": answer.query.kind,
                        "query": answer.query.text,
                        "is_right": answer.is_right,
                        "labels": list(answer.labels),
                        **search_verbs.result_record(answer.result),
                    }
                    for answer in answers
                ],
                "right": right,
            }
        )
        return OK
    print(
        f"indexed {indexing.clips} clips, {indexing.audio_s:.0f} s of sound, in "
        f"{indexing.elapsed_s:.2f} s: {indexing.clips / indexing.elapsed_s:.1f} clips/s, "
        f"{indexing.audio_s / indexing.elapsed_s:.0f} x real time\n"
    )
    for answer in answers:
        mark = "right" if answer.is_right else "not right"
        print(f"{answer.query.kind}: {answer.query.text!r}  ({mark})")
        rows = [
            (*row, label)
            for row, label in zip(
                search_verbs.hit_rows(answer.result.hits), answer.labels, strict=True
            )
        ]
        print(report.table((*search_verbs.HIT_HEADER, "is"), rows, right=(0, 1)))
        print(f"{report.milliseconds(answer.result.timings_ms)}\n")
    print(f"{right} of {len(answers)} best clips are right")
    return OK


def index(arguments: argparse.Namespace) -> int:
    """Embed what is new under a folder."""
    from clap_engine import audio

    root = Path(arguments.folder)
    files = audio.sound_files(root)
    if not files:
        raise NotFoundError(f"no sound files under {root}; wav, flac, ogg, mp3 and more are read")
    base = root if root.is_dir() else root.parent
    if arguments.ray:
        return _index_by_ray(arguments, files, base)
    if "://" in arguments.into:
        raise CollectionError("--into takes a folder; with --ray and --shards DIR also a URL")
    with ExitStack() as stack:
        engine = stack.enter_context(engine_of(arguments))
        engine.warm(text=False)  # a damaged bundle ends here, not once for every file
        sounds = stack.enter_context(
            engine.collection(arguments.into, create=True, granularity=arguments.granularity)
        )
        before_s, start = sounds.info()["duration_s"], time.monotonic()
        try:
            with ProgressLine(len(files)) as line:
                added = sounds.add(files, root=base, progress=line)
            pruned = _prune(sounds, files, base) if arguments.prune else []
        except KeyboardInterrupt:
            return _interrupted(arguments, sounds)
        elapsed_s = time.monotonic() - start
        after = sounds.info()
        if after["rebuilding"]:
            note = "all is safe; the index is being built, Ctrl-C leaves it to the next writer"
            print(f"clap-engine: {note}", file=sys.stderr)
    audio_s = max(after["duration_s"] - before_s, 0.0)
    record = {
        "collection": str(arguments.into),
        "clips": after["clips"],
        "added": added.added,
        "updated": added.updated,
        "unchanged": added.unchanged,
        "pruned": pruned,
        "failed": [{"key": key, "error": str(error)} for key, error in added.failed],
        "elapsed_s": round(elapsed_s, 3),
        "clips_per_s": round((added.added + added.updated) / elapsed_s, 2),
        "times_real_time": round(audio_s / elapsed_s, 1),
    }
    if arguments.json:
        report.print_json(record)
    else:
        print(
            f"{added.added} added, {added.updated} updated, {added.unchanged} unchanged, "
            f"{len(pruned)} pruned, {len(added.failed)} failed; {after['clips']} clips in "
            f"{report.printable(str(arguments.into))}\n{elapsed_s:.1f} s, "
            f"{record['clips_per_s']} clips/s, {record['times_real_time']} x real time"
        )
    return SOME_FAILED if added.failed else OK


def _index_by_ray(arguments: argparse.Namespace, files: list[Path], base: Path) -> int:
    """Embed by many processes, into a collection or whatever backend the URL names."""
    from clap_engine import ray_index

    if arguments.prune:
        raise CollectionError("--ray and --prune exclude each other; prune by a run without --ray")
    if arguments.granularity:
        raise CollectionError(
            "--ray and --granularity exclude each other; index one sound without --ray first: the "
            "collection keeps the granularity that it was made with"
        )
    bundle = {
        "name_or_path": arguments.bundle,
        "models_dir": arguments.models_dir,
        "precision": arguments.precision,
        "threads": arguments.threads or 1,
    }
    with ProgressLine(len(files)) as line:
        record = ray_index.index(
            files, base, arguments.into, workers=arguments.ray_workers,
            shards_dir=arguments.shards, bundle=bundle, progress=line,
        )  # fmt: skip
    _print_record(arguments, record)
    return SOME_FAILED if record["failed"] else OK


def _prune(sounds: Collection, files: list[Path], base: Path) -> list[str]:
    """Remove every clip that is none of `files`; their keys."""
    from clap_engine.ingest import Item, key_of

    kept = {key_of(Item(path, None, None), base) for path in files}
    gone = [key for key in list(sounds.keys()) if key not in kept]
    for key in gone:
        sounds.remove(key)
    return gone


def _interrupted(arguments: argparse.Namespace, sounds: Collection) -> int:
    safe = len(sounds)
    sounds.close(wait=False)  # whoever interrupts does not want to wait for derived files
    into = report.printable(str(arguments.into))
    print(
        f"interrupted: {safe} clips are safe in {into}; run the same command to go on",
        file=sys.stderr,
    )
    if arguments.json:
        report.print_json({"interrupted": True, "clips": safe})
    return INTERRUPTED


def caption(arguments: argparse.Namespace) -> int:
    """A sentence about each sound."""
    from clap_engine.tasks import bank as banks

    captions, failed = [], []
    bank = banks.load(arguments.bank) if arguments.bank else None
    with engine_of(arguments) as engine:
        if arguments.beam or arguments.max_tokens:
            engine.warm("caption")  # no graphs: said once, not per file
        for file in arguments.files:
            try:
                found = engine.caption(
                    file, beams=arguments.beam, max_tokens=arguments.max_tokens,
                    bank=bank, min_confidence=arguments.min_confidence,
                )  # fmt: skip
            except (AudioError, NotFoundError) as error:
                failed.append({"file": file, "error": str(error)})
                continue
            captions.append({"file": file, **asdict(found)})
    if arguments.json:
        report.print_json({"captions": captions, "failed": failed})
    else:
        rows = [(c["file"], f"{c['score']:.3f}", c["text"]) for c in captions]
        report.print_rows(("clip", "score", "caption"), rows, right=(1,))
        for failure in failed:
            line = f"clap-engine: {failure['file']}: {failure['error']}"
            print(report.printable(line), file=sys.stderr)
    return SOME_FAILED if failed else OK


def info(arguments: argparse.Namespace) -> int:
    """What a bundle or collection says about itself."""
    from clap_engine.collection import Collection

    opened = _bundle_at(arguments)
    if opened is not None:
        record = {"kind": "bundle", **_bundle_record(opened)}
    else:
        with Collection.open(arguments.path, read_only=True) as sounds:
            record = {"kind": "collection", **sounds.info()}
    _print_record(arguments, record)
    return OK


def verify(arguments: argparse.Namespace) -> int:
    """Read every byte of a bundle or collection again."""
    from clap_engine.collection import Collection

    problems: list[str] = []
    try:
        opened = _bundle_at(arguments)
        if opened is not None:
            opened.verify()
        else:
            with Collection.open(arguments.path, read_only=True) as sounds:
                problems = sounds.verify()
    except (ManifestError, IntegrityError) as error:
        problems = [str(error)]
    if arguments.json:
        report.print_json({"path": arguments.path, "problems": problems})
    else:
        report.print_fields({"path": arguments.path, "problems": problems or "none"})
    return DAMAGED if problems else OK


def doctor(arguments: argparse.Namespace) -> int:
    """Look at the machine, then run the bundle's goldens on it."""
    from clap_engine import bundle
    from clap_engine import doctor as examination
    from clap_engine.placement import Placement

    placement = Placement(provider=arguments.provider)
    checks = list(examination.machine())
    wanted = arguments.path or arguments.bundle
    if not any(check.state == examination.BAD for check in checks):
        opened = bundle.open(bundle.find(wanted, models_dir=arguments.models_dir))
        threads = arguments.threads or 1
        checks += examination.goldens(opened, threads=threads, placement=placement)
    bad = [check for check in checks if check.state == examination.BAD]
    if arguments.json:
        report.print_json({"checks": [asdict(check) for check in checks], "problems": len(bad)})
        return SOME_FAILED if bad else OK
    rows = [(check.state, check.name, check.found) for check in checks]
    print(report.table(("", "what", "found"), rows))
    remedies = [check for check in checks if check.remedy]
    for number, check in enumerate(remedies, 1):
        print(f"{number}. {check.name}: {report.printable(check.remedy)}")
    return SOME_FAILED if bad else OK


def models(arguments: argparse.Namespace) -> int:
    """The bundles that `--bundle NAME` finds."""
    from clap_engine import bundle

    paths = bundle.installed()
    if arguments.models_dir is not None:
        folder = Path(arguments.models_dir)
        if not folder.is_dir():
            raise NotFoundError(f"{folder} is not a directory; give one that holds bundles")
        paths += bundle.bundles_in(folder)
    records: list[dict[str, Any]] = []
    for path in paths:
        name = bundle.name_of(path)
        try:
            records.append({"name": name, **_bundle_record(bundle.open(path))})
        except (ManifestError, IntegrityError) as error:
            records.append({"name": name, "path": str(path), "problem": str(error)})
    if arguments.json:
        report.print_json(records)
        return OK
    header = ("name", "dim", "precisions", "MB", "what")
    rows = [
        (
            record["name"],
            str(record.get("dim", "")),
            ",".join(record.get("precisions", ())),
            str(record.get("size_mb", "")),
            str(record.get("description", record.get("problem"))),
        )
        for record in records
    ]
    report.print_rows(header, rows, right=(1, 3))
    return OK


def _bundle_at(arguments: argparse.Namespace) -> Bundle | None:
    """The bundle that PATH names or holds; None where it is a collection's directory."""
    from clap_engine import bundle

    path = Path(arguments.path)
    if path.is_dir() and not (path / bundle.MANIFEST_NAME).exists():
        return None
    try:
        found = bundle.find(arguments.path, models_dir=arguments.models_dir)
    except NotFoundError as error:
        raise NotFoundError(
            f"{arguments.path} is neither a collection nor a bundle: {error}"
        ) from error
    return bundle.open(found)


def _bundle_record(opened: Bundle) -> dict[str, Any]:
    manifest = opened.manifest
    return {
        "path": str(opened.path),
        "id": manifest.id,
        "revision": manifest.revision,
        "space_id": manifest.space_id,
        "description": manifest.description,
        "demonstration": manifest.demonstration,
        "dim": manifest.dim,
        "ladder": list(manifest.ladder),
        "precisions": sorted({*manifest.audio.graphs, *manifest.text.graphs}),
        "window_s": manifest.audio.window_s,
        "rate_hz": manifest.audio.rate_hz,
        "max_tokens": manifest.text.max_tokens,
        "size_mb": round(sum(entry.size for entry in manifest.files.values()) / 1e6, 1),
        "licences": manifest.licences,
    }


def _print_record(arguments: argparse.Namespace, record: dict[str, Any]) -> None:
    if arguments.json:
        report.print_json(record)
    else:
        report.print_fields(record)
