"""What review asks of Git, of commits that nobody's `git add` would make."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from review import git
from review.revision import Malformed, Revision
from tests.project import user_environment


@pytest.fixture
def repository(tmp_path: Path, enter: Callable[[Path], None]) -> Callable[[bytes], str]:
    """An empty repository, the current folder: commits what a stream of `git fast-import` says."""
    enter(tmp_path)

    def ask(*arguments: str, given: bytes = b"") -> str:
        done = subprocess.run(["git", *arguments], input=given, capture_output=True, check=True, env=user_environment())
        return done.stdout.decode().strip()

    ask("init", "--quiet", "--initial-branch", "main")

    def commit(files: bytes) -> str:
        header = b"commit refs/heads/main\ncommitter a <a@localhost> 0 +0000\ndata 1\nx\n"
        ask("fast-import", "--quiet", "--force", given=header + files)
        return ask("rev-parse", "main")

    return commit


def test_a_path_asks_for_nothing_but_itself(repository: Callable[[bytes], str]) -> None:
    """A line feed in a path would be a second question, whose answer the next file would get."""
    commit = repository(b'M 100644 inline "a\\nHEAD:b"\ndata 3\nodd\nM 100644 inline b\ndata 1\nb\n')
    assert git.show(commit, "a\nHEAD:b") == b"odd"
    assert git.show(commit, "a\nmain:b") is None
    assert git.show(commit, "b") == b"b"
    for path in ("", ".", "./b", "../b", "b/", "/b", "b\0"):
        assert git.show(commit, path) is None
        with pytest.raises(Malformed, match="expected a path inside the project"):
            Revision("x", commit).read(path)
    assert Revision("x", commit).read(":b") is Revision("x", commit).read("b/c") is None


def test_links_and_submodules_are_no_files(repository: Callable[[bytes], str]) -> None:
    commit = repository(
        b"M 120000 inline link\ndata 11\n/etc/passwd\nM 160000 " + b"0" * 39 + b"1 sub\n"
        b"M 100755 inline code/a.py\ndata 1\na\nM 120000 inline code/b.py\ndata 4\na.py\n"
    )
    assert git.show(commit, "link") is None
    assert git.show(commit, "sub") is None
    assert git.files(commit, "code") == ["code/a.py"]
    with pytest.raises(Malformed, match="link: expected a file, got a link"):
        Revision("x", commit).read("link")


def test_what_is_too_large(repository: Callable[[bytes], str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A file, after which others are read; and trees that hold each other, which stand for 10^8 files."""
    monkeypatch.setattr(git, "MOST_BYTES", 1000)
    commit = repository(b"M 100644 inline a\ndata 1001\n" + b"x" * 1001 + b"\nM 100644 inline b\ndata 1\nb\n")
    with pytest.raises(git.TooLargeError, match=r"a at .*: 1,001 bytes"):
        git.show(commit, "a")
    assert git.show(commit, "b") == b"b"
    kind, mode = "blob", "100644"
    tree = subprocess.run(["git", "rev-parse", "main:b"], capture_output=True, check=True).stdout.decode().strip()
    for _ in range(8):
        entries = "".join(f"{mode} {kind} {tree}\t{name}\n" for name in "abcdefghij")
        made = subprocess.run(["git", "mktree"], input=entries.encode(), capture_output=True, check=True)
        tree, kind, mode = made.stdout.decode().strip(), "tree", "040000"
    commit = repository(f"M 040000 {tree} bomb\n".encode())
    with pytest.raises(Malformed, match="more than 10,000 files"):
        Revision("x", commit).modules("bomb")


def test_the_working_tree_is_read_in_the_project_alone(repository: Callable[[bytes], str], tmp_path: Path) -> None:
    repository(b"")
    Path("folder").mkdir()
    Path("folder/link").symlink_to("/etc/passwd")
    Path("out").symlink_to("/etc")
    os.mkfifo("pipe")
    here = Revision("workspace", None)
    for path in ("folder/link", "out/passwd", "/etc/passwd", "../x", "folder/../pipe"):
        with pytest.raises(Malformed, match=f"^{path}: expected a (file, got a link|path inside)"):
            here.read(path)
    assert here.read("folder") is here.read("pipe") is here.read("nothing") is None
    Path("a b\nc\x85").touch()
    assert "a b\nc\x85" in git.changed_files()
