"""Raw layouts: what lies under data/, as images with their class and, where the layout says it, split and group.

The layout is found by looking:
- class folders: data/<class>/**/<image>
- split folders above them: data/train/<class>/**, optionally data/val/<class>/** and data/test/<class>/**, or in them:
  data/<class>/train/<image>; or other names that say the same (split_names.py)
- data/labels.csv: columns path, label and optionally split and group
- a published data set: the files of CIFAR-10 or -100, or of MNIST's family (published.py)
A zip or tar archive counts as the folder in which it lies: its members are taken with the files there. One named train,
val or test counts as a folder of that name. All may lie in one folder below data/. What looks like another layout is
refused, with what to rename: a guess that is wrong would be a model of splits, or of sources.
"""

import math
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from stages.common.errors import UserError, listed
from stages.common.names import look, shortened, why_no_class
from stages.prepare import folders, published
from stages.prepare.labels import LABELS, read_labels
from stages.prepare.listing import Ignored, find, refuse_twice
from stages.prepare.patterns import find_groups
from stages.prepare.reader import Container, Place, Reader
from stages.prepare.table import SPLITS, insert_images

# What lies side by side where each image has a file with boxes, or one with its areas.
_NO_CLASSES = frozenset("images image imgs img labels label annotations annotation masks mask".split())


@dataclass(frozen=True)
class RawData:
    """Class names, sorted; the layout in words; the splits that it has; where the bytes lie; what was ignored."""

    classes: list[str]
    layout: str
    official_splits: tuple[str, ...]
    containers: list[Container]
    ignored: Ignored


def scan(root: Path, group_pattern: str, table: sqlite3.Connection, work: Path) -> RawData:
    """Fill the tables of `open_table` with what lies under `root`.

    Archives and published data sets that cannot be read at random are unpacked into the folder `work`. Raises UserError
    for a layout that is not one of those above, naming every file that does not fit.
    """
    refuse_link(root)
    if not root.is_dir():
        raise UserError(f"{root}/: no such folder. `make data` gets the version that {root}.dvc names.")
    containers = [Container("folder", str(root))]
    ignored = find(root, table, containers, work)
    if not table.execute("select 1 from found limit 1").fetchone():
        raise UserError(
            f"{root}/: no images. Expected {root}/<class>/<image>, or {root}/train/<class>/<image> and so on."
        )
    refuse_twice(root, table)
    layout = _published(root, table, containers, work)
    if layout is None:
        around = folders.around(table)
        has_labels = table.execute("select 1 from found where path = ?", (around + LABELS,)).fetchone()
        layout = read_labels(root, table, around) if has_labels else folders.read_folders(root, table, around)
    table.execute("drop table found")
    _group(root, group_pattern, table)
    classes, official = _check(root, layout, table)
    return RawData(classes, layout, official, containers, ignored)


def refuse_link(root: Path) -> None:
    """UserError where the folder of the data is a link."""
    if root.is_symlink():
        raise UserError(
            f"{root}: a link. DVC would write other versions of the data into the folder that it leads to, in place "
            f"of what is there. Remove the link, and copy the images into {root}/; if this disk is too small for them, "
            "move DVC's cache to a larger one (docs/own-data.md)."
        )


# --- the layouts -----------------------------------------------------------------------------------------------------


