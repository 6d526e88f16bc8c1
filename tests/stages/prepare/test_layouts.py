"""Raw layouts are found by looking; what is ambiguous is refused with the reason."""

import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from stages.common.errors import UserError
from stages.prepare import layouts, patterns
from stages.prepare.table import open_table

Rows = list[tuple[str, str | None, str | None, str | None]]


def touch(folder: Path, *paths: str) -> Path:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(b"")
    return folder


def scan(tmp_path: Path, folder: Path, group_pattern: str = "") -> tuple[layouts.RawData, Rows]:
    """What a scan of `folder` finds, and (path, label, split, group) of the images."""
    work = tmp_path / ".work"
    work.mkdir()
    table = open_table(work / "images.sqlite")
    data = layouts.scan(folder, group_pattern, table, work)
    return data, table.execute("select path, label, split, grp from images order by id").fetchall()


def refused(tmp_path: Path, folder: Path, group_pattern: str = "") -> str:
    with pytest.raises(UserError) as caught:
        scan(tmp_path, folder, group_pattern)
    return str(caught.value)


def test_class_folders(tmp_path: Path) -> None:
    """The first folder is the class, at any depth below; images come sorted by path; clutter is counted."""
    folder = touch(
        tmp_path / "data",
        *("b/2.png", "a/deep/1.jpg", "b/1.png"),
        *("b/.DS_Store", "a/Thumbs.db", "__MACOSX/a/1.jpg", ".git/x/y"),
    )
    data, rows = scan(tmp_path, folder)
    assert rows == [("a/deep/1.jpg", "a", None, None), ("b/1.png", "b", None, None), ("b/2.png", "b", None, None)]
    assert (data.classes, data.official_splits, str(data.ignored)) == (["a", "b"], (), "4 ignored")
    assert data.layout == "class folders"


def test_split_folders(tmp_path: Path) -> None:
    folder = touch(tmp_path / "data", "train/a/1.png", "train/b/1.png", "test/a/1.png", "test/b/1.png")
    data, rows = scan(tmp_path, folder)
    assert data.official_splits == ("train", "test")
    assert [row[1:3] for row in rows] == [("a", "test"), ("b", "test"), ("a", "train"), ("b", "train")]


@pytest.mark.parametrize(
    ("folders", "layout"),
    [
        (("Train", "Test"), "class folders under Train (train), Test (test)"),
        (
            ("Training", "validation", "Testing"),
            "class folders under Training (train), validation (val), Testing (test)",
        ),
        (("train", "valid", "test"), "class folders under train, valid (val), test"),
        (("train_images", "test_images"), "class folders under train_images (train), test_images (test)"),
        (("seg_train", "seg_test"), "class folders under seg_train (train), seg_test (test)"),
        (("valid", "invalid"), "class folders"),
        (("toy train", "test tube"), "class folders"),
    ],
)
def test_folders_that_are_named_as_splits(tmp_path: Path, folders: tuple[str, ...], layout: str) -> None:
    """By words that say a split; and by such words beside others, where the folders below have the same names."""
    below = ("cat", "dog") if layout != "class folders" else ("",)
    folder = touch(tmp_path / "data", *(f"{top}/{name}/1.png" for top in folders for name in below))
    data, rows = scan(tmp_path, folder)
    assert data.layout == layout
    assert data.classes == (["cat", "dog"] if layout != "class folders" else sorted(folders))
    assert len({row[2] for row in rows}) == (len(folders) if layout != "class folders" else 1)


def test_splits_in_class_folders(tmp_path: Path) -> None:
    folder = touch(tmp_path / "data", "cat/Train/1.png", "cat/test/2.png", "dog/Train/3.png", "dog/test/4.png")
    data, rows = scan(tmp_path, folder)
    assert data.layout == "class folders with Train (train), test"
    assert [row[1:3] for row in rows] == [("cat", "train"), ("cat", "test"), ("dog", "train"), ("dog", "test")]


