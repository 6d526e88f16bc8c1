"""Shards: the same content, the same bytes; a few new images, a few new bytes; read as the folder was."""

import csv
import os
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.pack import pack
from stages.common.errors import UserError
from stages.prepare import __main__ as prepare
from tests.project import write_images

names = st.text("abcé猫 '\">%", min_size=1, max_size=12).filter(lambda name: name.strip(". ") == name)
trees = st.dictionaries(st.tuples(st.sampled_from("xyz"), names), st.binary(max_size=300), min_size=1, max_size=12)


def write(folder: Path, tree: dict[tuple[str, str], bytes]) -> None:
    for (label, name), content in tree.items():
        (folder / label).mkdir(parents=True, exist_ok=True)
        (folder / label / name).write_bytes(content)


def shards(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def contents(folder: Path) -> list[tuple[str, bytes]]:
    """The files of a folder, by name."""
    return sorted(
        (path.relative_to(folder).as_posix(), path.read_bytes()) for path in folder.rglob("*") if path.is_file()
    )


def members(folder: Path) -> list[tuple[str, bytes]]:
    """The files that count in the shards of a folder, by name, as another program reads them."""
    gone = set()
    if (folder / "removed.csv").exists():
        with (folder / "removed.csv").open(encoding="utf-8", newline="") as table:
            gone = {(row["shard"], row["path"]) for row in csv.DictReader(table)}
    found = []
    for shard in folder.glob("*.tar"):
        with tarfile.open(shard) as tar:
            for member in tar:
                stream = tar.extractfile(member)
                assert stream
                if (shard.name, member.name) not in gone:
                    found.append((member.name, stream.read()))
    return sorted(found)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(tree=trees)
def test_bytes_depend_on_content_alone(tree: dict[tuple[str, str], bytes]) -> None:
    """Not on times, order of writing or the folder's name; packing again changes nothing."""
    with tempfile.TemporaryDirectory() as folder:
        first, second = Path(folder, "first"), Path(folder, "second")
        write(first, tree)
        write(second, dict(reversed(tree.items())))
        for path in second.rglob("*"):
            os.utime(path, (0, 0))
        pack(first, Path(folder, "one"), 1500)
        pack(second, Path(folder, "two"), 1500)
        one = shards(Path(folder, "one"))
        assert one == shards(Path(folder, "two"))
        pack(first, Path(folder, "one"), 1500)
        assert one == shards(Path(folder, "one"))


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(before=trees, after=trees)
def test_shards_always_hold_the_folder(
    before: dict[tuple[str, str], bytes], after: dict[tuple[str, str], bytes]
) -> None:
    """After any change of the folder, and back, the shards hold its files, each once; compact ones nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        dest = Path(folder, "dest")
        write(Path(folder, "before"), before)
        write(Path(folder, "after"), after)
        for step in ("before", "after", "before"):
            pack(Path(folder, step), dest, 1500)
            assert members(dest) == contents(Path(folder, step))
        pack(Path(folder, "after"), dest, 1500, compact=True)
        assert not (dest / "removed.csv").exists()
        assert members(dest) == contents(Path(folder, "after"))


def test_adding_images_leaves_the_other_shards(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_images(tmp_path / "source", {"cat": 300, "dog": 300})
    pack(tmp_path / "source", tmp_path / "dest", 100_000)
    before = shards(tmp_path / "dest")
    assert len(before) > 3
    write_images(tmp_path / "source", {"ape": 6, "eel": 6}, seed=1)
    pack(tmp_path / "source", tmp_path / "dest", 100_000)
    after = shards(tmp_path / "dest")
    new = [content for name, content in after.items() if name not in before]
    assert before.items() <= after.items()
    assert sum(map(len, new)) < 0.05 * sum(map(len, after.values()))
    assert f"{len(before)} unchanged, 1 new" in capsys.readouterr().out


def test_removing_images_leaves_the_shards(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Until a fifth of one is gone, or --compact asks for it; those that come back are taken from where they are."""
    source, dest = tmp_path / "source", tmp_path / "dest"
    write_images(source, {"cat": 300, "dog": 300})
    pack(source, dest, 100_000)
    before = shards(dest)
    kept = {path.name: path.read_bytes() for path in sorted((source / "cat").iterdir())[::50]}
    for name in kept:
        (source / "cat" / name).unlink()
    capsys.readouterr()
    pack(source, dest, 100_000)
    table = (dest / "removed.csv").read_text()
    assert before == {name: content for name, content in shards(dest).items() if name != "removed.csv"}
    assert table.startswith("shard,path\nshard-")
    assert table.count("\n") == 1 + len(kept)
    assert "removed or changed, but still in a shard: 6." in capsys.readouterr().out
    (source / "cat" / "0000.png").write_bytes(kept["0000.png"])
    pack(source, dest, 100_000)
    assert "cat/0000.png" not in (dest / "removed.csv").read_text()
    assert "was left out and is there again: 1" in capsys.readouterr().out
    pack(source, dest, 100_000, compact=True)
    assert "removed.csv" not in shards(dest)
    assert b"cat/0050.png" not in b"".join(shards(dest).values())
    assert members(dest) == contents(source)
    for path in sorted((source / "dog").iterdir())[:40]:
        path.unlink()
    before = shards(dest)
    pack(source, dest, 100_000)
    assert members(dest) == contents(source)
    assert 1 < len(before.keys() & shards(dest).keys()) < len(before)


def test_a_changed_file_is_packed_anew(tmp_path: Path) -> None:
    """Under the same name and of the same length."""
    source = tmp_path / "source"
    write(source, {("a", "1"): b"old", ("b", "2"): b"same"})
    pack(source, tmp_path / "dest")
    write(source, {("a", "1"): b"new"})
    pack(source, tmp_path / "dest")
    (content,) = shards(tmp_path / "dest").values()
    assert b"new" in content
    assert b"old" not in content


def test_prepare_gives_the_same_from_shards(image_workspace: Path) -> None:
    """Byte for byte, the manifest included."""
    prepare.main()
    before = {path.name: path.read_bytes() for path in Path("prepared").iterdir()}
    Path("data").rename("images")
    pack(Path("images"), Path("data"), 10_000)
    assert len(shards(Path("data"))) > 3
    prepare.main()
    assert before == {path.name: path.read_bytes() for path in Path("prepared").iterdir()}


def test_labels_csv_stays_a_file(workspace: Path) -> None:
    write_images(workspace / "images", {"all": 120})
    rows = "".join(f"all/{number:04}.png,{'ab'[number % 2]}\n" for number in range(120))
    (workspace / "images" / "labels.csv").write_text("path,label\n" + rows)
    pack(Path("images"), Path("data"))
    prepare.main()
    assert '"a"' in Path("prepared/dataset.json").read_text()


def test_refused(tmp_path: Path) -> None:
    """Nothing is written where the source is not one, or where the destination holds something else."""
    with pytest.raises(UserError, match="no such folder"):
        pack(tmp_path / "none", tmp_path / "dest")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no images to pack"):
        pack(tmp_path / "empty", tmp_path / "dest")
    write_images(tmp_path / "source", {"a": 1})
    with pytest.raises(UserError, match="lies inside"):
        pack(tmp_path / "source", tmp_path / "source" / "shards")
    (tmp_path / "source" / "a" / "round").symlink_to(tmp_path / "source")
    with pytest.raises(UserError, match="a link to a folder that is there already"):
        pack(tmp_path / "source", tmp_path / "dest")
    (tmp_path / "source" / "a" / "round").unlink()
    (tmp_path / "dest").mkdir()
    (tmp_path / "dest" / "thesis.doc").touch()
    with pytest.raises(UserError, match=r"holds thesis\.doc"):
        pack(tmp_path / "source", tmp_path / "dest")
    assert [path.name for path in (tmp_path / "dest").iterdir()] == ["thesis.doc"]
    (tmp_path / "dest" / "thesis.doc").rename(tmp_path / "dest" / "shard-0.tar")
    with pytest.raises(UserError, match="not a shard that this command wrote"):
        pack(tmp_path / "source", tmp_path / "dest")
    (tmp_path / "dest" / "shard-0.tar").rename(tmp_path / "dest" / ".shard.tmp")
    with pytest.raises(UserError, match=r"holds \.shard\.tmp"):
        pack(tmp_path / "source", tmp_path / "dest")
    (tmp_path / "dest" / ".shard.tmp").rename(tmp_path / "dest" / "labels.csv")
    with pytest.raises(UserError, match=r"dest/labels\.csv: not the same as"):
        pack(tmp_path / "source", tmp_path / "dest")
    assert [path.name for path in (tmp_path / "dest").iterdir()] == ["labels.csv"]


def test_another_programs_shard_stays(tmp_path: Path) -> None:
    """Though it is a whole tar file, of a name like ours."""
    write_images(tmp_path / "source", {"a": 1})
    (tmp_path / "dest").mkdir()
    with tarfile.open(tmp_path / "dest" / "shard-000001.tar", "w") as tar:
        tar.add(tmp_path / "source" / "a" / "0000.png", "b/0000.png")
    with pytest.raises(UserError, match=r"shard-000001\.tar: not a shard that this command wrote"):
        pack(tmp_path / "source", tmp_path / "dest")
    assert [path.name for path in (tmp_path / "dest").iterdir()] == ["shard-000001.tar"]
