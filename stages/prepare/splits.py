"""Which images count, and in which split: decided in the table of images by the pixels, never by order or name."""

import hashlib
import sqlite3

from stages.common.errors import listed
from stages.prepare import near_duplicates
from stages.prepare.params import PrepareParams
from stages.prepare.table import SPLITS

# Of two equal pictures, the one in the split that decides more is kept.
_RANK = "case split when 'test' then 0 when 'val' then 1 else 2 end"
# In the order of the line from 0 to 1, which is closed to a circle: after train comes test.
_CIRCLE = ("test", "val", "train")
# What a class is divided by: groups, or pictures that are in none.
_UNITS = "from images where status = 'kept' and place is not null"


def assign(table: sqlite3.Connection, official_splits: tuple[str, ...], params: PrepareParams) -> None:
    """Fill in split and status of the images that could be decoded.

    Where no official split decides, the image's group, or else its pixels, and `split_seed` draw a place on the line
    from 0 to 1, which says the split: an image keeps it when others are added, removed or renamed. Only where a split
    would have nothing of a class does it get some of another's: see `_fill`. Status, by the first that applies:

    - conflict: the same pixels are in another class, too; one of the labels is wrong
    - duplicate: the same pixels are at an earlier path of the same split
    - leaked: the same pixels are in a split that takes precedence, test before val before train
    - kept
    """
    table.execute("create index images_sha256 on images (sha256)")
    table.execute(
        "update images set status = 'conflict', note = 'the same pixels under another class' where status = '' "
        "and sha256 in (select sha256 from images where status = '' group by sha256 having min(label) != max(label))"
    )
    drawn = drawn_splits(official_splits)
    table.create_function("place_of", 1, lambda key: place(key, params), deterministic=True)
    table.create_function("split_at", 1, lambda place: split_at(place, drawn, params), deterministic=True)
    table.execute(
        "update images set place = place_of(coalesce(grp, lower(hex(sha256)))) "
        "where status = '' and coalesce(split, 'train') = 'train'"
    )
    table.execute("update images set split = split_at(place) where place is not null")
    table.execute("update images set split = null where status != ''")
    table.execute(
        "update images set status = iif(ranked.split = ranked.first_split, 'duplicate', 'leaked'), "
        "note = 'the same pixels as ' || ranked.first_path from ("
        "  select id, split, row_number() over same as number, first_value(split) over same as first_split, "
        "  first_value(path) over same as first_path from images where status = '' "
        f" window same as (partition by sha256 order by {_RANK}, id)"
        ") as ranked where ranked.id = images.id and ranked.number > 1"
    )
    table.execute("update images set status = 'kept' where status = ''")
    _fill(table, drawn)


def drawn_splits(official_splits: tuple[str, ...]) -> tuple[str, ...]:
    """The splits that images are drawn into: train, and those that the layout does not have."""
    return tuple(split for split in SPLITS if split == "train" or split not in official_splits)


def place(key: str, params: PrepareParams) -> float:
    """Where a group or picture stands on the line from 0 to 1, by SHA-256."""
    return int(hashlib.sha256(f"{params.split_seed} {key}".encode()).hexdigest(), 16) / 2**256


def split_at(place: float, drawn: tuple[str, ...], params: PrepareParams) -> str:
    """The split that owns a place: from 0 on test, then val, each as long as its fraction, then train."""
    for split, fraction in (("test", params.test_fraction), ("val", params.val_fraction)):
        if split not in drawn:
            continue
        if place < fraction:
            return split
        place -= fraction
    return "train"


def _fill(table: sqlite3.Connection, drawn: tuple[str, ...]) -> None:
    """Give each drawn split a unit of every class: where it has none, the nearest one of a split that has several.

    A unit is a group, or a picture in none; the nearest one is by its place on the circle, so test takes the last of
    train, and val the first. What train lacks is filled first, and train gives before the others do. A split never
    gives its last unit of a class, and no unit that holds the pixels of another is moved, so that what the statuses
    say stays true. The classes with the fewest units come first. One that has a unit in each split stays as it is, or
    at least keeps one in each, where it shares groups with one that has not.
    """
    lacking = (
        f"select label from images where status = 'kept' group by label having count(distinct split) < {len(SPLITS)}"
    )
    if not table.execute(lacking).fetchone():
        return
    table.execute(
        "create index images_unit on images (label, split, place) where status = 'kept' and place is not null"
    )
    table.execute("create index images_place on images (place)")
    for (label,) in table.execute(f"{lacking} order by count(distinct place), label").fetchall():
        for split in drawn:
            if _has(table, label, split):
                continue
            donors = [donor for donor in drawn if donor != split and _has(table, label, donor, 2)]
            for unit in (unit for donor in donors for unit in _nearest(table, label, donor, split)):
                if _is_movable(table, unit):
                    table.execute("update images set split = ? where place = ? and split is not null", (split, unit))
                    break


def _has(table: sqlite3.Connection, label: str, split: str, units: int = 1) -> bool:
    """Whether a split has so many units of a class, or more."""
    query = f"select distinct place {_UNITS} and (label, split) = (?, ?) limit ?"
    return len(table.execute(query, (label, split, units)).fetchall()) == units