def test_one_folder_around_all(tmp_path: Path) -> None:
    """As unpacking an archive often leaves it."""
    data, rows = scan(tmp_path, touch(tmp_path / "data", "pets/train/a/1.png", "pets/train/b/1.png"))
    assert rows[0] == ("pets/train/a/1.png", "a", "train", None)
    assert data.layout == "class folders under train in pets/"


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2"])
def test_an_archive_is_a_folder(tmp_path: Path, suffix: str) -> None:
    """Its members stand beside the files; train.* is a folder of that name; clutter in it is counted."""
    source = touch(tmp_path / "source", "a/1.png", "b/1.png", "__MACOSX/a/._1.png")
    (tmp_path / "data").mkdir()
    archive = tmp_path / "data" / f"train{suffix}"
    if suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as packed:
            for path in sorted(source.rglob("*")):
                packed.write(path, path.relative_to(source))
    else:
        mode = {".tar": "", ".tar.gz": "gz", ".tgz": "gz", ".tar.xz": "xz", ".tar.bz2": "bz2"}[suffix]
        with tarfile.open(archive, f"w:{mode}") as tar:  # type: ignore[call-overload]
            tar.add(source, ".")
    touch(tmp_path / "data", "test/a/1.png", "test/b/1.png")
    data, rows = scan(tmp_path, tmp_path / "data")
    assert [row[:3] for row in rows] == [
        ("test/a/1.png", "a", "test"),
        ("test/b/1.png", "b", "test"),
        ("train/a/1.png", "a", "train"),
        ("train/b/1.png", "b", "train"),
    ]
    assert data.ignored.clutter == 1


def test_the_same_path_in_two_archives(tmp_path: Path) -> None:
    folder = touch(tmp_path / "data", "a/1.png", "b/1.png")
    with zipfile.ZipFile(folder / "more.zip", "w") as archive:
        archive.writestr("a/1.png", b"")
    assert "1 files are there twice" in refused(tmp_path, folder)


def labels(folder: Path, text: str) -> Path:
    (folder / "labels.csv").write_text(text, encoding="utf-8")
    return folder


def test_labels_csv(tmp_path: Path) -> None:
    """Labels, splits and groups from the table; images without a row are unlisted, not lost."""
    folder = touch(tmp_path / "data", "1.png", "2.png", "3.png", "sub/ä b'c.png")
    labels(folder, "path,label,split,group\n1.png,cat,train,p1\nsub/ä b'c.png,dog,test,p2\n./2.png,dog,train,p1\n")
    data, rows = scan(tmp_path, folder)
    assert rows == [
        ("1.png", "cat", "train", "p1"),
        ("2.png", "dog", "train", "p1"),
        ("3.png", None, None, None),
        ("sub/ä b'c.png", "dog", "test", "p2"),
    ]
    assert data.layout == "labels.csv with its splits and groups"
    assert data.classes == ["cat", "dog"]


def test_labels_csv_in_the_one_folder(tmp_path: Path) -> None:
    labels(touch(tmp_path / "data/pets", "img/1.png", "img/2.png"), "path,label\nimg/1.png,a\nimg/2.png,b\n")
    data, rows = scan(tmp_path, tmp_path / "data")
    assert data.layout == "pets/labels.csv"
    assert rows == [("pets/img/1.png", "a", None, None), ("pets/img/2.png", "b", None, None)]


def test_names_in_labels_csv_are_those_of_the_files(tmp_path: Path) -> None:
    """Spaces around a value, Windows' slashes, an accent in one or two characters, other words for splits."""
    folder = touch(tmp_path / "data", "img/1.png", "img/2.png", "cafe\u0301.png")
    rows = "path,label,split\n.\\img\\1.png,cat,Train\n ./img//2.png ,cat ,training\ncaf\u00e9.png, dog,valid\n"
    data, found = scan(tmp_path, labels(folder, rows))
    assert data.classes == ["cat", "dog"]
    assert found == [
        ("caf\u00e9.png", "dog", "val", None),
        ("img/1.png", "cat", "train", None),
        ("img/2.png", "cat", "train", None),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("path,label\n1.png,a\n9.png,b\n8.png,b\n", ["2 problems", "8.png: no such file; line 4", "9.png: no such"]),
        (
            "path,label\n1.PNG,a\ndata/2.png,b\n",
            ["1.PNG: no such file; line 2; there is 1.png", "line 3; there is 2.png"],
        ),
        ("path,label\n1.png,a\n2.png,\n ,b\n", ["line 3: empty label", "line 4: empty path"]),
        ("path,label\n1.png,a\n2.png,b\n1.png,b\n", ["1.png: is in lines 2, 4"]),
        ("path,label,colour\n1.png,a,red\n", ["got path, label, colour"]),
        (
            "1.png,a\n2.png,b\n",
            ["no column path, label; expected the columns path, label"],
        ),
        ("path,label,split\n1.png,a,trian\n2.png,b,\n", ["line 2: split 'trian'", "line 3: empty split"]),
        ("path,label\n1.png\n2.png,b,c\n", ["line 2: expected 2 fields", "line 3: expected 2 fields"]),
        ("", ["got an empty file"]),
        (f"path,label\n1.png,{'x' * 5000}\n2.png,b\n", ["line 2: label of more than 4,096 characters"]),
        (f"path,label\n1.png,{'x' * 300}\n2.png,b\n", ["xxx…': 300 bytes; at most 255"]),
        ("path,label\n1.png,cat\u200b\n2.png,b\n", ["U+200B, which is not seen"]),
        ("path,label\n1.png,c\0t\n2.png,b\n", ["U+0000, a control character"]),
    ],
)
def test_labels_csv_refused(tmp_path: Path, text: str, expected: list[str]) -> None:
    """All problems of the table at once, with their lines."""
    message = refused(tmp_path, labels(touch(tmp_path / "data", "1.png", "2.png"), text))
    assert all(part in message for part in expected), message


