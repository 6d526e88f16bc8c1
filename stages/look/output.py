"""What `python -m review data` reads: features.npy, images.csv, and about.json, which names the digests of both."""

import hashlib
import io
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stages.common import tables
from stages.common.files import replacing
from stages.look.facts import Facts
from stages.look.kept import Kept

IMAGES, FEATURES = "images.csv", "features.npy"
COLUMNS = ("split", "path", "class", "sha256", "group", *Facts._fields)


class Row(NamedTuple):
    """An image: where it belongs, and what its picture is like."""

    split: str
    path: str
    label: str
    sha256: str
    group: str
    facts: Facts


def write(folder: Path, prefix: str, rows: Iterable[Row], kept: Kept, digests: Sequence[bytes]) -> dict[str, str]:
    """Write both files, whose names begin with `prefix`, and return their digests. `digests`: of the images, row for
    row, whose features `kept` has."""
    images, features = folder / f"{prefix}{IMAGES}", folder / f"{prefix}{FEATURES}"
    tables.write(images, COLUMNS, ([*row[:-1], *row.facts] for row in rows))
    shape = (len(digests), len(kept.get(digests[0])) // np.dtype(np.float32).itemsize)
    header = io.BytesIO()
    described = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.float32)), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, described)
    sha256 = hashlib.sha256()
    with replacing(features) as temporary, temporary.open("wb") as stream:
        for part in itertools.chain([header.getvalue()], map(kept.get, digests)):
            stream.write(part)
            sha256.update(part)
    return {"images_sha256": hashlib.sha256(images.read_bytes()).hexdigest(), "features_sha256": sha256.hexdigest()}
