"""A CSV file, read strictly, row by row.

In:  a path; the columns that must be there.
Out: the header; each row as {column: cell}, with a name of its line for messages.
Knows nothing about what the columns mean.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from clap_engine.errors import NotFoundError, TaskError

Row = dict[str, str]


def header(path: Path) -> list[str]:
    """The names of the columns; none where the file is empty. What is not UTF-8 is let pass:
    Clotho's metadata is not, and lies beside its captions."""
    for cells, _ in _lines(path, errors="replace"):
        return [name.strip() for name in cells]
    return []


def rows(path: Path, needed: Sequence[str]) -> Iterator[tuple[str, Row]]:
    """(where, row) one after the other; TaskError unless all columns and cells are there."""
    names: list[str] | None = None
    for cells, number in _lines(path):
        if names is None:
            names = [name.strip() for name in cells]
            _check_header(path, names, needed)
            continue
        where = f"{path}, line {number}"
        if not cells:
            continue
        if len(cells) != len(names):
            raise TaskError(
                f"{where}: {len(cells)} cells under {len(names)} columns; "
                'a caption with commas stands in quotes: "..."'
            )
        yield where, dict(zip(names, cells, strict=True))
    if names is None:
        raise TaskError(f"{path} is empty; its first line names the columns: {','.join(needed)}")


def _check_header(path: Path, names: Sequence[str], needed: Sequence[str]) -> None:
    lacking = [name for name in needed if name not in names]
    if lacking:
        raise TaskError(
            f"{path} lacks the columns {', '.join(lacking)}; it has {', '.join(names) or 'none'}"
        )
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise TaskError(f"{path} has the column {twice[0]!r} {names.count(twice[0])} times")


def _lines(path: Path, errors: str = "strict") -> Iterator[tuple[list[str], int]]:
    reader = None
    if path.exists() and not path.is_file():  # the open of a FIFO would wait for ever
        raise TaskError(f"{path} is no regular file; give the set's CSV")
    try:
        # Excel begins its files with a byte order mark.
        with path.open(newline="", encoding="utf-8-sig", errors=errors) as stream:
            reader = csv.reader(stream, strict=True)
            for cells in reader:
                yield cells, reader.line_num
    except FileNotFoundError as error:
        raise NotFoundError(f"{path} does not exist; give the set's folder") from error
    except UnicodeDecodeError as error:
        raise TaskError(f"{path} is not UTF-8 ({error}); save it as CSV in UTF-8") from error
    except csv.Error as error:
        number = reader.line_num if reader else 1
        raise TaskError(f"{path}, line {number}: {error}; write the CSV again") from error
    except OSError as error:
        raise TaskError(f"{path} can't be read: {error}") from error
