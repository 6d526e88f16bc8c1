"""What prepare reads of params.yaml."""

import re
from typing import Annotated, Literal

from annotated_types import Ge, Le
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from stages.common.params import Schema, Seed


def _regular_expression(pattern: str) -> str:
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise PydanticCustomError("regular_expression", "{reason}", {"reason": str(error)}) from None
    return pattern


class PrepareParams(Schema):
    """What prepare reads."""

    image_size: Annotated[int, Ge(4), Le(1024)]
    resize: Literal["crop", "pad", "squash"]
    on_corrupt: Literal["error", "quarantine"]
    on_conflict: Literal["error", "quarantine"]
    on_near_duplicate: Literal["report", "error", "quarantine"] = Field(
        "report",
        description="An image of train or val that is nearly the same as one of val or test, such as saved again, "
        "resized, slightly cropped or mirrored: report (keep it), error (stop and list the pairs) or quarantine (leave "
        "it out).",
    )
    group_pattern: Annotated[str, AfterValidator(_regular_expression)]
    val_fraction: Annotated[float, Ge(0.01), Le(0.5)]
    test_fraction: Annotated[float, Ge(0.01), Le(0.5)]
    split_seed: Seed
    stored_size: Annotated[int, Ge(0), Le(1024)] = Field(
        0,
        description="Side length of the squares that prepare writes, if not image_size: training cuts its crops out of "
        "them, evaluation the centre; pixels, 0 for image_size, or image_size to 1024.",
    )

    @property
    def side(self) -> int:
        """Of the squares that prepare writes; pixels."""
        return self.stored_size or self.image_size
