"""The image's name says what is in it, and a name is never built twice; what is missing is said.

Building and starting it takes minutes, so those tests run by `pytest -m image` alone, with docker or podman, as root.
BASE, BUILD_OPTIONS and RUN_OPTIONS say what a build and a run need on this machine (docs/image.md).
"""

import os
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import yaml

from scripts.image import INGREDIENTS, ROOT, RUNNERS, TARGETS, container_command, image_name, options, program_of
from tests.project import BIN, edit_params, refusal, run
from tests.servers import free_port, registry

_PATIENCE_SECONDS = 60
_IMAGE: list[str | Path] = [BIN / "python", "-m", "scripts.image"]


def test_a_name_means_one_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another ingredient, base or mode is another name; the project's code is none of them."""
    monkeypatch.delenv("BASE", raising=False)
    for path in (*INGREDIENTS, "stages/predict.py"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / path)
    name = image_name(root=tmp_path)
    assert re.fullmatch(r"pytorch-cuda:v2\.11-[0-9a-f]{12}", name)
    assert image_name("ssh", "example.org/team/", tmp_path) == f"example.org/team/{name}-ssh"
    (tmp_path / "stages/predict.py").write_text("")
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
    copies = re.findall(r"^COPY (?:--\S+ )*(.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    copied = " ".join(copies).split()
    assert {"Dockerfile", *copied} == set(INGREDIENTS)
    allowed = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    assert set(allowed) == set(copied)


def test_nothing_that_runs_in_a_container_gains_rights() -> None:
    """By a setuid bit, by a token of the cluster, or as a user other than the project's."""
    command = container_command("docker", [])
    assert command[command.index("--security-opt") + 1] == "no-new-privileges"
    assert "as_owner=(setpriv --no-new-privs)" in (ROOT / "docker/entrypoint.sh").read_text()
    assert "\nAllowUsers project\n" in (ROOT / "docker/sshd_config").read_text()
    job = list(yaml.safe_load_all((ROOT / "cluster/kubernetes.yaml").read_text()))[1]["spec"]["template"]["spec"]
    assert job["automountServiceAccountToken"] is False
    with_keys = {one["name"] for one in job["initContainers"] + job["containers"] if "envFrom" in one}
    assert with_keys == {"fetch", "push"}


def slurm_job(folder: Path, *options: str, **variables: str) -> tuple[set[str], str]:
    """The variables and the arguments that dvc gets in the job. It and scontrol are played, as a real Slurm takes
    minutes."""
    for name, text in {"scontrol": "echo node1", "dvc": "env | sed -n 's/=.*//p' > seen; echo $* > arguments"}.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    keys = {"AWS_ACCESS_KEY_ID": "id", "AZURE_STORAGE_KEY": "key", "GOOGLE_APPLICATION_CREDENTIALS": "file"}
    path = f"{folder}:{os.environ['PATH']}"
    job = {"SLURM_JOB_NODELIST": "node1", "SLURM_JOB_ID": "7", "VENV": "none", "PATH": path, "KEPT": "yes"}
    command: list[str | Path] = ["env", *(f"{name}={value}" for name, value in (keys | job | variables).items())]
    run([*command, "bash", ROOT / "cluster/slurm.sh", *options], folder)
    seen = set((folder / "seen").read_text().split())
    assert "KEPT" in seen
    return seen & set(keys), (folder / "arguments").read_text().strip()


def test_a_slurm_job_has_no_keys(tmp_path: Path) -> None:
    assert slurm_job(tmp_path) == (set(), "repro")


def test_a_slurm_job_that_streams_has_keys(tmp_path: Path) -> None:
    keys, arguments = slurm_job(tmp_path, "--single-item", "train", SHARDS_FROM="storage")
    assert len(keys) == 3
    assert arguments == "repro --single-item train"


@pytest.mark.slow
def test_without_a_builder(tmp_path: Path) -> None:
    (tmp_path / "git").symlink_to(shutil.which("git") or "")
    message = refusal(run([*_IMAGE, "build"], ROOT, expect=1, PATH=str(tmp_path)))
    assert "none of docker, podman, buildah works here" in message


@pytest.mark.slow
def test_a_port_that_is_taken() -> None:
    """It is said before anything is built."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        message = refusal(run([*_IMAGE, "jupyter"], ROOT, expect=1, PORT=str(port)))
    assert f"jupyter: port {port} of this machine cannot be used (Address already in use)" in message
    assert f"make jupyter PORT={port + 1}" in message
    assert "PORT: expected a number from 1 to 65535, got '80a'" in refusal(
        run([*_IMAGE, "ssh"], ROOT, expect=1, PORT="80a")
    )


def test_no_key_that_could_log_in(tmp_path: Path) -> None:
    """Said before anything is built, too."""
    message = refusal(run([*_IMAGE, "ssh"], ROOT, expect=1, HOME=str(tmp_path), PORT=str(free_port())))
    assert "no public key in ~/.ssh" in message


@pytest.mark.parametrize(("version", "refused"), [("570.195.03", True), ("580.65.06", False), ("600.1", False)])
def test_a_driver_too_old_for_cuda(version: str, refused: bool, tmp_path: Path) -> None:
    """The entry point asks nvidia-smi, which is played here: a real one needs a GPU. A new driver passes this check."""
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\necho {version}\n")
    program.chmod(0o755)
    done = run(
        ["bash", ROOT / "docker/entrypoint.sh", "true"], tmp_path, expect=None, PATH=f"{tmp_path}:{os.environ['PATH']}"
    )
    assert ("driver is 570.195.03; PyTorch's CUDA 13 needs 580 or newer" in done.stderr) == refused
    assert ("/project holds no dvc.yaml" in done.stderr) != refused


def test_a_project_that_is_not_mounted(tmp_path: Path) -> None:
    message = refusal(run(["bash", ROOT / "docker/entrypoint.sh", "true"], tmp_path, expect=1))
    assert 'Mount the project there: --volume "$PWD":/project' in message


@pytest.fixture(scope="session")
def program() -> str:
    """What runs images here."""
    if os.getuid() == 0:
        with suppress(SystemExit):
            return program_of(RUNNERS)
    pytest.skip("needs docker or podman, started, and root, who may give the project to others")


@pytest.fixture(scope="session")
def built(program: str) -> str:
    for target in TARGETS:
        run([*_IMAGE, "build", "--target", target], ROOT, timeout=1800)
    return image_name()


@pytest.fixture
def project(reproduced_clone: Path, tmp_path: Path) -> Path:
    """A clone with a result made on this machine, owned by somebody who is not in the image."""
    folder = Path(shutil.copytree(reproduced_clone, tmp_path / "project", symlinks=True))
    for parent in tmp_path.parents[:2]:
        parent.chmod(0o755)
    tmp_path.chmod(0o755)
    subprocess.run(["chown", "--recursive", "1234:1234", folder], check=True)
    return folder


def inside(program: str, image: str, project: Path, *command: str, more: Sequence[str] = ()) -> list[str]:
    """The command line that runs `command` in the image."""
    return [program, "run", "--rm", "--volume", f"{project}:/project", *options("RUN_OPTIONS"), *more, image, *command]


@contextmanager
def started(mode: str, project: Path, **environment: str) -> Iterator["subprocess.Popen[str]"]:
    """A mode, as `make` starts it in the project."""
    process = subprocess.Popen(
        [".venv/bin/python", "-m", "scripts.image", mode],
        cwd=project,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


@pytest.mark.image
def test_the_same_bytes_as_on_the_host(program: str, built: str, project: Path) -> None:
    """The host's result, run again in the image by `review reproduce`; then a stage, whose record names the image."""
    identical = run(inside(program, built, project, "python", "-m", "review", "reproduce", "HEAD"), project)
    assert "identical. 16 of 16 outputs have the same bytes" in identical.stdout
    run(inside(program, built, project, "dvc", "repro", "--force", "--quiet"), project)
    assert built in (project / "metrics/environment.json").read_text()
    assert (project / "models/model.safetensors").stat().st_uid == 1234


@pytest.mark.image
def test_neither_data_nor_code_is_in_the_image(program: str, built: str, tmp_path: Path) -> None:
    listing = run(
        [program, "run", "--rm", *options("RUN_OPTIONS"), "--entrypoint", "find", built, "/project"], tmp_path
    )
    assert listing.stdout.split() == ["/project"]
    assert (
        "/project holds no dvc.yaml"
        in run([program, "run", "--rm", *options("RUN_OPTIONS"), built], tmp_path, expect=1).stderr
    )


@pytest.mark.image
def test_the_unit_tests_pass_inside(program: str, built: str, project: Path) -> None:
    command = inside(program, built, project, "python", "-m", "pytest", "tests/stages", more=["--shm-size", "8g"])
    assert re.search(r"\d+ passed", run(command, project, timeout=1200).stdout)


@pytest.mark.image
def test_read_only_and_a_uid_without_a_name(program: str, built: str, project: Path) -> None:
    command = [program, "run", "--rm", *options("RUN_OPTIONS"), "--volume", f"{project}:/project:ro", built]
    assert "/project, which belongs to uid 1234, is not writable for uid 1234" in refusal(
        run(command, project, expect=1)
    )
    run(inside(program, built, project, "dvc", "repro", "--force", "--quiet", more=["--user", "1234:1234"]), project)
    message = refusal(run(inside(program, built, project, more=["--user", "4321"]), project, expect=1))
    assert "/project, which belongs to uid 1234, is not writable for uid 4321" in message


@pytest.mark.image
def test_stopped_and_started_again(program: str, built: str, project: Path) -> None:
    """SIGTERM to the container saves the training's state; the next one goes on from there."""
    edit_params(project, epochs=500)
    name = f"stopped-{os.getpid()}"
    command = inside(program, built, project, more=["--name", name])
    for expected in ("  epoch   2/500", "  resumed from epoch"):
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            assert process.stdout is not None
            assert any(line.startswith(expected) for line in process.stdout)
            run([program, "stop", "--time", str(_PATIENCE_SECONDS), name], project)
            assert "stopped by SIGTERM" in process.stdout.read()
        assert process.returncode == 143


@pytest.mark.image
def test_jupyter_asks_for_its_token(built: str, project: Path) -> None:
    """And opens the notebook."""
    port = free_port()
    with started("jupyter", project, PORT=str(port)) as process:
        assert process.stdout is not None
        printed = rf"http://127\.0\.0\.1:{port}/lab\?token=(\w+)"
        token = next(match.group(1) for line in process.stdout if (match := re.search(printed, line)))
        address = f"http://127.0.0.1:{port}/api/contents/notebooks/explore.py"
        assert urllib.request.urlopen(f"{address}?token={token}").status == 200
        for wrong in (address, f"{address}?token=guess"):
            with pytest.raises(urllib.error.HTTPError, match="403"):
                urllib.request.urlopen(wrong)


@pytest.mark.image
def test_the_notebook_runs_by_jupytext(program: str, built: str, project: Path) -> None:
    command = ["jupytext", "--to", "ipynb", "--execute", "notebooks/explore.py", "--output", "explored.ipynb"]
    run(inside(program, f"{built}-jupyter", project, *command), project)
    assert "val accuracy" in (project / "explored.ipynb").read_text()


@pytest.mark.image
def test_ssh_lets_in_by_key_alone(built: str, project: Path, tmp_path: Path) -> None:
    for name in ("known", "unknown"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name], check=True)
    port = free_port()
    options = ["-p", str(port), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
    options += ["-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"]
    log_in: list[str | Path] = ["ssh", *options, "-i", tmp_path / "known", "project@127.0.0.1"]
    with started("ssh", project, PORT=str(port), AUTHORIZED_KEYS=(tmp_path / "known.pub").read_text().strip()):
        until = time.monotonic() + _PATIENCE_SECONDS
        while subprocess.run([*log_in, "true"], capture_output=True).returncode:
            assert time.monotonic() < until
        assert run([*log_in, "dvc", "--version"], tmp_path).stdout.startswith("3.")
        run([*log_in, "cd /project && dvc repro --force --quiet"], tmp_path)
        refused: list[list[str | Path]] = [
            ["ssh", *options, "-i", tmp_path / "unknown", "project@127.0.0.1", "true"],
            ["ssh", *options, "-o", "PubkeyAuthentication=no", "project@127.0.0.1", "true"],
            ["ssh", *options, "-i", tmp_path / "known", "root@127.0.0.1", "true"],
        ]
        for wrong in refused:
            assert "Permission denied" in run(wrong, tmp_path, expect=255).stderr
    assert (project / "models/model.safetensors").stat().st_uid == 1234


@pytest.mark.image
def test_a_name_is_never_pushed_over(program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real registry on loopback; the base, which is small, stands for the image under its name there."""
    with registry(tmp_path / "registry") as server:
        place = f"localhost:{server.port}/team/"
        settings = tmp_path / "registries.conf"
        settings.write_text(f"[[registry]]\nlocation = 'localhost:{server.port}'\ninsecure = true\n")
        monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(settings))
        run([program, "tag", os.environ["BASE"], image_name(registry=place)], ROOT)
        push: list[str | Path] = [*_IMAGE, "push", "--target", "train", "--registry", place]
        run(push, ROOT)
        pushed = sorted(server.folder.rglob("link"))
        assert any(image_name().split(":")[1] in path.parts for path in pushed)
        assert "a name is never pushed over" in run(push, ROOT).stdout
        assert sorted(server.folder.rglob("link")) == pushed
    assert "cannot tell whether the registry has" in refusal(run(push, ROOT, expect=1))


def test_pushed_where() -> None:
    assert "make publish REGISTRY=" in refusal(run([*_IMAGE, "push"], ROOT, expect=1))
