"""Published data sets are read as torchvision reads them, and nothing in them is run."""

import gzip
import os
import pickle
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.common.errors import UserError
from stages.prepare import cifar_pickle, layouts
from stages.prepare.reader import Place, Reader
from stages.prepare.table import open_table
from tests.project import write_cifar10

GENERATOR = np.random.default_rng(0)


def scan(folder: Path) -> tuple[layouts.RawData, list[tuple[str, str, str]], list[np.ndarray]]:
    """The scan; (path, label, split) and pixels of each image."""
    work = folder.parent / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    table = open_table(work / "images.sqlite")
    data = layouts.scan(folder, "", table, work)
    rows = table.execute("select path, label, split from images order by id").fetchall()
    reader = Reader(data.containers)
    places = table.execute("select container, member, offset, size from images order by id")
    pixels = [reader.pixels(Place(*place)) for place in places]
    return data, rows, [image for image in pixels if image is not None]


def without_checksums(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision refuses files that are not the published ones; these are of their form."""
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)


def test_cifar_10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pixels, labels and splits are torchvision's; the archive that it leaves beside the folder is ignored."""
    from torchvision import datasets

    write_cifar10(tmp_path / "data" / "cifar-10-batches-py")
    (tmp_path / "data" / "cifar-10-python.tar.gz").write_bytes(b"a copy")
    data, rows, pixels = scan(tmp_path / "data")
    assert (data.official_splits, data.ignored.clutter, len(rows)) == (("train", "test"), 1, 120)
    without_checksums(monkeypatch)
    for split in ("train", "test"):
        theirs = datasets.CIFAR10(tmp_path / "data", train=split == "train")
        chosen = [index for index, row in enumerate(rows) if row[2] == split]
        assert np.array_equal(np.stack([pixels[index] for index in chosen]), theirs.data)
        assert [rows[index][1] for index in chosen] == [theirs.classes[label] for label in theirs.targets]


def test_cifar_10_in_its_archive(tmp_path: Path) -> None:
    write_cifar10(tmp_path / "source" / "cifar-10-batches-py")
    (tmp_path / "data").mkdir()
    shutil.make_archive(str(tmp_path / "data" / "cifar-10-python"), "gztar", tmp_path / "source")
    assert len(scan(tmp_path / "data")[1]) == 120


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch pwned",)


def test_a_pickle_that_would_run_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data" / "cifar-10-batches-py"
    write_cifar10(folder)
    (folder / "data_batch_3").write_bytes(pickle.dumps(_Evil()))
    with pytest.raises(UserError, match=r"data_batch_3: not a file of CIFAR.*system"):
        scan(tmp_path / "data")
    assert not (tmp_path / "pwned").exists()


ENCODE = b"c_codecs\nencode\n"


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


@pytest.mark.parametrize("fortran", [False, True])
@pytest.mark.parametrize(("protocol", "bytes_as_keys"), [(2, False), (2, True), (3, False), (4, True)])
def test_every_form_of_cifars_pickles(protocol: int, bytes_as_keys: bool, fortran: bool) -> None:
    """As NumPy 1 and 2 write them; and as Python 2 did, whose text and bytes are one type."""
    pixels = GENERATOR.integers(0, 256, (20, 3072), dtype=np.uint8)
    content = {"data": np.asfortranarray(pixels) if fortran else pixels, "labels": list(range(20)), "filenames": ["a"]}
    keys = {name.encode() if bytes_as_keys else name: value for name, value in content.items()}
    data = pickle.dumps(keys, protocol)
    for written in (data, data.replace(b"numpy._core", b"numpy.core") if protocol < 4 else data):
        loaded = cifar_pickle.load(written)
        assert {name if isinstance(name, str) else name.decode() for name in loaded} == set(content)
        assert np.array_equal(loaded[next(iter(keys))], pixels)
    old = b"\x80\x02}q\x01(U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85"
    old += b"U\x01b\x87Rq\x05(K\x01K\x14M\x00\x0c\x86cnumpy\ndtype\nq\x06U\x02u1K\x00K\x01\x87Rq\x07(K\x03U\x01|NNN"
    old += b"J\xff\xff\xff\xff" * 2 + b"K\x00tb\x89T" + struct.pack("<I", pixels.size) + pixels.tobytes() + b"tb"
    old += b"U\x06labelsq\x08]q\x09(K\x01K\x02eu."
    theirs, ours = pickle.loads(old, encoding="latin1"), cifar_pickle.load(old)
    assert np.array_equal(ours["data"], theirs["data"])
    assert ours["labels"] == theirs["labels"] == [1, 2]


ARRAY = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n\x85R"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        # NumPy would take the flags of the object dtype, and then the bytes for pointers, from the file.
        (b"}" + text("data") + b"cnumpy\ndtype\n" + text("O8") + b"\x85Rs.", "array of another kind than bytes"),
        (ARRAY + b"(K\x01K\x01\x85N\x89" + text("x") + b"tb.", "array of another kind than bytes"),
        (b"}" + ARRAY + b"K\x01s.", "keys other than text"),
        (b"})" + b"q\x00h\x00\x86" * 100 + b"K\x01s.", "keys other than text"),
        (b"cos\nsystem\n" + text("true") + b"\x85R.", "refers to 'os system'"),
        (b"(ios\nsystem\n.", "instruction INST"),
        (b"Pname\n.", "instruction PERSID"),
        (b"\x82\x01.", "instruction EXT1"),
        (b"cnumpy\nndarray\n)\x81.", "instruction NEWOBJ"),
        (b"\x8b\xff\xff\xff\x7f.", "long4"),
        (b"T\xff\xff\xff\x7f.", "expected 2147483647 bytes"),
        (b"K\x01t.", "a mark is missing"),
        (b"R.", "lacks what it needs"),
        (b"].", "a list in the place of a dict"),
        (
            text("x" * 999) + b"q\x00" + (ENCODE + b"h\x00" + text("latin1") + b"\x86R") * 99 + b".",
            "more than its length",
        ),
    ],
)
def test_a_pickle_that_asks_for_more_than_cifar(content: bytes, expected: str) -> None:
    with pytest.raises(cifar_pickle.NotCifar, match=expected):
        cifar_pickle.load(b"\x80\x02" + content)


