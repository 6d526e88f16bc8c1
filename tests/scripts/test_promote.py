"""A promotion is a tag that GTO understands, refused where nothing was claimed, exported or merged; what a tag asks for
is written into deploy/ by the image's digest."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from gto.constants import Action
from gto.tag import parse_name

from review import claim, exported, registry
from review.registry import Assignment, Registry, Version
from review.revision import Missing, Revision
from scripts import deploy, promote
from stages.common.errors import UserError
from tests.project import BIN, ROOT, refusal, run, user_environment

MANIFEST = """apiVersion: apps/v1
kind: Deployment
spec:
  template:
    spec:
      containers:
        - name: classifier
          image: classifier:latest
"""
DIGEST = f"sha256:{'0a' * 32}"


@pytest.fixture
def repository(tmp_path: Path, enter: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The versions v1.0.0 and v1.1.0 on main, v1.2.0-rc.1 on a branch, v1.3.0 made by hand; the current folder. They
    are claimed, and all but v1.0.0 are exported."""
    folder = tmp_path / "project"
    folder.mkdir()
    script = "git init --quiet --initial-branch main"
    for version, branch, text in (
        ("v1.0.0", "main", "reached\n\n{}"),
        ("v1.1.0", "main", "reached\n\n{}"),
        ("v1.3.0", "main", "by hand"),
        ("v1.2.0-rc.1", "topic", "reached\n\n{}"),
    ):
        script += f"; git switch --quiet {branch} 2> /dev/null || git switch --quiet --create {branch}"
        script += f"; git commit --quiet --allow-empty --message {version}"
        script += f"; git tag --annotate --message '{text}' classifier@{version}"
    run(f"{script}; git switch --quiet main; git tag v9; git tag 'classifier#prod'; git tag classifier@1", folder)
    enter(folder)
    for name, value in user_environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(claim, "fresh_lock", lambda revision: {})
    monkeypatch.setattr(exported, "fresh_lock", lambda revision: None if "v1.0.0" in revision.name else {})
    monkeypatch.setattr(promote, "disagreements", lambda revision: iter(()))
    return folder


def promoted(monkeypatch: pytest.MonkeyPatch, version: str, stage: str) -> None:
    monkeypatch.setattr("sys.argv", ["promote", "--stage", stage, version])
    promote.main()


