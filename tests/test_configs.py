"""configs/: each recipe is params.yaml with other values, valid, and says what it was measured to reach."""

import re
from pathlib import Path

import pytest

from stages.common.params import load
from stages.params import Params
from tests.project import PARAMS, ROOT, scaffold_only

NAMES = ("cifar10-cpu", "cifar10-resnet18", "digits", "photos-cpu", "photos-gpu")
RECIPES = [ROOT / "configs" / f"{name}.yaml" for name in NAMES]
TITLE = "# All parameters of the pipeline."


def body(path: Path) -> list[str]:
    """The lines from the title of params.yaml on: without a recipe's header."""
    _, title, rest = path.read_text().partition(TITLE)
    return [title, *rest.splitlines()]


@scaffold_only
def test_every_recipe_is_tested() -> None:
    """A project may have others, of its own."""
    assert sorted((ROOT / "configs").glob("*.yaml")) == RECIPES


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_valid_and_complete(path: Path) -> None:
    """It differs from the sample's in values only, so the comments are the same, and it names a precision."""
    assert load(Params, path).precision != "auto"
    names, expected = ([re.sub(r"^(\w+):.*", r"\1:", line) for line in lines] for lines in (body(path), body(PARAMS)))
    assert names == expected


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_says_what_it_reached(path: Path) -> None:
    """Test accuracy, number of runs, seconds and machine."""
    header = path.read_text().partition(TITLE)[0]
    assert re.search(r"test accuracy 0\.\d{4}", header)
    assert re.search(r"\d+ seeds?\b", header)
    assert re.search(r"\d+ s\b", header)
    assert "CIFAR" not in header or "JPEG copy" in header


@scaffold_only
def test_digits_is_what_is_committed() -> None:
    assert body(ROOT / "params.yaml") == body(PARAMS)
