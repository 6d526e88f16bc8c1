"""All of params.yaml: the schemas of the stages' rooms in one. `python -m stages.params` checks the file."""

import argparse

from pydantic import model_validator
from pydantic_core import PydanticCustomError

from stages.common.errors import run_main
from stages.common.params import PARAMS_FILE, load
from stages.evaluate.params import EvaluateParams
from stages.prepare.params import PrepareParams
from stages.train.params import LaunchParams, TrainParams


class Params(PrepareParams, TrainParams, EvaluateParams, LaunchParams):
    """All of params.yaml."""

    @model_validator(mode="after")
    def _agree(self) -> "Params":
        if self.crop_padding >= self.image_size:
            raise PydanticCustomError(
                "conflict",
                "crop_padding: expected less than image_size, {size}; got {padding}",
                {"size": self.image_size, "padding": self.crop_padding},
            )
        if self.crop_padding and self.resized_crop < 1:
            raise PydanticCustomError(
                "conflict",
                "crop_padding and resized_crop: expected one of them; got {padding} and {share} (off are 0 and 1)",
                {"padding": self.crop_padding, "share": self.resized_crop},
            )
        return self


def main() -> None:
    argparse.ArgumentParser(
        prog="python -m stages.params", description="Check params.yaml against its schema; every problem at once."
    ).parse_args()
    load(Params)
    print(f"params: {PARAMS_FILE} is valid")


if __name__ == "__main__":
    run_main(main)
