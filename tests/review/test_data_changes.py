"""Planted changes of data are named, each by its kind, and a rename is no change of content."""

import random
from collections import Counter

import pytest

from review.manifest import Manifest
from tests.manifests import compare_rows, digest_of


def row(path: str, label: str = "cat", split: str = "train", sha256: str = "", status: str = "kept") -> dict[str, str]:
    return {
        "path": path,
        "class": label,
        "split": split if status == "kept" else "",
        "sha256": sha256 or path,
        "status": status,
    }


BASE = [
    row(f"{number}", label, split)
    for label in ("cat", "dog")
    for split in ("train", "test")
    for number in [label + split]
]


def test_nothing_changed() -> None:
    changes = compare_rows(BASE, BASE[::-1])
    assert not changes.of_content
    assert changes.renamed == 0


def test_a_rename_is_no_change_of_content() -> None:
    renamed = [{**one, "path": "new/" + one["path"]} for one in BASE]
    changes = compare_rows(BASE, renamed)
    assert not changes.of_content
    assert changes.renamed == 4


def test_a_copy_is_neither_renamed_nor_added() -> None:
    """A duplicate is left out; the image it copies stays where it was."""
    copy = row("copy", "cat", sha256=BASE[0]["sha256"], status="duplicate")
    changes = compare_rows(BASE, [*BASE, copy])
    assert not changes.of_content
    assert changes.renamed == 0


def test_left_out_is_a_change_of_split() -> None:
    changes = compare_rows(BASE, [{**BASE[0], "status": "leaked", "split": ""}, *BASE[1:]])
    assert changes.resplit == Counter({("train", ""): 1})


def test_unreadable_files_are_counted() -> None:
    bad = {**row("bad"), "sha256": "", "status": "corrupt", "split": ""}
    changes = compare_rows(BASE, [*BASE, bad])
    assert changes.unreadable == (0, 1)
    assert not changes.of_content


@pytest.mark.parametrize("seed", range(20))
def test_planted_changes_are_all_named(seed: int) -> None:
    """Any mixture of changes on 200 images: exactly these, by class and split, and no other."""
    generator = random.Random(seed)
    labels, splits = ("cat", "dog", "owl"), ("train", "val", "test")
    old = [row(f"p{number}", generator.choice(labels), generator.choice(splits), f"s{number}") for number in range(200)]
    added, removed = Counter[str](), Counter[str]()
    relabelled, resplit = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    renamed = 0
    new = []
    for one in old:
        kind = generator.choice(["same"] * 6 + ["removed", "relabelled", "resplit", "renamed", "both"])
        if kind == "removed":
            removed[one["class"]] += 1
            continue
        other = dict(one)
        if kind in ("relabelled", "both"):
            other["class"] = generator.choice([label for label in labels if label != one["class"]])
            relabelled[one["class"], other["class"]] += 1
        if kind in ("resplit", "both"):
            other["split"] = generator.choice([split for split in splits if split != one["split"]])
            resplit[one["split"], other["split"]] += 1
        if kind == "renamed":
            other["path"] += "-renamed"
            renamed += 1
        new.append(other)
    for number in range(generator.randrange(30)):
        new.append(row(f"new{number}", generator.choice(labels), sha256=f"n{number}"))
        added[new[-1]["class"]] += 1
    generator.shuffle(new)
    changes = compare_rows(old, new)
    assert (changes.added, changes.removed, changes.relabelled, changes.resplit, changes.renamed) == (
        added,
        removed,
        relabelled,
        resplit,
        renamed,
    )
    rows = [{digest_of(one["sha256"]): (one["class"], one["split"]) for one in side} for side in (old, new)]
    shown = [
        (one.sha256, *(side and (side.label, side.split) for side in (one.old, one.new))) for one in changes.images
    ]
    assert shown == [
        (content, rows[0].get(content), rows[1].get(content))
        for content in sorted(rows[0] | rows[1])
        if rows[0].get(content) != rows[1].get(content)
    ]
    before, after = ({one["sha256"]: one["class"] for one in rows if one["split"] == "test"} for rows in (old, new))
    of_another_class = [content for content in before.keys() & after.keys() if before[content] != after[content]]
    assert changes.test == (len(after.keys() - before), len(before.keys() - after), len(of_another_class))


def test_copies_of_one_content() -> None:
    """The one that is used says class and split; where none is, all classes; renamed is what no path stays of."""
    old = [row("a", "cat", sha256="1"), row("b", "cat", sha256="1", status="duplicate"), row("c", "cat", sha256="2")]
    conflict = [row(path, label, sha256="1", status="conflict") for path, label in (("a", "dog"), ("b", "cat"))]
    changes = compare_rows(old, [*conflict, row("c", "cat", sha256="2")])
    (image,) = changes.images
    assert changes.relabelled == Counter({("cat", "cat or dog"): 1})
    assert changes.resplit == Counter({("train", ""): 1})
    assert image.new is not None
    assert (image.new.label, image.new.split, image.new.paths) == ("cat or dog", "", frozenset("ab"))
    moved = [row("b", "cat", sha256="1"), row("x", "cat", sha256="1", status="duplicate"), row("d", sha256="2")]
    assert compare_rows(old, moved).renamed == 1
    assert compare_rows(old, [{**one, "path": one["path"] * 2} for one in old]).renamed == 2


def test_digests_that_end_with_zeros() -> None:
    """NumPy cuts them off, where it is let."""
    ends = [row("a", sha256="12" * 16 + "0" * 32), row("b", sha256="0" * 64)]
    changes = compare_rows([], ends)
    assert [one.sha256 for one in changes.images] == ["0" * 64, "12" * 16 + "0" * 32]
    assert not compare_rows(ends, ends).of_content


@pytest.mark.parametrize("digest", ["12" * 31, "12" * 33, "zz" * 32, "1 " * 32])
def test_what_is_no_digest(digest: str) -> None:
    with pytest.raises(ValueError, match="expected 64 digits of a SHA-256"):
        Manifest.of([["a", "cat", "train", digest, "kept"]])
