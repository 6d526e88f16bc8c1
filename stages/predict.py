"""A picture → a class: `python -m stages.predict IMAGE... [--top 3] [--json]`, with the model that evaluate measured.

Pictures become what the model sees by the very steps of prepare. IMAGE is a file, a folder, or - for standard input.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from pydantic import ValidationError

from stages.common.errors import UserError, listed, run_main
from stages.model.dataset import DatasetInfo, Split
from stages.model.params import RuntimeParams
from stages.model.runtime import Runtime, setup
from stages.model.trained import MODELS, TrainedModel, load_trained, read_params, softmax
from stages.prepare.listing import is_clutter
from stages.prepare.picture import NotAPicture, decode, to_square

# Beside the code, so that the current folder does not matter.
DEFAULT_MODEL = Path(__file__).resolve().parent.parent / MODELS


class Seen(NamedTuple):
    """A picture as prepare stores it, uint8 S×S×C, and what was done to it that a person should know."""

    name: str
    pixels: np.ndarray
    note: str


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m stages.predict", description="Name the class of pictures, with the trained model."
    )
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="a picture, a folder of them, or - for stdin")
    parser.add_argument("--top", type=int, default=3, metavar="N", help="how many classes to name (default: 3)")
    parser.add_argument("--json", action="store_true", help="print JSON: a list with an object for each picture")
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL, help="folder of model.json and model.safetensors")
    arguments = parser.parse_args()
    if arguments.top < 1:
        parser.error(f"--top: expected 1 or more, got {arguments.top}")

    params = runtime_params(read_params(arguments.model))
    runtime = setup(params)
    model = load_trained(arguments.model)
    seen, problems = [], []
    for name, data in read_all(arguments.images):
        try:
            seen.append(as_seen(name, data, model.info))
        except NotAPicture as error:
            problems.append(f"{name}: {error}")
    answers = predict(model, seen, arguments.top, params, runtime) if seen else []
    if arguments.json:
        print(json.dumps(answers, indent=2, ensure_ascii=False))
    else:
        for answer in answers:
            note = f"  ({answer['note']})" if answer["note"] else ""
            print(f"{answer['path']}: " + ", ".join(f"{label} {p:.4f}" for label, p in answer["top"].items()) + note)
    if problems:
        raise UserError(
            f"{len(problems)} of {len(seen) + len(problems)} could not be read:\n{listed(problems)}\n"
            "Give whole pictures."
        )


def read_all(names: list[str]) -> Iterator[tuple[str, bytes]]:
    """Each picture's name and bytes; of folders, all files but hidden and system ones, sorted. UserError where a name
    leads nowhere or a folder is empty."""
    for name in names:
        path = Path(name)
        if name == "-":
            yield name, sys.stdin.buffer.read()
        elif path.is_dir():
            files = sorted(
                file
                for file in path.rglob("*")
                if file.is_file() and not any(map(is_clutter, file.relative_to(path).parts))
            )
            if not files:
                raise UserError(f"{path}: no file in this folder. Name one that holds pictures.")
            yield from ((str(file), file.read_bytes()) for file in files)
        elif path.is_file():
            yield name, path.read_bytes()
        else:
            raise UserError(f"{name}: no such file or folder. Name pictures, folders of them, or - for standard input.")


def as_seen(name: str, data: bytes, info: DatasetInfo) -> Seen:
    """What prepare would make of it. Raises NotAPicture.

    A picture in colour, for a model of grey ones, becomes grey by ITU-R 601, as Pillow does it, and the note says so.
    """
    picture = decode(data)
    square = to_square(picture.rgb, info.stored_size, info.resize)
    if info.channels == 3:
        return Seen(name, square, picture.note)
    if (square == square[..., :1]).all():
        return Seen(name, square[..., :1], picture.note)
    grey = np.asarray(Image.fromarray(square).convert("L"))[..., None]
    return Seen(name, grey, "; ".join(filter(None, [picture.note, "colour, seen as grey"])))


def predict(
    model: TrainedModel, seen: list[Seen], top: int, params: RuntimeParams, runtime: Runtime
) -> list[dict[str, Any]]:
    """For each picture: its path, its class, and the `top` classes with their probabilities, largest first."""
    rows = torch.from_numpy(np.stack([picture.pixels for picture in seen])).to(runtime.device)
    split = Split(rows, torch.zeros(len(rows)), model.info)
    probabilities = softmax(model.to(runtime.device).logits(split.batches(params.eval_batch_size), runtime))
    answers = []
    for picture, row in zip(seen, probabilities, strict=True):
        best = np.argsort(-row, kind="stable")[:top]
        named = {model.info.classes[index]: round(float(row[index]), 6) for index in best}
        answers.append({"path": picture.name, "class": next(iter(named)), "top": named, "note": picture.note})
    return answers


def runtime_params(params: dict[str, Any]) -> RuntimeParams:
    """Those of a model's params that concern the machine; a key that came later has its default. UserError where they
    are not such params."""
    recorded = {name: value for name, value in params.items() if name in RuntimeParams.model_fields}
    try:
        # The device of training may be missing here.
        return RuntimeParams.model_validate(recorded | {"device": "auto"})
    except ValidationError as error:
        problem = error.errors()[0]
        raise UserError(
            f"model.json: params: {problem['loc'][0]}: {problem['msg']}. Use a model that train wrote."
        ) from None


if __name__ == "__main__":
    run_main(main)