def test_a_memo_index_beyond_all_takes_no_memory() -> None:
    assert cifar_pickle.load(b"}r\xff\xff\xff\xff.") == {}


def test_class_names_that_none_may_have(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "cifar-10-batches-py"
    write_cifar10(folder)
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": ["<b>", "cat", "a\x85"]}, 2))
    with pytest.raises(UserError, match=r"batches\.meta: 2 class names that no class may have"):
        scan(tmp_path / "data")


def write_idx(path: Path, array: np.ndarray, compress: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = {"u": 0x08, "i": 0x0C}[array.dtype.kind]
    content = struct.pack(f">HBB{array.ndim}I", 0, kind, array.ndim, *array.shape) + array.tobytes()
    path.with_name(path.name + ".gz" * compress).write_bytes(gzip.compress(content) if compress else content)


def write_mnist(folder: Path, prefix: str = "", classes: int = 10, *, compress: bool = False) -> None:
    for split in ("train", "test" if prefix else "t10k"):
        images = GENERATOR.integers(0, 256, (30, 28, 28), dtype=np.uint8)
        write_idx(folder / f"{prefix}{split}-images-idx3-ubyte", images, compress)
        labels = np.arange(30, dtype=np.uint8) % classes
        write_idx(folder / f"{prefix}{split}-labels-idx1-ubyte", labels, compress)


@pytest.mark.parametrize("dataset", ["MNIST", "FashionMNIST", "KMNIST"])
@pytest.mark.parametrize("both", [False, True])
def test_mnist_and_its_like(tmp_path: Path, dataset: str, both: bool) -> None:
    """As torchvision reads them; the .gz that it leaves beside a file is only a copy."""
    from torchvision import datasets

    folder = tmp_path / "data" / dataset / "raw"
    write_mnist(folder)
    if both:
        for path in sorted(folder.iterdir()):
            path.with_name(path.name + ".gz").write_bytes(b"a copy")
    _, rows, pixels = scan(tmp_path / "data")
    for split in ("train", "test"):
        theirs = getattr(datasets, dataset)(tmp_path / "data", train=split == "train")
        chosen = [index for index, row in enumerate(rows) if row[2] == split]
        assert np.array_equal(np.stack([pixels[index] for index in chosen])[..., 0], theirs.data.numpy())
        names = [name.split(" - ")[0] if dataset == "MNIST" else name for name in theirs.classes]
        assert [rows[index][1] for index in chosen] == [names[label] for label in theirs.targets]


def test_compressed_only(tmp_path: Path) -> None:
    write_mnist(tmp_path / "data", compress=True)
    assert len(scan(tmp_path / "data")[1]) == 60


def test_emnist_is_turned_upright(tmp_path: Path) -> None:
    from torchvision import datasets

    write_mnist(tmp_path / "data" / "EMNIST" / "raw", "emnist-letters-", 27)
    (tmp_path / "data" / "EMNIST" / "raw" / "gzip.zip").write_bytes(b"a copy")
    _, rows, pixels = scan(tmp_path / "data")
    theirs = datasets.EMNIST(tmp_path / "data", "letters", train=True)
    chosen = [index for index, row in enumerate(rows) if row[2] == "train"]
    assert np.array_equal(np.stack([pixels[index] for index in chosen])[..., 0], theirs.data.numpy().transpose(0, 2, 1))
    assert [rows[index][1] for index in chosen] == [theirs.classes[label] for label in theirs.targets]


@pytest.mark.parametrize("name", ["byclass", "bymerge", "balanced", "letters", "digits", "mnist"])
def test_emnist_class_names_are_torchvisions(tmp_path: Path, name: str) -> None:
    from torchvision import datasets

    classes = datasets.EMNIST.classes_split_dict[name]
    write_mnist(tmp_path / "data" / "raw", f"emnist-{name}-", min(30, len(classes)))
    assert scan(tmp_path / "data")[0].classes == sorted(classes[:30])


def test_qmnist(tmp_path: Path) -> None:
    """The digit is the first of a label's eight numbers."""
    folder = tmp_path / "data" / "QMNIST" / "raw"
    for split in ("train", "test"):
        write_idx(
            folder / f"qmnist-{split}-images-idx3-ubyte", GENERATOR.integers(0, 256, (20, 28, 28), dtype=np.uint8)
        )
        labels = np.zeros((20, 8), ">i4")
        labels[:, 0] = np.arange(20) % 10
        write_idx(folder / f"qmnist-{split}-labels-idx2-int", labels)
    rows = scan(tmp_path / "data")[1]
    assert [row[1] for row in rows[:20]] == [str(number % 10) for number in range(20)]


def break_it(folder: Path, how: str) -> None:
    raw_folder = folder / "MNIST" / "raw"
    if how == "no labels":
        (raw_folder / "train-labels-idx1-ubyte").unlink()
    elif how == "cut short":
        path = raw_folder / "train-images-idx3-ubyte"
        path.write_bytes(path.read_bytes()[:5000])
    elif how == "not IDX":
        (raw_folder / "train-images-idx3-ubyte").write_bytes(b"hello, world")
    elif how == "fewer labels":
        write_idx(raw_folder / "train-labels-idx1-ubyte", np.zeros(29, np.uint8))
    elif how == "strange label":
        write_idx(raw_folder / "train-labels-idx1-ubyte", np.full(30, 77, np.uint8))
    elif how == "huge":
        (raw_folder / "train-images-idx3-ubyte").write_bytes(struct.pack(">HBB3I", 0, 8, 3, 30, 2**31, 2**31))
    elif how == "labels of labels":
        write_idx(raw_folder / "train-labels-idx1-ubyte", np.zeros((30, 28, 28), np.uint8))
    elif how == "two sets":
        write_mnist(folder / "KMNIST" / "raw")
    elif how == "no label":
        write_idx(raw_folder / "train-labels-idx1-ubyte", np.zeros(0, np.uint8))
    elif how == "FIFO":
        (raw_folder / "train-labels-idx1-ubyte").unlink()
        os.mkfifo(raw_folder / "train-labels-idx1-ubyte")
    elif how == "other images":
        (folder / "cat").mkdir()
        (folder / "cat" / "1.png").touch()


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("no labels", "its labels are missing, MNIST/raw/train-labels-idx1-ubyte"),
        ("cut short", "ends after entry 0 of 30"),
        ("not IDX", "not a file of the IDX format"),
        ("fewer labels", "30 images, but 29 labels"),
        ("no label", "train-labels-idx1-ubyte: no labels"),
        ("FIFO", "train-labels-idx1-ubyte: a named pipe (FIFO)"),
        ("strange label", "labels from 77 to 77; 10 classes"),
        ("huge", "no data set of MNIST's family has so many"),
        ("labels of labels", "not labels"),
        ("two sets", "several published data sets: KMNIST/raw, MNIST/raw"),
        ("other images", "and 1 other files"),
    ],
)
def test_refused(tmp_path: Path, how: str, expected: str) -> None:
    write_mnist(tmp_path / "data" / "MNIST" / "raw")
    break_it(tmp_path / "data", how)
    with pytest.raises(UserError) as caught:
        scan(tmp_path / "data")
    assert expected in str(caught.value)
