"""Get pretrained weights, and where they come from, into weights/: `python -m scripts.get_weights NAME`.

NAME is an architecture of torchvision (resnet18, or resnet18.IMAGENET1K_V1), of timm (timm/resnet18.a1_in1k), or, with
--from, that of a file. Nothing of what was downloaded is executed, and nothing is kept that does not fit NAME.

weights/NAME-DIGITS.safetensors  the weights, their origin in the header; DVC keeps them
weights/NAME-DIGITS.json         the origin, for people; Git keeps it, and the .dvc file
"""

import argparse
import subprocess
import tempfile
from pathlib import Path

from scripts.published_weights import Published, from_file, from_project, from_timm, from_torchvision
from stages.common.errors import UserError, listed, run_main
from stages.model.architectures import build_model
from stages.model.names import TIMM
from stages.model.pretrained import FOLDER, mismatches, require_finite, write_pretrained

# Of SPDX and of the Hugging Face hub: those that let anybody use, for anything, what is made from the weights.
FREE = frozenset(
    ("apache-2.0", "bsd", "bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear", "cc-by-4.0", "cc0-1.0", "isc", "mit")
) | {"own", "unlicense", "zlib"}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.get_weights", description="Get pretrained weights, with their origin, into weights/."
    )
    parser.add_argument("name", metavar="NAME", help="resnet18, timm/resnet18.a1_in1k, or the architecture of a file")
    parser.add_argument(
        "--from",
        dest="place",
        type=Path,
        metavar="PLACE",
        help="a .safetensors or .pth file that lies here, or the models/ folder of a project like this one",
    )
    parser.add_argument(
        "--revision", default="main", help="of timm's weights: a commit of the hub (default: the newest)"
    )
    parser.add_argument(
        "--licence", default="", help="of a file without a description: its licence, such as Apache-2.0"
    )
    parser.add_argument(
        "--accept-licence", default="", metavar="LICENCE", help="get weights whose licence, this one, restricts use"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        published = find(arguments, Path(folder))
        require_licence(published.origin.licence, arguments.accept_licence)
        require_fit(published)
        name = write_pretrained(published.tensors, published.origin, published.label)
    path = FOLDER / f"{name}.safetensors"
    added = subprocess.run(
        ["dvc", "add", "--quiet", str(path)], capture_output=True, encoding="utf-8", errors="replace"
    )
    if added.returncode:
        raise UserError(f"{path} is written, but not in DVC's cache. DVC says:\n{added.stderr.strip()}")
    origin = published.origin
    print(
        f"weights: {path}, {path.stat().st_size / 1e6:.1f} MB, {origin.licence}, trained on {origin.trained_on}, from "
        f"{origin.source}\n"
        f"weights: to start from them, set `model: {origin.architecture}`, `weights: {name}` and image_size (theirs "
        f"was {origin.image_size}) in params.yaml; `git add weights` and `dvc push` share them"
    )


def find(arguments: argparse.Namespace, folder: Path) -> Published:
    """The weights, wherever they are; `folder` is for what is downloaded."""
    if arguments.place is not None and arguments.place.is_dir():
        return from_project(arguments.place, arguments.name, arguments.licence or "own")
    if arguments.place is not None:
        return from_file(arguments.place, arguments.name, arguments.licence)
    if arguments.name.startswith(TIMM):
        return from_timm(arguments.name, arguments.revision, folder)
    return from_torchvision(arguments.name, folder)


def require_licence(licence: str, accepted: str) -> None:
    """UserError where a licence may restrict what a team does with its model, unless it is accepted by name."""
    if licence.lower() not in FREE and licence != accepted:
        raise UserError(
            f"weights: their licence is {licence!r}, which may forbid commercial use. Read it; then "
            f"`--accept-licence {licence!r}` gets them."
        )


def require_fit(published: Published) -> None:
    """UserError where the tensors are not those of the architecture, as its code is now, or are not finite."""
    origin = published.origin
    model = build_model(
        origin.architecture, num_classes=origin.classes, channels=len(origin.mean), image_size=origin.image_size
    )
    expected = model.state_dict()
    if problems := mismatches(expected, published.tensors):
        raise UserError(
            f"weights: not weights of {origin.architecture}: {len(problems)} of {len(expected)} tensors differ, such "
            f"as:\n{listed(problems[:10])}\nName the architecture that they are of."
        )
    require_finite(published.tensors, Path(published.label))


if __name__ == "__main__":
    run_main(main)
