"""The verbs of the tasks: classify, probe, detect, moderate, rank, condition, separate.

In:  parsed arguments.
Out: text on standard output, progress on standard error, an exit code.
Knows nothing about argument syntax, graphs or audio.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clap_engine import report, storage
from clap_engine.errors import AudioError, NotFoundError, TaskError
from clap_engine.invocation import OK, SOME_FAILED, engine_of
from clap_engine.tasks.settings import PASS

if TYPE_CHECKING:
    from clap_engine.tasks.labels import Labels


def classify(arguments: argparse.Namespace) -> int:
    """The labels that fit each sound, best first."""
    labels = labels_of(arguments)
    with engine_of(arguments) as engine:
        return _tell_scores(
            arguments,
            lambda file: engine.classify(
                file, labels, multi_label=arguments.multi_label, top_k=arguments.top_k,
                templates=arguments.template,
            ),
        )  # fmt: skip


def _tell_scores(arguments: argparse.Namespace, scores_of: Callable[[str], Any]) -> int:
    """Scores of each file; one that can't be read costs only itself."""
    found: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    for file in arguments.files:
        try:
            found.append({"file": file, "scores": scores_of(file)})
        except (AudioError, NotFoundError) as error:
            failed.append({"file": file, "error": str(error)})
    if arguments.json:
        report.print_json({"classified": found, "failed": failed})
    else:
        rows = [
            (entry["file"], f"{one['score']:.3f}", one["label"])
            for entry in found
            for one in entry["scores"]
        ]
        report.print_rows(("clip", "score", "label"), rows, right=(1,))
        complain(failed)
    return SOME_FAILED if failed else OK


def probe(arguments: argparse.Namespace) -> int:
    """Learn classes from a folder of examples each, or tell which of them sounds are."""
    if bool(arguments.fit) == bool(arguments.files):
        raise TaskError("give --fit FOLDER to learn, or sounds to tell apart")
    with engine_of(arguments) as engine:
        if arguments.fit:
            examples = clips_by_class(arguments.fit)
            made = engine.probe(examples, words=arguments.words)
            made.save(arguments.probe)
            counts = {label: len(clips) for label, clips in examples.items()}
            if arguments.json:
                report.print_json({"probe": arguments.probe, "examples": counts})
            else:
                report.print_fields({"probe": arguments.probe, "examples": counts})
            return OK
        known = engine.load_probe(arguments.probe)
        return _tell_scores(arguments, lambda file: known.predict(file, top_k=arguments.top_k))


def clips_by_class(folder: str) -> dict[str, list[Path]]:
    """The sounds under each subfolder, whose name is the class."""
    from clap_engine import audio

    root = Path(folder)
    if not root.is_dir():
        raise NotFoundError(f"{root} is not a directory; give one with a folder for each class")
    found = {
        path.name: audio.sound_files(path)
        for path in sorted(root.iterdir())
        if path.is_dir() and not path.name.startswith(".")
    }
    empty = [name for name, files in found.items() if not files]
    if empty or not found:
        which = f"{root / empty[0]} holds no sound" if empty else f"{root} holds no folder"
        raise TaskError(f"{which}; give a folder of sounds for each class")
    return found


def detect(arguments: argparse.Namespace) -> int:
    """When each label sounds."""
    from clap_engine.tasks import event_files, pictures
    from clap_engine.tasks.settings import DetectSettings

    writers = {"csv": event_files.to_csv, "audacity": event_files.to_audacity}
    wanted = {name: getattr(arguments, name) for name in (*writers, "plot")}
    if len(arguments.files) > 1 and any(wanted.values()):
        raise TaskError("--csv, --audacity and --plot write the events of one sound; give one")
    if arguments.plot:
        pictures.check_path(arguments.plot)
    settings = DetectSettings(
        threshold=arguments.threshold, release=arguments.release,
        min_duration_s=arguments.min_duration, merge_s=arguments.merge, hop_s=arguments.hop,
    )  # fmt: skip
    labels = labels_of(arguments)
    detected: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    with engine_of(arguments) as engine:
        for file in arguments.files:
            try:
                events = engine.detect(
                    file, labels, settings=settings, templates=arguments.template
                )
            except (AudioError, NotFoundError) as error:
                failed.append({"file": file, "error": str(error)})
                continue
            detected.append({"file": file, "events": [asdict(event) for event in events]})
            for name, write in writers.items():
                if wanted[name]:
                    storage.write_atomic(wanted[name], write(events).encode("utf-8"))
            if arguments.plot:
                event_files.plot(events, arguments.plot, title=Path(file).name)
    if arguments.json:
        report.print_json({"detected": detected, "failed": failed})
        return SOME_FAILED if failed else OK
    rows = [
        (entry["file"], report.span(one["start_s"], one["end_s"]), f"{one['score']:.3f}",
         one["label"])
        for entry in detected for one in entry["events"]
    ]  # fmt: skip
    report.print_rows(("clip", "span", "score", "label"), rows, right=(2,))
    complain(failed)
    return SOME_FAILED if failed else OK


