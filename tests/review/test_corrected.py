"""What people have decided about single images: read from Git at any revision, counted, and named where it changes what
is measured."""

import csv
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from review import gate
from review.comparison import Diff, compare
from review.corrected import Corrected, compare_corrections, counted, named_test_images
from review.document import Gallery
from review.freshness import findings
from review.markdown import markdown
from review.render import document_of
from review.revision import Malformed, Revision
from stages.common.corrections import COLUMNS, Correction, parse
from tests.manifests import compare_rows
from tests.project import BIN, refusal, run

Commits = Callable[[bytes | None, bytes | None], tuple[Revision, Revision]]
PARTS: dict[str, Any] = {field.name: "it is missing." for field in fields(Diff)}
REVISIONS = {side: Revision(side, "0" * 40, ask_remote=False) for side in ("base", "head")}
MISSING = Diff(**PARTS | REVISIONS | {"stale": [], "malformed": []})


def digest(number: int) -> str:
    return f"{number:064x}"


def file(*rows: str) -> bytes:
    """Rows of `number,decision,class,reason`."""
    lines = [f"{row.split(',')[0]}.png,{digest(int(row.split(',')[0]))},{row.partition(',')[2]}" for row in rows]
    return "\n".join([",".join(COLUMNS), *lines, ""]).encode()


def decided(row: str) -> Correction:
    (one,) = parse(file(row))
    return one


def row(number: int, label: str, split: str = "test") -> dict[str, str]:
    status = "kept" if split else "left-out"
    return {"path": f"{number}.png", "class": label, "split": split, "sha256": digest(number), "status": status}


@pytest.fixture
def commits(tmp_path: Path, enter: Callable[[Path], None]) -> Commits:
    """Make two commits of corrections.csv with these contents."""
    run("git init --quiet --initial-branch main", tmp_path)

    def commit(content: bytes | None) -> Revision:
        path = tmp_path / "corrections.csv"
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        run("git add --all && git commit --quiet --allow-empty --message change", tmp_path)
        return Revision("name", run("git rev-parse HEAD", tmp_path).stdout.strip(), ask_remote=False)

    def both(old: bytes | None, new: bytes | None) -> tuple[Revision, Revision]:
        revisions = commit(old), commit(new)
        enter(tmp_path)
        return revisions

    return both


def test_what_differs_is_counted(commits: Commits) -> None:
    """By what is done with an image; where a file lies now, and the order of lines, say nothing."""
    old = file("1,keep,,", "2,relabel,a,", "3,leave out,,", "4,relabel,a,", "5,keep,,a", "6,keep,,", "7,relabel,a,")
    new = file("8,keep,,", "7,relabel,a,", "6,relabel,a,x", "5,keep,,b", "4,relabel,b,", "3,keep,,", "1,leave out,,")
    found = compare_corrections(*commits(old, new.replace(b"7.png", b"moved.png")))
    assert [(one.said.path, one.kind) for one in found] == [
        ("1.png", "leave out"),
        ("2.png", "taken back"),
        ("3.png", "keep"),
        ("4.png", "relabel"),
        ("5.png", "reason"),
        ("6.png", "relabel"),
        ("8.png", "keep"),
    ]
    assert counted(found) == (
        "2 labels corrected, 1 image left out, 2 labels confirmed, 1 correction taken back, 1 reason changed "
        "(corrections.csv)"
    )
    assert {one.said.path for one in found if one.decides} == {f"{number}.png" for number in (1, 2, 3, 4, 6)}


def test_an_older_commit_has_no_such_file(commits: Commits) -> None:
    base, head = commits(None, file("1,relabel,dog,"))
    assert [one.kind for one in compare_corrections(base, head)] == ["relabel"]
    assert [one.kind for one in compare_corrections(head, base)] == ["taken back"]
    assert compare_corrections(base, base) == []


def test_a_branch_with_no_such_file_is_one_reason_against_it(commits: Commits) -> None:
    base, head = commits(file(), file("1,delete,,", "1,keep,,", "2,relabel,,") + b"\xff")
    with pytest.raises(Malformed, match=r"^corrections\.csv: in name \(\w+\), not UTF-8: "):
        compare_corrections(base, head)
    diff = compare(base, head)
    assert isinstance(diff.corrections, str)
    assert [text for text in diff.malformed if "corrections.csv" in text] == [diff.corrections]
    assert sum("corrections.csv" in one.text for one in gate.reasons(diff, [], check_remote=False)) == 1
    base, head = commits(file(), file("1,delete,,", "2,relabel,,", "3,keep,a,", "4,keep,,=a"))
    said = compare(base, head).malformed
    assert "line 2: decision 'delete'" in said[-1]
    assert "; and 1 more. Mend these lines" in said[-1]


def test_test_images_are_named() -> None:
    """With what they were, what they are and why, some of many; in the verdict, which says that the test set changed,
    and in the gate's reason."""
    corrected = [
        Corrected(None, decided("1,relabel,dog,<b>barks")),
        Corrected(None, decided("2,leave out,,")),
        Corrected(decided("3,leave out,,blurred"), None),
        Corrected(None, decided("4,relabel,dog,of train")),
        Corrected(None, decided("5,keep,,")),
    ]
    old = [row(1, "cat"), row(2, "cat"), row(3, "owl", ""), row(4, "cat", "train"), row(5, "cat")]
    new = [row(1, "dog"), row(2, "cat", ""), row(3, "owl"), row(4, "dog", "train"), row(5, "owl")]
    diff = replace(MISSING, data=compare_rows(old, new), corrections=corrected)
    named = "1.png (cat → dog: <b>barks), 2.png (cat → left out: no reason given), 3.png (left out → owl: taken back)"
    counts = "1 images added, 1 removed, 2 of another class"
    assert document_of(diff, None).banners[-1].text == f"The test set changed: {counts}; by hand: {named}."
    (reason,) = [one for one in gate.reasons(diff, [], check_remote=False) if one.kind == "test-changed"]
    assert reason.text == f"the test set changed: {counts}; by hand: {named}"
    many = [Corrected(None, decided(f"{number},relabel,dog,{'r' * 400}")) for number in range(20)]
    images = compare_rows([row(n, "cat") for n in range(20)], [row(n, "dog") for n in range(20)]).images
    assert named_test_images(many, images).endswith(f" (cat → dog: {'r' * 100}…) and 15 more")
    assert len(named_test_images(many, images)) < 700


