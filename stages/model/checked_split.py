"""One split as a trained model is measured on it: images, labels and their rows of the manifest, which all belong
together."""

from collections.abc import Iterator
from dataclasses import replace
from operator import itemgetter
from pathlib import Path
from typing import Literal

from stages.common import tables
from stages.common.errors import UserError
from stages.model.dataset import PREPARED, Batch, DatasetInfo, Split, require_digests
from stages.model.runtime import Runtime
from stages.model.trained import MODEL, TrainedModel

SplitName = Literal["train", "val", "test"]


def load_split(name: SplitName, model: TrainedModel, info: DatasetInfo, runtime: Runtime) -> Split:
    """A split. UserError where it, or the model, is not of the data that `info` describes, or lacks a class."""
    # Pretrained weights have constants of their own.
    expected = replace(info, mean=model.info.mean, std=model.info.std) if model.origin else info
    if model.info != expected:
        raise UserError(
            f"{MODEL}: trained on other data than {PREPARED}/dataset.json describes. `dvc repro train` trains on these."
        )
    split = Split.load(name, model.info, runtime.device)
    require_digests(name, info)
    absent = set(range(len(info.classes))) - set(split.labels.tolist())
    if absent:
        raise UserError(
            f"{PREPARED}/{name}-labels.npy: no {name} image of "
            f"{', '.join(info.classes[label] for label in sorted(absent))}; expected some of every class. "
            "`dvc repro prepare` makes such splits, or says which images are missing."
        )
    return split


def load_rows(name: SplitName, split: Split) -> list[dict[str, str]]:
    """The rows of the manifest that are images of split `name`, in the order of its images. UserError where they are
    others."""
    rows = list(_read_rows(PREPARED / "manifest.csv", name))
    if split.sharded:
        rows.sort(key=itemgetter("sha256"))
    if [row["class"] for row in rows] != [split.info.classes[label] for label in split.labels.tolist()]:
        raise UserError(
            f"{PREPARED}/manifest.csv: its {name} rows are not those of {name}-labels.npy. `dvc repro prepare` makes "
            "both."
        )
    return rows


def _read_rows(path: Path, name: SplitName) -> Iterator[dict[str, str]]:
    """The rows of the manifest that are images of split `name`, in its order, which is that of arrays. UserError where
    it is no manifest."""
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = tables.Rows(stream, ("path", "class", "split", "sha256", "status"))
            for row in rows:
                if row is None:
                    raise tables.TableError(f"line {rows.line} has other than {len(rows.columns)} values")
                if row["split"] == name and row["status"] == "kept":
                    yield row
    except (FileNotFoundError, tables.TableError) as error:
        raise UserError(f"{path}: not what prepare wrote ({error}). `dvc repro prepare` makes it.") from None


def mirrored_batches(split: Split, batch_size: int) -> Iterator[Batch]:
    """The images, left and right exchanged."""
    return (batch._replace(images=batch.images.flip(3)) for batch in split.batches(batch_size))
