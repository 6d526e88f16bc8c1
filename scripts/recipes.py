"""The recipes of configs/, and what one of them becomes for other images: a complete params.yaml.

A recipe says in its header what it is proposed for, in a line such as one of these. Pixels are those of the shorter
side; steps and time are what was measured at the recipe's image_size, on 2 cores. Without the line it is not proposed.

# Proposed for images of 17 pixels or more: 1855 optimizer steps, 1.53 ms per image.
# Proposed for 2000 or more images of 17 to 64 pixels: 1855 optimizer steps, 1.53 ms per image.
"""

import re
from pathlib import Path
from typing import NamedTuple

from stages.common.params import load, missing, read_params
from stages.common.yaml12 import dump_yaml
from stages.model.pretrained import Origin
from stages.params import Params, completed
from stages.prepare.sizes import MOST_CROPPED, MUCH_CROPPED, Sizes

_HEADER = re.compile(
    r"^# Proposed for (?:(?P<fewest>\d+) or more )?images of (?P<least>\d+) (?:to (?P<most>\d+) pixels|pixels or more)"
    r"(?:, from pretrained weights)?: (?P<steps>\d+) optimizer steps, (?P<ms>[\d.]+) ms per image\.$",
    re.M,
)
# What people have decided about their data, or about their machine, is not a recipe's.
KEPT = ("on_corrupt", "on_conflict", "group_pattern", "split_seed", "launcher", "threads", "seed")
# Sides that photos are shrunk to; an image that is small already stays as it is.
_SIDES = (32, 48, 64, 96, 128, 160, 224)
_SMALL = 64
_LEAST_SIDE = 8
_SECONDS = 6 * 60
# Below this many images, a small part of them is too few to choose or to measure by.
_MANY = 10_000
_STEPS_PER_EPOCH = 8
_LEAST_BATCH = 8
# More passes over the same images mostly learn them by heart.
_MOST_EPOCHS = 100


class Recipe(NamedTuple):
    """A file of configs/: what it is for, what was measured with it, and its params, as values and as text.

    `kept`: the params that are not the recipe's: KEPT, and those that it does not have, such as a project's own."""

    path: Path
    fewest: int
    least: int
    most: float
    steps: int
    ms: float
    params: Params
    body: str
    kept: tuple[str, ...]

    def suits(self, side: int, images: int) -> bool:
        return images >= self.fewest and self.least <= side <= self.most


class Images(NamedTuple):
    """What a proposal depends on: the number of images that splits are drawn from, or that are train's alone, and their
    sizes, measured for a square of one pixel; and the splits that the data have."""

    drawn: int
    sizes: Sizes
    official_splits: tuple[str, ...]

    @property
    def side(self) -> int:
        """Of the median image, the shorter side; in pixels."""
        return round(self.sizes.shrinking)


class Weights(NamedTuple):
    """Pretrained weights to start from: their name, and where they come from."""

    name: str
    origin: Origin


class Proposal(NamedTuple):
    """The params, the reason for each that was thought about, and the seconds that training takes on 2 cores, about."""

    params: Params
    reasons: dict[str, str]
    seconds: float


def read_recipes(folder: Path) -> list[Recipe]:
    """Those of a folder that are proposed for something."""
    found = []
    for path in sorted(folder.glob("*.yaml")):
        header, _, body = path.read_text(encoding="utf-8").partition("\n\n")
        if line := _HEADER.search(header):
            absent = missing(Params, read_params(path))
            found.append(
                Recipe(
                    path,
                    int(line["fewest"] or 0),
                    int(line["least"]),
                    float(line["most"] or "inf"),
                    int(line["steps"]),
                    float(line["ms"]),
                    load(Params, path),
                    completed(body, absent),
                    (*KEPT, *absent),
                )
            )
    return found


def choose(recipes: list[Recipe], side: int, images: int, *, has_weights: bool = False) -> Recipe:
    """The one for images of a side, from pretrained weights where there are some, the most demanding in their number;
    below all bounds, that of the smallest ones."""
    possible = [recipe for recipe in recipes if has_weights or not recipe.params.weights]
    suited = [recipe for recipe in possible if recipe.suits(side, images)]
    return max(
        suited or possible,
        key=lambda recipe: (bool(suited and recipe.params.weights), recipe.fewest, recipe.least, -recipe.most),
    )


