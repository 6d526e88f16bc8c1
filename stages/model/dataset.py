"""Prepared images, in mapped arrays, on a device or in shards, and normalised."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from stages.common import shards
from stages.common.errors import UserError
from stages.common.files import read_json
from stages.model.ahead import gathered
from stages.model.sharded import ShardedImages
from stages.model.sources import Shard, open_shards

PREPARED = Path("prepared")
# Of a GPU's free memory, what images may take; the rest is for the model and its batches.
_RESIDENT_SHARE = 0.5
# Of this machine's memory, from where on mapped images are read ahead of use: many will not be there yet.
_MAPPED_SHARE = 0.5
_REMEDY = "`dvc repro prepare` makes it."


@dataclass(frozen=True)
class DatasetInfo:
    """prepared/dataset.json: class names in label order, channels, the side that the model sees and the one that is
    stored, how images were made square, the mean and standard deviation of the train split, per channel on the scale 0
    to 1, and the SHA-256 of the arrays and, for a split in shards, of the digests of these, one a line."""

    classes: list[str]
    channels: int
    image_size: int
    stored_size: int
    resize: str
    mean: list[float]
    std: list[float]
    sha256: dict[str, str]


class Batch(NamedTuple):
    """Normalised images, float32 N×C×H×W in channels_last memory, and labels, int64 N."""

    images: torch.Tensor
    labels: torch.Tensor


def read_dataset(folder: Path = PREPARED) -> dict[str, Any]:
    """All of dataset.json, digests of the arrays included. UserError where it is missing."""
    return read_json(folder / "dataset.json", _REMEDY)


def load_info(folder: Path = PREPARED) -> DatasetInfo:
    """Read dataset.json. UserError where it is missing or incomplete."""
    content = read_dataset(folder)
    try:
        described = {name: content[name] for name in DatasetInfo.__dataclass_fields__}
        return DatasetInfo(**described | {"sha256": _without_shards(content["sha256"])})
    except KeyError as error:
        raise UserError(f"{folder}/dataset.json: no key {error}. {_REMEDY}") from None


def _without_shards(sha256: dict[str, str]) -> dict[str, str]:
    """One digest for all shards of a split, in place of one for each: models/model.json keeps them."""
    arrays = {name: digest for name, digest in sha256.items() if not name.startswith(f"{shards.FOLDER}/")}
    for split in ("train", "val", "test"):
        if names := shards.names_of(split, sha256):
            arrays[f"{split}-{shards.FOLDER}"] = _digest_of([sha256[name] for name in names])
    return arrays


def _digest_of(digests: Iterable[str]) -> str:
    return hashlib.sha256("".join(f"{digest}\n" for digest in digests).encode()).hexdigest()


def require_digests(name: str, info: DatasetInfo, folder: Path = PREPARED) -> None:
    """UserError where the arrays of split `name` are not, byte for byte, those that `info` describes; what is read of
    shards is compared as it is read."""
    for part in ("images", "labels"):
        path = folder / f"{name}-{part}.npy"
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if digest != info.sha256[path.name]:
            raise UserError(
                f"{path}: not the array of {folder}/dataset.json, which says SHA-256 {info.sha256[path.name][:16]}…; "
                f"got {digest[:16]}…. {_REMEDY}"
            )


class Split:
    """One split: uint8 images N×H×W×C, in the device's memory or sent there as they are needed, and int64 labels N on
    the device.

    On a CPU the images are the file itself, mapped: they take no memory that the system could not take back. What is
    read does not depend on where it lies, nor, but for losses of JPEG, on whether it lies in shards.
    """

    def __init__(
        self,
        images: torch.Tensor | ShardedImages,
        labels: torch.Tensor,
        info: DatasetInfo,
        device: torch.device | None = None,
        *,
        streamed: bool = False,
    ) -> None:
        """`streamed`: `images` lie in host memory, and are sent to `device` as they are needed, as those in shards
        always are; else they lie there."""
        self.stored = images
        self.device = device or (torch.device("cpu") if isinstance(images, ShardedImages) else images.device)
        self.streamed = streamed or isinstance(images, ShardedImages)
        self.labels = labels.to(self.device)
        self.info = info
        self._constants: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    @classmethod
    def load(cls, name: str, info: DatasetInfo, device: torch.device, folder: Path = PREPARED) -> "Split":
        """Split `name`, its images on `device` if they are in an array that takes at most half of its free memory.

        UserError where its arrays are missing, empty, or not what `info` says.
        """
        images, labels = (_map(folder / f"{name}-{part}.npy") for part in ("images", "labels"))
        if shards.is_sharded(images):
            sharded = _open_sharded(name, images, len(labels), info, folder)
            return cls(sharded, torch.from_numpy(np.array(labels)), info, device)
        expected = (len(labels), info.stored_size, info.stored_size, info.channels)
        if images.shape != expected or images.dtype != np.uint8:
            raise UserError(
                f"{folder}/{name}-images.npy: expected uint8 {expected}, got {images.dtype} {images.shape}. {_REMEDY}"
            )
        _require_some(name, labels, folder)
        mapped = torch.from_numpy(images)
        if device.type == "cuda":
            streamed = mapped.nbytes > _RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]
        else:
            streamed = mapped.nbytes > _MAPPED_SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        if not streamed:
            mapped = mapped.to(device)
        return cls(mapped, torch.from_numpy(np.array(labels)), info, device, streamed=streamed)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def images(self) -> torch.Tensor:
        """The images, where they lie in an array. UserError where they lie in shards: they are not there at once."""
        if isinstance(self.stored, ShardedImages):
            raise UserError(
                f"{PREPARED}: {len(self):,} images lie in shards, and cannot be had as one array. `Split.rows` gives "
                "those that are named; `shards_above: 0` has prepare write arrays."
            )
        return self.stored

    @property
    def sharded(self) -> ShardedImages | None:
        """The images, where they lie in shards."""
        return self.stored if isinstance(self.stored, ShardedImages) else None

    @property
    def indexed_on(self) -> torch.device:
        """Where indices in `rows` have to lie."""
        return torch.device("cpu") if isinstance(self.stored, ShardedImages) else self.stored.device

    @property
    def placement(self) -> str:
        """Where the images lie, for the log."""
        if self.sharded:
            return "in shards"
        if self.streamed:
            return "streamed" if self.device.type == "cuda" else "mapped and read ahead"
        return "mapped" if self.device.type == "cpu" else "resident"

    def rows(self, selections: Iterable[torch.Tensor | slice]) -> Iterator[torch.Tensor]:
        """The images of each selection, uint8 n×H×W×C on the device; not views of the split where they are indexed.

        A selection is a slice, or indices where `indexed_on` says. Of images that are not on the device, the next
        selections' are made ready, and on their way, while the caller uses those before.
        """
        if not self.streamed:
            yield from (_select(self.images, selection) for selection in selections)
            return
        pinned = self.device.type == "cuda"
        if isinstance(self.stored, ShardedImages):
            host = self.stored.rows(selections, pinned=pinned)
        else:
            host = gathered(self.stored, selections, pinned=pinned)
        if not pinned:
            yield from (rows.to(self.device) for rows in host)
            return
        stream = torch.cuda.Stream(self.device)
        under_way: torch.Tensor | None = None
        for rows in host:
            # Pinned memory comes from a cache that reuses it only when the copy is done.
            with torch.cuda.stream(stream):
                sent = rows.to(self.device, non_blocking=True)
            if under_way is not None:
                yield self._receive(under_way, stream)
            under_way = sent
        if under_way is not None:
            yield self._receive(under_way, stream)

    def normalise(self, rows: torch.Tensor) -> torch.Tensor:
        """uint8 n×H×W×C → float32 n×C×H×W in channels_last memory, by mean and standard deviation of `info`."""
        mean, scale = self._mean_and_scale(rows[0].numel())
        flat = rows.reshape(len(rows), -1).float()
        return flat.sub_(mean).mul_(scale).view(rows.shape).permute(0, 3, 1, 2)

    def seen(self, rows: torch.Tensor) -> torch.Tensor:
        """What evaluation sees of stored images: their centre, normalised."""
        return self.normalise(centre(rows, self.info.image_size))

    def batches(self, batch_size: int, part: slice | None = None) -> Iterator[Batch]:
        """The images of `part`, by default all, in order, as evaluation sees them; the last batch may be smaller."""
        start, stop, _ = (part or slice(None)).indices(len(self))
        slices = [slice(first, min(first + batch_size, stop)) for first in range(start, stop, batch_size)]
        for selection, rows in zip(slices, self.rows(slices), strict=True):
            yield Batch(self.seen(rows), self.labels[selection])

    def _mean_and_scale(self, values: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and reciprocal deviation for each value of an image, so that the arithmetic runs along memory."""
        if values not in self._constants:
            mean, scale = mean_and_scale(self.info, self.device)
            pixels = values // self.info.channels
            self._constants[values] = mean.repeat(pixels), scale.repeat(pixels)
        return self._constants[values]

    def _receive(self, rows: torch.Tensor, stream: "torch.cuda.Stream") -> torch.Tensor:
        current = torch.cuda.current_stream(self.device)
        current.wait_stream(stream)
        rows.record_stream(current)
        return rows


