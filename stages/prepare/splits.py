"""Which images count, and in which split: decided in the table of images by the pixels, never by order or name."""

import hashlib
import sqlite3

from stages.common.errors import listed
from stages.prepare.params import PrepareParams
from stages.prepare.table import SPLITS

# Of two equal pictures, the one in the split that decides more is kept.
_RANK = "case split when 'test' then 0 when 'val' then 1 else 2 end"


def assign(table: sqlite3.Connection, official_splits: tuple[str, ...], params: PrepareParams) -> None:
    """Fill in split and status of the images that could be decoded.

    Where no official split decides, the split is a function of the image's group, or else of its pixels, and of
    `split_seed`: an image keeps it when others are added, removed or renamed. Status, by the first that applies:

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

    def split_of(official: str | None, key: str) -> str:
        return official if official and official != "train" else drawn_split(key, official_splits, params)

    table.create_function("split_of", 2, split_of, deterministic=True)
    table.execute("update images set split = split_of(split, coalesce(grp, lower(hex(sha256)))) where status = ''")
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


def drawn_split(key: str, official_splits: tuple[str, ...], params: PrepareParams) -> str:
    """The split of a group or picture: its place on the line from 0 to 1, by SHA-256, decides."""
    place = int(hashlib.sha256(f"{params.split_seed} {key}".encode()).hexdigest(), 16) / 2**256
    for split, fraction in (("test", params.test_fraction), ("val", params.val_fraction)):
        if split in official_splits:
            continue
        if place < fraction:
            return split
        place -= fraction
    return "train"


def problems(table: sqlite3.Connection, classes: list[str], params: PrepareParams) -> list[str]:
    """What would make results wrong, a text for each kind, with every file that is concerned."""
    found = []
    if params.on_corrupt == "error" and (rows := _paths(table, "corrupt")):
        found.append(
            f"{len(rows)} files are not whole images. Repair or remove them, or set `on_corrupt: quarantine` in "
            "params.yaml:\n" + listed([f"{path}: {note}" for path, note in rows])
        )
    if params.on_conflict == "error" and (pictures := _conflicts(table)):
        found.append(
            f"{len(pictures)} pictures are in more than one class. Keep each under the right one, or set "
            "`on_conflict: quarantine` in params.yaml:\n" + listed([paths for (paths,) in pictures])
        )
    divided = table.execute(
        "select grp, group_concat(distinct split) from images where status = 'kept' and grp is not null "
        "group by grp having count(distinct split) > 1 order by grp"
    ).fetchall()
    if divided:
        found.append(
            f"{len(divided)} groups are in more than one official split; each belongs into one:\n"
            + listed([f"{group}: {splits}" for group, splits in divided])
        )
    counts = count(table, classes)
    small = [
        f"{label}: " + ", ".join(f"{counts[split][label]} {split}" for split in SPLITS)
        for label in classes
        if min(counts[split][label] for split in SPLITS) == 0
    ]
    if small:
        found.append(
            f"{len(small)} classes too small to split; every class needs an image in each split. Add images of these "
            "classes, or change val_fraction, test_fraction or split_seed in params.yaml:\n" + listed(small)
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
