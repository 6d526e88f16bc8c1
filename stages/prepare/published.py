"""Data sets as their publishers pack them, and as torchvision's dataset classes download them: CIFAR-10 and -100, and
MNIST, Fashion-MNIST, KMNIST, EMNIST and QMNIST. Their files hold bare pixels, not pictures.
"""

import gzip
import math
import re
import string
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any, NamedTuple

import numpy as np

from stages.common.errors import UserError, listed
from stages.common.names import why_no_class
from stages.prepare import cifar_pickle
from stages.prepare.reader import NotAFile

_CIFAR = re.compile(r"(?:^|.*/)(cifar-10-batches-py/(data_batch_[1-5]|test_batch)|cifar-100-python/(train|test))$")
_IDX = re.compile(r"(?:(?P<folder>.*)/)?(?P<name>.*?)-?(?P<split>train|t10k|test)-images-idx3-ubyte(?:\.gz)?$", re.S)
# What torchvision unpacks, and what it unpacks it to, in the same folder: the archive is then only a copy.
UNPACKED_TO = {"cifar-10-python.tar.gz": "cifar-10-batches-py", "cifar-100-python.tar.gz": "cifar-100-python"}
_FASHION = "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot".split(",")
_KMNIST = "o,ki,su,tsu,na,ha,ma,ya,re,wo".split(",")
_LETTERS = sorted(string.digits + string.ascii_letters)
# EMNIST's balanced and bymerge splits have one class for those letters whose two cases look alike.
_MERGED = sorted(set(_LETTERS) - set("cijklmopsuvwxyz"))
_EMNIST = {
    "emnist-byclass": _LETTERS,
    "emnist-bymerge": _MERGED,
    "emnist-balanced": _MERGED,
    "emnist-letters": ["N/A", *string.ascii_lowercase],
}
# The longest published file, train of CIFAR-100, has 155 million bytes.
_MAX_CIFAR_BYTES = 2**28
# EMNIST's byclass has 697,932 images to learn from, and all have 28×28 pixels.
_MAX_IDX_ENTRIES = 2**22
_MAX_IDX_ENTRY = 2**12
_DAMAGED = (EOFError, gzip.BadGzipFile, zipfile.BadZipFile, zlib.error)


class Part(NamedTuple):
    """One file of images: its path, its split, its class names, and its images, uint8 H×W×C, with their labels."""

    path: str
    split: str
    shape: tuple[int, int, int]
    images: Iterator[tuple[np.ndarray, list[str]]]


def parts(paths: set[str], open_path: Callable[[str], IO[bytes]]) -> list[Part]:
    """The parts of the published data set among `paths`; none where there is no such data set.

    `open_path` opens one of them. Raises UserError where there are several data sets, or a file of one is missing or
    damaged.
    """

    def open_file(path: str) -> IO[bytes]:
        try:
            return open_path(path)
        except NotAFile as error:
            raise UserError(f"data/{path}: {error}. Download it again.") from None

    cifar = sorted(path for path in paths if _CIFAR.match(path))
    # torchvision leaves the .gz beside the file that it unpacks.
    idx = {path: match for path in sorted(paths) if (match := _IDX.match(path)) and not _is_copy(path, paths)}
    sets = {path.rsplit("/", 1)[0] for path in cifar}
    sets |= {"/".join(filter(None, (match["folder"], match["name"]))) or "MNIST" for match in idx.values()}
    if len(sets) > 1:
        raise UserError(f"data/: several published data sets: {', '.join(sorted(sets))}. Leave one of them there.")
    if cifar:
        return _cifar_parts(cifar, paths, open_file)
    return [_idx_part(path, match, paths, open_file) for path, match in idx.items()]


def _is_copy(path: str, paths: set[str]) -> bool:
    return path.endswith(".gz") and path.removesuffix(".gz") in paths


# --- CIFAR: pickled dictionaries -------------------------------------------------------------------------------------


