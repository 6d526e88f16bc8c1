"""The schema of params.yaml: what each stage may read, of which type and in which range.

`load` checks the whole file, whichever stage asks, and raises every problem at once. A stage receives only the keys of
its own class, and dvc.yaml lists exactly these under the stage's `params:`, so no result depends on an untracked knob.
"""

import argparse
import difflib
import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import yaml
from annotated_types import Ge, Gt, Le
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from stages.errors import UserError, run_main

PARAMS_FILE = Path("params.yaml")

OWN_MODELS = ("simplenet", "resnet9", "resnet18")
# torchvision.models.list_models(module=torchvision.models), written out because importing torchvision takes seconds;
# a test compares it with the installed version.
TORCHVISION_MODELS = tuple(
    """
    alexnet convnext_base convnext_large convnext_small convnext_tiny densenet121 densenet161 densenet169
    densenet201 efficientnet_b0 efficientnet_b1 efficientnet_b2 efficientnet_b3 efficientnet_b4 efficientnet_b5
    efficientnet_b6 efficientnet_b7 efficientnet_v2_l efficientnet_v2_m efficientnet_v2_s googlenet inception_v3
    maxvit_t mnasnet0_5 mnasnet0_75 mnasnet1_0 mnasnet1_3 mobilenet_v2 mobilenet_v3_large mobilenet_v3_small
    regnet_x_16gf regnet_x_1_6gf regnet_x_32gf regnet_x_3_2gf regnet_x_400mf regnet_x_800mf regnet_x_8gf
    regnet_y_128gf regnet_y_16gf regnet_y_1_6gf regnet_y_32gf regnet_y_3_2gf regnet_y_400mf regnet_y_800mf
    regnet_y_8gf resnet101 resnet152 resnet18 resnet34 resnet50 resnext101_32x8d resnext101_64x4d resnext50_32x4d
    shufflenet_v2_x0_5 shufflenet_v2_x1_0 shufflenet_v2_x1_5 shufflenet_v2_x2_0 squeezenet1_0 squeezenet1_1 swin_b
    swin_s swin_t swin_v2_b swin_v2_s swin_v2_t vgg11 vgg11_bn vgg13 vgg13_bn vgg16 vgg16_bn vgg19 vgg19_bn vit_b_16
    vit_b_32 vit_h_14 vit_l_16 vit_l_32 wide_resnet101_2 wide_resnet50_2
    """.split()
)
MODELS = tuple(dict.fromkeys(OWN_MODELS + TORCHVISION_MODELS))


def _number_from_yaml_1_2(value: object) -> object:
    """`dvc exp run -S lr=1e-5` writes `1e-05`: a float in YAML 1.2, but a string to PyYAML, which reads YAML 1.1."""
    if isinstance(value, str) and re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", value):
        return float(value)
    return value


