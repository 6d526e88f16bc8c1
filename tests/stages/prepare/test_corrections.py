"""What a person has decided about an image holds for its pixels, wherever they lie, and for nothing else."""

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from stages.common import dependencies
from stages.common.corrections import COLUMNS
from stages.common.dependencies import Stage
from stages.common.errors import UserError
from stages.prepare import __main__ as prepare
from stages.prepare.corrections import read
from tests.project import edit_params, write_images

OUTPUTS = [*(Path("prepared", name) for name in prepare.FILES), prepare.METRICS]
Row = tuple[str, str, str, str]


def manifest() -> dict[str, dict[str, str]]:
    with Path("prepared/manifest.csv").open(newline="") as stream:
        return {row["path"]: row for row in csv.DictReader(stream)}


def outputs() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in OUTPUTS}


def figures() -> dict[str, float]:
    found: dict[str, float] = json.loads(prepare.METRICS.read_text())
    return found


def correct(*rows: Row) -> None:
    """Write corrections of (path, decision, class, reason), with the pixels that the last run has found there."""
    known = {path: row["sha256"] for path, row in manifest().items()}
    with Path("corrections.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        writer.writerows((path, known[path], *rest) for path, *rest in rows)


def refused() -> str:
    before = outputs()
    with pytest.raises(UserError) as caught:
        prepare.main()
    assert outputs() == before
    return str(caught.value)


@pytest.fixture(autouse=True)
def prepared(workspace: Path) -> Iterator[None]:
    """Three classes of 25 random images, prepared."""
    write_images(workspace / "data", {"cat": 25, "dog": 25, "owl": 25})
    prepare.main()
    yield


def test_without_rows_nothing_changes() -> None:
    """No file, a header alone, and rows that say that labels are right: the same bytes of all that is read later."""
    before = outputs()
    correct()
    prepare.main()
    assert outputs() == before
    correct(("cat/0001.png", "keep", "", "looked at"), ("owl/0002.png", "keep", "", ""))
    prepare.main()
    after = outputs()
    assert {name for name in before if before[name] != after[name]} == {"summary.txt", "prepare.json"}
    added = set(figures().items()) - set(json.loads(before["prepare.json"]).items())
    assert added == {("relabelled", 0), ("left_out_by_hand", 0), ("confirmed", 2)}
    lines = set(after["summary.txt"].decode().splitlines()) - set(before["summary.txt"].decode().splitlines())
    assert lines == {"  confirmed: 2 labels by hand (corrections.csv)"}


def test_corrections_hold_in_every_split() -> None:
    """A relabelled image stays in its split under its new class, one that is left out is in none, and all others stay
    where they were; the line ends of Windows do not matter."""
    before = manifest()
    decided: list[Row] = [("cat/0000.png", "relabel", "dog", "a dog"), ("cat/0001.png", "relabel", "dog", "")]
    for split in ("train", "val", "test"):
        path = next(path for path, row in before.items() if row["split"] == split and path > "cat/0001.png")
        decided.append((path, "leave out", "", f"of {split}"))
    correct(*decided)
    prepare.main()
    after = manifest()
    assert after["cat/0000.png"] == before["cat/0000.png"] | {"class": "dog", "note": "corrected, was cat: a dog"}
    assert after["cat/0001.png"] == before["cat/0001.png"] | {"class": "dog", "note": "corrected, was cat"}
    for path, _, _, reason in decided[2:]:
        assert after[path] == before[path] | {"split": "", "status": "left-out", "note": reason}
    assert {path for path in after if after[path] != before[path]} == {path for path, *_ in decided}
    assert (figures()["relabelled"], figures()["left_out_by_hand"], figures()["train_images"]) == (
        2,
        3,
        sum(row["split"] == "train" for row in after.values()),
    )
    summary = Path("prepared/summary.txt").read_text()
    lines = "  left out: 3 by hand (corrections.csv)\n  corrected: 2 labels by hand (corrections.csv): cat → dog (2)\n"
    assert lines in summary
    assert "a dog" not in summary
    info = json.loads(Path("prepared/dataset.json").read_text())
    assert sum(info["counts"][split]["dog"] for split in info["counts"]) == sum(
        row["class"] == "dog" and row["status"] == "kept" for row in after.values()
    )


def test_a_moved_file_keeps_its_correction() -> None:
    """And so does each copy of its pixels."""
    correct(("cat/0000.png", "relabel", "dog", ""), ("cat/0001.png", "leave out", "", ""))
    Path("data/cat/0000.png").rename("data/cat/moved.png")
    shutil.copy("data/cat/0001.png", "data/owl/copy.png")
    prepare.main()
    rows = manifest()
    assert (rows["cat/moved.png"]["class"], rows["cat/moved.png"]["status"]) == ("dog", "kept")
    assert {rows[path]["status"] for path in ("cat/0001.png", "owl/copy.png")} == {"left-out"}
    assert figures()["left_out_by_hand"] == 2


def test_a_correction_ends_a_conflict() -> None:
    shutil.copy("data/cat/0000.png", "data/dog/copy.png")
    assert "say which in corrections.csv" in refused()
    correct(("cat/0000.png", "relabel", "dog", "it barks"))
    prepare.main()
    rows = manifest()
    assert (rows["cat/0000.png"]["class"], rows["cat/0000.png"]["status"]) == ("dog", "kept")
    assert (rows["dog/copy.png"]["class"], rows["dog/copy.png"]["status"]) == ("dog", "duplicate")
    assert rows["cat/0000.png"]["note"] == "corrected, was cat: it barks"
    assert rows["dog/copy.png"]["note"] == "the same pixels as cat/0000.png"
    assert figures()["relabelled"] == 1


def test_what_does_not_fit_is_named() -> None:
    """Each kind by its lines, and nothing is written."""
    Image.new("L", (8, 8), 7).save("data/cat/other.png")
    prepare.main()
    correct(
        ("cat/0000.png", "keep", "", ""),
        ("cat/other.png", "keep", "", ""),
        ("owl/0000.png", "relabel", "dogg", ""),
        ("owl/0001.png", "relabel", "owl", ""),
    )
    Path("data/cat/0000.png").unlink()
    Image.new("L", (8, 8), 8).save("data/cat/other.png")
    text = refused()
    assert text.startswith("corrections.csv: 1 corrections are of images that are gone")
    assert "images that were changed" in text
    assert [line for line in text.split("\n") if line.startswith("  ")] == [
        "  line 2: cat/0000.png",
        "  line 3: cat/other.png",
        "  line 4: owl/0000.png: dogg; did you mean dog?",
        "  line 5: owl/0001.png: owl",
    ]
    Path("corrections.csv").write_text("path\n")
    assert "corrections.csv: 1 problem; nothing was changed" in refused()


def test_a_class_that_is_corrected_away_is_said() -> None:
    correct(*((f"cat/{number:04}.png", "relabel", "dog", "") for number in range(25)))
    assert "classes too small to split" in (text := refused())
    assert "\n  cat: 0 train, 0 val, 0 test" in text


def test_groups_and_official_splits_stay(workspace: Path) -> None:
    """A group is not torn apart, and the official test split keeps its images under their new classes."""
    shutil.rmtree("data")
    write_images(workspace / "data/train", {"cat": 40, "dog": 40}, seed=3)
    write_images(workspace / "data/test", {"cat": 5, "dog": 5}, seed=4)
    edit_params(workspace, group_pattern=r"'(\w+/\w+/\d\d\d)\d\.png'")
    prepare.main()
    before = manifest()
    correct(("test/cat/0001.png", "relabel", "dog", ""), ("train/cat/0003.png", "relabel", "dog", ""))
    prepare.main()
    after = manifest()
    assert {row["split"] for path, row in after.items() if path.startswith("test/")} == {"test"}
    assert after["test/cat/0001.png"]["class"] == "dog"
    assert all(after[path]["split"] == row["split"] for path, row in before.items())


def test_the_line_ends_of_windows_change_nothing() -> None:
    correct(("cat/0000.png", "relabel", "dog", "a dog"))
    prepare.main()
    before = outputs()
    content = Path("corrections.csv").read_bytes()
    assert b"\r\n" in content
    Path("corrections.csv").write_bytes(b"\xef\xbb\xbf" + content.replace(b"\r\n", b"\n"))
    prepare.main()
    assert outputs() == before


def test_dvc_has_to_know_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage that does not list it would stay as it is when somebody decides otherwise."""
    deps = ["data"]
    monkeypatch.setattr(dependencies, "_running_stage", lambda: Stage("prepare", "dvc.yaml", {"deps": deps}))
    assert read() == []
    correct()
    with pytest.raises(UserError, match=r"prepare reads corrections\.csv, which dvc\.yaml does not list"):
        read()
    deps.append("corrections.csv")
    assert read() == []