def propose(recipe: Recipe, images: Images, current: Params, weights: Weights | None = None) -> Proposal:
    """The recipe, with what depends on size and number fitted to these images, and with `current` for what is kept."""
    of_recipe = recipe.params
    reasons: dict[str, str] = {"model": f"as in {recipe.path}"}
    changes: dict[str, object] = {key: getattr(current, key) for key in recipe.kept}
    cropped = images.sizes.cropped > MOST_CROPPED
    changes["resize"] = "pad" if cropped else "crop"
    reasons["resize"] = f"crop cuts more than {MUCH_CROPPED:.0%} off {images.sizes.cropped:.0%} of the images, pad " + (
        "nothing" if cropped else "would add borders"
    )
    fractions = {"val": of_recipe.val_fraction, "test": of_recipe.test_fraction}
    for split, least in (("val", 0.15), ("test", 0.2)):
        if split in images.official_splits:
            changes[f"{split}_fraction"], fractions[split] = getattr(current, f"{split}_fraction"), 0
            continue
        if images.drawn < _MANY:
            fractions[split] = max(fractions[split], least)
        changes[f"{split}_fraction"] = fractions[split]
        reasons[f"{split}_fraction"] = f"about {round(fractions[split] * images.drawn)} images"
    train = round(images.drawn * (1 - sum(fractions.values())))

    batch = of_recipe.batch_size
    while batch > _LEAST_BATCH and train < _STEPS_PER_EPOCH * batch:
        batch //= 2
    steps = max(1, train // batch)
    changes["batch_size"] = batch
    reasons["batch_size"] = f"{steps} optimizer steps per epoch of about {train} train images"
    changes["lr"] = float(f"{of_recipe.lr * batch / of_recipe.batch_size:.3g}")
    reasons["lr"] = (
        "as in the recipe"
        if batch == of_recipe.batch_size
        else f"the recipe's {of_recipe.lr:g}, in proportion to batch_size"
    )
    epochs = max(of_recipe.epochs, min(_MOST_EPOCHS, round(recipe.steps / steps)))
    changes["epochs"] = epochs
    reasons["epochs"] = f"{epochs * steps} optimizer steps; the recipe has {recipe.steps}"

    def seconds(side: int) -> float:
        return epochs * train * recipe.ms / 1000 * (side / of_recipe.image_size) ** 2

    if of_recipe.weights:
        assert weights
        side = weights.origin.image_size
        changes |= {"weights": weights.name, "model": weights.origin.architecture, "image_size": side}
        changes["stored_size"] = min(1024, round(side / weights.origin.crop_share))
        reasons["weights"] = f"{weights.origin.licence}; trained on {weights.origin.trained_on}"
        reasons["model"] = "that of the weights"
        reasons["image_size"] = "that of the weights"
        reasons["stored_size"] = f"of which the weights' images were {weights.origin.crop_share:.1%}"
    else:
        side = max(_LEAST_SIDE, images.side)
        quick = [other for other in _SIDES if other < side and seconds(other) <= _SECONDS]
        if side > _SMALL or seconds(side) > _SECONDS:
            side = max([*quick, min(side, of_recipe.image_size)])
        changes["image_size"] = side
        reasons["image_size"] = f"the shorter side of the median image has {images.side} pixels" + (
            f"; about {duration(seconds(side))} of training on 2 cores" if side < images.side else ""
        )
    if of_recipe.crop_padding:
        padding = max(1, round(of_recipe.crop_padding * side / of_recipe.image_size))
        changes["crop_padding"] = padding
        reasons["crop_padding"] = "as in the recipe" + (", in proportion to image_size" if side != 32 else "")
    reasons["flip"] = "as in the recipe" + (
        "; set none if left and right matter, as in digits and letters" if of_recipe.flip != "none" else ""
    )
    params = Params.model_validate(of_recipe.model_dump() | changes)
    return Proposal(params, reasons, seconds(side))


def text_of(recipe: Recipe, params: Params) -> str:
    """A complete params.yaml: the recipe's keys and comments, with these values."""
    values = params.model_dump()

    def line(match: re.Match[str]) -> str:
        # A list, so that a text is quoted where it has to be, and nothing ends the document.
        value = dump_yaml([values[match[1]]], default_flow_style=True, width=10**6, allow_unicode=True)
        return (
            match[0] if getattr(recipe.params, match[1]) == values[match[1]] else f"{match[1]}: {value.strip()[1:-1]}"
        )

    return re.sub(r"^(\w+):.*$", line, recipe.body, flags=re.M)


def duration(seconds: float) -> str:
    """About how long, in words."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 2 * 3600 else f"{seconds / 3600:.0f} hours"
