"""What evaluate reads of params.yaml."""

from typing import Annotated

from pydantic import AfterValidator, Field

from stages.common.params import named_in
from stages.model.params import AnswerParams


class EvaluateParams(AnswerParams):
    """What evaluate reads."""

    metric: Annotated[str, AfterValidator(named_in("stages.evaluate"))] = Field(
        "",
        description="Own figure in metrics/evaluate.json, under the function's name: '' for none, or its function, "
        "such as stages.evaluate.mine:f2 (docs/extend.md).",
    )
