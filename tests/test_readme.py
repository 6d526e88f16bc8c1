"""The README is true: its commands, typed one after the other in a clone, and what it says they print."""

import json
import re
from pathlib import Path

import pytest

from tests.project import BIN, QUEUE_IS_EMPTY, ROOT, edit_params, refusal, run, write_images

README = (ROOT / "README.md").read_text()


def fenced(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.M | re.S)


def test_every_command_works(pristine_clone: Path, tmp_path: Path) -> None:
    """Each ```sh block, in order, in one shell that stops at the first failure. No .venv is made anew."""
    write_images(tmp_path / "images", {"cat": 60, "dog": 60}, colour=True, side=12)
    edits = {
        "git clone <url of this repository> project && cd project": f"git clone --quiet {pristine_clone} project && "
        f"cd project && ln -s {ROOT}/.venv .venv",
        "<folder of your images>": str(tmp_path / "images"),
        "<a picture> <a folder of pictures>": f"{tmp_path}/images/cat/0000.png {tmp_path}/images/dog",
        "dvc queue status\n": f"dvc queue status\n{QUEUE_IS_EMPTY}\n",
        "make hooks ": f"export PRE_COMMIT_HOME={tmp_path}/pre-commit && make hooks ",
    }
    script = "set -euxo pipefail\n" + "\n".join(fenced("sh"))
    for old, new in edits.items():
        assert old in script
        script = script.replace(old, new)
    (tmp_path / "readme.sh").write_text(script)
    done = run(["bash", "readme.sh"], tmp_path, timeout=1200)
    project = tmp_path / "project"
    assert "identical byte for byte" in done.stdout
    config = (project / ".dvc" / "config").read_text()
    assert "ssh://user@server/srv/dvc/project" in config
    assert not {"profile", "keyfile"} & set(re.findall(r"\w+", config))
    assert "Failed" not in run([BIN / "dvc", "queue", "status"], project).stdout


def test_the_table_of_make_repro(pristine_clone: Path) -> None:
    """The figures in the README are those of the committed metrics."""
    evaluate = json.loads((pristine_clone / "metrics/evaluate.json").read_text())
    train = json.loads((pristine_clone / "metrics/train.json").read_text())
    (table,) = (block for block in fenced("text") if block.startswith("test accuracy"))
    assert f"{evaluate['accuracy']:.4f}, 95 % interval {evaluate['accuracy_low']:.4f} to" in table
    assert f"{train['val_accuracy']:.4f} (best epoch: {train['best_epoch']})" in table


def test_the_refusal_of_wrong_params(clone: Path) -> None:
    """The message in the README is the one that these mistakes give."""
    edit_params(clone, lr="fast", model="resnet81", threads=0)
    with (clone / "params.yaml").open("a") as stream:
        stream.write("epoch: 5\n")
    text = refusal(run([BIN / "python", "-m", "stages.train"], clone, expect=1))
    assert text in fenced("text")


@pytest.mark.parametrize("link", re.findall(r"\]\((?!https?:)([^)]+)\)", README))
def test_links_lead_somewhere(link: str) -> None:
    assert (ROOT / link).exists()


def test_the_tree_is_complete() -> None:
    """Every top-level folder and every module of stages/ is named in the README's tree."""
    (tree,) = (block for block in fenced("text") if block.startswith("dvc.yaml"))
    listed = run("git ls-files --cached --others --exclude-standard", ROOT).stdout.split()
    folders = {path.split("/")[0] + "/" for path in listed if "/" in path and not path.startswith(".")}
    modules = {path.split("/")[1] for path in listed if path.startswith("stages/")} - {"__init__.py"}
    assert {name for name in folders | modules if name not in tree} == set()