def test_group_pattern(tmp_path: Path) -> None:
    """The first group of the expression, or all of what it matches."""
    folder = touch(tmp_path / "data", "a/p1-1.png", "a/p1-2.png", "b/p2-1.png")
    assert [row[3] for row in scan(tmp_path, folder, r"(p\d)-")[1]] == ["p1", "p1", "p2"]
    (tmp_path / ".work" / "images.sqlite").unlink()
    (tmp_path / ".work").rmdir()
    touch(folder, "b/other.png")
    text = refused(tmp_path, folder, r"p\d")
    assert "finds no group in 1 paths" in text
    assert "b/other.png" in text


def test_a_group_pattern_that_takes_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "_SECONDS", 0.1)
    message = refused(tmp_path, touch(tmp_path / "data", "a/1.png", f"b/{'a' * 60}!.png"), "^(.+)+[?]$")
    assert "'^(.+)+[?]$' in params.yaml is too slow" in message


@pytest.mark.parametrize("leads", ["", "to itself"])
@pytest.mark.parametrize("name", ["labels.csv", "a/x.zip", "a/x.tar.gz"])
def test_what_is_no_file(tmp_path: Path, name: str, leads: str) -> None:
    """Nothing waits for the other end of a pipe, and a link that leads to itself has a message."""
    folder = touch(tmp_path / "data", "a/1.png", "b/1.png")
    if leads:
        (folder / name).symlink_to((folder / name).name)
    else:
        os.mkfifo(folder / name)
    expected = "a link that leads to itself" if leads else "a named pipe (FIFO)"
    assert f"{name}: {expected}; expected" in refused(tmp_path, folder)


def test_a_table_without_line_ends(tmp_path: Path) -> None:
    """A file of 30 GB, which takes no room on the disk, is not read into memory."""
    folder = labels(touch(tmp_path / "data", "1.png"), "path,label\n")
    os.truncate(folder / "labels.csv", 30 * 10**9)
    assert "line 2 has more than 131,072 characters" in refused(tmp_path, folder)


