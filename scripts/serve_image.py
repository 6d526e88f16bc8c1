"""The image of the service with the model of a tag: `make serve-image TAG=v1.0`, as classifier:v1.0.

Code, packages and model are those of the tag, gathered in a folder that holds nothing else: what reads pictures is then
what the model was made with. A tag of GTO's form, classifier@v1.2.0, becomes classifier:v1.2.0. A tag stays what it is,
so an image that exists under its name is not built again.
"""

import argparse
import io
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from review import exported, git
from review.lock import hashes
from review.revision import Missing, Revision
from scripts.image import BUILDERS, RUNNERS, build_in, exists, program_of, push_by
from stages.common import escape
from stages.common.errors import UserError, run_main
from stages.common.versions import md5_of
from stages.onnx.classifier import load

NAME = "classifier"
# Of the tag, what serve/Dockerfile copies, and itself.
PARTS = ("serve", "stages/__init__.py", "stages/common", "stages/onnx", "stages/prepare", "requirements-serve.lock")
# What a tag of an image may be.
_IMAGE_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m scripts.serve_image", description=__doc__)
    parser.add_argument("tag", help="such as v1.0, or classifier@v1.2.0")
    parser.add_argument("--registry", default="", help="such as registry.example.org/team/, to push the image there")
    parser.add_argument("--gather", type=Path, help="a new folder that gets what the image is built from; builds none")
    arguments = parser.parse_args()
    name = f"{arguments.registry}{NAME}:{version_of(arguments.tag)}"
    if arguments.tag not in git.tags():
        raise UserError(f"{arguments.tag}: no tag of this clone. `git fetch --tags` gets the others.")
    commit = git.resolve(f"refs/tags/{arguments.tag}")
    if arguments.gather:
        if os.path.lexists(arguments.gather):
            raise UserError(f"--gather {arguments.gather}: is there already. Name a folder that is to be made.")
        gather(arguments.tag, commit, arguments.gather)
        print(escape.terminal(f"{arguments.gather}: what {name} is built from"))
        return
    program = program_of(BUILDERS)
    if exists(program, name):
        print(f"{name} is there; a name is never built twice")
    else:
        with tempfile.TemporaryDirectory() as folder:
            parts = Path(folder, "image")
            gather(arguments.tag, commit, parts)
            facts = [f"VERSION={version_of(arguments.tag)}", f"COMMIT={commit}"]
            build_in(parts, program, name, "--file", "serve/Dockerfile", *(f"--build-arg={fact}" for fact in facts))
    if arguments.registry:
        push_by(program_of(RUNNERS), name)


def version_of(tag: str) -> str:
    """What the image of a tag is called. UserError where an image cannot be called so."""
    version = tag.removeprefix(f"{NAME}@")
    if not _IMAGE_TAG.fullmatch(version):
        raise UserError(f"{tag}: an image cannot have this name; expected up to 128 letters, digits and ._-")
    return version


def gather(tag: str, commit: str, folder: Path) -> None:
    """Put into a new folder, of the tag, code, packages and the exported model. UserError where it has none, or where
    it is not the one that the tag records."""
    if missing := [path for path in PARTS if not git.exists(commit, path) and not git.files(commit, path)]:
        raise UserError(f"{tag}: has no {missing[0]}: it is of a version of the project without the service.")
    try:
        lock = exported.fresh_lock(Revision.named(tag))
    except Missing as reason:
        raise UserError(f"{tag}: {reason}") from None
    if lock is None:
        raise UserError(f"{tag}: has no exported model. `make export`, commit, and make a new tag.")
    folder.mkdir(parents=True)
    content = subprocess.run(["git", "archive", "--format=tar", commit, *PARTS], capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        archive.extractall(folder, filter="data")
    model = folder / exported.MODEL
    model.parent.mkdir()
    # `dvc artifacts get` knows no tags but GTO's, and asks another service first.
    command = [sys.executable, "-m", "dvc", "get", "--quiet", ".", exported.MODEL, "--rev", commit, "--out", str(model)]
    if subprocess.run(command).returncode:
        raise UserError(
            f"{tag}: DVC cannot get {exported.MODEL}; its message is above. Was it pushed, and is a key here?"
        )
    if md5_of(model) != hashes(lock, "outs").get(exported.MODEL):
        raise UserError(f"{tag}: DVC gave another {exported.MODEL} than export/dvc.lock of the tag names.")
    load(model, 1)


if __name__ == "__main__":
    run_main(main)
