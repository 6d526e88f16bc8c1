"""The image's name says what is in it, and a name is never built twice; without a builder there is a message.

Building and starting it takes minutes and a base image, so those tests run by `pytest -m image` alone: as root, with
buildah, BASE naming a local Debian image and BUILD_OPTIONS what its build needs here (README).
"""

import os
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from scripts.image import INGREDIENTS, ROOT, TARGETS, image_name
from tests.project import BIN, refusal, run
from tests.servers import free_port

_PATIENCE_SECONDS = 60


def test_a_name_means_one_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another ingredient, base or mode is another name; the project's code is none of them."""
    monkeypatch.delenv("BASE", raising=False)
    for path in (*INGREDIENTS, "stages/train.py"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / path)
    name = image_name(root=tmp_path)
    assert re.fullmatch(r"pytorch-cuda:v2\.11\.0-[0-9a-f]{12}", name)
    assert image_name("ssh", "example.org/team/", tmp_path) == f"example.org/team/{name}-ssh"
    (tmp_path / "stages/train.py").write_text("")
    assert image_name(root=tmp_path) == name
    names = {name}
    for path in INGREDIENTS:
        with (tmp_path / path).open("a") as stream:
            stream.write("# more\n")
        names.add(image_name(root=tmp_path))
    monkeypatch.setenv("BASE", "localhost/other")
    names.add(image_name(root=tmp_path))
    assert len(names) == len(INGREDIENTS) + 2


def test_the_ingredients_are_what_the_dockerfile_copies() -> None:
    copied = re.findall(r"^COPY (?:--\S+ )*(\S+) ", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert {"Dockerfile", *copied} == set(INGREDIENTS)
    allowed = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    assert set(allowed) == set(copied)


def test_without_a_builder(tmp_path: Path) -> None:
    (tmp_path / "git").symlink_to(shutil.which("git") or "")
    message = refusal(run([BIN / "python", "-m", "scripts.image", "build"], ROOT, expect=1, PATH=str(tmp_path)))
    assert "none of docker, podman, buildah works here" in message


@pytest.fixture
def built() -> str:
    if os.getuid() != 0 or not shutil.which("buildah") or "BASE" not in os.environ:
        pytest.skip("building here takes root, buildah and BASE, a local Debian image")
    for target in TARGETS:
        run([BIN / "python", "-m", "scripts.image", "build", "--target", target], ROOT, timeout=1800)
    return image_name()


@contextmanager
def started(image: str, project: Path, *command: str, **environment: str) -> Iterator["subprocess.Popen[str]"]:
    container = subprocess.run(["buildah", "from", image], capture_output=True, text=True, check=True).stdout.strip()
    options = [part for name, value in environment.items() for part in ("--env", f"{name}={value}")]
    process = subprocess.Popen(
        [
            "buildah",
            "run",
            "--isolation",
            "chroot",
            *options,
            "--volume",
            f"{project}:/project",
            container,
            "--",
            *command,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        subprocess.run(["pkill", "--parent", str(process.pid)])
        process.terminate()
        process.wait()
        subprocess.run(["buildah", "rm", container], capture_output=True)


@pytest.fixture
def project(pristine_clone: Path, tmp_path: Path) -> Path:
    """A clone that belongs to somebody who is not in the image."""
    folder = Path(shutil.copytree(pristine_clone, tmp_path / "project", symlinks=True))
    (folder / ".venv").unlink()
    tmp_path.chmod(0o755)
    subprocess.run(["chown", "--recursive", "1234:1234", folder], check=True)
    return folder


@pytest.mark.image
def test_the_pipeline_gives_the_same_bytes(built: str, project: Path) -> None:
    with started(built, project, "entrypoint", "make", "repro") as process:
        printed, _ = process.communicate()
    assert "identical byte for byte (17 of 17 outputs)" in printed
    assert (project / "models/model.safetensors").stat().st_uid == 1234
    assert built in (project / "metrics/environment.json").read_text()


@pytest.mark.image
def test_jupyter_asks_for_its_token(built: str, project: Path) -> None:
    port = free_port()
    command = ["entrypoint", "jupyter", "lab", "--ip=127.0.0.1", f"--port={port}", "--no-browser"]
    with started(f"{built}-jupyter", project, *command) as process:
        assert process.stdout is not None
        token = next(match.group(1) for line in process.stdout if (match := re.search(r"token=(\w+)", line)))
        address = f"http://127.0.0.1:{port}/api/contents"
        assert urllib.request.urlopen(f"{address}?token={token}").status == 200
        for wrong in (address, f"{address}?token=guess"):
            with pytest.raises(urllib.error.HTTPError, match="403"):
                urllib.request.urlopen(wrong)


@pytest.mark.image
def test_ssh_lets_in_by_key_alone(built: str, project: Path, tmp_path: Path) -> None:
    for name in ("known", "unknown"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name], check=True)
    options = ["-p", "2222", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
    options += ["-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"]
    log_in: list[str | Path] = ["ssh", *options, "-i", tmp_path / "known", "project@127.0.0.1"]
    keys = (tmp_path / "known.pub").read_text().strip()
    with started(f"{built}-ssh", project, "entrypoint", "sshd", AUTHORIZED_KEYS=keys):
        until = time.monotonic() + _PATIENCE_SECONDS
        while subprocess.run([*log_in, "true"], capture_output=True).returncode:
            assert time.monotonic() < until
        assert run([*log_in, "dvc", "--version"], tmp_path).stdout.startswith("3.")
        refused: list[list[str | Path]] = [
            ["ssh", *options, "-i", tmp_path / "unknown", "project@127.0.0.1", "true"],
            ["ssh", *options, "-o", "PubkeyAuthentication=no", "project@127.0.0.1", "true"],
            ["ssh", *options, "-i", tmp_path / "known", "root@127.0.0.1", "true"],
        ]
        for wrong in refused:
            assert "Permission denied" in run(wrong, tmp_path, expect=255).stderr
