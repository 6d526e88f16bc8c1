"""`python -m review reproduce`: an honest claim is identical, a planted one is not, and nothing is left behind."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.project import BIN, COLD, edit_params, refusal, relock, run, user_environment

CONFINED: list[str | Path] = [BIN / "python", "-m", "review", "reproduce"]
# The verdict is the same; in the sandbox processes start cold, which takes longer.
REPRODUCE: list[str | Path] = [*CONFINED, "--no-sandbox"]


def commit(folder: Path) -> None:
    run("git commit --quiet --all --message claimed", folder)


def nothing_left(folder: Path) -> None:
    assert not any((folder / ".dvc/tmp/reproduce").iterdir())
    assert len(run("git worktree list", folder).stdout.splitlines()) == 1


def test_an_honest_claim_is_identical(copy_reproduced: Callable[[str], Path]) -> None:
    """Run in a clean checkout, while the workspace holds unfinished work, which stays as it is."""
    folder = copy_reproduced("ehrlich ä")
    edit_params(folder, lr=0.2)
    shutil.rmtree(folder / "prepared")
    before = run("git status --porcelain --ignored", folder).stdout
    done = run([*CONFINED, "HEAD"], folder)
    # The project may have a claim, which is of another model than this clone's.
    verdict = r"HEAD \(\w{7}\): identical. 16 of 16 outputs have the same bytes.\n"
    assert re.fullmatch(rf"{verdict}(  test accuracy: not claimed in HEAD .*\n)?", done.stdout)
    assert run("git status --porcelain --ignored", folder).stdout == before
    nothing_left(folder)
    (folder / "code.py").touch()
    command = [*REPRODUCE, "HEAD", "--stage", "evaluate", "--at-most", "9", "--markdown", "x.md"]
    stage = run(command, folder, GITHUB_ACTIONS="true")
    assert "identical. 10 of 10 outputs" in stage.stdout
    assert "::" not in stage.stdout
    assert "identical.** 10 of 10 outputs" in (folder / "x.md").read_text()
    assert "Running stage 'train'" not in stage.stderr


def test_a_run_that_takes_too_long_is_not_checked(copy_reproduced: Callable[[str], Path]) -> None:
    """It is stopped, and nothing passes in silence: not by the code, not in the log, not in the report."""
    folder = copy_reproduced("long")
    command = [*REPRODUCE, "HEAD", "--at-most", "0.01", "--markdown", "x.md"]
    done = run(command, folder, expect=3, GITHUB_ACTIONS="true")
    assert "): not checked. The run was not over after 0.01 minutes, and was stopped" in done.stdout
    assert re.search(r"metrics/run.json says that its training took [\d.]+ seconds, which nobody has", done.stdout)
    assert "\n::warning title=reproduce: not checked::HEAD (" in done.stdout
    assert "**Nobody has checked this claim:**" in (folder / "x.md").read_text()
    nothing_left(folder)
    done = run([*command, "--allow", "not checked=a test"], folder)
    assert "  allowed: a test\n" in done.stdout
    assert "It may go in nevertheless: a test" in (folder / "x.md").read_text()
    for wrong in ("different=it is", "not checked="):
        assert "--allow: expected KIND=REASON" in refusal(run([*command, "--allow", wrong], folder, expect=1))


def test_a_forged_metric_is_different(copy_reproduced: Callable[[str], Path]) -> None:
    """Edited, it is seen without running; with dvc.lock edited to match, by running."""
    folder = copy_reproduced("forged")
    path = folder / "metrics/evaluate.json"
    metrics = json.loads(path.read_text())
    path.write_text(json.dumps(metrics | {"accuracy": 0.999}, indent=2) + "\n")
    commit(folder)
    done = run([*REPRODUCE, "HEAD"], folder, expect=1)
    assert "different. Its result is not that of its own code, params and data; nothing was run." in done.stdout
    assert "metrics/evaluate.json: not what evaluate wrote" in done.stdout
    relock(folder, "metrics/evaluate.json")
    commit(folder)
    done = run([*REPRODUCE, "HEAD", "--stage", "evaluate"], folder, expect=1)
    assert "different. 1 of 10 outputs have other bytes, in portable arithmetic" in done.stdout
    assert "since stage evaluate: metrics/evaluate.json" in done.stdout
    assert f"metrics/evaluate.json: accuracy claimed 0.999, here {metrics['accuracy']}" in done.stdout
    nothing_left(folder)
    # What is committed is what is read; another code would run.
    (folder / "stages/train/.gitattributes").write_text("optimizer.py working-tree-encoding=UTF-7\n")
    run("git add stages/train/.gitattributes", folder)
    commit(folder)
    done = run([*REPRODUCE, "HEAD"], folder, expect=1)
    assert "different. Git checks out other bytes than the commit has, by a .gitattributes; nothing was" in done.stdout
    assert done.stdout.endswith("\n  stages/train/optimizer.py\n")


def test_what_asks_for_a_gpu_is_not_run_without(copy_reproduced: Callable[[str], Path]) -> None:
    folder = copy_reproduced("gpu")
    lock = folder / "dvc.lock"
    edit_params(folder, device="cuda")
    lock.write_text(lock.read_text().replace("device: cpu", "device: cuda"))
    record = folder / "metrics/environment.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"device": "cuda"}))
    relock(folder, "metrics/environment.json")
    commit(folder)
    done = run([*REPRODUCE, "HEAD"], folder, expect=2, CUDA_VISIBLE_DEVICES="")
    assert "not comparable. Its params say device: cuda, and PyTorch sees no CUDA GPU here; nothing" in done.stdout
    assert "Running stage" not in done.stderr


def test_a_record_that_params_contradict(copy_reproduced: Callable[[str], Path]) -> None:
    """It is seen without running."""
    folder = copy_reproduced("forger")
    record = folder / "metrics/environment.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"device": "cuda", "precision": "bf16"}))
    relock(folder, "metrics/environment.json")
    commit(folder)
    done = run([*REPRODUCE, "HEAD"], folder, expect=1)
    assert "nothing was run." in done.stdout
    for text in ("device cuda, but params.yaml says cpu", "precision bf16, but params.yaml says fp32"):
        assert f"metrics/environment.json: {text}" in done.stdout


def test_what_cannot_be_told(copy_reproduced: Callable[[str], Path], tmp_path: Path) -> None:
    """No result; other packages; data that is nowhere: exit code 2, and what to do."""
    folder = copy_reproduced("unknown")
    text = (folder / "pyproject.toml").read_text()
    (folder / "pyproject.toml").write_text(text.replace("safetensors==0.8.0", "safetensors==0.7.9"))
    lock = (folder / "dvc.lock").read_text()
    (folder / "dvc.lock").write_text(lock.replace("safetensors==0.8.0", "safetensors==0.7.9"))
    commit(folder)
    done = run([*REPRODUCE, "HEAD"], folder, expect=2)
    assert "not comparable. Other packages are installed here" in done.stdout
    assert "safetensors: 0.7.9 in the run, 0.8.0 here" in done.stdout
    run("git rm --quiet dvc.lock && git commit --quiet --message none", folder)
    assert "not comparable. It claims nothing." in run([*REPRODUCE, "HEAD"], folder, expect=2).stdout
    colleague = tmp_path / "colleague"
    run(["git", "clone", "--quiet", folder, colleague], tmp_path)
    run("git checkout --quiet HEAD~2", colleague)
    version = yaml.safe_load((colleague / "data.dvc").read_text())["outs"][0]["md5"]
    run(["sed", "--in-place", f"s/{version}/{'0' * 32}.dir/", "data.dvc", "dvc.lock"], colleague)
    commit(colleague)
    done = run([*REPRODUCE, "HEAD"], colleague, expect=2)
    assert "not comparable. Data is missing" in done.stdout
    assert "data: neither in DVC's cache nor in the remote" in done.stdout
    nothing_left(colleague)


# Code of a branch that looks for what it should not have: a line for each kind that it gets hold of.
PROBE = """
import ctypes, os, pathlib, socket, urllib.request
def seen(kind, attempt):
    try:
        if attempt(): print("SEEN", kind, flush=True)
    except Exception: pass
