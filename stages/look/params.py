"""What look reads of params.yaml."""

from pydantic import Field

from stages.model.params import RuntimeParams


class LookParams(RuntimeParams):
    """How look uses the machine, and which network the project begins with."""

    weights: str = Field("", description="Pretrained weights (train's own schema says more).")
    options: dict[str, bool | int | float | str] = Field({}, description="Parameters of an own model.")
