"""Splits follow from pixels and groups: whatever else is there, in whatever order, under whatever name."""

import hashlib
import sqlite3
import tempfile
from pathlib import Path

import pytest
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
    on_near_duplicate="report",
    group_pattern="",
    val_fraction=0.25,
    test_fraction=0.25,
    split_seed=0,
    stored_size=0,
    shards_above=0,
    shard_quality=95,
)
# A picture is a number; an image is (picture, class, official split or None, group or None).
Image = tuple[int, str, str | None, str | None]
images = st.lists(
    st.tuples(st.integers(0, 40), st.sampled_from("ab"), st.none(), st.sampled_from([None, "p", "q", "r"])), max_size=60
)
official = st.lists(
    st.tuples(st.integers(0, 40), st.sampled_from("ab"), st.sampled_from(SPLITS), st.none()), max_size=60
)


def filled(folder: Path, chosen: list[Image], prefix: str = "") -> sqlite3.Connection:
    """The table of these images, as it is when they are decoded."""
    table = open_table(folder / "images.sqlite")
    rows = [
        (index, f"{prefix}{index:03}", label, split, group, hashlib.sha256(b"%d" % picture).digest())
        for index, (picture, label, split, group) in enumerate(chosen)
    ]
    table.executemany(
        "insert into images (id, path, label, split, grp, sha256, container) values (?, ?, ?, ?, ?, ?, 0)", rows
    )
    return table


def assigned(chosen: list[Image], params: PrepareParams = PARAMS, prefix: str = "") -> list[tuple[str, int, str, str]]:
    """(path, picture, split, status) of each image, in the order given."""
    with tempfile.TemporaryDirectory() as folder:
        table = filled(Path(folder), chosen, prefix)
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


def by_class(rows: list[tuple[str, int, str, str]], chosen: list[Image]) -> dict[str, dict[int, str]]:
    """Of each class, the split of each picture that is kept."""
    found: dict[str, dict[int, str]] = {}
    for (_, picture, split, status), (_, label, _, _) in zip(rows, chosen, strict=True):
        if status == "kept":
            found.setdefault(label, {})[picture] = split
    return found


def by_place(chosen: list[Image], params: PrepareParams = PARAMS) -> dict[str, dict[int, str]]:
    """The same, were places all that counts."""
    found: dict[str, dict[int, str]] = {}
    for picture, label, _, _ in chosen:
        place = splits.place(hashlib.sha256(b"%d" % picture).hexdigest(), params)
        found.setdefault(label, {})[picture] = splits.split_at(place, SPLITS, params)
    return found


def sizes(of_class: dict[int, str]) -> tuple[int, ...]:
    return tuple(list(of_class.values()).count(split) for split in SPLITS)


# Pictures of their own for each class, and few of most.
classes = st.lists(st.integers(1, 30), min_size=1, max_size=6)


def pictures(counts: list[int], first: int = 0) -> list[Image]:
    return [
        (1000 * number + index, f"class {number}", None, None)
        for number, count in enumerate(counts)
        for index in range(first, first + count)
    ]


@settings(max_examples=100, deadline=None)
@given(counts=classes, seed=st.integers(0, 2**32 - 1))
def test_every_class_of_three_pictures_is_in_each_split(counts: list[int], seed: int) -> None:
    """And a class that has pictures in each split by their places stays as it is."""
    params = PARAMS.model_copy(update={"split_seed": seed, "val_fraction": 0.05, "test_fraction": 0.3})
    chosen = pictures(counts)
    places = by_place(chosen, params)
    for label, found in by_class(assigned(chosen, params), chosen).items():
        train, val, test = sizes(places[label])
        if min(train, val, test) > 0:
            assert found == places[label]
        elif len(found) >= 3:
            assert min(sizes(found)) > 0
            if train > 2:
                of_train = sorted(
                    (splits.place(hashlib.sha256(b"%d" % picture).hexdigest(), params), picture)
                    for picture, split in places[label].items()
                    if split == "train"
                )
                moved = {split: picture for picture, split in found.items() if split != places[label][picture]}
                nearest = {"val": of_train[0][1], "test": of_train[-1][1]}
                assert moved == {split: nearest[split] for split in moved}
                assert sizes(found) == (len(found) - max(val, 1) - max(test, 1), max(val, 1), max(test, 1))


