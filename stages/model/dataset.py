"""Prepared arrays, mapped or on a device, and normalised images."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from stages.common.errors import UserError
from stages.common.files import read_json

PREPARED = Path("prepared")
# Of a GPU's free memory, what images may take; the rest is for the model and its batches.
_RESIDENT_SHARE = 0.5
_REMEDY = "`dvc repro prepare` makes it."


@dataclass(frozen=True)
class DatasetInfo:
    """prepared/dataset.json: class names in label order, channels, the side that the model sees and the one that is
    stored, how images were made square, the mean and standard deviation of the train split, per channel on the scale 0
    to 1, and the arrays' SHA-256."""

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
        return DatasetInfo(**{name: content[name] for name in DatasetInfo.__dataclass_fields__})
    except KeyError as error:
        raise UserError(f"{folder}/dataset.json: no key {error}. {_REMEDY}") from None


def require_digests(name: str, info: DatasetInfo, folder: Path = PREPARED) -> None:
    """UserError where the arrays of split `name` are not, byte for byte, those that `info` describes."""
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
    """One split: uint8 images N×H×W×C, in the device's memory or streamed to it, and int64 labels N on the device.

    On a CPU the images are the file itself, mapped: they take no memory that the system could not take back. What is
    read does not depend on where it lies.
    """

    def __init__(
        self,
        images: torch.Tensor,
        labels: torch.Tensor,
        info: DatasetInfo,
        device: torch.device | None = None,
        *,
        streamed: bool = False,
    ) -> None:
        """`streamed`: `images` lie in host memory, and are sent to `device` as they are needed; else they lie there."""
        self.images = images
        self.device = device or images.device
        self.streamed = streamed
        self.labels = labels.to(self.device)
        self.info = info
        self._constants: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    @classmethod
    def load(cls, name: str, info: DatasetInfo, device: torch.device, folder: Path = PREPARED) -> "Split":
        """Split `name`, its images on `device` if they take at most half of its free memory.

        UserError where its arrays are missing, empty, or not what `info` says.
        """
        images, labels = (_map(folder / f"{name}-{part}.npy") for part in ("images", "labels"))
        expected = (len(labels), info.stored_size, info.stored_size, info.channels)
        if images.shape != expected or images.dtype != np.uint8:
            raise UserError(
                f"{folder}/{name}-images.npy: expected uint8 {expected}, got {images.dtype} {images.shape}. {_REMEDY}"
            )
        if len(labels) == 0:
            raise UserError(f"{folder}/{name}-images.npy: no image in the {name} split. {_REMEDY}")
        mapped = torch.from_numpy(images)
        streamed = device.type == "cuda" and mapped.nbytes > _RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]
        if not streamed:
            mapped = mapped.to(device)
        return cls(mapped, torch.from_numpy(np.array(labels)), info, device, streamed=streamed)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def placement(self) -> str:
        """Where the images lie, for the log."""
        if self.streamed:
            return "streamed"
        return "mapped" if self.device.type == "cpu" else "resident"

    def rows(self, selections: Iterable[torch.Tensor | slice]) -> Iterator[torch.Tensor]:
        """The images of each selection, uint8 n×H×W×C on the device.

        A selection is a slice, or indices on the CPU if images are streamed, else where the images lie. Of streamed
        images, the next selection's are on their way while the caller uses those before.
        """
        if not self.streamed:
            yield from (_select(self.images, selection) for selection in selections)
            return
        stream = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None
        under_way: torch.Tensor | None = None
        for selection in selections:
            sent = self._send(selection, stream)
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

    def _send(self, selection: torch.Tensor | slice, stream: "torch.cuda.Stream | None") -> torch.Tensor:
        rows = _select(self.images, selection)
        if stream is None:
            return rows
        # Pinned memory comes from a cache that reuses it only when the copy is done.
        pinned = torch.empty(rows.shape, dtype=rows.dtype, pin_memory=True).copy_(rows)
        with torch.cuda.stream(stream):
            return pinned.to(self.device, non_blocking=True)

    def _receive(self, rows: torch.Tensor, stream: "torch.cuda.Stream | None") -> torch.Tensor:
        if stream is not None:
            current = torch.cuda.current_stream(self.device)
            current.wait_stream(stream)
            rows.record_stream(current)
        return rows.to(self.device)


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


def _map(path: Path) -> np.ndarray:
    try:
        # Copy on write: PyTorch has no read-only tensors, and the file must not change.
        array: np.ndarray = np.load(path, mmap_mode="c")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file. {_REMEDY}") from None
    except ValueError as error:
        raise UserError(f"{path}: {error}. {_REMEDY}") from None
    return array
