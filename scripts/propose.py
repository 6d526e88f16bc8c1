"""Look at data/ and propose params.yaml for it: `make propose`, and `make propose WRITE=1` to write it.

Layouts, names and archives are read and refused as prepare does; of the pictures, only the headers of a few thousand.
So it takes seconds, and what shows in pixels alone, such as damaged and equal pictures, is left to prepare.
"""

import argparse
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from review.git import git
from scripts.recipes import Images, Proposal, Recipe, Weights, choose, duration, propose, read_recipes, text_of
from stages.common import escape
from stages.common.errors import UserError, listed, run_main
from stages.common.files import replacing
from stages.common.params import PARAMS_FILE, load
from stages.model.pretrained import FOLDER as WEIGHTS
from stages.model.pretrained import read_origin
from stages.params import Params
from stages.prepare import layouts, loose, splits
from stages.prepare.picture import NotAPicture, read_header
from stages.prepare.reader import DAMAGED, Container, NotAFile, Place, Reader
from stages.prepare.sizes import measure_sizes
from stages.prepare.summary import class_table, size_lines, size_warnings
from stages.prepare.table import SPLITS, open_table

DATA = Path("data")
CONFIGS = Path("configs")
# Images with a shorter side of so many pixels show things as pretrained weights know them.
_PHOTO = 96
# Headers to look at; those of more images say little more, and each takes up to a millisecond.
_MOST_HEADERS = 5000


class Headers(NamedTuple):
    """(width, height, images) of each size; how many were looked at, and were grey; `path: reason` of what is none."""

    sizes: list[tuple[int, int, int]]
    looked: int
    grey: int
    refused: list[str]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.propose", description="Look at data/ and propose params.yaml for it."
    )
    parser.add_argument(
        "--write", action="store_true", help="write params.yaml; refuses where it has uncommitted edits"
    )
    write = parser.parse_args().write
    current = load(Params)
    with tempfile.TemporaryDirectory() as folder, closing(open_table(Path(folder, "images.sqlite"))) as table:
        if not DATA.is_dir() or not any(DATA.iterdir()):
            raise UserError(
                f"{DATA}/: no images yet. Put yours there, or run `make data` for those that data.dvc names."
            )
        data = layouts.scan(DATA, current.group_pattern, table, Path(folder))
        headers = look(table, data.containers)
        print("\n".join(describe(table, data, headers)))
        if many := loose.hint(DATA, table):
            print(many)
        problems = refusals(table, data, headers, current)
        (drawn,) = table.execute(
            "select count(*) from images where status = '' and coalesce(split, 'train') = 'train'"
        ).fetchone()
    if problems:
        print("prepare would refuse:\n" + "\n".join(problems))
    if not headers.sizes:
        raise UserError(f"{DATA}/: no picture among the files, so there is nothing to propose.")
    images = Images(drawn, measure_sizes(headers.sizes, 1, "crop"), data.official_splits)
    weights = find_weights(current.weights)
    recipe = choose(read_recipes(CONFIGS), images.side, drawn, has_weights=weights is not None)
    proposal = propose(recipe, images, current, weights)
    if weights is None and images.side >= _PHOTO:
        print(
            "hint: photos like these need few images and little time where training starts from pretrained weights: "
            "`python -m scripts.get_weights NAME`, then this again (docs/photos.md)"
        )
    print("\n".join(explain(recipe, proposal, current, headers)))
    text = text_of(recipe, proposal.params)
    if write:
        write_params(text)
    elif proposal.params != current:
        print(f"`make propose WRITE=1` writes {PARAMS_FILE}, with a comment on each key.")


def find_weights(current: str) -> Weights | None:
    """Those in weights/ that params.yaml names, or else the first by name, which is said where there are more."""
    found = {path.stem: path for path in sorted(WEIGHTS.glob("*.json"))}
    if not found:
        return None
    name = current if current in found else next(iter(found))
    if name != current and len(found) > 1:
        print(
            f"weights: {escape.terminal(name)}, the first of {len(found)} in {WEIGHTS}/; {PARAMS_FILE} may name another"
        )
    return Weights(name, read_origin(found[name]))


