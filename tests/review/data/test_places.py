"""Neighbours, strangers, copies, oddities and slices."""

from typing import Any

import numpy as np
import pytest

from benchmarks.data import false_alarms, power
from review.data import copies, neighbours, outliers, vectors
from review.data.findings import Picture
from review.data.oddities import oddities
from review.data.slices import FEWEST, slices
from stages.common.errors import UserError
from tests.review.data.blobs import clouds, images


def pictures(number: int, splits: str = "train") -> list[Picture]:
    names = splits.split()
    return [Picture(f"{row}", f"{row}.png", "a", names[row % len(names)]) for row in range(number)]


@pytest.mark.parametrize("number", [5, 64, 700])
def test_the_nearest_are_those_of_all_products(number: int) -> None:
    units = vectors.directions(np.random.default_rng(0).standard_normal((number, 6)).astype(np.float32))
    rows, cosines = neighbours.nearest(units, 10)
    products = units @ units.T
    np.fill_diagonal(products, -2)
    expected = np.argsort(-products, axis=1, kind="stable")[:, : min(10, number - 1)]
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_allclose(cosines, np.take_along_axis(products, expected, 1), atol=1e-6)


@pytest.mark.parametrize(("number", "width"), [(30, 50), (80, 20)])
def test_a_projection_keeps_distances_of_what_varies(number: int, width: int) -> None:
    features = np.random.default_rng(1).normal(5, 3, (number, width)).astype(np.float32)
    features[:, 0] = 7.3  # the same everywhere
    projected = vectors.fit(features).of(features)
    standard = (features[:, 1:] - features[:, 1:].mean(0)) / features[:, 1:].std(0)
    np.testing.assert_allclose(projected @ projected.T, standard @ standard.T, atol=0.01)
    assert vectors.fit(features, 3).of(features).shape == (number, 3)
    features[2, 5] = np.inf
    with pytest.raises(UserError, match="row 3"):
        vectors.fit(features)


def test_axes_of_many_features_keep_their_cosines() -> None:
    features = np.abs(np.random.default_rng(1).normal(0, 1, (40, 300))).astype(np.float32)
    features[9] = features[3] * 2
    near = neighbours.neighbourhood(features, vectors.fit(features), 3)
    assert near.rows[3, 0] == 9
    assert near.cosines[3, 0] == pytest.approx(1, abs=1e-5)
    large = neighbours.neighbourhood(features * np.float32(1e30), vectors.fit(features), 3)
    np.testing.assert_array_equal(large.rows, near.rows)
    units = vectors.directions(features)
    np.testing.assert_allclose(near.cosines[0], units[near.rows[0]] @ units[0], atol=1e-5)


def of(features: np.ndarray) -> neighbours.Neighbourhood:
    return neighbours.neighbourhood(features, vectors.fit(features))


def test_a_stranger_is_far_from_all() -> None:
    features = clouds(2, 40)[0]
    features[17] = -20 * np.eye(12)[11]
    found = outliers.strangers(of(features), pictures(80))
    assert found[0].picture.path == "17.png"
    assert found[0].ratio > 2
    assert len(found) < 5
    assert outliers.strangers(of(features[10:25]), pictures(15)) == []


def test_copies_are_named_once_those_of_two_splits_first() -> None:
    features = np.random.default_rng(5).standard_normal((60, 40)).astype(np.float32)
    shown = pictures(60, "train train val")
    slightly = np.random.default_rng(6).normal(0, 0.1, (4, 40))
    features[[10, 13, 15]] = features[9] + slightly[:3]  # 9 and 15 in train, too: of train are 9, 10, 13, 15
    features[20] = features[30] + slightly[3]  # val and train
    found = copies.copies(of(features), shown, [""] * 60)
    names = [{int(one.first.sha256), int(one.second.sha256)} for one in found]
    assert names[0] == {20, 30}
    assert len(names) == 4 and set().union(*names[1:]) == {9, 10, 13, 15}
    groups = ["burst" if row in (9, 10, 13, 15) else "" for row in range(60)]
    assert len(copies.copies(of(features), shown, groups)) == 1


def test_where_all_are_alike_only_the_likest_are_copies() -> None:
    generator = np.random.default_rng(7)
    scenes = np.repeat(generator.standard_normal((15, 80)), 6, axis=0)
    features = (scenes + generator.normal(0, 0.6, scenes.shape)).astype(np.float32)
    features[50] = features[51] + 0.01
    near = of(features)
    assert copies.all_alike(near)
    found = copies.copies(near, pictures(90), [""] * 90)
    assert [(one.first.path, one.second.path) for one in found] == [("50.png", "51.png")]


ODD: dict[str, dict[str, Any]] = {
    "dark": {"brightness": 12.0},
    "bright": {"brightness": 240.0},
    "blurred": {"sharpness": 10.0},
    "tiny": {"width": 100, "height": 110},
    "narrow": {"width": 2000, "height": 480},
    "plain": {"plain": 0.9},
}


@pytest.mark.parametrize("kind", ODD)
def test_an_odd_picture_is_named_and_a_usual_one_is_not(kind: str) -> None:
    rows = images(np.zeros(40, int))
    rows = [row._replace(brightness=90.0 + place) for place, row in enumerate(rows)]
    rows[7] = rows[7]._replace(**ODD[kind])
    shown = [Picture(row.sha256, row.path, row.label, row.split) for row in rows]
    found, remarks = oddities(rows, shown)
    assert [(one.picture.path, one.kind) for one in found] == [("0/7.png", kind)]
    assert remarks == []
    assert oddities([row for row in rows if row != rows[7]], shown[:39]) == ([], [])


def test_what_most_images_are_is_no_oddity() -> None:
    rows = [row._replace(plain=0.55 + place / 400) for place, row in enumerate(images(np.zeros(40, int)))]
    rows[3] = rows[3]._replace(plain=0.99)
    shown = [Picture(row.sha256, row.path, row.label, row.split) for row in rows]
    found, remarks = oddities(rows, shown)
    assert [one.picture.path for one in found] == ["0/3.png"]
    assert len(remarks) == 1 and remarks[0].startswith("plain: so are over 5%")


def test_a_slice_that_is_worse_is_found_and_tested_once() -> None:
    rows = images(np.arange(200) % 2)
    rows = [
        row._replace(
            path=f"{'old' if place % 4 == 0 else 'new'}/{place}.png",
            camera="Canon" if place % 4 == 0 else "Nikon",
            taken=f"2024-01-{1 + place % 28:02}" if place < 100 else "",
            group="rare" if place < FEWEST - 1 else "",
        )
        for place, row in enumerate(rows)
    ]
    right = np.ones(200, bool)
    right[::8] = False  # of the old ones, half
    found, remarks = slices(rows, right)
    assert found[0].value == "old" and (found[0].images, found[0].right, found[0].is_worse) == (50, 25, True)
    assert found[0].low < 0.5 < found[0].high
    assert "camera" not in {one.by for one in found}
    assert [one.is_worse for one in found].count(True) == 2  # and the class, all of whose errors these are
    assert sum(one.images for one in found if one.by == "taken") == 100
    assert remarks == [f"Slices of fewer than {FEWEST} images are not tested, and not shown: 1."]


@pytest.mark.slow
def test_slices_by_chance_are_seldom_called_worse() -> None:
    """At most 5 % of 200 data sets, within 3 standard deviations; most of slices that are 30 points worse."""
    assert false_alarms(200, 200, 0.85, np.random.default_rng(0)) < 0.097
    assert power(10, 400, 100, 0.9, 0.3, np.random.default_rng(0)) > 0.8
