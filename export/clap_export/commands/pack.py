"""`clap-export pack`: a bundle to pass on, after its gates were looked at once more.

In:  the command line: a bundle, the precisions wanted.
Out: a bundle of those precisions; nothing when one fell short or may not be passed on.
Knows nothing about how graphs are made.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from clap_engine import bundle as bundles
from clap_engine.bundle import Bundle
from clap_engine.errors import ManifestError
from clap_engine.manifest import GraphSpec, Manifest
from clap_export import licences
from clap_export.convert import check_out
from clap_export.pack import write_bundle
from clap_export.parity import Gate
from clap_export.tower_parity import check_recorded


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `clap-export pack`."""
    parser.add_argument("bundle", type=Path, help="directory of a bundle")
    parser.add_argument("--out", type=Path, required=True, help="directory of the new bundle")
    parser.add_argument("--precisions", help="comma-separated; default: all that it holds")
    parser.add_argument(
        "--redistributable",
        action="store_true",
        help="refuse weights whose licence is unknown or excludes passing them on",
    )
    parser.add_argument("--force", action="store_true", help="replace --out if it exists")


def run(args: argparse.Namespace, say: Callable[[str], None]) -> int:
    """Check, leave out what isn't wanted, write."""
    check_out(args.out, args.force)
    wanted = None if args.precisions is None else tuple(args.precisions.split(","))
    manifest = packed(bundles.open(args.bundle), args.out, wanted, args.redistributable)
    held = sorted({*manifest.audio.graphs, *manifest.text.graphs})
    say(f"{manifest.id} {manifest.revision[:12]} at {args.out}: {', '.join(held)}")
    return 0


def packed(
    bundle: Bundle,
    out: Path,
    precisions: tuple[str, ...] | None = None,
    redistributable: bool = False,
    gate: Gate | None = None,
) -> Manifest:
    """The bundle with `precisions` alone, written to `out`."""
    spec = bundle.manifest
    if redistributable:
        licences.check_redistributable(spec.licences, spec.files)
    held = {*spec.audio.graphs, *spec.text.graphs}
    kept = held if precisions is None else set(precisions)
    if missing := sorted(kept - held):
        raise ManifestError(f"the bundle holds {sorted(held)}, not {missing}; convert it again")
    check_recorded(spec.parity, kept, gate or Gate())

    def chosen(graphs: dict[str, GraphSpec]) -> dict[str, GraphSpec]:
        return {name: graph for name, graph in graphs.items() if name in kept}

    caption = spec.caption
    if caption is not None:
        # A decoder is not among the towers' gates; float32 stays where no other form is kept.
        mapper = chosen(caption.mapper) or caption.mapper
        decoder = chosen(caption.decoder) or caption.decoder
        caption = replace(caption, mapper=mapper, decoder=decoder)
    manifest = replace(
        spec,
        audio=replace(spec.audio, graphs=chosen(spec.audio.graphs)),
        text=replace(spec.text, graphs=chosen(spec.text.graphs)),
        caption=caption,
    )
    dropped = _graph_files(spec) - _graph_files(manifest)
    files = {name: bundle.read(name) for name in spec.files if name not in dropped}
    return write_bundle(out, manifest, files)


def _graph_files(manifest: Manifest) -> set[str]:
    towers = [manifest.audio.graphs, manifest.text.graphs]
    if manifest.caption is not None:
        towers += [manifest.caption.mapper, manifest.caption.decoder]
    return {graph.file for graphs in towers for graph in graphs.values()}