home, root, unix, port = {home!r}, {root!r}, {unix!r}, {port}
def in_file(path): return "for-nobody" in pathlib.Path(path).read_text(errors="replace")
def in_process(path):
    try: return in_file(path)
    except OSError: return False
def connects(family, address): return socket.socket(family).connect(address) is None
seen("variable", lambda: "for-nobody" in str(os.environ))
seen("AWS keys", lambda: in_file(home + "/.aws/credentials"))
seen("SSH key", lambda: in_file(home + "/.ssh/id_ed25519"))
seen(".netrc", lambda: in_file(home + "/.netrc"))
seen("home", lambda: in_file(pathlib.Path.home() / ".netrc"))
seen("config.local", lambda: in_file(root + "/.dvc/config.local"))
seen("config.local of the checkout", lambda: in_file(".dvc/config.local"))
seen(".env", lambda: in_file(root + "/.env"))
seen("Git's configuration", lambda: in_file(root + "/.git/config"))
seen("other processes", lambda: any(map(in_process, pathlib.Path("/proc").glob("[0-9]*/environ"))))
seen("agent's socket", lambda: connects(socket.AF_UNIX, unix))
seen("server of this machine", lambda: connects(socket.AF_INET, ("127.0.0.1", port)))
seen("network", lambda: set(os.listdir("/sys/class/net")) - {{"lo"}} and set(socket.if_nameindex()) - {{(1, "lo")}})
seen("keyring", lambda: ctypes.CDLL(None).syscall(250, 10, b"user", b"of-the-reader", None, 0) >= 0)
seen("files to write", lambda: pathlib.Path(root + "/written").write_text("x") and in_file(root + "/.env"))
"""


def test_a_branch_gets_no_secrets_and_no_network(copy_reproduced: Callable[[str], Path], tmp_path: Path) -> None:
    """Its code is run, and looks for a dozen secrets; without the sandbox it finds them."""
    folder = copy_reproduced("stranger")
    # A process that starts warm has not the environment that it is given, for others to see.
    cold = [COLD / "bin/python", *CONFINED[1:]]
    home = tmp_path / "home"
    for path in (".aws/credentials", ".ssh/id_ed25519", ".netrc"):
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        (home / path).write_text("for-nobody")
    (folder / ".env").write_text("KEY=for-nobody")
    # pragma: allowlist nextline secret
    run(["git", "config", "remote.origin.url", "https://x:for-nobody@localhost/x.git"], folder)
    run([BIN / "dvc", "remote", "add", "--quiet", "--local", "other", "s3://bucket/x"], folder)
    run([BIN / "dvc", "remote", "modify", "--quiet", "--local", "other", "secret_access_key", "for-nobody"], folder)
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as agent:
        agent.bind(str(tmp_path / "agent"))
        agent.listen()
        port = server.getsockname()[1]
        probe = PROBE.format(home=str(home), root=str(folder), unix=str(tmp_path / "agent"), port=port)
        module = folder / "stages/prepare/__main__.py"
        module.write_text(
            module.read_text().replace("def main() -> None:\n", f"def main() -> None:\n    exec({probe!r}, {{}})\n")
        )
        run([BIN / "dvc", "repro", "--quiet"], folder)
        (folder / "written").unlink()
        commit(folder)
        done = run([*cold, "HEAD", "--stage", "prepare"], folder, HOME=str(home), SECRET="for-nobody")
        assert "SEEN" not in done.stderr
        assert not (folder / "written").exists()
        assert "in a sandbox: without your environment, files and network" in done.stderr
        assert "): identical." in done.stdout
        done = run([*cold, "HEAD", "--stage", "prepare", "--no-sandbox"], folder, HOME=str(home), SECRET="for-nobody")
    assert "as you: with your environment, files and network" in done.stderr
    kinds = set(re.findall(r"SEEN (.*)", done.stderr))
    assert set(re.findall(r'^seen\("([^"]*)"', PROBE, re.M)) - kinds <= {"network", "keyring"}


@pytest.mark.parametrize(("number", "options"), [(signal.SIGTERM, []), (signal.SIGKILL, ["--no-sandbox"])])
def test_interrupted(copy_reproduced: Callable[[str], Path], number: signal.Signals, options: list[str]) -> None:
    """Told to stop, it cleans up; killed, the next one does. What it has started ends with it."""
    folder = copy_reproduced("interrupted")
    command = [COLD / "bin/python", *CONFINED[1:], "HEAD", *options]
    process = subprocess.Popen(command, cwd=folder, env=user_environment(), stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if "Running stage" in line:
            break
    os.kill(process.pid, number)
    _, rest = process.communicate()
    # Its pipe has ended: nobody is at work any more, and was before the next stage.
    assert "Running stage" not in rest
    if number == signal.SIGTERM:
        assert process.returncode == 130
    else:
        assert len(run("git worktree list", folder).stdout.splitlines()) == 2
        run("git worktree prune", folder)
        done = run([*REPRODUCE, "HEAD", "--stage", "evaluate"], folder)
        assert "left by a killed run" in done.stderr
    nothing_left(folder)