def test_a_promotion_and_the_way_back(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(exported, "fresh_lock", lambda revision: {})
    for version, stage in (("v1.0.0", "prod"), ("v1.1.0", "staging"), ("v1.1.0", "prod"), ("v1.0.0", "prod")):
        promoted(monkeypatch, version, stage)
    printed = capsys.readouterr().out
    assert "classifier#prod#3: v1.1.0 to prod, in place of v1.0.0\n" in printed
    assert "classifier#prod#4: v1.0.0 to prod, in place of v1.1.0\n" in printed
    known = registry.read()
    of_stages = {stage: promote.named(known, one.commit) for stage, one in known.of_stages().items()}
    assert of_stages == {"prod": "v1.0.0", "staging": "v1.1.0"}
    for one in known.assignments:
        parsed = parse_name(one.tag)
        assert (parsed["action"], parsed["stage"], parsed["counter"]) == (Action.ASSIGN, one.stage, one.number)
        assert run(["git", "cat-file", "-t", one.tag], repository).stdout == "tag\n"
        assert run(["git", "rev-list", "--max-count=1", one.tag], repository).stdout.strip() == one.commit
    run("git tag --annotate --message away 'classifier#prod!#5'", repository)
    assert parse_name("classifier#prod!#5")["action"] == Action.UNASSIGN
    monkeypatch.setattr(claim, "said", lambda revision: f"test accuracy of {revision.name}")
    (repository / "deploy/staging").mkdir(parents=True)
    (repository / "deploy/staging/serve.yaml").write_text(
        MANIFEST.replace("classifier:latest", f"a.b/classifier@{DIGEST} # v1.1.0")
    )
    lines = promote.overview(registry.read()).splitlines()
    assert lines[0].split(maxsplit=1) == ["prod", "nothing, by classifier#prod!#5; deploy/prod/ has nothing"]
    assert lines[1].split(maxsplit=1) == ["staging", "v1.1.0, by classifier#staging#2; as in deploy/staging/"]
    assert [line.split()[0] for line in lines[2:]] == ["v1.3.0", "v1.2.0-rc.1", "v1.1.0", "v1.0.0"]


def test_refusals(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All reasons at once, and no tag."""
    promoted(monkeypatch, "v1.1.0", "prod")
    before = run("git tag", repository).stdout
    for version, stage, message in (
        ("v1.1.0", "prod", r"v1.1.0 is at prod already, by classifier#prod#1"),
        ("v1.1.0", "../etc", r"'../etc' is no name of a stage"),
        ("v1.0.0", "prod", r"classifier@v1.0.0 \(\w+\) has no export"),
        ("v1.2.0-rc.1", "prod", r"classifier@v1.2.0-rc.1 is not in main: have it merged"),
        ("v1.3.0", "prod", r"classifier@v1.3.0 was made by hand; `python -m review tag` makes one"),
        ("v2.0.0", "prod", r"no version v2.0.0; there are: v1.3.0, v1.2.0-rc.1, v1.1.0, v1.0.0\."),
        ("v1.1.0", "", r"expected both or none of a version and a stage"),
    ):
        with pytest.raises(UserError, match=message):
            promoted(monkeypatch, version, stage)

    def not_claimed(revision: Revision) -> None:
        raise Missing("not claimed in it.")

    monkeypatch.setattr(claim, "fresh_lock", not_claimed)
    monkeypatch.setattr(promote, "disagreements", lambda revision: iter(["the tag's message: claim: not what it has"]))
    with pytest.raises(UserError, match=r"(?s)tag's message: claim.*not claimed in it\..*has no export"):
        promoted(monkeypatch, "v1.0.0", "staging")
    assert run("git tag", repository).stdout == before


def test_without_a_version(tmp_path: Path) -> None:
    """The command itself, in a repository of somebody else."""
    run("git init --quiet --initial-branch main && git commit --quiet --allow-empty --message x", tmp_path)
    command: list[str | Path] = [BIN / "python", "-m", "scripts.promote"]
    assert "no version here" in run(command, tmp_path, PYTHONPATH=str(ROOT)).stdout
    message = refusal(run([*command, "--stage=prod", "--", "v1.0.0"], tmp_path, expect=1, PYTHONPATH=str(ROOT)))
    assert "no version v1.0.0; there are: none" in message


def test_versions_are_in_the_order_of_semantic_versioning() -> None:
    """The example of its specification, 11.4."""
    names = (
        "v1.0.0-alpha v1.0.0-alpha.1 v1.0.0-alpha.beta v1.0.0-beta.2 v1.0.0-beta.11 v1.0.0-rc.1 v1.0.0 v1.0.1".split()
    )
    versions = [Version(name, "") for name in names]
    backwards = versions[::-1]
    assert sorted(backwards, key=registry._order) == versions


ASKED = Registry(
    [Version("v1.1.0", "b"), Version("v1.0.0", "a")],
    [
        Assignment(1, "prod", "a", False),
        Assignment(2, "prod", "b", False),
        Assignment(3, "test", "b", True),
        Assignment(4, "dev", "c", False),
    ],
)


def test_what_a_tag_asks_for() -> None:
    assert deploy.asked_for(ASKED, "classifier@v1.0.0") == ("staging", Version("v1.0.0", "a"))
    assert deploy.asked_for(ASKED, "classifier#prod#2") == ("prod", Version("v1.1.0", "b"))
    assert deploy.asked_for(ASKED, "classifier#test!#3") == ("test", None)
    for tag, message in (
        ("classifier#prod#1", "does not count any more: classifier#prod#2 came later"),
        ("classifier#dev#4", "its commit has no version"),
        ("classifier#prod#9", "expected a tag of this clone"),
        ("v1.0.0", "expected a tag of this clone"),
    ):
        with pytest.raises(UserError, match=re.escape(message)):
            deploy.asked_for(ASKED, tag)


@pytest.fixture
def inspected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program stands for docker, and keeps what it is asked; the current folder has the template of a manifest."""
    (tmp_path / "bin").mkdir()
    docker = tmp_path / "bin/docker"
    docker.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\nprintf "Name: x\\nDigest:    {DIGEST}\\n"\n')
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin", prepend=":")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "read", lambda: ASKED)
    (tmp_path / "cluster").mkdir()
    (tmp_path / "cluster/serve.yaml").write_text(MANIFEST)
    return tmp_path


def deployed_by(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr("sys.argv", ["deploy", *arguments])
    deploy.main()


def test_the_image_is_written_by_its_digest(inspected: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first time into a copy of the template, then into what the team has made of it, whose image alone changes."""
    deployed_by(monkeypatch, "--registry", "ghcr.io/team/birds/", "classifier@v1.0.0")
    manifest = inspected / "deploy/staging/serve.yaml"
    image = f"image: ghcr.io/team/birds/classifier@{DIGEST} # v1.0.0\n"
    assert manifest.read_text() == MANIFEST.replace("image: classifier:latest\n", image)
    assert (inspected / "asked").read_text() == "buildx imagetools inspect ghcr.io/team/birds/classifier:v1.0.0\n"
    assert deploy.deployed("staging") == "v1.0.0"
    edited = manifest.read_text().replace("spec:\n", "spec:\n  replicas: 3\n", 1)
    manifest.write_text(edited)
    deployed_by(monkeypatch, "--registry", "example.org:5000/", "classifier@v1.1.0")
    again = f"image: example.org:5000/classifier@{DIGEST} # v1.1.0\n"
    assert manifest.read_text() == edited.replace(image, again)
    assert deploy.deployed("prod") == ""


def test_the_projects_own_manifests() -> None:
    """The template has one image to set; where two versions run side by side, a person says which."""
    image = f"a.b/classifier@{DIGEST}"
    template = deploy.read(ROOT / deploy.TEMPLATE)
    written = deploy.with_image(template, deploy.TEMPLATE, image, "v1.0.0")
    assert f"image: {image} # v1.0.0\n" in written
    assert len(written.splitlines()) == len(template.splitlines())
    two = ROOT / "cluster/serve-two.yaml"
    with pytest.raises(
        UserError, match=r"expected one image of classifier, got .*/classifier:v1.0, .*/classifier:v1.1"
    ):
        deploy.with_image(deploy.read(two), two, image, "v1.0.0")


def test_what_cannot_be_deployed(inspected: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docker = inspected / "bin/docker"
    with pytest.raises(UserError, match=r"expected one such as example.org/team/, got 'a b/'"):
        deployed_by(monkeypatch, "--registry", "a b/", "classifier@v1.0.0")
    with pytest.raises(UserError, match=r"takes the version from test. Remove deploy/test/ by hand"):
        deployed_by(monkeypatch, "--registry", "a.b/", "classifier#test!#3")
    for manifest, message in (
        (MANIFEST.replace("classifier:latest", "other:latest"), "expected one image of classifier, got none"),
        (MANIFEST + "          image: a.b/classifier:v2\n", "got a.b/classifier:v2, classifier:latest"),
    ):
        (inspected / "cluster/serve.yaml").write_text(manifest)
        with pytest.raises(UserError, match=message):
            deployed_by(monkeypatch, "--registry", "a.b/", "classifier@v1.0.0")
    docker.write_text("#!/bin/sh\necho 'manifest unknown' >&2; exit 1\n")
    with pytest.raises(UserError, match=r"a.b/classifier:v1.0.0: manifest unknown"):
        deployed_by(monkeypatch, "--registry", "a.b/", "classifier@v1.0.0")
    docker.unlink()
    monkeypatch.setenv("PATH", str(inspected))
    with pytest.raises(UserError, match="docker is not installed"):
        deployed_by(monkeypatch, "--registry", "a.b/", "classifier@v1.0.0")
    assert not (inspected / "deploy").exists()
