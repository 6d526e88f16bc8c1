"""Archives that lie, lead outside or explode are refused by name."""

import gzip
import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from stages.common.errors import UserError
from stages.prepare import archives


def make_tar(path: Path, *members: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w") as tar:
        for member in members:
            tar.addfile(member)
    return path


def info(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def refused(path: Path, work: Path) -> str:
    work.mkdir(exist_ok=True)
    with pytest.raises(UserError) as caught:
        list(archives.members(archives.make_readable(path, work), path))
    return str(caught.value)


def test_every_dangerous_member_of_a_tar_is_named(tmp_path: Path) -> None:
    path = make_tar(
        tmp_path / "bad.tar",
        info("a/../../evil.png"),
        info("/etc/evil.png"),
        info("a\\..\\evil.png"),
        info("C:/evil.png"),
        info("a/link.png", tarfile.SYMTYPE, "/etc/passwd"),
        info("a/hard.png", tarfile.LNKTYPE, "a/1.png"),
        info("a/device.png", tarfile.CHRTYPE),
        info("a/\udcff.png"),
        info("a/fine.png"),
    )
    text = refused(path, tmp_path / "work")
    assert "8 members that no archive of images has" in text
    assert "'a/../../evil.png': leads outside" in text
    assert "'a/link.png': a link" in text
    assert "'a/\\udcff.png': not UTF-8" in text
    assert "'a/device.png': not an ordinary file" in text
    assert "fine.png" not in text
    assert not any((tmp_path / "work").iterdir())


def test_every_dangerous_member_of_a_zip_is_named(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("a/link.png")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr("../evil.png", b"")
        archive.writestr(link, "/etc/passwd")
        archive.writestr("a/fine.png", b"")
    text = refused(tmp_path / "bad.zip", tmp_path / "work")
    assert "2 members that no archive" in text
    assert "'../evil.png': leads outside" in text


def test_a_bomb_in_a_zip(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for number in range(9):
            archive.writestr(f"a/{number}.png", bytes(8 * 2**20))
    assert "unpacks to more than 200 times" in refused(tmp_path / "bomb.zip", tmp_path / "work")


def test_a_bomb_in_a_compressed_tar(tmp_path: Path) -> None:
    """Decompression ends at the limit; what was written is in the working folder alone."""
    with gzip.open(tmp_path / "bomb.tar.gz", "wb", compresslevel=9) as stream:
        for _ in range(200):
            stream.write(bytes(2**20))
    assert "unpacks to more than 200 times" in refused(tmp_path / "bomb.tar.gz", tmp_path / "work")
    assert sum(path.stat().st_size for path in (tmp_path / "work").iterdir()) < 70 * 2**20


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tar.xz", "a.tar.bz2"])
@pytest.mark.parametrize("content", [b"", os.urandom(3000)], ids=["empty", "noise"])
def test_what_is_not_an_archive(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert f"{name}: damaged" in refused(tmp_path / name, tmp_path / "work")


@pytest.mark.parametrize("mode", ["gz", "xz", ""])
def test_an_archive_cut_short(tmp_path: Path, mode: str) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=f"w:{mode}") as tar:  # type: ignore[call-overload]
        member = info("a/1.png")
        member.size = 100_000
        tar.addfile(member, io.BytesIO(os.urandom(100_000)))
    path = tmp_path / (f"a.tar.{mode}" if mode else "a.tar")
    path.write_bytes(buffer.getvalue()[:50_000])
    assert "damaged" in refused(path, tmp_path / "work")
