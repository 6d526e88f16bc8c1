"""A picture → a class: `python -m stages.predict IMAGE...`, with the model that evaluate measured, or with its export.

Pictures become what the model sees by the very steps of prepare. IMAGE is a file, a folder, or - for standard input.
With --onnx, nothing here needs PyTorch, nor any other package that pyproject.toml's group `serve` lacks.
"""

import argparse
import importlib.util
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from stages.common import escape, tables
from stages.common.errors import UserError, listed, run_main
from stages.common.softmax import softmax
from stages.prepare.listing import require_names, walk
from stages.prepare.picture import NotAPicture, decode
from stages.prepare.reader import Container, Place, Reader
from stages.prepare.seen import as_seen

if TYPE_CHECKING:
    from stages.model.params import RuntimeParams

# Beside the code, so that the current folder does not matter.
DEFAULT_MODEL = Path(__file__).resolve().parent.parent / "models"
_ONNX_BATCH = 64


class Classifier(NamedTuple):
    """A model ready to use: class names in label order, what it is given (side and channels of images, and how pictures
    become square), images of a batch, and uint8 N×S×S×C → logits, float64 N×classes. `name`: in words, for the log."""

    name: str
    classes: list[str]
    stored_size: int
    channels: int
    resize: str
    batch_size: int
    logits: Callable[[np.ndarray], np.ndarray]


