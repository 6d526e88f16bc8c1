"""README.md and the sample's committed result, which a project replaces by its own: then nothing here is tested."""

import json
import re
from pathlib import Path

import pytest

from stages.common.arithmetic import why_not_portable
from tests.pages import TEXTS, fenced, type_commands
from tests.project import BIN, ROOT, VENV, clone_project, run, scaffold_only, write_images

pytestmark = scaffold_only


@pytest.fixture(scope="module")
def scaffold(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone with the committed result, in which nothing has run. Not to be changed."""
    return clone_project(tmp_path_factory.mktemp("scaffold") / "project", as_it_is=True)


def test_readme(scaffold: Path, tmp_path: Path) -> None:
    write_images(tmp_path / "pictures", {"cat": 2}, colour=True, side=12)
    (tmp_path / "place").mkdir()
    edits = {
        "git clone <url of this repository> project && cd project": f"git clone --quiet {scaffold} project && "
        f"cd project && ln -s {VENV} .venv",
        "<a picture> <a folder of pictures>": f"{tmp_path}/pictures/cat/0000.png {tmp_path}/pictures/cat",
        # One training of the whole length is enough.
        "dvc exp run -S lr=0.001": "dvc exp run -S lr=0.001 -S epochs=2",
        # Where another kind of machine made the commit's weights, going back to it leaves none.
        "python -m stages.predict": "make repro && python -m stages.predict",
    }
    done = type_commands("README.md", tmp_path / "place", edits)
    assert "wrote the embedded sample" in done.stdout
    if not why_not_portable():
        assert re.search(r"committed result +identical byte for byte", done.stdout)


def test_committed_lock_is_fresh(scaffold: Path) -> None:
    """Without data or cache, DVC agrees that the committed dvc.lock is the result of the committed code and params."""
    done = run([BIN / "dvc", "repro", "--allow-missing", "--dry"], scaffold)
    assert "up to date" in done.stdout + done.stderr
    assert "Running stage" not in done.stdout


def test_committed_metrics_are_those_of_the_committed_lock(scaffold: Path) -> None:
    """No committed figure was edited after the run: DVC misses what is in its cache, and finds nothing else changed."""
    status = json.loads(run([BIN / "dvc", "status", "--json"], scaffold).stdout)
    changed = {path for reasons in status.values() for reason in reasons for path in reason.get("changed outs", {})}
    assert changed == {
        "data",
        "prepared",
        "models/model.json",
        "models/model.safetensors",
        "predictions.csv",
    }


def test_the_table_of_make_repro() -> None:
    """The figures in the README are those of the committed metrics."""
    evaluate, train, claim = (
        json.loads((ROOT / path).read_text())
        for path in ("metrics/evaluate.json", "metrics/train.json", "claim/test.json")
    )
    (table,) = (block for block in fenced("README.md", "text") if block.startswith("val accuracy"))
    for split, figures in (("val", evaluate), ("test", claim)):
        share, low = (f"{figures[name]:.4f}" for name in ("accuracy", "accuracy_low"))
        assert re.search(rf"{split} accuracy +{share}, 95 % interval {low} to", table)
    assert re.search(rf"best epoch +{train['best_epoch']}\n", table)


def test_the_tree_is_complete() -> None:
    """Every top-level folder and every module of stages/ is named in the README's tree."""
    (tree,) = (block for block in fenced("README.md", "text") if block.startswith("dvc.yaml"))
    listed = run("git ls-files --cached --others --exclude-standard", ROOT).stdout.split()
    folders = {path.split("/")[0] + "/" for path in listed if "/" in path and not path.startswith(".")}
    modules = {path.split("/")[1] for path in listed if path.startswith("stages/")} - {"__init__.py"}
    assert {name for name in folders | modules if name not in tree} == set()


def outline(page: str) -> dict[str, list[str]]:
    """What a translation keeps: levels of headings, commands, other blocks, links, and rows of tables."""
    text = TEXTS[page]
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    return {
        "headings": [match.split(" ")[0] for match in re.findall(r"^#+ .+$", prose, re.M)],
        "commands": [re.sub(r" *#.*$", "", block, flags=re.M) for block in fenced(page, "sh")],
        "output": fenced(page, "text")[:-1],
        "links": [link.replace(".zh-CN", "") for link in re.findall(r"\]\(([^)]+)\)", prose)],
        "rows": [row.split("|")[1].strip() if "`" in row else "" for row in re.findall(r"^\|.*$", prose, re.M)],
        "code": sorted(set(re.findall(r"`[^`\n]+`", prose))),
    }


def test_translation() -> None:
    """README.zh-CN.md has the headings, commands, outputs, links, tables and names of README.md, in its order."""
    english, chinese = outline("README.md"), outline("README.zh-CN.md")
    for part in english:
        assert english[part] == chinese[part], part
    ratio = len(re.findall(r"[\u4e00-\u9fff]", TEXTS["README.zh-CN.md"])) / len(TEXTS["README.zh-CN.md"])
    assert ratio > 0.1