def _known_model(name: str) -> str:
    if name not in MODELS:
        near = difflib.get_close_matches(name, MODELS, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "see README.md"
        raise PydanticCustomError(
            "unknown_model",
            "expected {known} or a torchvision classifier; {hint}",
            {"known": ", ".join(OWN_MODELS), "hint": hint},
        )
    return name


def _regular_expression(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise PydanticCustomError("regular_expression", "{reason}", {"reason": str(error)}) from None
    return pattern


# A float that may be written in any of YAML's ways; never true, 'abc', nan or null (strict mode and allow_inf_nan).
Number = Annotated[float, BeforeValidator(_number_from_yaml_1_2)]
Seed = Annotated[int, Ge(0), Le(2**32 - 1)]


class _Schema(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class PrepareParams(_Schema):
    """What prepare reads."""

    image_size: Annotated[int, Ge(4), Le(1024)]
    resize: Literal["crop", "pad", "squash"]
    on_corrupt: Literal["error", "quarantine"]
    on_conflict: Literal["error", "quarantine"]
    group_pattern: Annotated[str, AfterValidator(_regular_expression)]
    val_fraction: Annotated[Number, Ge(0.01), Le(0.5)]
    test_fraction: Annotated[Number, Ge(0.01), Le(0.5)]
    split_seed: Seed


class RuntimeParams(_Schema):
    """How train and evaluate use the machine."""

    eval_batch_size: Annotated[int, Ge(1), Le(65536)]
    device: Literal["auto", "cpu", "cuda"]
    precision: Literal["auto", "fp32", "bf16", "fp16"]
    cpu_arithmetic: Literal["portable", "native"]
    deterministic: bool
    threads: Annotated[int, Ge(1), Le(1024)]


class TrainParams(RuntimeParams):
    """What train reads."""

    model: Annotated[str, AfterValidator(_known_model)]
    epochs: Annotated[int, Ge(1), Le(100_000)]
    steps: Annotated[int, Ge(0), Le(100_000_000)]
    batch_size: Annotated[int, Ge(1), Le(65536)]
    optimizer: Literal["sgd", "adamw"]
    lr: Annotated[Number, Gt(0), Le(100)]
    schedule: Literal["one_cycle", "cosine", "constant"]
    warmup: Annotated[Number, Ge(0), Le(0.95)]
    momentum: Annotated[Number, Ge(0), Le(0.999)]
    weight_decay: Annotated[Number, Ge(0), Le(1)]
    clip_norm: Annotated[Number, Ge(0), Le(1e6)]
    ema_decay: Annotated[Number, Ge(0), Le(0.99999)]
    label_smoothing: Annotated[Number, Ge(0), Le(0.5)]
    crop_padding: Annotated[int, Ge(0), Le(256)]
    resized_crop: Annotated[Number, Ge(0.01), Le(1)]
    flip: Literal["none", "random", "alternating"]
    erasing: Annotated[Number, Ge(0), Le(1)]
    mixup: Annotated[Number, Ge(0), Le(10)]
    cutmix: Annotated[Number, Ge(0), Le(10)]
    compile: bool
    seed: Seed


class EvaluateParams(RuntimeParams):
    """What evaluate reads."""

    tta_flip: bool


class Params(PrepareParams, TrainParams, EvaluateParams):
    """All of params.yaml: the stages' keys and the one that dvc.yaml itself reads."""

    launcher: Annotated[str, Field(min_length=1)]

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


StageParams = TypeVar("StageParams", bound=_Schema)


class _UniqueKeyLoader(yaml.SafeLoader):
    """A loader that refuses a key given twice, where PyYAML would silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"key '{key}' is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


def load(schema: type[StageParams], path: Path = PARAMS_FILE) -> StageParams:
    """Read `path`, check all of it, and return the part that `schema` names.

    Raises UserError naming every problem: unknown, missing, mistyped and out-of-range keys.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeyLoader)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file. `git checkout {path}` brings back the committed one.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not YAML: {error}") from None
    if not isinstance(content, dict):
        got = "an empty file" if content is None else f"a {type(content).__name__}"
        raise UserError(
            f"{path}: expected one `key: value` per line, got {got}. "
            f"`git checkout {path}` brings back the committed one."
        )
    try:
        params = Params.model_validate({str(key): value for key, value in content.items()})
    except ValidationError as error:
        problems = [_explain(problem["type"], problem, content) for problem in error.errors()]
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        raise UserError(
            f"{path}: {count}\n" + "\n".join(f"  {line}" for line in problems) + f"\nCorrect {path}; "
            f"`git checkout {path}` brings back the committed values, also after `dvc exp run -S`."
        ) from None
    return schema.model_validate({name: getattr(params, name) for name in schema.model_fields})


def _explain(kind: str, problem: Any, content: dict[str, Any]) -> str:
    """One line for one pydantic error: the key, what was expected, what came."""
    if kind == "conflict":
        return str(problem["msg"])
    key = str(problem["loc"][0])
    if kind == "extra_forbidden":
        missing = [name for name in Params.model_fields if name not in content]
        near = difflib.get_close_matches(key, missing, n=1) or difflib.get_close_matches(key, Params.model_fields, n=1)
        return f"{key}: unknown key" + (f"; did you mean '{near[0]}'?" if near else "")
    field = Params.model_fields[key]
    if kind == "missing":
        return f"{key}: missing; expected {_expectation(field)}"
    if kind == "regular_expression":
        return f"{key}: expected a regular expression; got {json.dumps(problem['input'])}: {problem['msg']}"
    expected = problem["msg"].removeprefix("expected ") if kind == "unknown_model" else _expectation(field)
    return f"{key}: expected {expected}; got {json.dumps(problem['input'], default=str)}"


def _expectation(field: FieldInfo) -> str:
    """The field's type and range in words, from the same annotations that check it."""
    if choices := get_args(field.annotation):
        return " or ".join(choices)
    if field.annotation is str:
        return "a text"
    if field.annotation is bool:
        return "true or false"
    words = "an integer" if field.annotation is int else "a number"
    for rule in field.metadata:
        match rule:
            case Gt(gt=bound):
                words += f" above {bound}"
            case Ge(ge=bound):
                words += f" from {bound}"
            case Le(le=bound):
                words += f" up to {bound}"
    return words


def main() -> None:
    argparse.ArgumentParser(
        prog="python -m stages.params", description="Check params.yaml against its schema; every problem at once."
    ).parse_args()
    load(Params)
    print(f"params: {PARAMS_FILE} is valid")


if __name__ == "__main__":
    run_main(main)
