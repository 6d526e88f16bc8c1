"""Write into deploy/ what a tag asks for: `make deploy TAG=classifier#prod#3 REGISTRY=registry.example.org/team/`.

deploy/<stage>/serve.yaml is the manifest that Argo CD or Flux bring to a cluster. The first promotion to a stage makes
it of cluster/serve.yaml; from then on it is the team's, and its image alone is changed. A version's tag is for the
first stage, `staging`; a stage's tag for its own.

The image is named by its digest, so that what was tested is what runs, whatever its tag comes to mean.
"""

import argparse
import re
import subprocess
from pathlib import Path

from review import registry
from review.registry import Registry, Version
from stages.common import escape
from stages.common.errors import UserError, run_main
from stages.common.files import write_text

FIRST_STAGE = "staging"
DEPLOY = Path("deploy")
TEMPLATE = Path("cluster/serve.yaml")
_NAME = registry.ARTIFACT
# The value of an image, with its registry, tag or digest, and the version that was written beside it.
_IMAGE = re.compile(
    rf"^(?P<before>\s*(?:- )?image:\s*)(?P<image>['\"]?(?:[\w.-]+(?::\d+)?/)?(?:[\w./-]+/)?{_NAME}(?:[:@]\S+)?)"
    r"(?:[ \t]+# (?P<version>\S+))?[ \t]*$",
    re.MULTILINE,
)
_REGISTRY = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:\d{1,5})?/([a-z0-9._-]+/)*")
_DIGEST = re.compile(r"^Digest:\s+(sha256:[0-9a-f]{64})\s*$", re.MULTILINE)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m scripts.deploy", description=__doc__)
    parser.add_argument("--registry", required=True, help="such as registry.example.org/team/, where the image is")
    parser.add_argument("tag", help=f"{_NAME}@v1.2.0 or {_NAME}#prod#3")
    arguments = parser.parse_args()
    if not _REGISTRY.fullmatch(arguments.registry):
        raise UserError(f"deploy: --registry: expected one such as example.org/team/, got {arguments.registry!r}.")
    stage, version = asked_for(registry.read(), arguments.tag)
    if version is None:
        raise UserError(
            f"deploy: {arguments.tag} takes the version from {stage}. Remove {DEPLOY / stage}/ by hand, in a change "
            "request."
        )
    digest = digest_of(f"{arguments.registry}{_NAME}:{version.name}")
    path = manifest_of(stage)
    source = path if path.exists() else TEMPLATE
    write_text(path, with_image(read(source), source, f"{arguments.registry}{_NAME}@{digest}", version.name))
    print(escape.terminal(f"{path}: {version.name}, {digest}"))


def asked_for(known: Registry, tag: str) -> tuple[str, Version | None]:
    """The stage, and the version for it; None where the tag takes it away. UserError where the tag is none of these, or
    no longer counts."""
    for version in known.versions:
        if version.tag == tag:
            return FIRST_STAGE, version
    one = next((one for one in known.assignments if one.tag == tag), None)
    if one is None:
        raise UserError(f"deploy: {tag}: expected a tag of this clone such as {_NAME}@v1.2.0 or {_NAME}#prod#3.")
    newest = known.of_stages()[one.stage]
    if newest != one:
        raise UserError(f"deploy: {tag} does not count any more: {newest.tag} came later. Use that one.")
    if one.removes:
        return one.stage, None
    if (found := known.version(one.commit)) is None:
        raise UserError(f"deploy: {tag}: its commit has no version. `make promote` tags commits that have one.")
    return one.stage, found


def digest_of(image: str) -> str:
    """The digest by which the registry knows an image. UserError where it has none, or cannot be asked."""
    try:
        asked = subprocess.run(
            ["docker", "buildx", "imagetools", "inspect", image],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
        )
    except FileNotFoundError:
        raise UserError("deploy: docker is not installed; it asks the registry for the image's digest.") from None
    found = _DIGEST.search(asked.stdout)
    if asked.returncode or found is None:
        reason = (asked.stderr.strip() or asked.stdout.strip() or "no answer")[-500:]
        raise UserError(
            f"deploy: {image}: {reason}. `docker login`; the workflow of the version's tag makes the image."
        )
    return found[1]


def manifest_of(stage: str) -> Path:
    """Where the manifest of a stage is."""
    return DEPLOY / stage / "serve.yaml"


def deployed(stage: str) -> str:
    """The version that the manifest of a stage has, in the working tree; empty where there is none."""
    path = manifest_of(stage)
    found = {match["version"] for match in _IMAGE.finditer(read(path))} if path.is_file() else set()
    return ", ".join(sorted(version or "an image without a version" for version in found))


def read(path: Path) -> str:
    """UserError where there is no such file of text."""
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: no manifest can be read there ({error}). `git checkout {path}`.") from None


def with_image(manifest: str, path: Path, image: str, version: str) -> str:
    """The manifest with another image in place of the model's. UserError where it has none, or two kinds of it: of an
    A/B test, a person says which."""
    kinds = {match["image"] for match in _IMAGE.finditer(manifest)}
    if len(kinds) != 1:
        got = ", ".join(sorted(kinds)) or "none"
        raise UserError(
            f"{path}: expected one image of {_NAME}, got {got}. Write `image: {image} # {version}` where it belongs."
        )
    return _IMAGE.sub(lambda match: f"{match['before']}{image} # {version}", manifest)


if __name__ == "__main__":
    run_main(main)
