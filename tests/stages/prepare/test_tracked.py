"""prepare sees the files that DVC tracks, and no others."""

import json
from pathlib import Path

import pytest

from stages.common.errors import UserError
from stages.prepare import layouts
from stages.prepare.listing import CLUTTER
from stages.prepare.table import open_table
from stages.prepare.tracked import hidden_from_dvc
from tests.project import BIN, ROOT, run

PATTERNS = r"""
# a comment
hidden/
*.tmp
/data/a/x*
!/data/a/xx.png
data/**/deep
elsewhere/b
/elsewhere/**
[ab]z.png
\#odd
two words
b/only/*
!b/only/kept.png
plain.png
"""
PATHS = """
a/1.png a/x1.png a/xx.png a/z.png a/az.png a/1.png.tmp a/hidden/1.png b/hidden/deep/1.png b/deep/1.png b/a/deep/2.png
b/#odd/1.png b/only/1.png b/only/kept.png b/plain.png b/plain.png2 b/3.png elsewhere/b/1.png
""".split()


def write(folder: Path, *paths: str) -> None:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(path)


def found(folder: Path, work: Path) -> tuple[set[str], str]:
    """The paths that prepare sees, and what it says of the others."""
    work.mkdir()
    table = open_table(work / "images.sqlite")
    data = layouts.scan(folder, "", table, work)
    return {path for (path,) in table.execute("select path from images")}, str(data.ignored)


@pytest.mark.parametrize("patterns", [PATTERNS, PATTERNS.replace("!", "un-")], ids=["negated", "positive"])
@pytest.mark.slow
def test_patterns_mean_what_dvc_takes_them_for(tmp_path: Path, patterns: str) -> None:
    (tmp_path / ".dvcignore").write_text(patterns)
    write(tmp_path / "data", *PATHS, "a/two words/1.png")
    (tmp_path / "data/a/1.png").with_name("linked.png").symlink_to("1.png")
    run([BIN / "dvc", "init", "--no-scm", "--quiet"], tmp_path)
    (tmp_path / ".dvcignore").write_text(patterns)
    run([BIN / "dvc", "add", "--quiet", "data"], tmp_path)
    (listing,) = (tmp_path / ".dvc/cache/files/md5").glob("*/*.dir")
    tracked = {entry["relpath"] for entry in json.loads(listing.read_text())}
    assert {"a/linked.png", "b/3.png"} < tracked < {*PATHS, "a/linked.png", "a/two words/1.png"}
    seen, said = found(tmp_path / "data", tmp_path / "work")
    assert seen == tracked
    assert said == f"0 ignored, {len(PATHS) + 2 - len(tracked)} hidden by .dvcignore; nothing in b/a/"


def test_what_is_behind_a_link(tmp_path: Path) -> None:
    """DVC tracks a linked file, and nothing in a linked folder; all are named. A linked data/ is refused itself."""
    write(tmp_path, "data/a/1.png", "data/b/1.png", "disk/c/1.png", "disk/d/1.png")
    (tmp_path / "data/b/2.png").symlink_to(tmp_path / "disk/c/1.png")
    assert found(tmp_path / "data", tmp_path / "work")[0] == {"a/1.png", "b/1.png", "b/2.png"}
    for name in ("c", "d"):
        (tmp_path / "data" / name).symlink_to(tmp_path / "disk" / name)
    with pytest.raises(UserError, match=r"2 folders are links(.|\n)*  c\n  d$"):
        found(tmp_path / "data", tmp_path / "work 2")
    (tmp_path / "linked").symlink_to(tmp_path / "data")
    with pytest.raises(UserError, match=r"linked: a link\. DVC would write other versions"):
        found(tmp_path / "linked", tmp_path / "work 3")


def test_what_only_this_machine_has_is_said_and_in_no_table(tmp_path: Path) -> None:
    write(tmp_path / "data", "a/1.png", "b/1.png", "b/@eaDir/1.png/SYNOPHOTO_THUMB_M.jpg", "#recycle/a/2.png", "c/.x")
    (tmp_path / "data/d/e").mkdir(parents=True)
    seen, said = found(tmp_path / "data", tmp_path / "work")
    assert seen == {"a/1.png", "b/1.png"}
    assert said == "3 ignored; nothing in c/, d/e/"


def test_clutter_is_nothing_to_dvc_either() -> None:
    """Names that a person may write in another case are as programs write them."""
    hidden = hidden_from_dvc(ROOT / "data")
    spelt = {line.removeprefix("\\").lower() for line in (ROOT / ".dvcignore").read_text().splitlines()}
    assert CLUTTER - spelt == {"icon\r"}  # a pattern cannot end with it
    assert hidden("a/@eaDir/")
    assert hidden("#recycle/")
    assert not hidden("a/1.png")


def test_a_dvcignore_that_is_not_utf_8(tmp_path: Path) -> None:
    (tmp_path / ".dvcignore").write_bytes(b"\xff\n")
    with pytest.raises(UserError, match="not UTF-8"):
        hidden_from_dvc(tmp_path / "data")
