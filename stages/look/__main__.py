"""Look at all images of prepared/ with a network, and at their pictures in data/: for `python -m review data`.

.dvc/tmp/look/features.npy  float32, N×D: train, val and test, each split in the order of its arrays
.dvc/tmp/look/images.csv    a row for each image: split, path, class, digest of its pixels, group, facts of its picture
.dvc/tmp/look/about.json    of which network and images they are, and how they were computed
.dvc/tmp/look/unlabelled-*  the first two of the pictures in a folder without labels
.dvc/tmp/look/kept/         what was found out about each image: only new ones are looked at again
"""

import argparse
import hashlib
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch

from stages.common import escape, tables
from stages.common.errors import UserError, run_main
from stages.common.files import write_json
from stages.common.locks import try_lock, why_no_locks
from stages.common.params import load
from stages.look import facts, originals, output, unlabelled
from stages.look.kept import Kept, opened
from stages.look.network import choose, from_model, from_weights, identity
from stages.look.params import LookParams
from stages.look.vectors import Extractor, Images, complete, digests_of
from stages.model.checked_split import SplitName, load_rows
from stages.model.dataset import PREPARED, DatasetInfo, Split, load_info, require_digests
from stages.model.runtime import describe, setup

FOLDER = Path(".dvc/tmp/look")
KEPT = FOLDER / "kept"
MANIFEST = PREPARED / "manifest.csv"
SPLITS: tuple[SplitName, ...] = ("train", "val", "test")
# More images at a time are no faster, and take memory; with fewer, matrix products may treat the rows of a batch in
# different ways, and so give an image other bytes in another row.
_MOST_OF_A_BATCH, _LEAST_OF_A_BATCH = 32, 4


class Part(NamedTuple):
    """A split: the rows of the manifest that are its images, and these, uint8 N×S×S×C, mapped or in shards."""

    name: str
    rows: list[dict[str, str]]
    images: Images

    @property
    def originals(self) -> list[originals.Original]:
        """The pictures that the images were made of."""
        return [originals.Original(row["path"], row["sha256"]) for row in self.rows]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m stages.look",
        description="Look at all images with a network, and at their pictures: for `python -m review data`.",
    )
    network = parser.add_mutually_exclusive_group()
    network.add_argument(
        "--weights",
        default="",
        metavar="NAME",
        help="pretrained weights in weights/ (default: those of params.yaml, or the only ones there)",
    )
    network.add_argument("--model", action="store_true", help="the trained model, which has learned from these labels")
    parser.add_argument(
        "--unlabelled", type=Path, metavar="FOLDER", help="also look at the pictures in this folder, without labels"
    )
    arguments = parser.parse_args()
    if arguments.unlabelled and not arguments.unlabelled.is_dir():
        raise UserError(f"--unlabelled: {arguments.unlabelled}: no such folder. Name one that holds pictures.")
    params = load(LookParams)
    begun = time.monotonic()
    with _alone() as work:
        about = look(params, arguments, work)
        seconds = round(time.monotonic() - begun, 1)
        write_json(FOLDER / "about.json", about | {"seconds": seconds})
        if "unlabelled" not in about:
            for name in (output.IMAGES, output.FEATURES):
                (FOLDER / f"{unlabelled.PREFIX}{name}").unlink(missing_ok=True)
    print(
        f"look: {about['images']} images, of which {about['computed']} were new to the network; {about['read']} "
        f"pictures read; {seconds} s, {FOLDER}/"
    )


@contextmanager
def _alone() -> Iterator[Path]:
    """An empty folder for what is of this run alone. UserError where another process is at it."""
    work = FOLDER / "work"
    FOLDER.mkdir(parents=True, exist_ok=True)
    if reason := why_no_locks(FOLDER):
        raise UserError(f"{reason}. Clone the project onto a disk of this machine.")
    with (FOLDER / "lock").open("a") as lock:
        if not try_lock(lock):
            raise UserError(f"{FOLDER}/: another `make look` is at it. Wait for it, or end it.")
        shutil.rmtree(work, ignore_errors=True)  # left by a run that was killed
        work.mkdir()
        try:
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)


def batch_size_for(most: int) -> int:
    """A power of two, so that all rows of a batch are computed alike: ViT-B/32, Swin-T and a linear layer gave each
    image the same bytes in any row of 4, 8, 16 and 32, and other ones in some rows of 2 and 10."""
    most = min(most, _MOST_OF_A_BATCH)
    return max(_LEAST_OF_A_BATCH, 1 << (most.bit_length() - 1))


