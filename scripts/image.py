"""The image and its modes: `make image`, `make publish`, `make shell`, `make jupyter`, `make ssh`.

Its name is pytorch-cuda:v<torch's minor version>-<digest of what it is built from>, so a name means one content for
ever: an image that exists under its name is neither built nor pushed again. docker, podman or buildah builds; docker or
podman runs.
"""

import argparse
import hashlib
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path

from scripts.install import fail

ROOT = Path(__file__).parent.parent
# What the Dockerfile copies, and itself.
INGREDIENTS = (
    "Dockerfile",
    "docker/entrypoint.sh",
    "docker/sshd_config",
    "requirements-jupyter.lock",
    "requirements.lock",
    "scripts/install.py",
    "scripts/startup.py",
)
TARGETS = ("train", "jupyter", "ssh")
MODES = ("shell", "jupyter", "ssh")
PORTS = {"jupyter": 8888, "ssh": 2222}
BUILDERS, RUNNERS = ("docker", "podman", "buildah"), ("docker", "podman")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.image",
        description="The image and its modes.",
        epilog="In the environment: BASE names another base image, PORT another port; BUILD_OPTIONS, PUSH_OPTIONS and "
        "RUN_OPTIONS go to the program that builds, pushes and runs.",
    )
    parser.add_argument("verb", choices=["name", "build", "push", *MODES])
    parser.add_argument("--target", choices=TARGETS, help="for name and build (default: train), push (default: all)")
    parser.add_argument("--registry", default="", help="such as registry.example.org/team/, before the name")
    arguments = parser.parse_args()
    if arguments.verb == "name":
        print(image_name(arguments.target or "train", arguments.registry))
    elif arguments.verb == "build":
        build(arguments.target or "train", arguments.registry)
    elif arguments.verb == "push":
        for target in [arguments.target] if arguments.target else TARGETS:
            push(target, arguments.registry)
    else:
        start(arguments.verb)


def image_name(target: str = "train", registry: str = "", root: Path = ROOT) -> str:
    """What the image is called: the version of PyTorch, and a digest of everything that it is built from."""
    torch = re.search(r"^torch==(\d+\.\d+)", (root / "requirements.lock").read_text(), re.MULTILINE)
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
    build_in(ROOT, program, name, "--target", target, "--build-arg", f"IMAGE={name}")
    return name


def build_in(folder: Path, program: str, name: str, *arguments: str) -> None:
    """Build an image from what a folder holds. Ends with a message where that fails."""
    print(f"image: {program} builds {name}", flush=True)
    command = [program, "build", "--tag", name, *arguments]
    if program != "docker":
        # Their own format knows no HEALTHCHECK and no SHELL.
        command += ["--format", "docker"]
    if "BASE" in os.environ:
        command += ["--build-arg", f"BASE={os.environ['BASE']}"]
    command += options("BUILD_OPTIONS")
    if subprocess.run([*command, "."], cwd=folder).returncode:
        fail(f"image: {program} could not build {name}; its message is above.")


def push(target: str, registry: str) -> None:
    """Push the image, unless the registry has one under its name. Ends with a message where that cannot be told."""
    if not registry:
        fail("image: push where? `make publish REGISTRY=registry.example.org/team/`")
    program = program_of(RUNNERS)
    push_by(program, build(target, registry))


def push_by(program: str, name: str) -> None:
    """Push an image, unless the registry has one under its name. Ends with a message where that cannot be told."""
    if is_published(program, name):
        print(f"image: the registry has {name}; a name is never pushed over")
        return
    if subprocess.run([program, "push", *options("PUSH_OPTIONS"), name]).returncode:
        fail(f"image: {program} could not push {name}; its message is above.")


def is_published(program: str, name: str) -> bool:
    """Whether the registry has an image of this name. Ends with a message where it does not say."""
    # docker itself takes a registry on this machine for one without TLS, but for this question.
    insecure = ["--insecure"] if program == "docker" and name.startswith(("localhost:", "127.")) else []
    asked = subprocess.run(
        [program, "manifest", "inspect", *insecure, name], capture_output=True, encoding="utf-8", errors="replace"
    )
    # podman reads the manifest, and then complains that it is of one image, not of a list.
    if asked.returncode == 0 or "parsing manifest blob" in asked.stderr:
        return True
    if re.search(r"no such manifest|(manifest|name) unknown|repository name not known", asked.stderr):
        return False
    fail(
        f"image: cannot tell whether the registry has {name}, and a name is never pushed over. {program} says: "
        f"{asked.stderr.strip()}\nLog in (`{program} login`), or check the registry's address."
    )


