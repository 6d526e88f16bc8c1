"""`make correct`: a saved file of decisions is merged into the tree's, or nothing is changed."""

from collections.abc import Callable
from pathlib import Path

import pytest

from scripts import correct, repro
from stages.common import tables
from stages.common.corrections import COLUMNS, note
from stages.common.errors import UserError
from tests.project import run

TREE = Path("corrections.csv")
SAVED = Path("saved.csv")
MANIFEST = ("path", "class", "split", "sha256", "status", "group", "note")


def digest(number: int) -> str:
    return f"{number:064x}"


def write(path: Path, *rows: str) -> None:
    """Rows of `number,decision,class,reason`."""
    values = [row.split(",") for row in rows]
    tables.write(path, COLUMNS, [(f"{one[0]}.png", digest(int(one[0])), *one[1:]) for one in values])


def decisions(path: Path = TREE) -> list[str]:
    rows = tables.parse(path.read_bytes(), COLUMNS)
    return [f"{row['path']}: {row['decision']} {row['class']} {row['reason']}".rstrip() for row in rows]


@pytest.fixture(autouse=True)
def project(tmp_path: Path, enter: Callable[[Path], None]) -> None:
    """A repository with prepared images 0 to 29 of the class cat, and 30 of the class dog; one was a cat."""
    run("git init --quiet", tmp_path)
    enter(tmp_path)
    rows = [(f"{number}.png", "cat", "train", digest(number), "kept", "", "") for number in range(30)]
    rows += [("30.png", "dog", "test", digest(30), "kept", "", note("cat", "it barks") + "; 16 bits")]
    rows += [
        ("bad.png", "cat", "", "", "corrupt", "", "cut short"),
        ("owl.png", "owl", "", digest(31), "left-out", "", ""),
    ]
    tables.write(Path("prepared/manifest.csv"), MANIFEST, rows)
    write(TREE, "30,relabel,dog,it barks", "1,leave out,,blurred", "2,keep,,")


def merged(capsys: pytest.CaptureFixture[str]) -> str:
    correct.correct(SAVED)
    return capsys.readouterr().out


def refused() -> str:
    before = TREE.read_bytes()
    with pytest.raises(UserError) as caught:
        correct.correct(SAVED)
    assert TREE.read_bytes() == before
    return str(caught.value)


def test_the_newer_decision_replaces_the_older(capsys: pytest.CaptureFixture[str]) -> None:
    write(SAVED, "1,relabel,dog,a dog", "3,leave out,,", "2,keep,,", "30,relabel,dog,it barks")
    said = merged(capsys)
    assert "correct: saved.csv: 4 decisions (1 keep, 2 relabel, 1 leave out): 1 new, 1 replaced\n" in said
    assert "\n  1.png: was leave out, is relabel to dog\n" in said
    assert "correct: wrote corrections.csv: 4 decisions (1 keep, 2 relabel, 1 leave out)\n" in said
    assert "`make repro`" in said
    assert decisions() == [
        "1.png: relabel dog a dog",
        "2.png: keep",
        "3.png: leave out",
        "30.png: relabel dog it barks",
    ]
    before = TREE.stat().st_mtime_ns
    assert "0 new, 0 replaced\ncorrect: corrections.csv has all of them already; nothing was changed\n" in merged(
        capsys
    )
    assert TREE.stat().st_mtime_ns == before


def test_many_replaced_are_some(capsys: pytest.CaptureFixture[str]) -> None:
    TREE.unlink()
    write(SAVED, *(f"{number},keep,," for number in range(30)))
    assert "30 new, 0 replaced" in merged(capsys)
    write(SAVED, *(f"{number},leave out,," for number in range(30)))
    said = merged(capsys)
    assert "0 new, 30 replaced" in said
    assert said.count(": was keep, is leave out\n") == 10
    assert "\n  … and 20 more\n" in said


def test_back_to_the_class_that_the_data_give(capsys: pytest.CaptureFixture[str]) -> None:
    """Relabelling is undone by keeping the label, which prepare takes."""
    write(SAVED, "30,relabel,cat,no dog")
    assert "\n  30.png: was relabel to dog, is keep\n  1 relabelled back to the class" in merged(capsys)
    assert decisions()[-1] == "30.png: keep  no dog"


def test_only_what_is_new_is_checked(capsys: pytest.CaptureFixture[str]) -> None:
    """What the tree says already may be of images that are not prepared any more; a moved file has its new path."""
    write(TREE, "77,leave out,,")
    write(SAVED, "77,leave out,,", "4,keep,,")
    SAVED.write_text(SAVED.read_text().replace("4.png", "elsewhere/x.png"))
    merged(capsys)
    assert decisions() == ["4.png: keep", "77.png: leave out"]


def test_what_does_not_fit_is_refused() -> None:
    """By its line in the saved file."""
    write(SAVED, "77,keep,,", "3,relabel,dogg,", "4,relabel,cat,", "5,relabel,owl,")
    text = refused()
    assert text.startswith("saved.csv: nothing was changed. 1 corrections are of images that are gone")
    assert [line for line in text.split("\n") if line.startswith("  ")] == [
        "  line 2: 77.png",
        "  line 3: 3.png: dogg; did you mean dog?",
        "  line 5: 5.png: owl",
        "  line 4: 4.png: cat",
    ]
    write(SAVED, "3,delete,,", "4,keep,,=1+1")
    assert "2 problems; nothing was changed" in refused()
    SAVED.unlink()
    assert "saved.csv: no such file" in refused()


def test_a_broken_tree_is_refused() -> None:
    write(SAVED, "3,keep,,")
    TREE.write_text("<<<<<<< HEAD\n")
    assert "corrections.csv: 1 problem;" in refused()
    TREE.unlink()
    Path("prepared/manifest.csv").unlink()
    with pytest.raises(UserError, match=r"dvc\.lock: not in the working tree\. `make repro` makes it"):
        correct.correct(SAVED)
    assert not TREE.exists()


def test_from_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A tilde that the shell has left is the home; nothing is no file."""
    monkeypatch.setattr("sys.argv", ["correct", "--", ""])
    with pytest.raises(UserError, match="FROM: expected the file"):
        correct.main()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["correct", "--", "~/saved.csv"])
    write(SAVED, "3,keep,,")
    correct.main()
    assert "3.png: keep" in decisions()


def test_make_repro_needs_the_file() -> None:
    """DVC would remove prepared/ first, and then fail."""
    repro.check()
    TREE.unlink()
    with pytest.raises(UserError, match=r"corrections\.csv: no such file"):
        repro.check()


def test_one_split_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """What is said of the others is not taken, and they keep what the tree says of them."""
    write(SAVED, "3,relabel,dog,", "30,keep,,", "1,keep,,")
    correct.correct(SAVED, "train")
    assert "  1 of images that are not in train were not taken\n" in capsys.readouterr().out
    assert decisions() == ["1.png: keep", "2.png: keep", "3.png: relabel dog", "30.png: relabel dog it barks"]