@pytest.mark.parametrize(
    ("one", "other"), [("cat", "\u0441at"), ("BOX", "\u0392OX"), ("cat", "\uff43at"), ("big cat", "big\u00a0cat")]
)
def test_classes_that_look_the_same(tmp_path: Path, one: str, other: str) -> None:
    message = refused(tmp_path, touch(tmp_path / "data", f"{one}/1.png", f"{other}/1.png"))
    assert "classes that differ only in" in message
    assert repr(other) in message


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        ([], "no images. Expected"),
        (["only/1.png", "only/2.png"], "one class only (only)"),
        (["a/1.png", "b/1.png", "stray.png"], "1 files outside a class folder"),
        (["train/a/1.png", "train/b/1.png", "train/stray.png"], "train/stray.png"),
        (["train/a/1.png", "cat/1.png"], "not a mixture"),
        (["val/a/1.png", "test/b/1.png"], "without train"),
        (["Cat/1.png", "cat/1.png", "dog/1.png"], "'Cat', 'cat'"),
        (["caf\u00e9/1.png", "cafe\u0301/1.png", "b/1.png"], "names that look the same. Keep one:\n  caf\u00e9/1.png"),
        (["cat/1.png", "cat /2.png", "\uff43at/3.png"], "begin or end with a space, which nobody sees: 'cat '. Rename"),
        (["cat/1.png", "c at/2.png", "c  at/2.png", "\uff43at/3.png"], "'c  at', 'c at'\n  'cat', '\uff43at'"),
        (["a/1.png", "b/1.png", "c.7z"], "c.7z is an archive that is not read: unpack it"),
        (["train/a/1.png", "Training/a/1.png"], "several folders of one split: Training (train), train (train)"),
        (
            ["fold1/cat/1.png", "fold1/dog/1.png", "fold2/cat/1.png", "fold2/dog/1.png"],
            "fold1, fold2 all have the folders",
        ),
        (["val_a/a/1.png", "val_b/a/1.png", "val_a/b/1.png", "val_b/b/1.png"], "look like splits or sources"),
        (["train/1.png", "train/2.png", "train.csv"], "If train.csv says the classes, write them into labels.csv"),
        (["train/1.png", "train/_classes.csv"], "its path from there, such as train/1.png,<class>: no extension"),
        (["images/1.png", "masks/1.png"], "as in data sets of objects or areas in images"),
        (["train/images/1.png", "train/labels/1.txt"], "the folders are images, labels"),
        (
            ["A/train/cat/1.png", "A/test/cat/1.png", "B/train/cat/1.png", "B/test/cat/1.png"],
            "A, B all have the folders",
        ),
        (["a/1.png", "b/1.png", "b/labels.csv"], "b/labels.csv: such a table is read directly in"),
        (["a/1.png", "cat\\1.png"], r"'cat\\1.png': a backslash, which some systems take for a slash"),
    ],
)
def test_refused(tmp_path: Path, paths: list[str], expected: str) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    assert expected in refused(tmp_path, touch(folder, *paths))


def test_every_stray_file_is_named(tmp_path: Path) -> None:
    folder = touch(tmp_path / "data", "a/1.png", "b/1.png", *(f"stray-{number}.png" for number in range(200)))
    text = refused(tmp_path, folder)
    assert all(f"  stray-{number}.png" in text for number in range(200))


def test_missing_folder(tmp_path: Path) -> None:
    assert "no such folder. `make data`" in refused(tmp_path, tmp_path / "data")


def test_names_that_no_file_folder_or_class_may_have(tmp_path: Path) -> None:
    """All are named at once, those in archives too, in a form that shows what they hold; clutter is no name of ours."""
    folder = touch(tmp_path / "data", "a/1.png", "b/1.png", "b/.\x1b.png", "c\u202e/1.png", "c\u202e/2\x85.png")
    touch(folder, "a/\udcff.png", "a/line\nend.png", "a/<b>.png", "\x1b.zip")
    with zipfile.ZipFile(folder / "more.zip", "w") as archive:
        archive.writestr("d\u2028/1.png", b"")
    assert refused(tmp_path, folder).splitlines()[1:] == [
        r"  '\x1b.zip': U+001B, a control character",
        r"  'a/<b>.png': <, which opens a tag in HTML",
        r"  'a/\udcff.png': U+DCFF, not UTF-8",
        r"  'a/line\nend.png': U+000A, a control character",
        r"  'c\u202e': U+202E, a bidirectional control",
        r"  'c\u202e/2\x85.png': U+0085, a control character",
        r"  'd\u2028/1.png' in more.zip: U+2028, a line separator",
    ]


def test_names_in_labels_csv_that_none_may_have(tmp_path: Path) -> None:
    folder = touch(tmp_path / "data", "1.png", "2.png")
    rows = "path,label,group\n1.png,</script>,g\n2.png,b,\x1b[2J\n"
    (folder / "labels.csv").write_text(rows)
    text = refused(tmp_path, folder)
    assert "line 2: '</script>': <, which opens a tag in HTML" in text
    assert r"line 3: '\x1b[2J': U+001B, a control character" in text


def test_odd_names(tmp_path: Path) -> None:
    """Spaces, quotes, other scripts, 255 bytes, upper-case extensions: names like any other."""
    names = ["a/ b.PNG", "a/'\".png", "b/猫.JPG", f"b/{'x' * 251}.png", "b/100%.png"]
    assert [row[0] for row in scan(tmp_path, touch(tmp_path / "data", *names))[1]] == sorted(names)


def test_a_link_that_goes_round(tmp_path: Path) -> None:
    folder = touch(tmp_path / "data", "a/1.png", "b/1.png")
    (folder / "a" / "round").symlink_to(folder)
    assert "1 folders are links" in refused(tmp_path, folder)