class Answer(NamedTuple):
    """A picture's name, the probability of each class, and what was done to the picture that a person should know."""

    path: str
    probabilities: list[float]
    note: str


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m stages.predict", description="Name the class of pictures, with the trained model."
    )
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="a picture, a folder of them, or - for stdin")
    parser.add_argument("--top", type=int, default=3, metavar="N", help="classes to name (default: 3); CSV has all")
    parser.add_argument(
        "--device", choices=["auto", "cpu", "cuda"], default="auto", help="default: a GPU if there is one"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON: a list with an object for each picture")
    form.add_argument("--csv", action="store_true", help="print CSV: a row for each picture, a column for each class")
    model = parser.add_mutually_exclusive_group()
    model.add_argument("--model", type=Path, default=DEFAULT_MODEL, help="folder of model.json and model.safetensors")
    model.add_argument("--onnx", type=Path, metavar="FILE", help="the model that `make export` wrote; needs no PyTorch")
    arguments = parser.parse_args()
    if arguments.top < 1:
        parser.error(f"--top: expected 1 or more, got {arguments.top}")
    if arguments.onnx and arguments.device == "cuda":
        parser.error("--onnx: computed on the CPU; expected --device auto or cpu, got cuda")

    classifier = exported(arguments.onnx) if arguments.onnx else trained(arguments.model, arguments.device)
    print(f"model: {escape.terminal(classifier.name)}", file=sys.stderr)
    pictures = list(find_all(arguments.images))
    problems: list[str] = []
    answers = answer(classifier, pictures, problems)
    if arguments.json:
        objects = [as_object(one, classifier.classes, arguments.top) for one in answers]
        print(json.dumps(objects, indent=2, ensure_ascii=False))
    elif arguments.csv:
        columns = ["path", "class", "confidence", *(f"p_{name}" for name in classifier.classes), "note"]
        tables.write_rows(sys.stdout, [columns])
        tables.write_rows(sys.stdout, (as_row(one, classifier.classes) for one in answers))
    else:
        for one in answers:
            print(as_line(one, classifier.classes, arguments.top))
    if problems:
        raise UserError(
            f"{len(problems)} of {len(pictures)} could not be read:\n{listed(problems)}\nGive whole pictures."
        )


def trained(folder: Path, device: str) -> Classifier:
    """The model of a folder, on a device: auto, cpu or cuda. UserError where it is missing or damaged, or there is no
    such device."""
    if importlib.util.find_spec("torch") is None:
        raise UserError(
            f"This Python ({sys.executable}) has no PyTorch, which the model in {folder} needs. Run `make install`, or "
            "give the file that `make export` wrote: --onnx models/model.onnx."
        )
    # Imported here: it takes seconds.
    import torch

    from stages.model.dataset import Split
    from stages.model.runtime import setup
    from stages.model.trained import load_trained, read_params

    params = runtime_params(read_params(folder))
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: PyTorch sees no CUDA GPU here. Give --device cpu or none.")
    runtime = setup(params.model_copy(update={"device": device}))
    model = load_trained(folder).to(runtime.device)

    def logits(rows: np.ndarray) -> np.ndarray:
        images = torch.from_numpy(rows).to(runtime.device)
        split = Split(images, torch.zeros(len(rows)), model.info)
        return model.logits(split.batches(len(rows)), runtime)

    info = model.info
    return Classifier(
        f"{folder}, {model.params['model']}; {runtime}",
        info.classes,
        info.stored_size,
        info.channels,
        info.resize,
        params.eval_batch_size,
        logits,
    )


def exported(file: Path) -> Classifier:
    """The model of a file that `make export` wrote. UserError where it is missing, or is none."""
    # Imported here: the pipeline's stages need no onnxruntime.
    import onnxruntime

    from stages.onnx.classifier import load

    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    model = load(file, threads)
    info = model.info
    mirrored = ", mirrored images (tta_flip)" if info.tta_flip else ""
    return Classifier(
        f"{file}, {info.architecture}{mirrored}; cpu, {threads} threads; onnxruntime {onnxruntime.__version__}",
        info.classes,
        info.stored_size,
        info.channels,
        info.resize,
        _ONNX_BATCH,
        model.logits,
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
    return Reader([Container("folder", str(path.parent))]).picture(Place(0, path.name, -1, 0))


def answer(classifier: Classifier, pictures: list[tuple[str, Path | None]], problems: list[str]) -> Iterator[Answer]:
    """Answers in the order of the pictures, a batch at a time; why a picture cannot be read is added to `problems`."""
    batch: list[tuple[str, np.ndarray, str]] = []
    for number, (name, path) in enumerate(pictures, 1):
        try:
            pixels, note = as_seen(decode(read(path)), classifier.stored_size, classifier.resize, classifier.channels)
            batch.append((name, pixels, note))
        except NotAPicture as error:
            problems.append(f"{name}: {error}")
        if batch and (len(batch) == classifier.batch_size or number == len(pictures)):
            probabilities = softmax(classifier.logits(np.stack([pixels for _, pixels, _ in batch])))
            for (known, _, note), row in zip(batch, probabilities.tolist(), strict=True):
                yield Answer(known, row, note)
            batch.clear()


def as_object(one: Answer, classes: list[str], top: int) -> dict[str, Any]:
    """Path, class, the `top` classes with their probabilities, largest first, and the note."""
    best = np.argsort(-np.array(one.probabilities), kind="stable")[:top]
    named = {classes[index]: round(one.probabilities[index], 6) for index in best}
    return {"path": one.path, "class": next(iter(named)), "top": named, "note": one.note}


def as_line(one: Answer, classes: list[str], top: int) -> str:
    """For people: path, the `top` classes with their probabilities, and the note."""
    named = as_object(one, classes, top)["top"]
    note = f"  ({one.note})" if one.note else ""
    return f"{one.path}: " + ", ".join(f"{label} {p:.4f}" for label, p in named.items()) + note


def as_row(one: Answer, classes: list[str]) -> list[str]:
    """Path, class, its probability, that of each class in label order, and the note; digits as in predictions.csv."""
    shares = [f"{share:.6f}" for share in one.probabilities]
    best = int(np.argmax(one.probabilities))
    return [one.path, classes[best], shares[best], *shares, one.note]


def runtime_params(params: dict[str, Any]) -> "RuntimeParams":
    """Those of a model's params that concern the machine; a key that came later has its default. UserError where they
    are not such params."""
    from pydantic import ValidationError

    from stages.model.params import RuntimeParams

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