def look(table: sqlite3.Connection, containers: list[Container]) -> Headers:
    """Read the headers of at most _MOST_HEADERS images, evenly among all."""
    (total,) = table.execute("select count(*) from images where status = ''").fetchone()
    rows = table.execute(
        "select path, container, member, offset, size from images where status = '' and id % ? = 0 order by id",
        (max(1, -(-total // _MOST_HEADERS)),),
    )
    reader = Reader(containers)
    sizes: dict[tuple[int, int], int] = {}
    looked = grey = 0
    refused = []
    for path, *values in rows:
        place = Place(*values)
        looked += 1
        try:
            pixels = reader.pixels(place)
            if pixels is not None:
                (height, width), is_grey = pixels.shape[:2], bool(np.ptp(pixels, axis=2).max() == 0)
            else:
                with reader.open(place) as stream:
                    width, height, is_grey = read_header(stream)
        except (NotAFile, NotAPicture) as error:
            refused.append(f"{path}: {error}")
        except DAMAGED as error:
            refused.append(f"{path}: damaged in its archive: {error}")
        else:
            sizes[width, height] = sizes.get((width, height), 0) + 1
            grey += is_grey
    return Headers([(*size, number) for size, number in sizes.items()], looked, grey, refused)


def describe(table: sqlite3.Connection, data: layouts.RawData, headers: Headers) -> list[str]:
    """What lies in data/: layout, classes and sizes, a line each."""
    found: dict[str, dict[str, int]] = {}
    query = "select label, coalesce(split, ''), count(*) from images where status = '' group by 1, 2"
    for label, split, number in table.execute(query):
        found.setdefault(label, {})[split] = number
    columns = data.official_splits or ("",)
    files = sum(sum(of_class.values()) for of_class in found.values())
    lines = [f"{files} files in {len(found)} classes ({data.layout}); {data.ignored}"]
    if headers.looked < files:
        lines.append(f"looked at {headers.looked} of them, evenly chosen")
    if headers.sizes:
        lines += size_lines(measure_sizes(headers.sizes, 1, "crop"))
        coloured = headers.looked - len(headers.refused) - headers.grey
        lines.append(f"channels: {coloured} in colour, {headers.grey} grey")
    counts = {split or "images": {label: found[label].get(split, 0) for label in data.classes} for split in columns}
    lines += class_table(counts)
    return [f"{DATA}/: {lines[0]}", *(f"  {escape.terminal(line)}" for line in lines[1:])]


def refusals(table: sqlite3.Connection, data: layouts.RawData, headers: Headers, params: Params) -> list[str]:
    """What prepare would not take, as far as it shows without decoding."""
    found = []
    if headers.refused and params.on_corrupt == "error":
        found.append(f"{len(headers.refused)} files that are no pictures:\n" + listed(headers.refused))
    drawn = splits.drawn_splits(data.official_splits)
    units = dict(
        table.execute(
            "select label, count(distinct coalesce(grp, path)) from images "
            "where status = '' and coalesce(split, 'train') = 'train' group by 1"
        )
    )
    what = "groups" if table.execute("select 1 from images where grp is not null limit 1").fetchone() else "images"
    small = [f"{label}: {units.get(label, 0)}" for label in data.classes if units.get(label, 0) < len(drawn)]
    if small:
        found.append(
            f"{len(small)} classes with fewer than {len(drawn)} {what} to draw {', '.join(drawn)} from. Add some, "
            "or remove the classes:\n" + listed(small)
        )
    for split in sorted({*SPLITS} - {*drawn}):
        with_images = {
            label for (label,) in table.execute("select distinct label from images where split = ?", (split,))
        }
        absent = [label for label in data.classes if label not in with_images]
        if absent:
            found.append(f"{len(absent)} classes without images in the official split {split}:\n" + listed(absent))
    return found


def explain(recipe: Recipe, proposal: Proposal, current: Params, headers: Headers) -> list[str]:
    """The proposal: a line with its reason for each param that was thought about, warnings, what changes."""
    params = proposal.params
    lines = [
        f"proposed: {recipe.path}, fitted to these images; training takes about {duration(proposal.seconds)} on 2 cores"
    ]
    lines += [f"  {key:13} {getattr(params, key)!s:11} {reason}" for key, reason in in_order(recipe, proposal.reasons)]
    sizes = measure_sizes(headers.sizes, params.side, params.resize)
    lines += [f"  warning: {warning}" for warning in size_warnings(sizes, params.side, params.resize)]
    old, new = current.model_dump(), params.model_dump()
    kept = [f"{key}: {old[key]}" for key in recipe.kept if old[key] != getattr(recipe.params, key)]
    if kept:
        lines.append(f"kept from {PARAMS_FILE}: {', '.join(kept)}")
    changed = [f"  {key}: {old[key]} → {value}" for key, value in in_order(recipe, new) if old[key] != value]
    lines += [f"{PARAMS_FILE} changes:", *changed] if changed else [f"{PARAMS_FILE} has these values already"]
    return [escape.terminal(line) for line in lines]


def in_order(recipe: Recipe, values: dict[str, Any]) -> list[tuple[str, Any]]:
    """Keys and values in the order in which params.yaml has the keys."""
    return sorted(values.items(), key=lambda item: recipe.body.index(f"\n{item[0]}: "))


def write_params(text: str) -> None:
    """Replace params.yaml. UserError where it has edits that no commit has."""
    if PARAMS_FILE.read_text(encoding="utf-8") == text:
        print(f"{PARAMS_FILE} is as proposed")
        return
    if git("status", "--porcelain", "--", PARAMS_FILE):
        raise UserError(
            f"{PARAMS_FILE}: has edits that are not committed; left as it is. Commit them, or discard them by "
            f"`git checkout {PARAMS_FILE}`, then run again."
        )
    with replacing(PARAMS_FILE) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
        load(Params, temporary)
    print(f"{PARAMS_FILE} is written; `git diff {PARAMS_FILE}` shows the changes")


if __name__ == "__main__":
    run_main(main)
