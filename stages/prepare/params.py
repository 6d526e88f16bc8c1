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
    shards_above: Annotated[int, Ge(0), Le(2**40)] = Field(
        16384,
        description="Above so many MiB of pixels, 3 bytes each, of all splits together, prepare writes shards of "
        "encoded pictures in place of arrays (docs/large-data.md); 0 for never.",
    )
    shard_quality: Annotated[int, Ge(0), Le(100)] = Field(
        95,
        description="Quality of the JPEG in shards; 1 to 100, or 0 for PNG, which loses nothing and takes about three "
        "times the space.",
    )

    def is_sharded(self, images: int) -> bool:
        """Whether prepare writes shards of so many pictures, those that are left out included."""
        return 0 < self.shards_above * 2**20 < images * 3 * self.side**2

    @property
    def side(self) -> int:
        """Of the squares that prepare writes; pixels."""
        return self.stored_size or self.image_size