def _nearest(table: sqlite3.Connection, label: str, donor: str, split: str) -> list[float]:
    """The places of a donor's units of a class, those first that are nearest to `split`."""
    is_next = _CIRCLE[(_CIRCLE.index(split) + 1) % len(_CIRCLE)] == donor
    query = f"select distinct place {_UNITS} and (label, split) = (?, ?) order by place {'asc' if is_next else 'desc'}"
    return [place for (place,) in table.execute(query, (label, donor))]


def _is_movable(table: sqlite3.Connection, unit: float) -> bool:
    """Whether a unit is the last of its split in none of its classes, and no copy of its pixels is outside it."""
    copies = (
        "select 1 from images own join images other using (sha256) "
        "where own.place = ? and own.split is not null and other.place is not own.place limit 1"
    )
    return not table.execute(copies, (unit,)).fetchone() and all(
        _has(table, label, split, 2)
        for label, split in table.execute(f"select distinct label, split {_UNITS} and place = ?", (unit,)).fetchall()
    )


def problems(
    table: sqlite3.Connection, classes: list[str], official_splits: tuple[str, ...], params: PrepareParams
) -> list[str]:
    """What would make results wrong, a text for each kind, with every file that is concerned."""
    found = []
    if params.on_corrupt == "error" and (rows := _paths(table, "corrupt")):
        found.append(
            f"{len(rows)} files are not whole images. Repair or remove them, or set `on_corrupt: quarantine` in "
            "params.yaml:\n" + listed([f"{path}: {note}" for path, note in rows])
        )
    if params.on_conflict == "error" and (pictures := _conflicts(table)):
        found.append(
            f"{len(pictures)} pictures are in more than one class. Keep each under the right one, say which in "
            "corrections.csv, or set `on_conflict: quarantine` in params.yaml:\n"
            + listed([paths for (paths,) in pictures])
        )
    if params.on_near_duplicate == "error":
        found += near_duplicates.problem(table)
    divided = table.execute(
        "select grp, group_concat(distinct split) from images where status = 'kept' and grp is not null "
        "group by grp having count(distinct split) > 1 order by grp"
    ).fetchall()
    if divided:
        found.append(
            f"{len(divided)} groups are in more than one official split; each belongs into one:\n"
            + listed([f"{group}: {splits}" for group, splits in divided])
        )
    return found + _small_classes(table, classes, official_splits)


def _small_classes(table: sqlite3.Connection, classes: list[str], official_splits: tuple[str, ...]) -> list[str]:
    """The classes of which a split has nothing, by what helps."""
    counts = count(table, classes)
    drawn = drawn_splits(official_splits)
    grouped = table.execute("select 1 from images where grp is not null limit 1").fetchone()
    units = dict(table.execute(f"select label, count(distinct place) {_UNITS} group by label"))
    absent, few, tied = [], [], []
    for label in classes:
        missing = [split for split in SPLITS if not counts[split][label]]
        line = f"{label}: " + ", ".join(f"{counts[split][label]} {split}" for split in SPLITS)
        if set(missing) - set(drawn):
            absent.append(line)
        elif missing and units.get(label, 0) < len(drawn):
            few.append(line + (f", in {units.get(label, 0)} groups" if grouped else ""))
        elif missing:
            tied.append(line)
    needed = f"{len(drawn)} {'groups' if grouped else 'different images'}"
    names = " or ".join(split for split in SPLITS if split not in drawn)
    found = []
    if absent:
        found.append(
            f"{len(absent)} classes without images in the official split {names}. Add images of these classes there, "
            "or remove the classes, or remove that split, for prepare to draw one from train:\n" + listed(absent)
        )
    if few:
        found.append(
            f"{len(few)} classes too small to split: expected {needed} or more of each class, to draw "
            f"{', '.join(drawn)} from. Add images of these classes, or remove the classes:\n" + listed(few)
        )
    if tied:
        found.append(
            f"{len(tied)} classes whose groups cannot be divided into {', '.join(drawn)}, because other classes or "
            "copies of pictures tie them together. Add groups of these classes alone, make groups smaller, or give the "
            "splits yourself, by the column split of labels.csv or by folders:\n" + listed(tied)
        )
    return found


def count(table: sqlite3.Connection, classes: list[str]) -> dict[str, dict[str, int]]:
    """Kept images per split and class."""
    query = "select split, label, count(*) from images where status = 'kept' group by 1, 2"
    found = {(split, label): number for split, label, number in table.execute(query)}
    return {split: {label: found.get((split, label), 0) for label in classes} for split in SPLITS}


def _paths(table: sqlite3.Connection, status: str) -> list[tuple[str, str]]:
    return table.execute("select path, note from images where status = ? order by id", (status,)).fetchall()


def _conflicts(table: sqlite3.Connection) -> list[tuple[str]]:
    """The paths of each picture that is in several classes, joined by an equals sign."""
    return table.execute(
        "select group_concat(path, ' = ') from (select * from images where status = 'conflict' order by id) "
        "group by sha256 order by min(id)"
    ).fetchall()
