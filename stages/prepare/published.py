"""Data sets as their publishers pack them, and as torchvision's dataset classes download them: CIFAR-10 and -100, and
MNIST, Fashion-MNIST, KMNIST, EMNIST and QMNIST. Their files hold bare pixels, not pictures.
"""

import gzip
import pickle
import re
import string
import struct
from collections.abc import Callable, Iterator
from typing import IO, Any, NamedTuple

import numpy as np

from stages.common.errors import UserError

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
    cifar = sorted(path for path in paths if _CIFAR.match(path))
    # torchvision leaves the .gz beside the file that it unpacks.
    idx = {path: match for path in sorted(paths) if (match := _IDX.match(path)) and not _is_copy(path, paths)}
    sets = {path.rsplit("/", 1)[0] for path in cifar}
    sets |= {"/".join(filter(None, (match["folder"], match["name"]))) or "MNIST" for match in idx.values()}
    if len(sets) > 1:
        raise UserError(f"data/: several published data sets: {', '.join(sorted(sets))}. Leave one of them there.")
    if cifar:
        return _cifar_parts(cifar, paths, open_path)
    return [_idx_part(path, match, paths, open_path) for path, match in idx.items()]


def _is_copy(path: str, paths: set[str]) -> bool:
    return path.endswith(".gz") and path.removesuffix(".gz") in paths


# --- CIFAR: pickled dictionaries -------------------------------------------------------------------------------------


class _CifarUnpickler(pickle.Unpickler):
    """Reads what CIFAR's files hold, dictionaries of lists and one NumPy array, and nothing that could run code."""

    # NumPy 2 moved its core; old files name the old place, files written today the new one.
    _CORE = ("numpy.core.multiarray", "numpy._core.multiarray")
    _ALLOWED = frozenset(
        {*((core, "_reconstruct") for core in _CORE), ("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")}
    )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"refers to {module}.{name}, which no CIFAR file does")
        return super().find_class(self._CORE[1] if module in self._CORE else module, name)


def _unpickle(path: str, open_path: Callable[[str], IO[bytes]]) -> dict[str, Any]:
    try:
        with open_path(path) as stream:
            content = _CifarUnpickler(stream, encoding="latin1").load()
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise UserError(f"data/{path}: not a file of CIFAR, or damaged ({error}). Download it again.") from None
    if not isinstance(content, dict):
        raise UserError(f"data/{path}: not a file of CIFAR: a {type(content).__name__}. Download it again.")
    return content


def _cifar_parts(files: list[str], paths: set[str], open_path: Callable[[str], IO[bytes]]) -> list[Part]:
    folder = files[0].rsplit("/", 1)[0]
    hundred = folder.endswith("cifar-100-python")
    wanted = ["train", "test"] if hundred else [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    meta = f"{folder}/{'meta' if hundred else 'batches.meta'}"
    missing = [path for path in (*(f"{folder}/{name}" for name in wanted), meta) if path not in paths]
    if missing:
        raise UserError(f"data/: files of CIFAR are missing: {', '.join(missing)}. Download the data set again.")
    names = _unpickle(meta, open_path)["fine_label_names" if hundred else "label_names"]

    def images(path: str) -> Iterator[tuple[np.ndarray, list[str]]]:
        content = _unpickle(path, open_path)
        pixels, labels = content.get("data"), content.get("fine_labels" if hundred else "labels") or []
        if not isinstance(pixels, np.ndarray) or pixels.shape != (len(labels), 3072) or pixels.dtype != np.uint8:
            raise UserError(f"data/{path}: not uint8 images of 3×32×32 with a label each. Download it again.")
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
    labels = np.concatenate([block for block, _ in _idx_blocks(label_file, open_path)])
    labels = labels if labels.ndim == 1 else labels[:, 0]  # QMNIST's first column is the digit
    if labels.size and labels.max() >= len(names):
        raise UserError(
            f"data/{label_file}: label {labels.max()}; {len(names)} classes are known of {kind or 'MNIST'}."
        )
    with _open_unpacked(path, open_path) as stream:
        _, shape = _idx_header(path, stream)
    if shape[0] != len(labels):
        raise UserError(f"data/{path}: {shape[0]} images, but {len(labels)} labels. Download the data set again.")

    def images() -> Iterator[tuple[np.ndarray, list[str]]]:
        for block, start in _idx_blocks(path, open_path):
            # EMNIST stores its images transposed (Cohen et al. 2017).
            pixels = block.transpose(0, 2, 1) if kind.startswith("emnist") else block
            chosen = labels[start : start + len(block)]
            yield np.repeat(pixels[..., None], 3, axis=3), [names[label] for label in chosen]

    return Part(path, "train" if match["split"] == "train" else "test", (shape[1], shape[2], 3), images())


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
    except (struct.error, EOFError, gzip.BadGzipFile) as error:
        raise UserError(f"data/{path}: damaged ({error}). Download it again.") from None
    return types[kind], shape


def _idx_blocks(
    path: str, open_path: Callable[[str], IO[bytes]], length: int = 4096
) -> Iterator[tuple[np.ndarray, int]]:
    """Blocks of at most `length` entries, and the number of entries before each."""
    with _open_unpacked(path, open_path) as stream:
        dtype, shape = _idx_header(path, stream)
        size = int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
        for start in range(0, shape[0], length):
            count = min(length, shape[0] - start)
            try:
                data = stream.read(count * size)
            except (EOFError, gzip.BadGzipFile):
                data = b""
            if len(data) != count * size:
                raise UserError(f"data/{path}: ends after entry {start} of {shape[0]}. Download it again.")
            yield np.frombuffer(data, dtype).reshape(count, *shape[1:]), start
