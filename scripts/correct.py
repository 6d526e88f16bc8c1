"""Merge what the page of `make look` has saved into corrections.csv: `make correct FROM=~/Downloads/corrections.csv`.

The file may be anybody's, so it is checked against the prepared images first. Where both have decided about an image,
the given file is the newer one. On an error, nothing is changed. SPLIT=train takes those of one split alone: what
corrects val and test images changes what is measured, and is better reviewed by itself.
"""

import argparse
import os
from collections import Counter
from collections.abc import Collection, Mapping, Set
from pathlib import Path

from review.revision import MANIFEST, MANIFEST_COLUMNS, WORKSPACE, Revision
from stages.common import escape
from stages.common.corrections import (
    DECISIONS,
    FILE,
    KEEP,
    RELABEL,
    Correction,
    misfits,
    read,
    text,
    was,
    write,
)
from stages.common.errors import UserError, run_main
from stages.prepare.table import SPLITS

_SHOWN = 10


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.correct", description="Merge a saved file of corrections into corrections.csv."
    )
    parser.add_argument("file", help="the file that the page of `make look` has saved")
    parser.add_argument("--split", choices=SPLITS, help="take the decisions about images of this split alone")
    arguments = parser.parse_args()
    file = arguments.file
    if not file:
        raise UserError(
            "FROM: expected the file that the page of `make look` has saved. Such as: make correct "
            "FROM=~/Downloads/corrections.csv"
        )
    correct(Path(os.path.expanduser(file)), arguments.split)  # noqa: PTH111  # which leaves a name that nobody has


def correct(file: Path, split: str | None = None) -> None:
    """Merge `file`, or what it says of one split, into the tree's, and say what that changed. UserError where either is
    no such file, or the given one does not fit the images."""
    given = read(file)
    tree = {one.sha256: one for one in read(FILE, missing_is_empty=True)}
    manifest, classes = _read_manifest({one.sha256 for one in given}, {one.path for one in given})
    fitted = fit(given, tree, manifest, classes, file)
    back = sum(one.effect != other.effect for one, other in zip(given, fitted, strict=True))
    if split:
        of_split = {row["sha256"] for row in manifest if row["split"] == split}
        fitted = [one for one in fitted if one.sha256 in of_split]
    merged = tree | {one.sha256: one for one in fitted}
    new = [one for one in fitted if one.sha256 not in tree]
    replaced = [one for one in fitted if one.sha256 in tree and tree[one.sha256].effect != one.effect]
    said = [f"{file}: {counted(given)}: {len(new)} new, {len(replaced)} replaced"]
    said += [f"  {one.path}: was {tree[one.sha256].effect}, is {one.effect}" for one in replaced[:_SHOWN]]
    if len(replaced) > _SHOWN:
        said.append(f"  … and {len(replaced) - _SHOWN} more")
    if split:
        said.append(f"  {len(given) - len(fitted)} of images that are not in {split} were not taken")
    if back:
        said.append(f"  {back} relabelled back to the class that the data give: {KEEP}")
    if FILE.exists() and FILE.read_bytes() == text(merged.values()).encode():
        said.append(f"{FILE} has all of them already; nothing was changed")
    else:
        write(FILE, merged.values())
        said.append(f"wrote {FILE}: {counted(merged.values())}")
        said.append("next, `make repro` applies them, and `make diff` says what changed")
    for line in said:
        print(escape.terminal(line if line.startswith(" ") else f"correct: {line}"))


def counted(corrections: Collection[Correction]) -> str:
    """How many decisions there are, and of each kind."""
    numbers = Counter(one.decision for one in corrections)
    kinds = ", ".join(f"{numbers[decision]} {decision}" for decision in DECISIONS if numbers[decision])
    return f"{len(corrections)} decision{'' if len(corrections) == 1 else 's'}" + (f" ({kinds})" if kinds else "")


def _read_manifest(images: Set[str], files: Set[str]) -> tuple[list[dict[str, str]], list[str]]:
    """The rows of the manifest that are of these images or files, of which there may be millions of others, and the
    classes of all that are used."""
    found, classes = [], set()
    with Revision.named(WORKSPACE, ask_remote=False).tracked_rows(MANIFEST, MANIFEST_COLUMNS) as rows:
        for values in rows.values():
            row = dict(zip(rows.columns, values, strict=True))
            if row["status"] == "kept":
                classes.add(row["class"])
            if row["sha256"] in images or row["path"] in files:
                found.append(row)
    return found, sorted(classes)


def fit(
    given: list[Correction],
    tree: Mapping[str, Correction],
    manifest: list[dict[str, str]],
    classes: list[str],
    file: Path,
) -> list[Correction]:
    """The corrections of `file`, with the paths that the images have now. One that gives an image back the class that
    the data give is `keep`. `manifest`: the rows of these images and paths; `classes`: those of all images. UserError
    that names every line that does not fit the images, unless the tree has the same."""
    images, files = {one.sha256 for one in given}, {one.path for one in given}
    labels: dict[str, set[str]] = {}
    paths: dict[str, str] = {}
    for row in manifest:
        if row["sha256"] in images:
            before = tree.get(row["sha256"])
            of_data = was(row.get("note", ""), before.reason, classes) if before and before.decision == RELABEL else ""
            labels.setdefault(row["sha256"], set()).add(of_data or row["class"])
            paths.setdefault(row["sha256"], row["path"])
    found = {row["path"]: row["sha256"] for row in manifest if row["path"] in files}
    fitted = []
    for one in given:
        if one.sha256 in tree and one.decision == RELABEL and labels.get(one.sha256) == {one.label}:
            one = one._replace(decision=KEEP, label="")
        path = one.path if found.get(one.path) == one.sha256 else paths.get(one.sha256, one.path)
        fitted.append(one._replace(path=path))
    new = (one for one in fitted if one.sha256 not in tree or tree[one.sha256].effect != one.effect)
    if problems := misfits(new, labels, found, classes):
        raise UserError(f"{file}: nothing was changed. " + "\n".join(problems))
    return fitted


if __name__ == "__main__":
    run_main(main)
