"""What an image of the service is made of, and which tags become none. To build one takes docker, and minutes."""

import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.serve_image import PARTS, main, version_of
from stages.common.errors import UserError
from tests.project import ROOT, run


def test_the_dockerfile_copies_what_is_gathered() -> None:
    """And the same base as the other image's, which is raised in one place less then forgotten."""
    dockerfile = (ROOT / "serve/Dockerfile").read_text()
    copied = {name for names in re.findall(r"^COPY (.+) \S+$", dockerfile, re.M) for name in names.split()}
    assert copied == {part.split("/")[0] for part in PARTS} | {"models/model.onnx"}
    bases = [re.findall(r"^ARG BASE=(.+)$", text, re.M) for text in (dockerfile, (ROOT / "Dockerfile").read_text())]
    assert bases[0] == bases[1] != []


def test_its_packages_are_those_that_the_export_was_tried_with() -> None:
    group = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]["serve"]
    served, tried = (
        set(re.findall(r"^(\S+==\S+)", (ROOT / name).read_text(), re.M))
        for name in ("requirements-serve.lock", "requirements.lock")
    )
    assert set(group) <= served <= tried


def test_names_of_images() -> None:
    assert version_of("v1.0") == "v1.0"
    assert version_of("classifier@v1.2.0") == "v1.2.0"
    for tag in ("a/b", "v1+2", "", "-x", "v" * 200):
        with pytest.raises(UserError, match="an image cannot have this name"):
            version_of(tag)


def test_tags_that_become_no_image(
    copy_reproduced: Callable[[str], Path],
    enter: Callable[[Path], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that is not there, one without an exported model, and one of before the service."""
    folder = copy_reproduced("project")
    run("git tag v1 && git rm --quiet -r serve && git commit --quiet --message old && git tag v0", folder)
    enter(folder)
    target = tmp_path / "image"
    for tag, text in (("v2", "no tag of this clone"), ("v1", "has no exported model"), ("v0", "has no serve")):
        monkeypatch.setattr("sys.argv", ["serve_image", "--gather", str(target), tag])
        with pytest.raises(UserError, match=text):
            main()
        assert not target.exists()
    target.mkdir()
    with pytest.raises(UserError, match="is there already"):
        monkeypatch.setattr("sys.argv", ["serve_image", "--gather", str(target), "v1"])
        main()
