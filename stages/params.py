"""All of params.yaml: the schemas of the stages' rooms in one. `python -m stages.params` checks the file,
and with --add-missing first writes the keys that a newer version of the code has."""

import argparse
import textwrap
from pathlib import Path

from pydantic import model_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from stages.common.documents import DocumentError, parse_yaml
from stages.common.errors import UserError, run_main
from stages.common.files import write_text
from stages.common.params import PARAMS_FILE, load, missing, read_params
from stages.common.yaml12 import dump_yaml
from stages.evaluate.params import EvaluateParams
from stages.prepare.params import PrepareParams
from stages.train.params import LaunchParams, TrainParams


class Params(PrepareParams, TrainParams, EvaluateParams, LaunchParams):
    """All of params.yaml."""

    @model_validator(mode="after")
    def _agree(self) -> "Params":
        if self.side < self.image_size:
            raise PydanticCustomError(
                "conflict",
                "stored_size: expected 0, or image_size, {size}, or more; got {stored}",
                {"size": self.image_size, "stored": self.stored_size},
            )
        if self.crop_padding >= self.image_size:
            raise PydanticCustomError(
                "conflict",
                "crop_padding: expected less than image_size, {size}; got {padding}",
                {"size": self.image_size, "padding": self.crop_padding},
            )
        needing = {
            "fine_tune": self.fine_tune != "all",
            "freeze_epochs": self.freeze_epochs > 0,
            "backbone_lr": self.backbone_lr != 1,
        }
        if not self.weights and any(needing.values()):
            raise PydanticCustomError(
                "conflict",
                "weights: expected a name, because {names} is for pretrained weights; got ''",
                {"names": " and ".join(name for name, is_set in needing.items() if is_set)},
            )
        on_features = {
            "accumulate": self.accumulate > 1,
            "augment": self.augment != "",
            "backbone_lr": self.backbone_lr != 1,
            "crop_padding": self.crop_padding > 0,
            "cutmix": self.cutmix > 0,
            "erasing": self.erasing > 0,
            "freeze_epochs": self.freeze_epochs > 0,
            "mixup": self.mixup > 0,
            "resized_crop": self.resized_crop < 1,
            "trivial_augment": self.trivial_augment,
        }
        if self.fine_tune == "head" and any(on_features.values()):
            raise PydanticCustomError(
                "conflict",
                "fine_tune: head computes features once, so {names} would do nothing: expected off",
                {"names": ", ".join(name for name, is_set in on_features.items() if is_set)},
            )
        if not self.steps and self.freeze_epochs >= self.epochs:
            raise PydanticCustomError(
                "conflict",
                "freeze_epochs: expected fewer than epochs, {epochs}; got {frozen}",
                {"epochs": self.epochs, "frozen": self.freeze_epochs},
            )
        if self.accumulate > self.batch_size:
            raise PydanticCustomError(
                "conflict",
                "accumulate: expected at most batch_size, {size}; got {parts}",
                {"size": self.batch_size, "parts": self.accumulate},
            )
        if self.crop_padding and self.resized_crop < 1:
            raise PydanticCustomError(
                "conflict",
                "crop_padding and resized_crop: expected one of them; got {padding} and {share} (off are 0 and 1)",
                {"padding": self.crop_padding, "share": self.resized_crop},
            )
        return self


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m stages.params", description="Check params.yaml against its schema; every problem at once."
    )
    parser.add_argument(
        "--add-missing", action="store_true", help="first write the missing keys that have a default, with it"
    )
    if parser.parse_args().add_missing:
        add_missing(PARAMS_FILE)
    load(Params)
    if absent := missing(Params, read_params(PARAMS_FILE)):
        raise UserError(
            f"{PARAMS_FILE}: lacks keys that are newer than it: {', '.join(absent)}. DVC runs no stage without them: "
            "`python -m stages.params --add-missing` writes them there, with their defaults."
        )
    print(f"params: {PARAMS_FILE} is valid")


def add_missing(path: Path) -> None:
    """Write the keys that have a default and are not in `path` to its end, each with its description as a comment; say
    so. UserError where `path` is of a form in which that would be something else."""
    before = read_params(path)
    absent = missing(Params, before)
    if not absent:
        print(f"params: {path} has every key")
        return
    text = completed(path.read_text(encoding="utf-8"), absent)
    try:
        is_as_meant = parse_yaml(text.encode()) == before | {name: field.default for name, field in absent.items()}
    except DocumentError:
        is_as_meant = False
    if not is_as_meant:
        raise UserError(f"{path}: nothing can be written to its end. Write there: {', '.join(absent)}.")
    write_text(path, text)
    for name, field in absent.items():
        print(f"params: {path}: added `{name}: {field.default!r}`")


def completed(text: str, absent: dict[str, FieldInfo]) -> str:
    """A params file with keys at its end, with their defaults, each with its description as a comment."""
    text = text.rstrip("\n") + "\n"
    for name, field in absent.items():
        comment = textwrap.wrap(str(field.description), 120, initial_indent="# ", subsequent_indent="# ")
        text += "\n".join([*comment, dump_yaml({name: field.default})])
    return text


if __name__ == "__main__":
    run_main(main)
