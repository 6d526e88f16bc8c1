"""Only files with bytes of their own are read, and no more of them than a picture has."""

import os
import socket
import tracemalloc
from pathlib import Path

import pytest

from stages.prepare.reader import Container, NotAFile, Place, Reader, TooLarge


def make(path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    match kind:
        case "FIFO":
            os.mkfifo(path)
        case "socket":
            monkeypatch.chdir(path.parent)  # the path of a socket has 107 bytes at most
            with socket.socket(socket.AF_UNIX) as opened:
                opened.bind(path.name)
        case "folder":
            path.mkdir()
        case _:
            path.symlink_to({"device": "/dev/zero", "itself": path.name, "nowhere": "gone.png"}[kind])


@pytest.mark.parametrize("kind", ["FIFO", "socket", "device", "folder", "itself", "nowhere"])
def test_what_is_no_file(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "1.png", kind, monkeypatch)
    files, place = Reader([Container("folder", str(tmp_path))]), Place(0, "1.png", -1, 9)
    for read in (files.read, files.open):
        with pytest.raises(NotAFile, match=kind):
            read(place)


@pytest.mark.parametrize("said", [0, 9, 5000])
def test_a_whole_file_whatever_its_size_was(tmp_path: Path, said: int) -> None:
    content = os.urandom(3000)
    (tmp_path / "1.png").write_bytes(content)
    assert Reader([Container("folder", str(tmp_path))]).read(Place(0, "1.png", -1, said)) == content


def test_a_file_of_30_gb_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "1.png").touch()
    os.truncate(tmp_path / "1.png", 30 * 10**9)
    tracemalloc.start()
    with pytest.raises(TooLarge, match="30,000,000,000 bytes; at most 357,913,940 are read"):
        Reader([Container("folder", str(tmp_path))]).read(Place(0, "1.png", -1, 9))
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