def start(mode: str) -> None:
    """Start a shell, JupyterLab or sshd in the image, with the project mounted, GPUs where the host has them."""
    # What can be refused is refused before a build, which may take minutes.
    port = port_options(mode)
    keys = ["--env", f"AUTHORIZED_KEYS={public_keys()}"] if mode == "ssh" else []
    name = build("train" if mode == "shell" else mode)
    program = program_of(RUNNERS)
    command = container_command(program, port)
    # PyTorch's DataLoader workers pass batches through shared memory; 64 MB, the default, is too small for them.
    command += ["--shm-size", "8g"]
    if shutil.which("nvidia-smi"):
        command += ["--gpus", "all"] if program == "docker" else ["--device", "nvidia.com/gpu=all"]
    if program == "podman" and os.getuid() != 0:
        # The project then belongs to its owner inside, too; the entry point starts as root to become that owner.
        command += ["--userns", "keep-id", "--user", "0"]
    for key, value in identity().items():
        command += ["--env", f"{key}={value}"]
    if (ROOT / ".env").exists():
        print("image: .env gives its variables to what runs inside")
        command += ["--env-file", str(ROOT / ".env")]
    command += keys + options("RUN_OPTIONS")
    if mode == "shell":
        command += ["--interactive", *(["--tty"] if sys.stdin.isatty() else []), name, "bash"]
    else:
        command.append(name)
    print(f"image: {mode} in {name}, /project is {ROOT}", flush=True)
    sys.exit(subprocess.run(command).returncode)


def container_command(program: str, more: list[str]) -> list[str]:
    """What starts a container with the project mounted, in which no program gains rights by a setuid bit."""
    return [program, "run", "--rm", "--security-opt", "no-new-privileges", "--volume", f"{ROOT}:/project", *more]


def port_options(mode: str) -> list[str]:
    """The options that make the mode's port one of this machine's. Ends with a message where that is taken or none."""
    if mode not in PORTS:
        return []
    port = os.environ.get("PORT") or str(PORTS[mode])
    if not (port.isdecimal() and 0 < int(port) < 65536):
        fail(f"{mode}: PORT: expected a number from 1 to 65535, got {port!r}.")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", int(port)))
        except OSError as error:
            fail(
                f"{mode}: port {port} of this machine cannot be used ({error.strerror}). "
                f"Choose another: `make {mode} PORT={int(port) + 1}`"
            )
    if mode == "jupyter":
        # The server listens on the same number, because it prints its address.
        return ["--env", f"JUPYTER_PORT={port}", "--publish", f"127.0.0.1:{port}:{port}"]
    return ["--publish", f"127.0.0.1:{port}:{PORTS[mode]}"]


def identity() -> dict[str, str]:
    """Who commits: Git's name and address of this user, which `git commit` and `dvc exp run` ask for inside."""
    found: dict[str, str] = {}
    for key in ("name", "email"):
        asked = subprocess.run(
            ["git", "config", f"user.{key}"], cwd=ROOT, capture_output=True, encoding="utf-8", errors="replace"
        )
        if value := asked.stdout.strip():
            found |= {f"GIT_AUTHOR_{key.upper()}": value, f"GIT_COMMITTER_{key.upper()}": value}
    return found


def public_keys() -> str:
    """The keys that may log in: AUTHORIZED_KEYS, else this user's own. Ends with a message where there is none."""
    if keys := os.environ.get("AUTHORIZED_KEYS"):
        return keys
    found = [path.read_text().strip() for path in sorted((Path.home() / ".ssh").glob("id_*.pub"))]
    if not found:
        fail("ssh: no public key in ~/.ssh. `ssh-keygen -t ed25519` makes one; or set AUTHORIZED_KEYS.")
    return "\n".join(found)


def program_of(names: tuple[str, ...]) -> str:
    """The first of these programs that is installed and answers. Ends with a message where none does."""
    for name in names:
        if shutil.which(name) and subprocess.run([name, "info"], capture_output=True).returncode == 0:
            return name
    fail(f"image: none of {', '.join(names)} works here. Install one of them, or start its service.")


def options(variable: str) -> list[str]:
    """More options for docker, podman or buildah, split as a shell does, from a variable of the environment."""
    return shlex.split(os.environ.get(variable, ""))


def exists(program: str, name: str) -> bool:
    """Whether there is a local image of this name."""
    kind = ["inspect", "--type", "image"] if program == "buildah" else ["image", "inspect"]
    return subprocess.run([program, *kind, name], capture_output=True).returncode == 0


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
