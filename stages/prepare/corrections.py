"""What people have decided about single images, corrections.csv, applied before the splits are drawn: an image counts
for the class that it was given, or for nothing, wherever it lies. The files in data/ stay as they are."""

import sqlite3
from collections import defaultdict

from stages.common import corrections
from stages.common.corrections import FILE, KEEP, LEAVE_OUT, RELABEL, Correction, misfits, note
from stages.common.dependencies import require_file_listed
from stages.common.errors import UserError

# Of more pairs of classes, the most frequent are shown.
_SHOWN = 5


def read() -> list[Correction]:
    """The rows of the file; none where there is no file. UserError that names every problem."""
    if FILE.exists():
        require_file_listed(str(FILE))
    return corrections.read(FILE, missing_is_empty=True)


def apply(table: sqlite3.Connection, decided: list[Correction], classes: list[str]) -> None:
    """Give all files with the pixels of a correction its class, or the status left-out, by the SHA-256 that
    `decode_all` has filled in. UserError that names every line that does not fit the images."""
    if not decided:
        return
    table.executemany(
        "insert into corrections values (?, ?, ?, ?, ?)",
        ((bytes.fromhex(one.sha256), one.path, one.decision, one.label, one.reason) for one in decided),
    )
    labels: dict[str, set[str]] = defaultdict(set)
    for sha256, label in table.execute(
        "select distinct lower(hex(sha256)), images.label from images join corrections using (sha256)"
    ):
        labels[sha256].add(label)
    found = dict(
        table.execute("select path, lower(hex(images.sha256)) from images join corrections using (path)").fetchall()
    )
    if problems := misfits(decided, labels, found, classes):
        raise UserError(f"{FILE}: " + "\n".join(problems))
    table.create_function("note_of", 2, note, deterministic=True)
    table.execute(
        "update images set given = images.label, label = corrections.label, "
        "correction = note_of(images.label, reason) from corrections "
        "where corrections.sha256 = images.sha256 and decision = ? and images.label != corrections.label",
        (RELABEL,),
    )
    table.execute(
        "update images set status = 'left-out', correction = reason from corrections "
        "where corrections.sha256 = images.sha256 and decision = ?",
        (LEAVE_OUT,),
    )


def summarize(table: sqlite3.Connection) -> tuple[dict[str, int], list[str]]:
    """How many files were corrected, and what to say of them; nothing where there are no corrections."""
    if not table.execute("select 1 from corrections limit 1").fetchone():
        return {}, []
    pairs = table.execute(
        "select given, label, count(*) from images where given is not null group by 1, 2 order by 3 desc, 1, 2"
    ).fetchall()
    (confirmed,) = table.execute(
        "select count(*) from images join corrections using (sha256) where decision = ?", (KEEP,)
    ).fetchone()
    (left_out,) = table.execute("select count(*) from images where status = 'left-out'").fetchone()
    figures = {
        "relabelled": sum(number for _, _, number in pairs),
        "left_out_by_hand": left_out,
        "confirmed": confirmed,
    }
    shown = [f"{given} → {label} ({number})" for given, label, number in pairs[:_SHOWN]]
    if len(pairs) > _SHOWN:
        shown.append("…")
    lines = {
        "left_out_by_hand": f"left out: {left_out} by hand ({FILE})",
        "relabelled": f"corrected: {figures['relabelled']} labels by hand ({FILE}): {', '.join(shown)}",
        "confirmed": f"confirmed: {confirmed} labels by hand ({FILE})",
    }
    return figures, [line for name, line in lines.items() if figures[name]]
