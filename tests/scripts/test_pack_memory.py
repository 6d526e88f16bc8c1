"""What packing remembers saves reading and never changes a byte; what breaks off a run loses nothing."""

import errno
import io
import os
import sqlite3
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scripts import pack as packing
from scripts import pack_memory, pack_tar
from scripts.pack import pack
from stages.common import tables
from stages.common.errors import UserError
from stages.common.locks import try_lock
from stages.prepare.reader import open_regular
from tests.project import write_images
from tests.scripts.test_pack import contents, members, shards, write


@pytest.fixture
def source(tmp_path: Path) -> Path:
    write_images(tmp_path / "source", {"cat": 60, "dog": 60})
    return tmp_path / "source"


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where time stamps are trusted at once."""
    monkeypatch.setattr(pack_tar, "CLOCK_STEP", -1)
    return tmp_path / "memory"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files of the folder that are read, by name."""
    names: list[str] = []

    def noted(path: str | Path) -> tuple[int, int]:
        names.append(Path(path).name)
        return open_regular(path)

    monkeypatch.setattr(pack_tar, "open_regular", noted)
    return names


def test_reads_what_changed(source: Path, memory: Path, opened: list[str], tmp_path: Path) -> None:
    """And no shard; also once the folder of the shards was moved, and where the time of the content was set back."""
    dest = tmp_path / "dest"
    pack(source, dest, 10_000, memory=memory)
    assert len(opened) == 120
    opened.clear()
    dest = dest.rename(tmp_path / "moved")
    (source / "cat/0001.png").unlink()
    (source / "cat/new.png").write_bytes(b"new")
    same = source / "dog/0002.png"
    before, content = same.stat(), same.read_bytes()
    same.write_bytes(content[:-1] + b"!")
    os.utime(same, ns=(before.st_atime_ns, before.st_mtime_ns))
    pack(source, dest, 10_000, memory=memory)
    # The changed one is read to see that it has changed, and to be packed.
    assert sorted(opened) == ["0002.png", "0002.png", "new.png"]
    assert members(dest) == contents(source)


