"""The commit hooks stop what must not get into git."""

import json
from pathlib import Path

import pytest

from tests.project import BIN, edit_params, run

PRE_COMMIT = [str(BIN / "pre-commit"), "run", "--all-files"]


@pytest.fixture
def cache(tmp_path: Path) -> str:
    return str(tmp_path / "pre-commit")


def test_the_tree_passes(clone: Path, cache: str) -> None:
    run(PRE_COMMIT, clone, PRE_COMMIT_HOME=cache)


def test_what_is_stopped(clone: Path, cache: str) -> None:
    """A wrong param, a large file, a private key, bad code, a notebook with outputs: each fails its own hook."""
    key_header = "-----BEGIN RSA " + "PRIVATE KEY-----"
    (clone / "weights.bin").write_bytes(bytes(501 * 1024))
    (clone / "key.txt").write_text(key_header + "\n")
    (clone / "code.py").write_text("import os\nx=1\n")
    edit_params(clone, lr="fast")
    cell = {
        "cell_type": "code",
        "execution_count": 1,
        "id": "a",
        "metadata": {},
        "outputs": [{"name": "stdout", "output_type": "stream", "text": ["secret"]}],
        "source": ["print('secret')"],
    }
    notebook = {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    (clone / "notebook.ipynb").write_text(json.dumps(notebook))
    run("git add --all", clone)
    output = run(PRE_COMMIT, clone, expect=1, PRE_COMMIT_HOME=cache).stdout
    for hook in ("ruff-check", "ruff-format", "params", "check-added-large-files", "nbstripout", "secrets"):
        assert f"- hook id: {hook}" in output
    assert json.loads((clone / "notebook.ipynb").read_text())["cells"][0]["outputs"] == []


def test_what_is_staged_is_searched(clone: Path, cache: str) -> None:
    """Not what has been written since, which no commit takes."""
    (clone / "key.txt").write_text("-----BEGIN RSA " + "PRIVATE KEY-----\n")
    run("git add key.txt", clone)
    (clone / "key.txt").write_text("none\n")
    run([BIN / "pre-commit", "install"], clone, PRE_COMMIT_HOME=cache)
    done = run("git commit --message key", clone, expect=1, PRE_COMMIT_HOME=cache)
    assert "key.txt:1: private key" in done.stderr
    assert (clone / "key.txt").read_text() == "none\n"