@settings(max_examples=100, deadline=None)
@given(counts=classes, more=st.integers(0, 30), order=st.randoms(use_true_random=False))
@pytest.mark.slow
def test_splits_survive_additions_removals_renaming_and_order(
    counts: list[int], more: int, order: st.DataObject
) -> None:
    """With other classes, and with more pictures of classes that have some in each split."""
    before = by_class(assigned(pictures(counts)), pictures(counts))
    sufficient = [min(sizes(found)) > 0 for found in by_place(pictures(counts)).values()]
    grown = [count + more * enough for count, enough in zip(counts, sufficient, strict=True)]
    chosen = pictures([*grown, more])
    order.shuffle(chosen)  # type: ignore[attr-defined]
    after = by_class(assigned(chosen, prefix="renamed "), chosen)
    assert all(after[label][picture] == split for label, found in before.items() for picture, split in found.items())


@settings(max_examples=100, deadline=None)
@given(count=st.integers(3, 24), seed=st.integers(0, 2**32 - 1))
def test_an_added_picture_takes_the_place_of_two_at_most(count: int, seed: int) -> None:
    """In a class that is too small for its fractions; all that moves moves back to where its place says."""
    params = PARAMS.model_copy(update={"split_seed": seed, "val_fraction": 0.1})
    before = by_class(assigned(pictures([count]), params), pictures([count]))["class 0"]
    after = by_class(assigned(pictures([count + 1]), params), pictures([count + 1]))["class 0"]
    assert sum(after[picture] != split for picture, split in before.items()) <= 2


@settings(max_examples=100, deadline=None)
@given(groups=st.lists(st.sets(st.sampled_from("ab"), min_size=1), min_size=3, max_size=12), seed=st.integers(0, 99))
def test_groups_fill_splits_without_taking_the_last_of_another_class(groups: list[set[str]], seed: int) -> None:
    """No class has fewer splits than by the groups' places, groups of several classes included; none is divided."""
    params = PARAMS.model_copy(update={"split_seed": seed, "val_fraction": 0.05, "test_fraction": 0.1})
    chosen: list[Image] = [
        (10 * number + index, label, None, f"g{number}")
        for number, labels in enumerate(groups)
        for index, label in enumerate(sorted(labels))
    ]
    found: dict[str, set[str]] = {}
    places: dict[str, set[str]] = {}
    of_group: dict[str | None, set[str]] = {}
    for (_, _, split, _), (_, label, _, group) in zip(assigned(chosen, params), chosen, strict=True):
        found.setdefault(label, set()).add(split)
        of_group.setdefault(group, set()).add(split)
        places.setdefault(label, set()).add(splits.split_at(splits.place(str(group), params), SPLITS, params))
    assert all(len(splits_of) == 1 for splits_of in of_group.values())
    assert all(found[label] >= places[label] for label in found)
    alone = {label: sum(labels == {label} for labels in groups) for label in found}
    assert all(found[label] == set(SPLITS) for label in found if alone[label] == len(groups))


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
        text = "\n".join(splits.problems(table, ["a"], ("train", "test"), PARAMS))
        table.close()
    assert "1 groups are in more than one official split" in text
    assert "p7" in text


@pytest.mark.parametrize(
    ("chosen", "official", "expected"),
    [
        (pictures([2, 12]), (), "1 classes too small to split: expected 3 different images or more of each class"),
        (
            [(number, "a", "train" if number else "test", None) for number in range(9)] + pictures([0, 9]),
            ("train", "test"),
            "1 classes without images in the official split test",
        ),
        (
            [
                (2 * number + index, label, None, f"g{number}")
                for number in range(2)
                for index, label in enumerate("ab")
            ],
            (),
            "2 classes too small to split: expected 3 groups or more",
        ),
    ],
)
def test_a_class_that_cannot_be_split_is_refused_with_a_remedy(
    chosen: list[Image], official: tuple[str, ...], expected: str
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        table = filled(Path(folder), chosen)
        splits.assign(table, official, PARAMS)
        labels = sorted({label for _, label, _, _ in chosen})
        (text,) = splits.problems(table, labels, official, PARAMS)
        table.close()
    assert text.startswith(expected)
    assert "split_seed" not in text


def test_groups_that_tie_classes_together_are_refused_with_a_remedy() -> None:
    """Four groups, and a class of each three of them: two groups share a split, and they share classes."""
    chosen: list[Image] = [
        (4 * number + index, label, None, f"g{number}")
        for number in range(4)
        for index, label in enumerate("abcd")
        if index != number
    ]
    with tempfile.TemporaryDirectory() as folder:
        table = filled(Path(folder), chosen)
        splits.assign(table, (), PARAMS)
        (text,) = splits.problems(table, list("abcd"), (), PARAMS)
        table.close()
    assert "classes whose groups cannot be divided into train, val, test" in text
    assert "the column split of labels.csv" in text
