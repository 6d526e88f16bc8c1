"""corrections.csv: one form for all who read it, and a message that names each line that has another."""

import random
from pathlib import Path

import pytest

from stages.common.corrections import COLUMNS, CorrectionsError, misfits, note, parse, read, text, was, write
from stages.common.errors import UserError

HEADER = ",".join(COLUMNS)
SHA = "0123456789abcdef" * 4
OTHER = "f" * 64


def content(*rows: str) -> bytes:
    return "\n".join([HEADER, *rows, ""]).encode()


def problems(*rows: str) -> list[str]:
    with pytest.raises(CorrectionsError) as caught:
        parse(content(*rows))
    return caught.value.problems


def test_what_is_accepted() -> None:
    """Spaces, the line ends of Windows, a byte order mark, another order of columns, and names in NFD are one."""
    plain = parse(content(f"cat/é.png,{SHA},relabel,dög,p < 0.1", f"b.png,{OTHER},leave out,,"))
    assert [one.line for one in plain] == [2, 3]
    assert [one.effect for one in plain] == ["relabel to dög", "leave out"]
    odd = (
        "\ufeffsha256,path,decision,class,reason\r\n\r\n"
        f' {SHA.upper()} ,"cat/e\u0301.png ",\trelabel,do\u0308g , p < 0.1\r\n{OTHER},b.png,leave out,,\r\n'
    )
    assert [one[:-1] for one in parse(odd.encode())] == [one[:-1] for one in plain]
    assert parse(content()) == []


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (f"a.png,{SHA},keep,", "line 2: expected 5 values"),
        (f",{SHA},keep,,", "line 2: empty path"),
        (f"../a.png,{SHA},keep,,", "path '../a.png': expected a relative path without empty names, `.` and `..`"),
        (f"/etc/passwd,{SHA},keep,,", "path '/etc/passwd': expected a relative path"),
        (f"a\\b.png,{SHA},keep,,", "a backslash"),
        (f'"a\nb.png",{SHA},keep,,', "line 3: path 'a\\nb.png': it has U+000A, a control character"),
        (f"<b>.png,{SHA},keep,,", "opens a tag"),
        ("a.png,0123,keep,,", "sha256 '0123': expected the 64 hexadecimal digits"),
        (f"a.png,{'g' * 64},keep,,", "expected the 64 hexadecimal digits"),
        (f"a.png,{SHA},delete,,", "decision 'delete': expected keep, relabel or leave out"),
        (f"a.png,{SHA},relabel,,", "relabel without a class"),
        (f"a.png,{SHA},keep,cat,", "keep with the class 'cat': expected none, or relabel"),
        (f"a.png,{SHA},leave out,cat,", "leave out with the class 'cat'"),
        (f"a.png,{SHA},relabel,{'c' * 300},", "300 bytes; at most 255"),
        (f"a.png,{SHA},relabel,c\u202eat,", "a bidirectional control"),
        (f"a.png,{SHA},keep,,\x1b[2J", "reason with U+001B, a control character"),
        (f"a.png,{SHA},keep,,{'r' * 501}", "reason of 501 characters: expected 500 at most"),
        (f"a.png,{SHA},keep,,=cmd|' /C calc'!A0", "a spreadsheet would run it as a formula"),
        (f"a.png,{SHA},keep,, @SUM(A1)", "a spreadsheet would run it as a formula"),
        ("<<<<<<< HEAD", "line 2: expected 5 values"),
    ],
)
def test_what_is_refused(row: str, expected: str) -> None:
    (problem,) = problems(row)
    assert expected in problem


def test_all_lines_are_named() -> None:
    found = problems("a.png,1,none,,", f"b.png,{SHA},keep,,", f"c.png,{SHA},relabel,cat,", f"b.png,{SHA},keep,,x")
    assert found[0].startswith("line 2: sha256 '1': ")
    assert "; decision 'none': " in found[0]
    assert found[1:] == [
        "lines 3 and 4: the same image twice, with two decisions, keep and relabel to cat: b.png = c.png. Keep one",
        "lines 3 and 5: the same image twice, with the same decision, keep: b.png. Keep one",
    ]


