"""What train, evaluate and export read of params.yaml alike."""

from typing import Annotated, Literal

from annotated_types import Ge, Le
from pydantic import Field

from stages.common.params import Schema


class RuntimeParams(Schema):
    """How train, evaluate and export use the machine."""

    eval_batch_size: Annotated[int, Ge(1), Le(65536)]
    device: Literal["auto", "cpu", "cuda"]
    precision: Literal["auto", "fp32", "bf16", "fp16"]
    cpu_arithmetic: Literal["portable", "native"] = Field(
        "portable",
        description="CPU kernels: portable (the same bytes on every x86-64 CPU with AVX2) or native (the fastest "
        "ones; the same bytes only on the same kind of CPU). portable needs fp32 without `compile`; matrix products "
        "take about 3 times as long.",
    )
    deterministic: bool
    threads: Annotated[int, Ge(1), Le(1024)]


class AnswerParams(RuntimeParams):
    """What besides decides the answers of a model to images."""

    tta_flip: bool
