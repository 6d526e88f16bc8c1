"""Archives that lie, lead outside or explode are refused by name."""

import gzip
import io
import lzma
import os
import struct
import tarfile
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import pytest

from stages.common.errors import UserError
from stages.prepare import archives, reader


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
        info("a/sparse.png", tarfile.GNUTYPE_SPARSE),
        info("a/fine.png"),
    )
    text = refused(path, tmp_path / "work")
    assert "8 members that no archive of images has" in text
    assert "'a/../../evil.png': leads outside" in text
    assert "'a/link.png': a link" in text
    assert "'a/sparse.png': not an ordinary file" in text
    assert "'a/device.png': not an ordinary file" in text
    assert "fine.png" not in text
    assert not any((tmp_path / "work").iterdir())


def test_every_dangerous_member_of_a_zip_is_named(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("a/link.png")
    link.external_attr = 0o120777 << 16
    rare = zipfile.ZipInfo("a/rare.png")
    rare.compress_type = zipfile.ZIP_BZIP2
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr("../evil.png", b"")
        archive.writestr(link, "/etc/passwd")
        archive.writestr(rare, b"x")
        archive.writestr("a/fine.png", b"")
    text = refused(tmp_path / "bad.zip", tmp_path / "work")
    assert "3 members that no archive" in text
    assert "'a/rare.png': compressed by method 12; expected stored or deflated" in text
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


def test_a_zip_whose_members_share_their_bytes(tmp_path: Path) -> None:
    """As in D. Fifield's "A better zip bomb" (2019)."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a/1.png", os.urandom(5000))
        archive.infolist().append(archive.getinfo("a/1.png"))
    assert "a.zip: damaged (members overlap)" in refused(tmp_path / "a.zip", tmp_path / "work")


@pytest.mark.parametrize("lies", [False, True])
def test_a_member_larger_than_any_picture(tmp_path: Path, lies: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused by its stated size; and one that states less gives no more than it states."""
    monkeypatch.setattr(reader, "MAX_FILE_BYTES", 2**20)
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/1.png", bytes(2**25))
    if lies:
        content = bytearray(path.read_bytes())
        entry = content.index(b"PK\1\2")
        content[entry + 24 : entry + 28] = struct.pack("<I", 1000)
        path.write_bytes(content)
    (member,) = archives.members(archives.Archive("zip", path), path)
    files = reader.Reader([reader.Container("zip", str(path))])
    tracemalloc.start()
    with pytest.raises(zipfile.BadZipFile if lies else reader.TooLarge):
        files.read(reader.Place(0, member.name, member.offset, member.size))
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_headers_of_a_tar_that_ask_for_too_much(tmp_path: Path) -> None:
    """Long attributes, a size below zero in either place, a header before a header before a header."""
    long, negative = info("a/1.png"), info("a/1.png")
    long.pax_headers, negative.pax_headers = {"comment": "x" * 2**21}, {"size": "-1536"}
    make_tar(tmp_path / "long.tar", long)
    make_tar(tmp_path / "negative.tar", negative)
    globals_alone = info("a", tarfile.XGLTYPE).tobuf()
    (tmp_path / "nested.tar").write_bytes(globals_alone * 5000 + bytes(10240))
    for name, stated in (("size.tar", -5120), ("huge.tar", 2**62)):
        size = bytearray(info("a/1.png").tobuf())
        size[124:136] = (stated if stated < 0 else stated | 2**95).to_bytes(12, "big", signed=stated < 0)
        size[148:156] = b"%06o\0 " % (sum(size) - sum(size[148:156]) + 8 * 32)
        (tmp_path / name).write_bytes(size + bytes(10240))
    assert "a header or member of 2,097,169 bytes" in refused(tmp_path / "long.tar", tmp_path / "work")
    assert "negative.tar: damaged" in refused(tmp_path / "negative.tar", tmp_path / "work")
    assert "nested.tar: damaged" in refused(tmp_path / "nested.tar", tmp_path / "work")
    assert "a header or member of -5,120 bytes" in refused(tmp_path / "size.tar", tmp_path / "work")
    assert "4,611,686,018,427,387,904 bytes; at most 10,752" in refused(tmp_path / "huge.tar", tmp_path / "work")


def zip_with(path: Path, *names: bytes, system: int, utf8: str = "") -> archives.Archive:
    """A zip file of these names, each with itself as content, without the flag that they are UTF-8, as written on a
    system (APPNOTE, 4.4.2); with the field that says the last one in UTF-8."""
    with zipfile.ZipFile(path, "w") as archive:
        for number, name in enumerate(names):
            info = zipfile.ZipInfo(chr(ord("A") + number) * len(name))
            info.create_system = system
            if utf8 and name is names[-1]:
                field = b"\1" + struct.pack("<I", zlib.crc32(name)) + utf8.encode()
                info.extra = struct.pack("<HH", 0x7075, len(field)) + field
            archive.writestr(info, name)
    content = path.read_bytes()
    for number, name in enumerate(names):
        content = content.replace(b"%c" % (ord("A") + number) * len(name), name)
    path.write_bytes(content)
    return archives.Archive("zip", path)


def test_names_in_a_zip(tmp_path: Path) -> None:
    """UTF-8 without its flag, as Linux and macOS write it; Windows' backslashes; and both are read by what they are."""
    written = ["caf\u00e9/\u732b.png".encode(), b"cat\\0.png", "\u732b/1.png".encode("gbk")]
    unix = zip_with(tmp_path / "a.zip", written[0], b"dir/", system=3)
    windows = zip_with(tmp_path / "b.zip", written[1], b"dir\\", written[2], system=0, utf8="\u732b/1.png")
    found = [(archive, member) for archive in (unix, windows) for member in archives.members(archive, archive.file)]
    assert [member.name for _, member in found] == ["caf\u00e9/\u732b.png", "cat/0.png", "\u732b/1.png"]
    for (archive, member), content in zip(found, written, strict=True):
        files = reader.Reader([reader.Container("zip", str(archive.file))])
        assert files.read(reader.Place(0, member.stored, -1, member.size)) == content


def test_names_in_a_zip_that_are_refused(tmp_path: Path) -> None:
    """GBK, as Windows writes Chinese names; a way out by backslashes; a backslash that is none of Windows'."""
    zip_with(tmp_path / "gbk.zip", "\u732b/1.png".encode("gbk"), b"..\\..\\e.png", system=0)
    text = refused(tmp_path / "gbk.zip", tmp_path / "work")
    assert r"'\udcc3\udca8/1.png': a name that is not UTF-8; pack again by a program that writes UTF-8" in text
    assert "'../../e.png': leads outside" in text
    zip_with(tmp_path / "unix.zip", b"cat\\0.png", system=3)
    assert "an absolute path or one with backslashes" in refused(tmp_path / "unix.zip", tmp_path / "work")


@pytest.mark.parametrize("keep", [1024, 1100], ids=["between headers", "in a header"])
def test_a_tar_that_was_cut_off(tmp_path: Path, keep: int) -> None:
    """TarFile takes both for its end."""
    path = make_tar(tmp_path / "a.tar", info("a/1.png"), info("a/2.png"), info("a/3.png"))
    path.write_bytes(path.read_bytes()[:keep])
    assert "a.tar: damaged" in refused(path, tmp_path / "work")


def test_a_header_in_the_middle_of_a_tar_that_is_none(tmp_path: Path) -> None:
    """TarFile takes it for the end, and the members behind it would be missing."""
    path = make_tar(tmp_path / "a.tar", info("a/1.png"), info("a/2.png"), info("a/3.png"))
    content = bytearray(path.read_bytes())
    content[512] ^= 1
    path.write_bytes(content)
    assert "a.tar: damaged (bad checksum at byte 512)" in refused(path, tmp_path / "work")


def test_an_xz_file_whose_decoder_needs_much_memory(tmp_path: Path) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 2**29}]
    decoder_of_512_mib = lzma.compress(bytes(1000), filters=filters)
    (tmp_path / "a.tar.xz").write_bytes(decoder_of_512_mib)
    assert "Memory usage limit" in refused(tmp_path / "a.tar.xz", tmp_path / "work")


def test_an_xz_file_of_several_streams(tmp_path: Path) -> None:
    """As `xz --threads` and `cat` make them, with zeros between."""
    member = info("a/1.png")
    member.size = 3000
    content = make_tar(tmp_path / "a.tar").read_bytes()
    content = member.tobuf() + os.urandom(3000) + bytes(72) + content
    parts = (lzma.compress(content[:1000]), bytes(8), lzma.compress(content[1000:]))
    (tmp_path / "a.tar.xz").write_bytes(b"".join(parts))
    (tmp_path / "work").mkdir()
    archive = archives.make_readable(tmp_path / "a.tar.xz", tmp_path / "work")
    assert archive.file.read_bytes() == content


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
