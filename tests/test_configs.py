"""configs/: each recipe is params.yaml with other values, valid, and says what it was measured to reach."""

import re
from pathlib import Path

import pytest

from stages.common.params import load
from stages.params import Params
from tests.project import ROOT

RECIPES = sorted((ROOT / "configs").glob("*.yaml"))


def body(path: Path) -> list[str]:
    """The lines from the first comment of params.yaml on: without a recipe's header."""
    lines = path.read_text().splitlines()
    return lines[lines.index((ROOT / "params.yaml").read_text().splitlines()[0]) :]


def test_the_recipes_are_there() -> None:
    assert {path.stem for path in RECIPES} >= {"digits", "cifar10-cpu", "cifar10-resnet18"}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_valid_and_complete(path: Path) -> None:
    """It differs from params.yaml in values only, so the comments are the same, and it names a precision."""
    assert load(Params, path).precision != "auto"
    names, expected = (
        [re.sub(r"^(\w+):.*", r"\1:", line) for line in lines] for lines in (body(path), body(ROOT / "params.yaml"))
    )
    assert names == expected


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_says_what_it_reached(path: Path) -> None:
    """Test accuracy, number of runs, seconds and machine."""
    header = path.read_text()[: path.read_text().index((ROOT / "params.yaml").read_text().splitlines()[0])]
    assert re.search(r"test accuracy 0\.\d{4}", header)
    assert re.search(r"\d+ seeds?\b", header)
    assert re.search(r"\d+ s\b", header)
    assert "CIFAR" not in header or "JPEG copy" in header


def test_digits_is_what_is_committed() -> None:
    assert load(Params, ROOT / "configs/digits.yaml") == load(Params, ROOT / "params.yaml")