def test_time_stamps_that_may_hide_a_change(
    source: Path, tmp_path: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file whose stamps are as old as the look at it is read again; the stamps of an hour ago are trusted."""
    for name, age, is_seen in (("fresh", 0, True), ("old", 3600 * 10**9, False)):
        at = time.time_ns() - age

        def coarse(status: os.stat_result, at: int = at) -> str:
            return f"{at} {at} {status.st_size} {status.st_ino}"

        monkeypatch.setattr(pack_tar, "status_of", coarse)
        monkeypatch.setattr(packing, "status_of", coarse)
        dest, memory = tmp_path / name, tmp_path / f"memory of {name}"
        pack(source, dest, memory=memory)
        changed = source / "cat/0000.png"
        changed.write_bytes(changed.read_bytes()[::-1])
        pack(source, dest, memory=memory)
        assert (members(dest) == contents(source)) is is_seen


@pytest.mark.slow
def test_same_bytes(source: Path, memory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With and without memory, and by two processes: after files were added and removed, too."""
    for round_ in range(2):
        for name, kept, processes in (("one", None, 1), ("two", None, 2), ("three", memory, 1), ("four", memory, 2)):

            def count(_: int, processes: int = processes) -> int:
                return processes

            monkeypatch.setattr(packing, "processes_for", count)
            pack(source, tmp_path / name, 10_000, memory=kept)
            assert shards(tmp_path / name) == shards(tmp_path / "one")
        write_images(source, {"eel": 30}, seed=round_ + 1)
        (source / "cat/0005.png").unlink(missing_ok=True)
    assert "removed.csv" in shards(tmp_path / "one")


def test_damaged_memory(
    source: Path, memory: Path, tmp_path: Path, opened: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Is made anew; what a shard holds is not believed where it was changed there."""
    dest = tmp_path / "dest"
    pack(source, dest, memory=memory)
    file = memory / pack_memory._FILE
    whole = file.read_bytes()
    for content in (b"no such file" * 1000, whole[: len(whole) // 2], whole[:4096] + bytes(8192) + whole[12288:]):
        file.write_bytes(content)
        capsys.readouterr()
        pack(source, dest, memory=memory)
        assert capsys.readouterr().out.count("; it is made anew") == 1
        opened.clear()
        pack(source, dest, memory=memory)
        assert opened == []
    with sqlite3.connect(file) as table:
        table.execute("update shards set members = '[]'")
    (source / "cat/0000.png").unlink()
    pack(source, dest, memory=memory)
    assert (dest / "removed.csv").read_text().endswith(",cat/0000.png\n")
    assert members(dest) == contents(source)


def test_no_memory(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    pack(source, tmp_path / "dest", memory=tmp_path / "file/memory")
    assert capsys.readouterr().out.count("so nothing is remembered for the next time") == 1
    assert members(tmp_path / "dest") == contents(source)


def test_two_at_once(source: Path, memory: Path, tmp_path: Path) -> None:
    pack(source, tmp_path / "dest", memory=memory)
    before = shards(tmp_path / "dest")
    (source / "cat/0000.png").unlink()
    with (memory / "lock").open("w") as lock:
        assert try_lock(lock)
        with pytest.raises(UserError, match="in use by another pack"):
            pack(source, tmp_path / "dest", memory=memory)
    assert before == shards(tmp_path / "dest")


@pytest.mark.parametrize("processes", [1, 2])
def test_a_full_disk(
    source: Path, memory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: int
) -> None:
    """And files that change while they are packed: the shards stay as they were, nothing else stays."""
    dest = tmp_path / "dest"
    pack(source, dest, 10_000, memory=memory)
    before = shards(dest)
    write_images(source, {"eel": 60}, seed=1)
    monkeypatch.setattr(packing, "processes_for", lambda _: processes)
    start = pack_tar._read_all

    def full(files: list[pack_tar.Listed], *rest: Any) -> pack_tar.Read:
        if files[0].name != "eel/0000.png":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return start(files, *rest)

    monkeypatch.setattr(pack_tar, "_read_all", full)
    with pytest.raises(OSError, match="No space left"):
        pack(source, dest, 10_000, memory=memory)
    assert before == shards(dest)

    def written_to(files: list[pack_tar.Listed], *rest: Any) -> pack_tar.Read:
        (source / files[-1].name).write_bytes(b"other")
        return start(files, *rest)

    monkeypatch.setattr(pack_tar, "_read_all", written_to)
    with pytest.raises(UserError, match=r"1 files changed while they were packed\."):
        pack(source, dest, 10_000, memory=memory)
    assert before == shards(dest)


KILLS: dict[str, tuple[object, str]] = {
    "writing": (pack_tar, "_name"),
    "naming": (Path, "replace"),
    "removing": (Path, "unlink"),
    "listing": (tables, "write"),
    "remembering": (pack_memory.Memory, "remember_shards"),
}


@pytest.mark.parametrize("moment", KILLS)
def test_killed(source: Path, memory: Path, tmp_path: Path, moment: str) -> None:
    """At the second call of a step, where there is one: then the next run ends as ever."""
    dest = tmp_path / "dest"
    pack(source, dest, 10_000, memory=memory)
    for number in (*range(10), 40):
        (source / f"dog/{number:04}.png").unlink()
    write_images(source, {"eel": 60}, seed=1)
    child = os.fork()
    if not child:
        die_at(*KILLS[moment], calls=1 if moment in ("listing", "remembering", "removing") else 2)
        pack(source, dest, 10_000, memory=memory)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 9
    pack(source, dest, 10_000, memory=memory)
    assert members(dest) == contents(source)
    assert all(path.suffix in (".tar", ".csv") for path in dest.iterdir())


def die_at(place: object, name: str, calls: int) -> None:
    """Kill this process at one of the calls of a function."""
    function: Callable[..., object] = getattr(place, name)
    count = 0

    def deadly(*arguments: object, **options: object) -> object:
        nonlocal count
        count += 1
        if count == calls:
            os.kill(os.getpid(), 9)
        return function(*arguments, **options)

    setattr(place, name, deadly)


def test_links(source: Path, tmp_path: Path) -> None:
    """The folder may lie behind one; so may the shards, which DVC may have made links into its cache."""
    (tmp_path / "link").symlink_to(source)
    dest = tmp_path / "dest"
    pack(tmp_path / "link", dest, 10_000)
    before = shards(dest)
    (tmp_path / "cache").mkdir()
    for shard in list(dest.iterdir()):
        shard.symlink_to(shard.rename(tmp_path / "cache" / shard.name))
    pack(source, dest, 10_000)
    assert before == shards(dest)
    with pytest.raises(UserError, match="lies inside"):
        pack(tmp_path / "link", source / "shards")


def test_no_files(source: Path, tmp_path: Path) -> None:
    """What would be waited for, or leads nowhere, is named; nothing is written."""
    os.mkfifo(source / "cat/pipe")
    (source / "cat/gone").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"(?s)2 are no files.*cat/gone: a link that leads.*cat/pipe: a named pipe"):
        pack(source, tmp_path / "dest")
    assert not (tmp_path / "dest").exists()


def test_as_tarfile_writes_it(tmp_path: Path) -> None:
    """Byte for byte: shards of earlier versions stay."""
    tree = {("x", "plain"): b"1" * 700, ("x", "é猫"): b"", ("y", "long" * 40): b"2" * 512}
    write(tmp_path / "source", tree)
    pack(tmp_path / "source", tmp_path / "dest")
    expected = io.BytesIO()
    with tarfile.open(fileobj=expected, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in contents(tmp_path / "source"):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    assert list(shards(tmp_path / "dest").values()) == [expected.getvalue()]
