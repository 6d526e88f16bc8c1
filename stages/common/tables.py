"""CSV as all of this project reads and writes it: UTF-8, a header, commas, quotes where RFC 4180 asks for them.

A line ends with a line feed or a carriage return and nowhere else: what else str.splitlines takes for an end, such as
U+0085 or U+2028, belongs to the name that it stands in.
"""

import csv
import io
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

from stages.common.files import replacing

_MAX_LINE = csv.field_size_limit()


class TableError(ValueError):
    """Why a content is no such table, in one line."""


class Rows:
    """The rows of a stream that was opened with newline="", as they are asked for: a mapping of column to text, and
    None for a row of another length. `line` is the last one read, from 1.

    Raises TableError, also while rows are read, for what is not CSV in UTF-8, for a column that is there twice, and
    where one of `columns` is absent, or one is neither among `columns` nor in `optional` (None: any may be there).
    """

    def __init__(self, stream: TextIO, columns: Collection[str] = (), optional: Collection[str] | None = None) -> None:
        self._reader = csv.reader(_lines(stream), strict=True)
        self.columns = next(self._fields(), [])
        twice = {name for name in self.columns if self.columns.count(name) > 1}
        if twice:
            raise TableError(f"the column {', '.join(sorted(twice))} is there twice")
        absent = [name for name in columns if name not in self.columns]
        if absent or (optional is not None and not set(self.columns) <= {*columns, *optional}):
            missing = f"no column {', '.join(absent)}; " if absent else ""
            also = f" and optionally {', '.join(optional)}" if optional else ""
            got = ", ".join(self.columns) or "an empty file"
            raise TableError(f"{missing}expected the columns {', '.join(columns)}{also}, got {got}")

    @property
    def line(self) -> int:
        return self._reader.line_num

    def __iter__(self) -> Iterator[dict[str, str] | None]:
        for fields in self._fields():
            yield dict(zip(self.columns, fields, strict=True)) if len(fields) == len(self.columns) else None

    def values(self) -> Iterator[list[str]]:
        """The rows as their values, in the order of `columns`, for what is read by the million: a tenth of the memory,
        once a reader keeps what it needs. Raises TableError for a row of another length."""
        width = len(self.columns)
        for fields in self._fields():
            if len(fields) != width:
                raise TableError(f"line {self.line} has other than {width} values")
            yield fields

    def _fields(self) -> Iterator[list[str]]:
        try:
            # csv gives an empty line as a row without fields.
            yield from (fields for fields in self._reader if fields)
        except (csv.Error, UnicodeDecodeError) as error:
            raise TableError(f"line {self.line}: {error}") from None


def _lines(stream: TextIO) -> Iterator[str]:
    """The lines of a stream: one without end is not read into memory."""
    number = 0
    while line := stream.readline(_MAX_LINE + 1):
        number += 1
        if len(line) > _MAX_LINE:
            raise TableError(f"line {number} has more than {_MAX_LINE:,} characters")
        yield line


def parse(content: bytes, columns: Collection[str] = ()) -> list[dict[str, str]]:
    """All rows of a file that has `columns`, and maybe others. Raises TableError."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise TableError(str(error)) from None
    rows = Rows(io.StringIO(text, newline=""), columns)
    return [dict(zip(rows.columns, values, strict=True)) for values in rows.values()]


def write(path: Path, columns: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    """Write a table in one step: `path` has all of it or stays as it was."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        write_rows(stream, [columns])
        write_rows(stream, rows)


def write_rows(stream: TextIO, rows: Iterable[Iterable[object]]) -> None:
    """Append rows to a stream that was opened with newline=""."""
    # csv's minimal quoting looks for the line terminator alone, and readers end a line at a carriage return too.
    plain, quoted = (
        csv.writer(stream, lineterminator="\n", quoting=quoting) for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL)
    )
    for row in rows:
        fields = list(row)
        has_return = any(isinstance(field, str) and "\r" in field for field in fields)
        (quoted if has_return else plain).writerow(fields)