def _unpickle(path: str, open_path: Callable[[str], IO[bytes]]) -> dict[str | bytes, Any]:
    try:
        with open_path(path) as stream:
            data = stream.read(_MAX_CIFAR_BYTES + 1)
    except _DAMAGED as error:
        raise UserError(f"data/{path}: damaged ({error}). Download it again.") from None
    if len(data) > _MAX_CIFAR_BYTES:
        raise UserError(f"data/{path}: more than {_MAX_CIFAR_BYTES:,} bytes; no file of CIFAR is that long.")
    try:
        return cifar_pickle.load(data)
    except cifar_pickle.NotCifar as error:
        raise UserError(f"data/{path}: not a file of CIFAR, or damaged ({error}). Download it again.") from None


def _field(content: dict[str | bytes, Any], name: str) -> Any:
    """The value under `name`, which is bytes where Python 3 has written what Python 2 had."""
    return content.get(name, content.get(name.encode()))


def _class_names(path: str, content: dict[str | bytes, Any], field: str) -> list[str]:
    names = _field(content, field)
    if type(names) is not list or not all(isinstance(name, str | bytes) for name in names):
        raise UserError(f"data/{path}: {field} is no list of names. Download it again.")
    names = [name.decode("latin1") if isinstance(name, bytes) else name for name in names]
    refused = [f"{name!r}: {reason}" for name in names if (reason := why_no_class(name))]
    refused += [f"{name!r}: twice" for name in dict.fromkeys(names) if names.count(name) > 1]
    refused += ["'': empty"] if "" in names else []
    if refused:
        raise UserError(f"data/{path}: {len(refused)} class names that no class may have:\n" + listed(refused))
    return names


def _cifar_parts(files: list[str], paths: set[str], open_path: Callable[[str], IO[bytes]]) -> list[Part]:
    folder = files[0].rsplit("/", 1)[0]
    hundred = folder.endswith("cifar-100-python")
    wanted = ["train", "test"] if hundred else [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    meta = f"{folder}/{'meta' if hundred else 'batches.meta'}"
    missing = [path for path in (*(f"{folder}/{name}" for name in wanted), meta) if path not in paths]
    if missing:
        raise UserError(f"data/: files of CIFAR are missing: {', '.join(missing)}. Download the data set again.")
    names = _class_names(meta, _unpickle(meta, open_path), "fine_label_names" if hundred else "label_names")

    def images(path: str) -> Iterator[tuple[np.ndarray, list[str]]]:
        content = _unpickle(path, open_path)
        pixels, labels = _field(content, "data"), _field(content, "fine_labels" if hundred else "labels")
        if not isinstance(pixels, np.ndarray) or type(labels) is not list or pixels.shape != (len(labels), 3072):
            raise UserError(f"data/{path}: not uint8 images of 3×32×32 with a label each. Download it again.")
        if not labels:
            raise UserError(f"data/{path}: no images. Download it again.")
        if not all(type(label) is int and 0 <= label < len(names) for label in labels):
            raise UserError(f"data/{path}: labels other than 0 to {len(names) - 1}. Download it again.")
        yield pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), [names[label] for label in labels]

    return [
        Part(path, "test" if "test" in path.rsplit("/", 1)[1] else "train", (32, 32, 3), images(path)) for path in files
    ]


# --- MNIST and its family: the IDX format (Y. LeCun's MNIST page, 1998) ----------------------------------------------