def _published(root: Path, table: sqlite3.Connection, containers: list[Container], work: Path) -> str | None:
    """The files of a published data set, unpacked to bare pixels; None where there is none."""
    candidates = "path glob '*-idx[123]-*' or path glob '*cifar-10-batches-py/*' or path glob '*cifar-100-python/*'"
    places = {
        path: Place(*place)
        for path, *place in table.execute(f"select path, container, member, offset, size from found where {candidates}")
    }
    reader = Reader(containers)
    parts = published.parts(set(places), lambda path: reader.open(places[path]))
    if not parts:
        return None
    places_of_parts = {part.path.rpartition("/")[0] for part in parts}
    others = [
        path
        for (path,) in table.execute("select path from found order by path")
        if path.rpartition("/")[0] not in places_of_parts
    ]
    if others:
        raise UserError(
            f"{root}/: both a published data set ({parts[0].path}, …) and {len(others)} other files. Keep either:\n"
            + listed(others)
        )
    table.execute(
        "create table bare (path text, label text, split text, container integer, offset integer, size integer)"
    )
    for part in parts:
        file = work / f"{len(containers)}.pixels"
        size = math.prod(part.shape)
        with file.open("wb") as stream:
            for pixels, labels in part.images:
                first = stream.tell() // size
                stream.write(pixels.tobytes())
                table.executemany(
                    "insert into bare values (?, ?, ?, ?, ?, ?)",
                    (
                        (f"{part.path}/{number:06}", label, part.split, len(containers), number * size, size)
                        for number, label in enumerate(labels, first)
                    ),
                )
        containers.append(Container("pixels", str(file), part.shape))
    insert_images(table, "select path, label, split, null, container, null, offset, size from bare")
    return "published files " + ", ".join(part.path for part in parts)


# --- what holds for every layout -------------------------------------------------------------------------------------


def _group(root: Path, pattern: str, table: sqlite3.Connection) -> None:
    """Fill in the groups that `group_pattern` finds in the paths."""
    if not pattern:
        return
    if table.execute("select 1 from images where grp is not null limit 1").fetchone():
        raise UserError(
            f"group_pattern: {LABELS} has groups of its own. "
            "Set `group_pattern: ''` in params.yaml, or remove the column."
        )
    find_groups(table, pattern)
    without = [path for (path,) in table.execute("select path from images where grp is null order by id")]
    if without:
        raise UserError(
            f"group_pattern: {pattern!r} in params.yaml finds no group in {len(without)} paths under {root}/:\n"
            + listed(without)
        )


def _check(root: Path, layout: str, table: sqlite3.Connection) -> tuple[list[str], tuple[str, ...]]:
    """The classes and the official splits. UserError where they cannot be learned from."""
    classes = sorted(label for (label,) in table.execute("select distinct label from images where label is not null"))
    if len(classes) < 2:
        raise UserError(
            f"{root}/: one class only ({', '.join(classes)}); a classifier needs images of at least two, "
            "each in its own folder."
        )
    if not set(map(str.casefold, classes)) - _NO_CLASSES:
        raise UserError(
            f"{root}/: the folders are {', '.join(classes)}, as in data sets of objects or areas in images. A "
            "classifier needs one class for each image, as the name of its folder or in labels.csv."
        )
    spaced = [label for label in classes if label != label.strip()]
    if spaced:
        raise UserError(
            f"{root}/: classes that begin or end with a space, which nobody sees: {', '.join(map(repr, spaced))}. "
            "Rename their folders."
        )
    if refused := [f"{shortened(label)!r}: {reason}" for label in classes if (reason := why_no_class(label))]:
        raise UserError(f"{root}/: {len(refused)} names that no class may have. Rename:\n" + listed(refused))
    alike: dict[str, list[str]] = {}
    for label in classes:
        alike.setdefault(look(label), []).append(label)
    confusable = [names for names in alike.values() if len(names) > 1]
    # EMNIST's letters are classes of both cases on purpose.
    if confusable and not layout.startswith("published"):
        raise UserError(
            f"{root}/: classes that differ only in case, in spaces, in the form of a character or in letters of other "
            "scripts that look the same; give each class one name:\n"
            + "\n".join("  " + ", ".join(map(repr, names)) for names in confusable)
        )
    splits = {split for (split,) in table.execute("select distinct split from images where split is not null")}
    if splits and "train" not in splits:
        raise UserError(
            f"{root}/: splits {', '.join(sorted(splits))} without train; images to learn from go into train."
        )
    return classes, tuple(split for split in SPLITS if split in splits)