@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        (b"", "got an empty file"),
        (HEADER.replace(",", ";").encode(), "no column path"),
        (HEADER.encode() + b",more\n", "expected the columns"),
        (content() + b"\xff\n", "not UTF-8"),
        (content() + b'"a\n', "unexpected end of data"),
        (b"x" * (33 << 20), "34,603,008 bytes; expected 33,554,432 at most"),
    ],
)
def test_what_is_no_such_table(bad: bytes, expected: str) -> None:
    with pytest.raises(CorrectionsError, match=expected):
        parse(bad)


def test_any_bytes_are_rows_or_refused() -> None:
    """And what is accepted comes back as it was."""
    generator = random.Random(0)
    whole = content(f"cat/a.png,{SHA},relabel,dog,a reason", f'"b, c.png",{OTHER},leave out,,"so, so"')
    pieces = [b",", b"\n", b"\r", b'"', b"\xff", b"\0", "\u2028é".encode(), b"keep", b"=", b" ", b""]
    accepted = 0
    for _ in range(500):
        start = generator.randrange(len(whole))
        bad = whole[:start] + generator.choice(pieces) + whole[start + generator.randrange(3) :]
        try:
            rows = parse(bad)
        except CorrectionsError:
            continue
        accepted += 1
        assert parse(text(rows).encode()) == [one._replace(line=n) for n, one in enumerate(sorted(rows), 2)]
    assert 20 < accepted < 480


def test_a_written_file_is_sorted_and_the_same_again(tmp_path: Path) -> None:
    path = tmp_path / "corrections.csv"
    rows = parse(content(f"b.png,{SHA},keep,,", f'"a, b.png",{OTHER},relabel,dog,so'))
    write(path, rows)
    assert path.read_bytes() == content(f'"a, b.png",{OTHER},relabel,dog,so', f"b.png,{SHA},keep,,")
    write(path, read(path))
    assert text(read(path)) == text(rows)
    assert text([]) == HEADER + "\n"


def test_reading_a_file(tmp_path: Path) -> None:
    path = tmp_path / "corrections.csv"
    assert read(path, missing_is_empty=True) == []
    with pytest.raises(UserError, match="no such file"):
        read(path)
    path.write_bytes(content("a,b,c,d,\x1b", "e"))
    with pytest.raises(UserError, match=r"2 problems; .*:\n  line 2: .*\n  line 3: expected 5 values"):
        read(path)
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(UserError, match="expected a file, got a link"):
        read(tmp_path / "link")
    with pytest.raises(UserError, match="got a folder"):
        read(tmp_path)


def test_what_does_not_fit_the_images() -> None:
    """A text for each kind, with the lines; what fits is in none."""
    here = {f"{number}" * 64: {"cat"} for number in range(1, 7)} | {SHA: {"cat", "dog"}}
    rows = parse(
        content(
            f"moved.png,{'1' * 64},relabel,dog,",
            f"both.png,{SHA},relabel,cat,solves a conflict",
            f"gone.png,{'a' * 64},keep,,",
            f"changed.png,{'b' * 64},keep,,",
            f"damaged.png,{'c' * 64},leave out,,",
            f"2.png,{'2' * 64},relabel,dogg,",
            f"3.png,{'3' * 64},relabel,cat,",
            f"=4.png,{'4' * 64},keep,,",
            f"=5.png,{'5' * 64},keep,,",
        )
    )
    found = {"changed.png": "d" * 64, "damaged.png": "", "=5.png": "5" * 64}
    texts = misfits(rows, here, found, ["cat", "dog"])
    assert [text.split("\n")[1] for text in texts] == [
        "  line 4: gone.png",
        "  line 5: changed.png",
        "  line 6: damaged.png",
        "  line 7: 2.png: dogg; did you mean dog?",
        "  line 8: 3.png: cat",
        "  line 9: =4.png",
    ]
    assert texts[0].startswith(
        "1 corrections are of images that are gone, the pixels and the path. Remove these lines:"
    )


@pytest.mark.parametrize("reason", ["", "a bee", "a; b"])
def test_the_note_tells_the_class_of_the_data(reason: str) -> None:
    for label in ("ant", "ants", "ants: a"):
        for more in ("", "; 16 bits"):
            assert was(note(label, reason) + more, reason, ["bees", "ant", "ants", "ants: a"]) == label
    assert was("16 bits", reason, ["ants"]) == was("", reason, ["ants"]) == ""