def _idx_part(path: str, match: re.Match[str], paths: set[str], open_path: Callable[[str], IO[bytes]]) -> Part:
    kind = match["name"]
    stem = path.removesuffix(".gz").removesuffix("images-idx3-ubyte")
    candidates = [
        stem + name for name in ("labels-idx1-ubyte", "labels-idx1-ubyte.gz", "labels-idx2-int", "labels-idx2-int.gz")
    ]
    label_file = next((name for name in candidates if name in paths), None)
    if label_file is None:
        raise UserError(f"data/{path}: its labels are missing, {candidates[0]}. Download the data set again.")
    if kind in _EMNIST:
        names = _EMNIST[kind]
    elif "FashionMNIST/" in path:
        names = _FASHION
    elif "KMNIST/" in path:
        names = _KMNIST
    else:
        names = list(string.digits)
    labels = _idx_labels(label_file, open_path)
    if labels.size and not 0 <= labels.min() <= labels.max() < len(names):
        raise UserError(
            f"data/{label_file}: labels from {labels.min()} to {labels.max()}; {len(names)} classes are known of "
            f"{kind or 'MNIST'}."
        )
    with _open_unpacked(path, open_path) as stream:
        dtype, shape = _idx_header(path, stream)
    if len(shape) != 3 or dtype != np.uint8:
        raise UserError(f"data/{path}: not images of bytes. Download it again.")
    if not len(labels):
        raise UserError(f"data/{label_file}: no labels. Download it again.")
    if shape[0] != len(labels):
        raise UserError(f"data/{path}: {shape[0]} images, but {len(labels)} labels. Download the data set again.")

    def images() -> Iterator[tuple[np.ndarray, list[str]]]:
        for block, start in _idx_blocks(path, open_path):
            # EMNIST stores its images transposed (Cohen et al. 2017).
            pixels = block.transpose(0, 2, 1) if kind.startswith("emnist") else block
            chosen = labels[start : start + len(block)]
            yield np.repeat(pixels[..., None], 3, axis=3), [names[label] for label in chosen]

    return Part(path, "train" if match["split"] == "train" else "test", (shape[1], shape[2], 3), images())


def _idx_labels(path: str, open_path: Callable[[str], IO[bytes]]) -> np.ndarray:
    with _open_unpacked(path, open_path) as stream:
        _, shape = _idx_header(path, stream)
    if shape[1:] not in ((), (8,)):  # QMNIST has eight numbers, of which the first is the digit
        raise UserError(f"data/{path}: not labels. Download it again.")
    blocks = [block.reshape(len(block), -1)[:, 0] for block, _ in _idx_blocks(path, open_path)]
    return np.concatenate(blocks) if blocks else np.empty(0, np.uint8)


def _open_unpacked(path: str, open_path: Callable[[str], IO[bytes]]) -> IO[bytes]:
    stream = open_path(path)
    return gzip.open(stream) if path.endswith(".gz") else stream  # type: ignore[return-value]


def _idx_header(path: str, stream: IO[bytes]) -> tuple[np.dtype[Any], tuple[int, ...]]:
    types: dict[int, np.dtype[Any]] = {0x08: np.dtype(np.uint8), 0x0C: np.dtype(">i4")}
    try:
        zero, kind, dimensions = struct.unpack(">HBB", stream.read(4))
        if zero or kind not in types or dimensions not in (1, 2, 3):
            raise UserError(f"data/{path}: not a file of the IDX format. Download it again.")
        shape = struct.unpack(f">{dimensions}I", stream.read(4 * dimensions))
    except (struct.error, *_DAMAGED) as error:
        raise UserError(f"data/{path}: damaged ({error}). Download it again.") from None
    if shape[0] > _MAX_IDX_ENTRIES or not 1 <= math.prod(shape[1:]) <= _MAX_IDX_ENTRY:
        raise UserError(f"data/{path}: {'×'.join(map(str, shape))} values; no data set of MNIST's family has so many.")
    return types[kind], shape


def _idx_blocks(
    path: str, open_path: Callable[[str], IO[bytes]], length: int = 4096
) -> Iterator[tuple[np.ndarray, int]]:
    """Blocks of at most `length` entries, and the number of entries before each."""
    with _open_unpacked(path, open_path) as stream:
        dtype, shape = _idx_header(path, stream)
        size = math.prod(shape[1:]) * dtype.itemsize
        for start in range(0, shape[0], length):
            count = min(length, shape[0] - start)
            try:
                data = stream.read(count * size)
            except _DAMAGED:
                data = b""
            if len(data) != count * size:
                raise UserError(f"data/{path}: ends after entry {start} of {shape[0]}. Download it again.")
            yield np.frombuffer(data, dtype).reshape(count, *shape[1:]), start
