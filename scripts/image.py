"""The image and its modes: `make image`, `make shell`, `make jupyter`, `make ssh`.

Its name is pytorch-cuda:v<torch version>-<digest of what it is built from>, so a name means one content for ever: an
image that exists under its name is neither built nor pushed again. docker, podman or buildah builds; docker or podman
runs.
"""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from stages.errors import UserError, run_main

ROOT = Path(__file__).parent.parent
# What the Dockerfile copies, and itself.
INGREDIENTS = (
    "Dockerfile",
    "docker/entrypoint.sh",
    "docker/sshd_config",
    "requirements-jupyter.lock",
    "requirements.lock",
    "scripts/install.py",
)
TARGETS = ("train", "jupyter", "ssh")
PORTS = {"jupyter": 8888, "ssh": 2222}
BUILDERS, RUNNERS = ("docker", "podman", "buildah"), ("docker", "podman")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m scripts.image", description="The image and its modes.")
    parser.add_argument("verb", choices=["name", "build", "push", "shell", "jupyter", "ssh"])
    parser.add_argument("--target", choices=TARGETS, default="train", help="for name, build and push (default: train)")
    parser.add_argument("--registry", default="", help="such as registry.example.org/team/, before the name")
    arguments = parser.parse_args()
    if arguments.verb == "name":
        print(image_name(arguments.target, arguments.registry))
    elif arguments.verb == "build":
        build(arguments.target, arguments.registry)
    elif arguments.verb == "push":
        push(arguments.target, arguments.registry)
    else:
        start(arguments.verb)


def image_name(target: str = "train", registry: str = "", root: Path = ROOT) -> str:
    """What the image is called: the version of PyTorch, and a digest of everything that it is built from."""
    torch = re.search(r"^torch==([\d.]+)", (root / "requirements.lock").read_text(), re.MULTILINE)
    assert torch, "requirements.lock has no torch"
    digest = hashlib.sha256()
    for path in INGREDIENTS:
        digest.update(f"{path}\0".encode() + (root / path).read_bytes() + b"\0")
    digest.update(os.environ.get("BASE", "").encode())
    kind = "" if target == "train" else f"-{target}"
    return f"{registry}pytorch-cuda:v{torch.group(1)}-{digest.hexdigest()[:12]}{kind}"


def build(target: str, registry: str = "") -> str:
    """Build the image if there is none under its name; the name. BASE in the environment names another base image."""
    name = image_name(target, registry)
    program = program_of(BUILDERS)
    if exists(program, name):
        print(f"image: {name} is there; a name is never built twice")
        return name
    print(f"image: {program} builds {name}", flush=True)
    command = [program, "build", "--target", target, "--tag", name, "--build-arg", f"IMAGE={name}"]
    if program != "docker":
        # Their own format knows no HEALTHCHECK and no SHELL.
        command += ["--format", "docker"]
    if "BASE" in os.environ:
        command += ["--build-arg", f"BASE={os.environ['BASE']}"]
    command += os.environ.get("BUILD_OPTIONS", "").split()
    if subprocess.run([*command, "."], cwd=ROOT).returncode:
        raise UserError(f"image: {program} could not build {name}; its own words stand above.")
    return name


def push(target: str, registry: str) -> None:
    """Push the image, unless the registry has one under its name. UserError without a registry."""
    if not registry:
        raise UserError("image: push where? --registry registry.example.org/team/")
    name = build(target, registry)
    program = program_of(BUILDERS)
    inspect = [program, "manifest", "inspect", name if program != "buildah" else f"docker://{name}"]
    if subprocess.run(inspect, capture_output=True).returncode == 0:
        print(f"image: the registry has {name}; a name is never pushed over")
        return
    if subprocess.run([program, "push", name]).returncode:
        raise UserError(f"image: {program} could not push {name}; its own words stand above.")


def start(mode: str) -> None:
    """Start a shell, JupyterLab or sshd in the image, with the project mounted, GPUs where the host has them."""
    target = "train" if mode == "shell" else mode
    name = build(target)
    program = program_of(RUNNERS)
    command = [program, "run", "--rm", "--volume", f"{ROOT}:/project"]
    # PyTorch's DataLoader workers pass batches through shared memory; 64 MB, the default, is too small for them.
    command += ["--shm-size", "8g"]
    if shutil.which("nvidia-smi"):
        command += ["--gpus", "all"] if program == "docker" else ["--device", "nvidia.com/gpu=all"]
    if mode == "shell":
        command += ["--interactive", *(["--tty"] if sys.stdin.isatty() else []), name, "bash"]
    else:
        command += ["--publish", f"127.0.0.1:{os.environ.get('PORT', PORTS[mode])}:{PORTS[mode]}"]
        if mode == "ssh":
            command += ["--env", f"AUTHORIZED_KEYS={public_keys()}"]
        command.append(name)
    print(f"image: {mode} in {name}, /project is {ROOT}", flush=True)
    sys.exit(subprocess.run(command).returncode)


def public_keys() -> str:
    """The keys that may log in: AUTHORIZED_KEYS, else this user's own. UserError where there is none."""
    if keys := os.environ.get("AUTHORIZED_KEYS"):
        return keys
    found = [path.read_text().strip() for path in sorted((Path.home() / ".ssh").glob("id_*.pub"))]
    if not found:
        raise UserError("ssh: no public key in ~/.ssh. `ssh-keygen -t ed25519` makes one; or set AUTHORIZED_KEYS.")
    return "\n".join(found)


def program_of(names: tuple[str, ...]) -> str:
    """The first of these programs that is installed and answers. UserError where none does."""
    for name in names:
        if shutil.which(name) and subprocess.run([name, "info"], capture_output=True).returncode == 0:
            return name
    raise UserError(f"image: none of {', '.join(names)} works here. Install one of them, or start its service.")


def exists(program: str, name: str) -> bool:
    """Whether there is a local image of this name."""
    kind = ["inspect", "--type", "image"] if program == "buildah" else ["image", "inspect"]
    return subprocess.run([program, *kind, name], capture_output=True).returncode == 0


if __name__ == "__main__":
    run_main(main)