def moderate(arguments: argparse.Namespace) -> int:
    """Each sound against a policy; exit code 1 where one is not passed."""
    from clap_engine.tasks import policy as policies

    policy = policies.load(arguments.policy)
    verdicts: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    with engine_of(arguments) as engine:
        for file in arguments.files:
            try:
                verdicts.append({"file": file, **asdict(engine.moderate(file, policy))})
            except (AudioError, NotFoundError) as error:
                failed.append({"file": file, "error": str(error)})
    if arguments.json:
        report.print_json({"verdicts": verdicts, "failed": failed})
    else:
        rows = [row for verdict in verdicts for row in _verdict_rows(verdict)]
        report.print_rows(("clip", "action", "score", "span", "category"), rows, right=(2,))
        complain(failed)
    is_clean = not failed and all(verdict["action"] == PASS for verdict in verdicts)
    return OK if is_clean else SOME_FAILED


def _verdict_rows(verdict: dict[str, Any]) -> list[tuple[str, ...]]:
    """A row for each span of evidence, or one that says pass."""
    rows: list[tuple[str, ...]] = [
        (verdict["file"], finding["action"], f"{span['score']:.3f}",
         report.span(span["start_s"], span["end_s"]), finding["category"])
        for finding in verdict["findings"] for span in finding["spans"]
    ]  # fmt: skip
    return rows or [(verdict["file"], PASS, "", report.span(0.0, verdict["duration_s"]), "")]


def rank(arguments: argparse.Namespace) -> int:
    """Takes by how well they fit a prompt; what can't be read is left out and told."""
    from clap_engine import audio

    files = [str(file) for path in arguments.takes for file in audio.sound_files(path)]
    if not files:
        raise NotFoundError(f"no sound in {', '.join(arguments.takes)}; give files or folders")
    kept: list[str] = []
    failed: list[dict[str, str]] = []
    with engine_of(arguments) as engine:
        takes: list[Any] = []
        for file in files:
            try:
                takes.append(engine.embed_windows(file)[0])
                kept.append(file)
            except (AudioError, NotFoundError) as error:
                failed.append({"file": file, "error": str(error)})
        if not kept:
            raise AudioError(f"none of {len(files)} takes can be read; {failed[0]['error']}")
        found = engine.rank_rows(takes, arguments.prompt, against=arguments.against)
    records = [{"file": kept[take.index], "score": take.score} for take in found]
    if arguments.json:
        report.print_json({"prompt": arguments.prompt, "takes": records, "failed": failed})
    else:
        rows = [
            (str(place), f"{take.score:.3f}", kept[take.index])
            for place, take in enumerate(found, 1)
        ]
        report.print_rows(("#", "score", "take"), rows, right=(0, 1))
        complain(failed)
    return SOME_FAILED if failed else OK


def condition(arguments: argparse.Namespace) -> int:
    """Write what a text-to-audio system is conditioned on."""
    with engine_of(arguments) as engine:
        made = engine.condition(arguments.text, arguments.sound, unit=not arguments.raw)
    made.save(arguments.out)
    record = {
        "out": arguments.out, "rows": len(made.rows), "dim": made.rows.shape[1],
        "space": made.space, "is_unit": made.is_unit, "names": list(made.names),
    }  # fmt: skip
    if arguments.json:
        report.print_json(record)
    else:
        report.print_fields(record)
    return OK


def separate(arguments: argparse.Namespace) -> int:
    """How well classes are told apart: of sounds, or of ready embeddings."""
    from clap_engine.tasks import pictures, separation, separation_files

    if arguments.plot:
        pictures.check_path(arguments.plot)
    if arguments.labels:
        rows, labels = separation_files.read_rows(arguments.data, arguments.labels)
        found = separation.separate(rows, labels)
    else:
        clips = clips_by_class(arguments.data)
        with engine_of(arguments) as engine:
            found = engine.separate(clips)
    if arguments.plot:
        separation_files.plot(found, arguments.plot, title=Path(arguments.data).name)
    record = asdict(found)
    del record["labels"]
    record["plane"] = {"share": found.plane.share}
    if arguments.json:
        record["plane"]["points"] = found.plane.points.round(5).tolist()
        record["plane"]["labels"] = list(found.labels)
        report.print_json(record)
        return OK
    figures = ("count", "silhouette", "purity", "fisher", "davies_bouldin", "accuracy")
    report.print_fields({name: _figure(record[name]) for name in figures})
    rows_of = [
        (one.label, str(one.count), f"{one.silhouette:.3f}", f"{one.purity:.3f}")
        for one in found.classes
    ]
    report.print_rows(("class", "rows", "silhouette", "purity"), rows_of, right=(1, 2, 3))
    for one in found.confusions:
        line = f"{one.label} taken for {one.taken_for}: {one.count} of {one.count / one.share:.0f}"
        print(report.printable(line))
    return OK


def _figure(value: float | int | None) -> str:
    if value is None:
        return "none"
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def labels_of(arguments: argparse.Namespace) -> list[str] | Labels:
    """What --labels, --label or --label-set name."""
    from clap_engine.tasks import label_sets

    listed = [label for label in (arguments.labels or "").split(",") if label.strip()]
    listed += arguments.label
    if bool(listed) == bool(arguments.label_set):
        raise TaskError(
            "give labels by --labels a,b or --label 'a, with a comma', or one --label-set of "
            + ", ".join(label_sets.names())
        )
    return label_sets.load(arguments.label_set).labels if arguments.label_set else listed


def complain(failed: Sequence[dict[str, str]]) -> None:
    """A line on standard error for each file that could not be read."""
    for failure in failed:
        line = f"clap-engine: {failure['file']}: {failure['error']}"
        print(report.printable(line), file=sys.stderr)
