"""Pictures of a folder that have no labels yet, as prepare would store them; their facts are as the labelled ones'."""

import math
import os
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from stages.common import escape
from stages.common.errors import UserError, listed
from stages.look.facts import Facts, measure
from stages.model.dataset import DatasetInfo
from stages.predict import find_all
from stages.prepare.decode import write_at
from stages.prepare.picture import Canvas, NotAPicture, decode, pixel_sha256
from stages.prepare.processes import images_of_a_chunk, processes_for, results
from stages.prepare.reader import Container, Place, Reader
from stages.prepare.seen import as_seen

PREFIX = "unlabelled-"


class Picture(NamedTuple):
    """One that is new: its path below the folder, the SHA-256 of its pixels, hexadecimal, its facts, and where its
    square stands in the array."""

    path: str
    sha256: str
    facts: Facts
    place: int


class Found(NamedTuple):
    """The new pictures; squares, uint8 N×S×S×C, of all there are; and the paths of those that are left out: labelled
    already, there twice, and, each with the reason, not readable."""

    pictures: list[Picture]
    squares: np.ndarray
    labelled: list[str]
    repeated: list[str]
    unreadable: list[str]


class _Setting(NamedTuple):
    folder: Path
    squares: Path
    side: int
    resize: str
    channels: int


def find(folder: Path, info: DatasetInfo, labelled: set[str], work: Path) -> Found:
    """The pictures in a folder. `labelled`: the digests of those that have a label; `work`: a folder for the squares.
    UserError where none of its pictures is new."""
    paths = [str(path.relative_to(folder)) for _, path in find_all([str(folder)]) if path]
    setting = _Setting(folder, work / "squares", info.stored_size, info.resize, info.channels)
    shape = (len(paths), info.stored_size, info.stored_size, info.channels)
    with setting.squares.open("wb") as stream:
        stream.truncate(math.prod(shape))
    size = sum(file.stat().st_size for path in paths if (file := folder / path).exists())
    length = images_of_a_chunk(len(paths), size)
    chunks = (list(enumerate(paths[first : first + length], first)) for first in range(0, len(paths), length))
    found: dict[str, Picture] = {}
    left_out: dict[str, list[str]] = {"labelled": [], "repeated": [], "unreadable": []}
    with tqdm(total=len(paths), unit="image", unit_scale=True, leave=False, disable=not sys.stderr.isatty()) as bar:
        for chunk in results(_read_chunk, chunks, _start, setting, processes_for(size), "look"):
            for picture, problem in chunk:
                if problem:
                    left_out["unreadable"].append(f"{picture.path}: {problem}")
                elif picture.sha256 in labelled:
                    left_out["labelled"].append(picture.path)
                elif picture.sha256 in found:
                    left_out["repeated"].append(picture.path)
                else:
                    found[picture.sha256] = picture
            bar.update(len(chunk))
    if not found:
        counts = ", ".join(f"{len(names)} {why}" for why, names in left_out.items() if names)
        raise UserError(f"--unlabelled: {folder}: no new picture among {len(paths)} files ({counts}).")
    return Found(list(found.values()), np.memmap(setting.squares, np.uint8, "c", shape=shape), **left_out)


def describe(found: Found, folder: Path) -> str:
    """How many there are, and what was left out."""
    lines = [f"look: {len(found.pictures)} new pictures in {escape.terminal(str(folder))}/"]
    for names, what in (
        (found.labelled, "labelled already"),
        (found.repeated, "there twice"),
        (found.unreadable, "not readable"),
    ):
        if names:
            lines.append(f"look: {len(names)} left out, {what}:\n{listed(names)}")
    return "\n".join(lines)


_setting: _Setting
_reader: Reader
_canvas: Canvas
_squares: int


def _start(setting: _Setting) -> None:
    global _setting, _reader, _canvas, _squares
    _setting = setting
    _reader = Reader([Container("folder", str(setting.folder))])
    _canvas = Canvas()
    _squares = os.open(setting.squares, os.O_WRONLY)


def _read_chunk(chunk: list[tuple[int, str]]) -> list[tuple[Picture, str]]:
    """Pictures, and what is wrong with those that cannot be read."""
    found = []
    for place, path in chunk:
        try:
            data = _reader.picture(Place(0, path, -1, 0))
            picture = decode(data, _canvas)
        except NotAPicture as error:
            found.append((Picture(path, "", Facts(0, 0, 0, 0, 0, 0), place), str(error)))
            continue
        square = as_seen(picture, _setting.side, _setting.resize, _setting.channels).pixels
        write_at(_squares, np.ascontiguousarray(square).reshape(-1).data, place * square.size)
        found.append((Picture(path, pixel_sha256(picture.rgb).hex(), measure(picture.rgb, data), place), ""))
    return found
