"""data.dvc in each form that DVC writes: it names a version, or one message says what helps and destroys nothing."""

from pathlib import Path

import pytest

from stages.common.errors import UserError
from stages.common.versions import data_version, import_source

DIGEST = "72e131e0cd93ceeb743a1f9fa75849e9"
OUT = f"outs:\n- md5: {DIGEST}.dir\n  size: 9\n  nfiles: 1\n  hash: md5\n  path: data\n"
FROM_URL = f"md5: {DIGEST}\nfrozen: true\ndeps:\n- etag: x\n  hash: etag\n  path: s3://bucket/images\n"
FROM_PROJECT = f"frozen: true\ndeps:\n- path: images\n  repo:\n    url: git@host:other\n    rev_lock: {DIGEST}\n"


@pytest.mark.parametrize(
    ("text", "source"),
    [
        (OUT, ""),
        (OUT + "desc: birds\nmeta:\n  by: us\n", ""),
        (FROM_URL + OUT, "s3://bucket/images"),
        (FROM_PROJECT + OUT, "images of git@host:other"),
    ],
)
def test_forms_that_name_a_version(tmp_path: Path, text: str, source: str) -> None:
    (tmp_path / "data.dvc").write_text(text)
    assert data_version(tmp_path).name == f"{DIGEST}.dir"
    assert import_source(tmp_path) == source


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (FROM_URL + "outs:\n- hash: md5\n  path: data\n", "an import without its content (--no-download). `dvc update"),
        ("outs:\n- hash: md5\n  path: data\n  files:\n  - relpath: a\n", "a remote with cloud versioning"),
        (FROM_URL.replace("true", "false") + OUT, "it has 'deps', 'frozen', 'md5', and would have DVC take it"),
        (FROM_URL + "cmd: echo\n" + OUT, "it has 'cmd', and would"),
        (OUT + "- path: b\n", "expected one output"),
        (OUT + "  remote: theirs\n", "it has 'remote', and would"),
    ],
)
def test_forms_that_do_not(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "data.dvc").write_text(text)
    with pytest.raises(UserError) as caught:
        data_version(tmp_path)
    assert expected in str(caught.value)


def test_without_data_dvc(tmp_path: Path) -> None:
    """By what lies in data/: nothing, files that DVC does not track, pointers of parts of it, a folder of that name."""
    with pytest.raises(UserError, match="There are no images yet"):
        data_version(tmp_path)
    (tmp_path / "data/a").mkdir(parents=True)
    (tmp_path / "data/a/1.png").touch()
    with pytest.raises(UserError, match=r"`git rm -r --quiet --cached data` first, which leaves the files"):
        data_version(tmp_path)
    (tmp_path / "data/a.dvc").touch()
    with pytest.raises(UserError, match=r"data/ holds 1 of its own \(data/a.dvc\); expected one for the whole folder"):
        data_version(tmp_path)
    (tmp_path / "data.dvc").mkdir()
    with pytest.raises(UserError, match=r"data.dvc: expected a file, got a folder"):
        data_version(tmp_path)
