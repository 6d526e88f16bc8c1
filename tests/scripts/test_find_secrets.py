"""Planted secrets are found, wherever Git has them or would take them, and without being printed."""

import hashlib
import json
import random
import string
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.secrets import search
from scripts import find_secrets as command
from scripts.find_secrets import find_secrets
from stages.common.errors import UserError
from tests.project import BIN, ROOT, refusal, run

COMMAND: list[str | Path] = [BIN / "python", "-m", "scripts.find_secrets"]
LETTERS = string.ascii_letters + string.digits


def text(length: int, alphabet: str = LETTERS) -> str:
    return "".join(random.Random(length).choices(alphabet, k=length))


# Made here, so that this file holds none.
TOKEN = f"ghp_{text(36)}"
PRIVATE = {
    "a remote's secret": (".dvc/config", f"['remote \"bucket\"']\n    secret_access_key = {text(8)}"),
    "a remote's password": (".dvc/config", "['remote \"server\"']\n    password = word"),
    "a remote's address": (".dvc/config", f"['remote \"web\"']\n    url = https://ann:{text(9)}@example.org/dvc"),
    "an added .env": (".env", "AWS_REGION=eu-central-1"),
    "a second .env": ("deploy/.env.production", "AWS_REGION=eu-central-1"),
    "local settings": (".dvc/config.local", "[core]"),
    "a key of SSH": ("keys/id_ed25519", "nothing"),
    "a log-in of Kubernetes": ("kubeconfig", "apiVersion: v1"),
}


def test_secrets_of_all_kinds_and_forms(tmp_path: Path) -> None:
    plants, missed, harmless, alarms = search(tmp_path, seed=0)
    assert len({plant.kind for plant in plants}) > 150
    lost = Counter(plant.form for plant in missed)
    for form, count in Counter(plant.form for plant in plants).items():
        assert lost[form] <= 0.05 * count, [plant.path for plant in missed]
    assert len(harmless) >= 100
    assert len({finding.path for finding in alarms}) <= len(harmless) / 40, alarms


@pytest.mark.parametrize(("path", "content"), PRIVATE.values(), ids=PRIVATE)
def test_what_is_private_by_its_place(path: str, content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / path).parent.mkdir(exist_ok=True)
    (tmp_path / path).write_text(f"nothing here\n{content}\n")
    # A file that is private as a whole is named by its first line.
    assert {finding.place for finding in find_secrets([path])} == {"3" if path == ".dvc/config" else "1"}
    (tmp_path / f"{path}.example").write_text(f"nothing here\n{content}\n")
    assert path == ".dvc/config" or find_secrets([f"{path}.example"]) == []


def test_places(tmp_path: Path) -> None:
    """A line of a file, whatever ends it; a part of a notebook, whose texts are escaped."""
    lines, notebook = tmp_path / "a.txt", tmp_path / "a.ipynb"
    lines.write_bytes(f"one\r\nkey = {TOKEN}\r\n".encode("utf-16"))
    cells = [{"source": ["# Title\n"]}, {"source": ["run(\n", f'    "{TOKEN}")'], "outputs": [{"text": [TOKEN]}]}]
    notebook.write_text(json.dumps({"cells": cells, "metadata": {"token": TOKEN}}))
    assert [finding.place for finding in find_secrets([str(lines)])][:1] == ["2"]
    places = {finding.place for finding in find_secrets([str(notebook)])}
    assert places == {"cell 2, source", "cell 2, output", "metadata"}


def test_false_alarms(tmp_path: Path) -> None:
    source = tmp_path / "a.py"
    source.write_text(
        f"KEY = '{TOKEN}'  # pragma: allowlist secret\n# pragma: allowlist nextline secret\nKEY = '{TOKEN[::-1]}'\n"
    )
    assert find_secrets([str(source)]) == []
    source.write_text(f"# pragma: allowlist secret\nKEY = '{TOKEN}'\n")
    assert [finding.place for finding in find_secrets([str(source)])] == ["2"]
    # A table of files' digests, whatever the files show; and what is none.
    table, digest = tmp_path / "corrections.csv", hashlib.sha256(b"").hexdigest()
    table.write_text(f'keys/token.png,{digest},relabel,key,a secret\n"my keys, old/a.jpg",{digest},keep,,\n')
    assert find_secrets([str(table)]) == []
    table.write_text(f"keys/token.png,{TOKEN[4:]}\ntoken,{digest}\n")
    assert [finding.place for finding in find_secrets([str(table)])] == ["1", "2"]