def mean_and_scale(info: DatasetInfo, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Of uint8 values, for each channel: their mean, and the reciprocal of their standard deviation; float32."""
    mean, std = (torch.tensor(per_channel, device=device).mul(255) for per_channel in (info.mean, info.std))
    return mean, std.reciprocal()


def centre(rows: torch.Tensor, side: int) -> torch.Tensor:
    """The squares of `side` pixels in the middle of n×H×W×C."""
    top, left = (rows.shape[1] - side) // 2, (rows.shape[2] - side) // 2
    return rows[:, top : top + side, left : left + side]


def _select(images: torch.Tensor, selection: torch.Tensor | slice) -> torch.Tensor:
    return images[selection] if isinstance(selection, slice) else images.index_select(0, selection)


def _open_sharded(name: str, places: np.ndarray, labels: int, info: DatasetInfo, folder: Path) -> ShardedImages:
    path = folder / f"{name}-images.npy"
    if len(places) != labels:
        raise UserError(f"{path}: {len(places):,} images, but {labels:,} labels. {_REMEDY}")
    _require_some(name, places, folder)
    try:
        sizes = shards.bytes_of_shards(places)
    except shards.ShardError as error:
        raise UserError(f"{path}: {error}. {_REMEDY}") from None
    sha256 = read_dataset(folder)["sha256"]
    names = shards.names_of(name, sha256)
    if len(names) != len(sizes):
        raise UserError(
            f"{path}: images in {len(sizes):,} shards; expected the {len(names):,} that {folder}/dataset.json names. "
            f"{_REMEDY}"
        )
    if info.sha256.get(f"{name}-{shards.FOLDER}") != _digest_of([sha256[shard] for shard in names]):
        raise UserError(f"{folder}/dataset.json: names other {name} shards than a moment ago. {_REMEDY}")
    described = [Shard(shard, size, sha256[shard]) for shard, size in zip(names, sizes, strict=True)]
    return ShardedImages(places, open_shards(described, folder, _REMEDY), info.stored_size, info.channels, path)


def _require_some(name: str, rows: np.ndarray, folder: Path) -> None:
    if len(rows) == 0:
        raise UserError(f"{folder}/{name}-images.npy: no image in the {name} split. {_REMEDY}")


def _map(path: Path) -> np.ndarray:
    try:
        # Copy on write: PyTorch has no read-only tensors, and the file must not change.
        array: np.ndarray = np.load(path, mmap_mode="c")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file. {_REMEDY}") from None
    except ValueError as error:
        raise UserError(f"{path}: {error}. {_REMEDY}") from None
    return array
