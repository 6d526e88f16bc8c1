"""Planted secrets are found, each with its place and without being printed; the project itself has none."""

import base64
import json
import random
import string
from pathlib import Path

import pytest

from scripts.find_secrets import find_secrets
from tests.project import BIN, ROOT, refusal, run

COMMAND: list[str | Path] = [BIN / "python", "-m", "scripts.find_secrets"]
LETTERS = string.ascii_letters + string.digits
HEX = "0123456789abcdef"


def text(length: int, alphabet: str = LETTERS) -> str:
    return "".join(random.Random(length).choices(alphabet, k=length))


def coded(**content: str) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


# Made here, so that this file holds none: where it stands, what it is, the text around it.
PLANTED: dict[str, tuple[str, str]] = {
    "an AWS key": ("train.py", f'KEY = "AKIA{text(16, string.ascii_uppercase + string.digits)}"'),
    "an AWS secret": ("notes.txt", f"aws_secret_access_key = {text(40)}"),
    "a private key": ("deploy", "-----BEGIN OPENSSH " + "PRIVATE KEY-----\n" + text(70)),
    "a GitHub token": ("push.sh", f"git push https://ghp_{text(36)}@github.com/a/b"),
    "a fine-grained GitHub token": ("README.md", f"use github_pat_{text(22)}_{text(59)}"),
    "a GitLab token": (".gitlab-ci.yml", f"token: glpat-{text(20)}"),
    "a Slack token": ("report.py", f'hook = "xoxb-{text(12, string.digits)}-{text(12, string.digits)}-{text(24)}"'),
    "a Hugging Face token": ("notes.md", f"my token is hf_{text(34)} for now"),
    "a W&B key": ("train.sh", f"wandb login {text(40, HEX)}"),
    "a Kaggle key": ("kaggle.json", json.dumps({"username": "ann", "key": text(32, HEX)})),
    "a Google key": ("map.js", f"const key = AIza{text(35)};"),
    "a web token": ("call.txt", f"{coded(alg='HS256')}.{coded(sub='1234567890')}.{text(43)}"),
    "an Azure key": ("azure.txt", f"AccountName=a;AccountKey={text(86)}=="),
    "a registry's log-in": ("config.json", json.dumps({"auths": {"ghcr.io": {"auth": text(40)}}})),
    "a password in YAML": ("values.yaml", f"password: {text(14)}"),
    "a password in an address": ("proxy.cfg", f"proxy = https://ann:{text(12)}@example.org"),
    "a notebook's address": ("slides.md", f"http://127.0.0.1:8888/lab?token={text(48, HEX)}"),
    "a remote's secret": (".dvc/config", f"['remote \"bucket\"']\n    secret_access_key = {text(8)}"),
    "a remote's password": (".dvc/config", "['remote \"server\"']\n    password = word"),
    "a remote's address": (".dvc/config", f"['remote \"web\"']\n    url = https://ann:{text(9)}@example.org/dvc"),
    "an added .env": (".env", "AWS_REGION=eu-central-1"),
    "local settings": (".dvc/config.local", "[core]"),
}


@pytest.mark.parametrize(("path", "content"), PLANTED.values(), ids=PLANTED)
def test_a_planted_secret_is_found(path: str, content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / path).parent.mkdir(exist_ok=True)
    (tmp_path / path).write_text(f"nothing here\n{content}\n")
    found = find_secrets([path])
    assert {finding.path for finding in found} == {path}
    # A file that is private as a whole is named by its first line.
    whole = path.endswith((".env", ".local"))
    assert {finding.place for finding in found} <= ({"1"} if whole else {"2", "3"})


def notebook(**output: object) -> str:
    cell = {"cell_type": "code", "source": ["run()"], "outputs": [{"output_type": "stream", **output}]}
    return json.dumps({"cells": [{"cell_type": "markdown", "source": ["# Title"]}, cell]})


@pytest.mark.parametrize(
    "output",
    [
        {"text": ["password = 'hunter-of-secrets'\n"]},  # pragma: allowlist secret
        {"data": {"text/plain": [f"'hf_{text(34)}'"]}},
        {"traceback": [f'connect("https://ann:{text(12)}@example.org")']},
    ],
)
def test_a_secret_in_a_notebooks_output(output: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / "a.ipynb"
    path.write_text(notebook(**output))
    assert "cell 2, output" in {finding.place for finding in find_secrets([str(path)])}


def test_what_is_none(tmp_path: Path) -> None:
    """Digests, places to fill in, pictures, names of variables, and what is said to be a false alarm."""
    harmless = {
        "Dockerfile": f"FROM python@sha256:{text(64, HEX)}\n",
        "lock.txt": f"torch==2.11.0 \\\n    --hash=sha256:{text(64, HEX)}\n",
        "workflow.yml": f"uses: actions/checkout@{text(40, HEX)}\nkey: ${{{{ secrets.KEY }}}}\n",
        ".env.example": "AWS_SECRET_ACCESS_KEY=\n",
        "docs.md": "dvc remote modify --local bucket secret_access_key <your secret>\nssh://user@server/path\n",
        "data.dvc": f"outs:\n- md5: {text(32, HEX)}.dir\n",
        ".dvc/config": "['remote \"s3\"']\n    url = s3://bucket/path\n    endpointurl = https://s3.example.org\n",
        "picture.ipynb": notebook(data={"image/png": text(400)}),
        "allowed.py": f"KEY = 'ghp_{text(36)}'  # pragma: allowlist secret\n",
        "binary.bin": "",
    }
    (tmp_path / ".dvc").mkdir()
    for path, content in harmless.items():
        (tmp_path / path).write_text(content)
    (tmp_path / "binary.bin").write_bytes(bytes(range(256)))
    assert find_secrets(str(tmp_path / path) for path in harmless) == []


def test_the_message(clone: Path) -> None:
    """Where, what, and the remedy; never the secret. Untracked files count, ignored ones do not."""
    token = f"ghp_{text(36)}"
    (clone / "new.py").write_text(f"\n\nTOKEN = '{token}'\n")
    run([BIN / "dvc", "remote", "modify", "local", "url", f"https://ann:{text(9)}@example.org"], clone)
    run([BIN / "dvc", "remote", "modify", "--local", "local", "password", token], clone)
    (clone / ".env").write_text(f"TOKEN={token}\n")
    message = refusal(run(COMMAND, clone, expect=1))
    assert message.startswith("error: secrets: ")
    assert "new.py:3: GitHub Token" in message
    assert ".dvc/config:6: password in an address" in message
    assert ".env:" not in message and "config.local" not in message
    assert token not in message
    assert "`dvc remote modify --local`" in message
    assert "revoke it" in message


def test_a_file_that_is_not_there() -> None:
    assert "missing.py" in refusal(run([*COMMAND, "missing.py"], ROOT, expect=1))
