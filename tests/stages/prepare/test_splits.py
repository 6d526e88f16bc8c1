"""Splits follow from pixels and groups: whatever else is there, in whatever order, under whatever name."""

import hashlib
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from stages.prepare import splits
from stages.prepare.params import PrepareParams
from stages.prepare.table import SPLITS, open_table

PARAMS = PrepareParams(
    image_size=8,
    resize="crop",
    on_corrupt="error",
    on_conflict="error",
    group_pattern="",
    val_fraction=0.25,
    test_fraction=0.25,
    split_seed=0,
)
# A picture is a number; an image is (picture, class, official split or None, group or None).
Image = tuple[int, str, str | None, str | None]
images = st.lists(
    st.tuples(st.integers(0, 40), st.sampled_from("ab"), st.none(), st.sampled_from([None, "p", "q", "r"])), max_size=60
)
official = st.lists(
    st.tuples(st.integers(0, 40), st.sampled_from("ab"), st.sampled_from(SPLITS), st.none()), max_size=60
)


def assigned(chosen: list[Image], params: PrepareParams = PARAMS, prefix: str = "") -> list[tuple[str, int, str, str]]:
    """(path, picture, split, status) of each image, in the order given."""
    with tempfile.TemporaryDirectory() as folder:
        table = open_table(Path(folder, "images.sqlite"))
        rows = [
            (index, f"{prefix}{index:03}", label, split, group, hashlib.sha256(b"%d" % picture).digest())
            for index, (picture, label, split, group) in enumerate(chosen)
        ]
        table.executemany(
            "insert into images (id, path, label, split, grp, sha256, container) values (?, ?, ?, ?, ?, ?, 0)", rows
        )
        present = {split for _, _, split, _ in chosen if split}
        splits.assign(table, tuple(split for split in SPLITS if split in present), params)
        found = table.execute("select path, coalesce(split, ''), status from images order by id").fetchall()
        table.close()
    return [(path, image[0], split, status) for image, (path, split, status) in zip(chosen, found, strict=True)]


def kept(rows: list[tuple[str, int, str, str]]) -> dict[int, str]:
    return {picture: split for _, picture, split, status in rows if status == "kept"}


@settings(max_examples=150, deadline=None)
@given(chosen=images | official, data=st.data())
def test_a_picture_is_kept_once(chosen: list[Image], data: st.DataObject) -> None:
    """Each picture is kept at most once, in one split; it is kept unless its labels contradict each other."""
    rows = assigned(chosen)
    pictures = [picture for _, picture, _, status in rows if status == "kept"]
    assert len(pictures) == len(set(pictures))
    labels: dict[int, set[str]] = {}
    for picture, label, _, _ in chosen:
        labels.setdefault(picture, set()).add(label)
    assert set(pictures) == {picture for picture, names in labels.items() if len(names) == 1}
    conflicts = {picture for _, picture, _, status in rows if status == "conflict"}
    assert conflicts == {picture for picture, names in labels.items() if len(names) > 1}


@settings(max_examples=100, deadline=None)
@given(chosen=images, others=images, order=st.randoms(use_true_random=False))
def test_splits_survive_additions_renaming_and_order(
    chosen: list[Image], others: list[Image], order: st.DataObject
) -> None:
    """A picture that is kept before and after stands in the same split, where groups do not tie it to others."""
    chosen = [(picture, label, None, None) for picture, label, _, _ in chosen]
    before = kept(assigned(chosen))
    more = chosen + [(picture + 100, label, None, None) for picture, label, _, _ in others]
    order.shuffle(more)  # type: ignore[attr-defined]
    after = kept(assigned(more, prefix="renamed "))
    assert {picture: after[picture] for picture in before} == before


@settings(max_examples=100, deadline=None)
@given(chosen=images)
def test_groups_are_never_divided(chosen: list[Image]) -> None:
    rows = assigned(chosen)
    of_group: dict[str, set[str]] = {}
    for (_, _, split, status), (_, _, _, group) in zip(rows, chosen, strict=True):
        if group and status == "kept":
            of_group.setdefault(group, set()).add(split)
    assert all(len(found) == 1 for found in of_group.values())


@settings(max_examples=100, deadline=None)
@given(chosen=official)
def test_an_official_test_split_is_all_of_the_test_split(chosen: list[Image]) -> None:
    """And of a picture that train holds too, the copy in train is left out, as leaked."""
    rows = assigned(chosen)
    if any(split == "test" for _, _, split, _ in chosen):
        for (_, _, split, status), (_, _, given_split, _) in zip(rows, chosen, strict=True):
            if status in ("kept", "duplicate", "leaked"):
                assert (split == "test") == (given_split == "test")
    labels: dict[int, set[str]] = {}
    for picture, label, _, _ in chosen:
        labels.setdefault(picture, set()).add(label)
    given_test = {picture for picture, _, given_split, _ in chosen if given_split == "test"}
    split_of = kept(rows)
    assert all(split_of[picture] == "test" for picture in given_test if len(labels[picture]) == 1)


def test_groups_in_two_official_splits_are_a_problem() -> None:
    with tempfile.TemporaryDirectory() as folder:
        table = open_table(Path(folder, "images.sqlite"))
        for index, split in enumerate(("train", "test")):
            table.execute(
                "insert into images (id, path, label, split, grp, sha256, container) values (?, ?, 'a', ?, 'p7', ?, 0)",
                (index, str(index), split, bytes([index])),
            )
        splits.assign(table, ("train", "test"), PARAMS.model_copy(update={"val_fraction": 0.0}))
        text = "\n".join(splits.problems(table, ["a"], PARAMS))
        table.close()
    assert "1 groups are in more than one official split" in text
    assert "p7" in text
