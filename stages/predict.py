"""A picture → a class: `python -m stages.predict IMAGE... [--top 3] [--json]`, with the model that evaluate measured.

Pictures become what the model sees by the very steps of prepare. IMAGE is a file, a folder, or - for standard input.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from pydantic import ValidationError

from stages.common.errors import UserError, listed, run_main
from stages.common.softmax import softmax
from stages.model.dataset import DatasetInfo, Split
from stages.model.params import RuntimeParams
from stages.model.runtime import Runtime, setup
from stages.model.trained import MODELS, TrainedModel, load_trained, read_params
from stages.prepare.listing import require_names, walk
from stages.prepare.picture import NotAPicture, decode, to_square
from stages.prepare.reader import Container, NotAFile, Place, Reader, TooLarge

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
    for name, path in find_all(arguments.images):
        try:
            seen.append(as_seen(name, read(path), model.info))
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


def find_all(names: list[str]) -> Iterator[tuple[str, Path | None]]:
    """Each picture's name and where it is, None for standard input; of folders, all files but clutter, sorted, those
    behind links too. UserError where a name leads nowhere, or a folder is empty or holds names that none may have."""
    for name in names:
        path = Path(name)
        if name == "-":
            yield name, None
        elif path.is_dir():
            files: list[Path] = []
            refused: list[str] = []
            clutter = 0
            for prefix, _, inside, ignored in walk(path, refused):
                files += [path / (prefix + file) for file in inside]
                clutter += ignored
            require_names(path, refused)
            if clutter:
                print(f"{path}/: {clutter} files ignored, which systems and file managers leave", file=sys.stderr)
            if not files:
                raise UserError(f"{path}: no file in this folder. Name one that holds pictures.")
            yield from ((str(file), file) for file in sorted(files))
        elif os.path.lexists(path):
            yield name, path
        else:
            raise UserError(f"{name}: no such file or folder. Name pictures, folders of them, or - for standard input.")


def read(path: Path | None) -> bytes:
    """The bytes of a picture. Raises NotAPicture where there is no regular file, or one larger than any picture."""
    if path is None:
        return sys.stdin.buffer.read()
    try:
        return Reader([Container("folder", str(path.parent))]).read(Place(0, path.name, -1, 0))
    except (NotAFile, TooLarge) as reason:
        raise NotAPicture(str(reason)) from None


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