def test_the_report_has_reasons_beside_the_images() -> None:
    corrected = [
        Corrected(None, decided("1,relabel,dog,it barks")),
        Corrected(None, decided("2,leave out,,blurred")),
    ]
    old = [row(1, "cat", "val"), row(2, "cat", "train"), row(3, "cat", "val"), row(4, "cat", "train")]
    new = [row(1, "dog", "val"), row(2, "cat", ""), row(3, "dog", "val"), row(4, "cat", "")]
    diff = replace(MISSING, data=compare_rows(old, new), corrections=corrected)
    (data,) = (section for section in document_of(diff, None).sections if section.title == "Data")
    assert data.blocks[0] == "By hand: 1 label corrected, 1 image left out (corrections.csv)."
    galleries = [block for block in data.blocks if isinstance(block, Gallery)]
    shown = {one.name: [one.header[-1], *(image.cells for image in one.images)] for one in galleries}
    assert shown == {
        "Relabelled": ["by hand", ["1.png", "cat", "dog", "val", "it barks"], ["3.png", "cat", "dog", "val", "—"]],
        "Left out": ["by hand", ["2.png", "cat", "train", "blurred"]],
        "Moved to another split": ["split is", ["4.png", "cat", "train", "left out"]],
    }


def test_prepare_has_to_list_the_file(tmp_path: Path, commits: Commits) -> None:
    (tmp_path / "dvc.lock").write_text("schema: '2.0'\nstages:\n  prepare:\n    cmd: python -m stages.prepare\n")
    declared = (
        "stages:\n  prepare:\n    cmd: python -m stages.prepare\n    deps: [data, stages]\n    outs: [prepared]\n"
    )
    (tmp_path / "dvc.yaml").write_text(declared)
    older, head = commits(None, file())
    (finding,) = (one for one in findings(head) if "corrections.csv" in one.text)
    assert (finding.kind, finding.stage) == ("unlisted", "prepare")
    assert not any("corrections.csv" in one.text for one in findings(older))
    (tmp_path / "dvc.yaml").write_text(declared.replace("data,", "corrections.csv,"))
    (finding,) = (one for one in findings(commits(None, file())[1]) if "corrections.csv" in one.text)
    assert finding.text == "prepare: corrections.csv is a dependency since the run"


def test_without_manifests_the_decisions_are_shown(tmp_path: Path, commits: Commits) -> None:
    """And that nobody can tell whether they are of test images; of labels that are only said to be right, nothing."""
    (tmp_path / "dvc.lock").write_text("schema: '2.0'\nstages:\n  prepare:\n    cmd: python -m stages.prepare\n")
    diff = compare(*commits(file("1,keep,,", "2,keep,,"), file("1,relabel,d|g,`x`", "3,keep,,")))
    diff = replace(diff, data="it is missing.")
    text = markdown(document_of(diff, None))
    assert "Whether the test set changed cannot be told; corrections.csv did." in text
    assert "By hand: 1 label corrected, 1 label confirmed, 1 correction taken back (corrections.csv)." in text
    assert "| 1.png | keep | relabel to `d\\|g` | `x` |" in text
    assert "corrections.csv changed, and whether the test images did cannot be told" in str(
        gate.reasons(diff, [], check_remote=False)
    )
    confirmed = replace(diff, corrections=[Corrected(None, decided("1,keep,,"))])
    assert gate.other_splits(confirmed) == []


def test_from_a_saved_file_to_the_gate(copy_reproduced: Callable[[str], Path]) -> None:
    """An image of the test split that is left out is named, and drawn out of base's arrays; the others are told by
    content."""
    folder = copy_reproduced("project")
    with (folder / "prepared/manifest.csv").open(newline="") as stream:
        images = {one["split"]: one for one in csv.DictReader(stream) if one["class"] == "a"}
    decisions = {"test": "leave out,,a <b>blot", "train": "relabel,b,", "val": "keep,,"}
    rows = [f"{images[split]['path']},{images[split]['sha256']},{rest}" for split, rest in decisions.items()]
    (folder / "saved.csv").write_text("\r\n".join([",".join(COLUMNS), *rows, ""]), newline="")
    run([BIN / "python", "-m", "scripts.correct", "saved.csv"], folder)
    (folder / "saved.csv").unlink()
    run([BIN / "dvc", "repro", "--quiet", "prepare"], folder)
    review: list[str | Path] = [BIN / "python", "-m", "review", "diff", "--gate", "--offline", "--html", "page.html"]
    done = run([*review, "HEAD"], folder, expect=1)
    assert "By hand: 1 label corrected, 1 image left out, 1 label confirmed (corrections.csv)." in done.stdout
    path = images["test"]["path"]
    assert f"0 of another class; by hand: {path} (a → left out: a <b>blot)\n" in refusal(done)
    page = (folder / "page.html").read_text()
    assert f'alt="{path}: class a, split was test, by hand a &lt;b&gt;blot"' in page
    assert f'alt="{images["train"]["path"]}: class was a, class is b, split train, by hand no reason given"' in page
    assert "Without a picture" not in page
