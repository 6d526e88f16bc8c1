"""The true classes of pictures that a service answered, which somebody found out later: a CSV file of id and class."""

from pathlib import Path

from stages.common import tables
from stages.common.errors import UserError
from stages.common.names import normal, shortened, why_no_class

_COLUMNS = ("id", "class")
_MOST_BYTES = 256 << 20


def read(path: Path) -> dict[str, str]:
    """The class by the id of the picture in the log. UserError for what is no such table."""
    found: dict[str, str] = {}
    if not path.is_file():
        raise UserError(f"{path}: no such file. Name a CSV file with the columns id and class.")
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise tables.TableError(f"more than {_MOST_BYTES:,} bytes")
        for row in tables.parse(path.read_bytes(), _COLUMNS):
            label = normal(row["class"])
            if reason := why_no_class(label) if label else "it is empty":
                raise tables.TableError(f"the class {shortened(repr(label))} of {shortened(row['id'])}: {reason}")
            if row["id"] in found:
                raise tables.TableError(f"the id {shortened(row['id'])} is there twice")
            found[row["id"]] = label
    except tables.TableError as error:
        raise UserError(
            f"{path}: {error}. Expected CSV with the columns id, as in the log, and class, a row for each picture."
        ) from None
    if not found:
        raise UserError(f"{path}: no rows. Expected the id of a picture in the log and its true class in each.")
    return found
