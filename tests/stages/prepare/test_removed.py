"""Prepare does not see what removed.csv takes out of the shards beside it; a table that does not fit is refused."""

import shutil
from pathlib import Path

import pytest

from scripts.pack import pack
from stages.common.errors import UserError
from stages.prepare import __main__ as prepare
from stages.prepare import layouts
from stages.prepare.table import open_table

GONE = ("dog/0003.png", "owl/0007.png")


@pytest.fixture
def packed(image_workspace: Path) -> Path:
    """data/ in shards, two images of which are gone; and images/, with the others."""
    Path("data").rename("images")
    pack(Path("images"), Path("data"), 10_000)
    for path in GONE:
        Path("images", path).unlink()
    pack(Path("images"), Path("data"), 10_000)
    assert Path("data/removed.csv").read_text().count("\n") == 3
    return image_workspace


def scan() -> layouts.RawData:
    shutil.rmtree("work", ignore_errors=True)
    Path("work").mkdir()
    return layouts.scan(Path("data"), "", open_table(Path("work/images.sqlite")), Path("work"))


def test_as_the_folder_is(packed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Byte for byte; and how many were left out is said."""
    prepare.main()
    assert "; 0 ignored, 2 in shards left out by removed.csv" in capsys.readouterr().out
    before = {path.name: path.read_bytes() for path in Path("prepared").iterdir()}
    assert not any(path.encode() in before["manifest.csv"] for path in GONE)
    shutil.rmtree("data")
    Path("images").rename("data")
    prepare.main()
    assert before == {path.name: path.read_bytes() for path in Path("prepared").iterdir()}


def test_within_a_folder(packed: Path) -> None:
    Path("data").rename("shards")
    Path("data").mkdir()
    Path("shards").rename("data/shards")
    assert scan().ignored.removed == 2


def test_refused(packed: Path) -> None:
    """Rather than an image is read that somebody has removed."""
    table = Path("data/removed.csv")
    whole = table.read_text()
    header, row, other = whole.splitlines(keepends=True)
    for content, reason in (
        (whole.replace("owl/", "own/"), r"1 files that it names are not in shard-\w+\.tar\."),
        (header + row + other.replace(other[:14], "shard-00000000"), r"1 shards that it names are not there\."),
        (header + row + row, "line 3 has what another line has"),
        (header + "shard\n", "line 2 has other than 2 values"),
        ("shard,name\n" + row, "no column path"),
    ):
        table.write_text(content)
        with pytest.raises(UserError, match=rf"data/removed\.csv: {reason}|data/removed\.csv: not such .*{reason}"):
            scan()
    table.write_text(whole)
    Path(".dvcignore").write_text("*.csv\n")
    with pytest.raises(UserError, match=r"data/removed\.csv: hidden by \.dvcignore"):
        scan()
    Path(".dvcignore").unlink()
    for shard in Path("data").glob("*.tar"):
        shard.unlink()
    shutil.copytree("images", "data", dirs_exist_ok=True)
    with pytest.raises(UserError, match="1 files outside a class folder"):
        scan()