def look(params: LookParams, arguments: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Write all but about.json, and return what that says."""
    runtime = setup(params)
    info = load_info()
    weights, why = choose(params, arguments.weights, own=arguments.model)
    network = from_weights(weights, params, info) if weights else from_model(info)
    batch_size = batch_size_for(params.eval_batch_size)
    enlarged = f"; images of {info.image_size} px, enlarged to {network.side}" if network.side > info.image_size else ""
    print(f"look: {escape.terminal(network.name)} ({why}); {runtime}{enlarged}", flush=True)
    parts = [_load(name, network.info) for name in SPLITS]
    form = identity(network, params, runtime, batch_size)
    with opened(KEPT, "facts", facts.form()) as table, opened(KEPT, "features", form) as vectors:
        pictures = originals.Pictures(table)
        read = pictures.complete([original for part in parts for original in part.originals], work)
        folder = arguments.unlabelled
        found = unlabelled.find(folder, info, _digests_in_manifest(), work) if folder else None
        extractor = Extractor(network, runtime, batch_size)
        about = {
            "features_of": network.name,
            "own_model": network.is_own,
            "manifest_sha256": hashlib.sha256(MANIFEST.read_bytes()).hexdigest(),
            "weights_sha256": network.sha256,
            "image_size": info.image_size,
            "enlarged_to": network.side,
            "device": describe(runtime.device),
            "precision": runtime.precision,
            "arithmetic": runtime.arithmetic,
            "threads": params.threads,
            "batch_size": batch_size,
            "torch": torch.__version__,
            "read": read,
            **_write_labelled(parts, pictures, Kept(vectors, "labelled"), extractor),
        }
        if found:
            about["unlabelled"] = _write_unlabelled(folder, found, Kept(vectors, "unlabelled"), extractor)
    return about


def _load(name: SplitName, info: DatasetInfo) -> Part:
    """A split. UserError where it is not of the data that dataset.json and the manifest describe."""
    split = Split.load(name, info, torch.device("cpu"))
    require_digests(name, info)
    return Part(name, load_rows(name, split), split.stored)


def _digests_in_manifest() -> set[str]:
    """Of the pixels of all raw images, of those that are left out too."""
    with MANIFEST.open(encoding="utf-8", newline="") as stream:
        rows = tables.Rows(stream, ("sha256",))
        place = rows.columns.index("sha256")
        return {values[place] for values in rows.values()}


def _write_labelled(
    parts: Sequence[Part], pictures: originals.Pictures, kept: Kept, extractor: Extractor
) -> dict[str, Any]:
    digests = []
    computed = 0
    for part in parts:
        places = range(len(part.images))
        of_part = digests_of(part.images, places)
        computed += complete(kept, extractor, part.images, of_part, places)
        digests += of_part
    rows = (
        output.Row(
            part.name, row["path"], row["class"], row["sha256"], row.get("group", ""), pictures.facts_of(original)
        )
        for part in parts
        for row, original in zip(part.rows, part.originals, strict=True)
    )
    written = output.write(FOLDER, "", rows, kept, digests)
    kept.drop_others(digests)
    pictures.drop_others([original for part in parts for original in part.originals])
    return {"images": len(digests), "computed": computed, "kept": len(digests) - computed, **written}


def _write_unlabelled(folder: Path, found: unlabelled.Found, kept: Kept, extractor: Extractor) -> dict[str, Any]:
    print(unlabelled.describe(found, folder), flush=True)
    places = [picture.place for picture in found.pictures]
    squares = torch.from_numpy(found.squares)
    digests = digests_of(squares, places)
    computed = complete(kept, extractor, squares, digests, places)
    rows = (output.Row("", one.path, "", one.sha256, "", one.facts) for one in found.pictures)
    written = output.write(FOLDER, unlabelled.PREFIX, rows, kept, digests)
    kept.drop_others(digests)
    left_out = {"labelled": len(found.labelled), "repeated": len(found.repeated), "unreadable": len(found.unreadable)}
    return {"folder": str(folder.resolve()), "images": len(digests), "computed": computed, **left_out, **written}


if __name__ == "__main__":
    run_main(main)