def test_what_git_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What is staged, what commits of the branch added or say, links, submodules, strange names, what is not text."""
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "ann")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "ann@localhost")
    project, outside = tmp_path / "project", tmp_path / "outside.txt"
    outside.write_text(f"key = '{TOKEN}'\n")
    project.mkdir()
    monkeypatch.chdir(project)

    def git(*arguments: str) -> None:
        subprocess.run(["git", *arguments], check=True, capture_output=True)

    def found(*arguments: str) -> str:
        """The findings, or else what is said."""
        monkeypatch.setattr("sys.argv", ["find_secrets", *arguments])
        try:
            command.main()
        except UserError as error:
            assert TOKEN not in str(error)
            return "\n".join(line for line in str(error).splitlines() if line.startswith("  "))
        return capsys.readouterr().out

    git("init", "--quiet", "--initial-branch", "main")
    assert found() == "secrets: none in 0 files\n"
    (project / "old.py").write_text(f"key = '{TOKEN}'\n")
    (project / "clean.py").write_text("")
    git("add", "--all")
    git("commit", "--quiet", "--message", "old")
    git("rm", "--quiet", "old.py")
    git("commit", "--quiet", "--message", "removed")
    # Main's own commits are not the branch's; --since reads these, and all where it is no commit.
    git("switch", "--quiet", "--create", "branch")
    assert found() == "secrets: none in 1 files, in 0 commits since main\n"
    assert "old.py (commit " in found("--since", "0" * 40)
    assert "secrets: none in 1 files, in 1 commits since HEAD~1" in found("--since", "HEAD~1")

    (project / "link").symlink_to(outside)
    (project / "picture.png").write_bytes(bytes(range(256)))
    (project / "staged.py").write_text(f"key = '{TOKEN}'\n")
    git("init", "--quiet", "module")
    git("-C", "module", "commit", "--quiet", "--allow-empty", "--message", "m")
    git("add", "--all")
    (project / "staged.py").write_text("key = None\n")
    assert found() == "  staged.py (staged):1: github-pat"
    git("commit", "--quiet", "--message", f"message\n\nwith {TOKEN}")
    git("commit", "--quiet", "--all", "--message", "removed again")
    assert {line.split(" (")[0].split(" of")[0].strip() for line in found().splitlines()} == {"staged.py", "message"}
    git("reset", "--quiet", "--soft", "HEAD~2")
    git("commit", "--quiet", "--message", "squashed")
    said = found()
    assert "secrets: 1 files are no text" in said and ".png" in said
    assert "none in 4 files, in 1 commits since main; not in 1 submodules" in said

    # A false alarm is one in the commits before, too.
    (project / "alarm.py").write_text(f"if x:\n    key = '{TOKEN}'\n")
    git("add", "alarm.py")
    git("commit", "--quiet", "--message", "alarm")
    assert "alarm.py:2" in found()
    (project / "alarm.py").write_text(f"key = '{TOKEN}'  # pragma: allowlist secret\n")
    assert found().startswith("secrets: ")

    name = "a\n\x1b[31m\udcff.py"
    (project / name).write_text(f"key = '{TOKEN}'\n")
    assert r"'a\n\x1b[31m\udcff.py':1" in found()


@pytest.mark.slow
def test_the_message(tmp_path: Path) -> None:
    """Where, what, and the remedy; never the secret. Untracked files count, ignored ones do not."""
    folder = tmp_path / "project"
    folder.mkdir()
    run("git init --quiet --initial-branch main && git commit --quiet --allow-empty --message first", folder)
    (folder / "new.py").write_text(f"\n\nTOKEN = '{TOKEN}'\n")
    run([BIN / "dvc", "init", "--quiet"], folder)
    run([BIN / "dvc", "remote", "add", "--quiet", "web", f"https://ann:{text(9)}@example.org"], folder)
    run([BIN / "dvc", "remote", "modify", "--local", "web", "password", TOKEN], folder)
    (folder / ".gitignore").write_text(".env\n")
    (folder / ".env").write_text(f"TOKEN={TOKEN}\n")
    message = refusal(run(COMMAND, folder, expect=1, PYTHONPATH=str(ROOT)))
    assert message.startswith("error: secrets: ")
    assert "new.py:3: github-pat" in message
    assert ".dvc/config:2: password in an address" in message
    assert ".env:" not in message and "config.local" not in message
    assert TOKEN not in message
    assert "`dvc remote modify --local`" in message
    assert "revoke it" in message


@pytest.mark.slow
def test_a_file_that_is_not_there() -> None:
    assert "missing.py" in refusal(run([*COMMAND, "missing.py"], ROOT, expect=1))
