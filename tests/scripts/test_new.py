"""`make new`: what it refuses, what it removes, and that what was interrupted can be run again."""

import shutil
from pathlib import Path

import pytest

from scripts.new import require_name
from scripts.own_files import front_page
from scripts.sample import write_sample
from stages.common.errors import UserError
from tests.project import BIN, ROOT, SAMPLE, refusal, run

README = """# dvc-pytorch-scaffold

[中文](README.zh-CN.md)

Text.

## Documentation

[data](docs/own-data.md), [code](stages/params.py), [DVC](https://dvc.org)

## Results
"""
CORRECTIONS = f"path,sha256,decision,class,reason\n0/0001.png,{'0' * 64},leave out,,of the sample\n"


def new(folder: Path, *arguments: str | Path, expect: int | None = 0) -> str:
    command: list[str | Path] = [BIN / "python", "-m", "scripts.new", *arguments]
    done = run(command, folder, expect=expect, PYTHONPATH=str(ROOT))
    return refusal(done) if expect else done.stdout


def state(folder: Path) -> str:
    return run("git show-ref; git status --porcelain; git remote; git branch -vv", folder).stdout


@pytest.fixture
def scaffold(tmp_path: Path) -> Path:
    """A clone of a scaffold of a few files, with data/ and an output that its dvc.lock names."""
    source = tmp_path / "source"
    source.mkdir()
    for path, text in {
        ".gitignore": "/data\n/predictions.csv\n/reports/\n",
        "LICENSE": "MIT\n",
        "corrections.csv": CORRECTIONS,
        "README.md": README,
        "README.zh-CN.md": "",
        "data.dvc": SAMPLE["data.dvc"],
        # md5sum of "made\n", twice
        "dvc.lock": """schema: '2.0'
stages:
  evaluate:
    outs:
    - {path: predictions.csv, hash: md5, md5: 33b9bdf7e1a9e5f4f3dc3a4cb8ad1cf8}
    - {path: reports/report.html, hash: md5, md5: 33b9bdf7e1a9e5f4f3dc3a4cb8ad1cf8}
    - {path: metrics/evaluate.json, hash: md5, md5: 33b9bdf7e1a9e5f4f3dc3a4cb8ad1cf8}
""".replace("33b9bdf7e1a9e5f4f3dc3a4cb8ad1cf8", run("echo made | md5sum", tmp_path).stdout[:32]),
        "metrics/evaluate.json": "made\n",
        "models/README.md": "card\n",
        "params.yaml": SAMPLE["params.yaml"],
        "pyproject.toml": '[project]\nname = "dvc-pytorch-scaffold"\nversion = "0.1.0"\n',
    }.items():
        (source / path).parent.mkdir(exist_ok=True)
        (source / path).write_text(text)
    run("git init --quiet --initial-branch main && git add . && git commit --quiet --message first", source)
    run("git clone --quiet source clone", tmp_path)
    clone = tmp_path / "clone"
    write_sample(clone / "data")
    (clone / "predictions.csv").write_text("made\n")
    (clone / "reports").mkdir()
    (clone / "reports/report.html").write_text("of another run\n")
    return clone


@pytest.mark.parametrize(
    "name",
    ["", "two words", "-x", "x-", "a/b", "../a", "$(x)", "a\nb", "bïrds", "a" * 65, "dvc-pytorch-scaffold", "here"],
)
def test_what_is_no_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    with pytest.raises(UserError, match=r"^NAME: "):
        require_name(name)
    for good in ("birds", "b", "Birds_2.0", "a" * 64):
        require_name(good)


@pytest.mark.slow
def test_refusals_change_nothing(scaffold: Path, tmp_path: Path) -> None:
    """A file that Git does not know, a changed file, another branch, a folder that is there, a subfolder."""
    (scaffold / "new").touch()
    before = state(scaffold)
    assert "  new\n" in new(scaffold, "birds", expect=1)
    assert "  new\n" in new(scaffold, "birds", "--to", tmp_path / "birds", expect=1)
    (scaffold / "new").unlink()
    assert f"TO: {tmp_path} is there already" in new(scaffold, "birds", "--to", tmp_path, expect=1)
    assert "has this folder inside it" in new(scaffold / "metrics", "birds", expect=1)
    run("git switch --quiet --create topic", scaffold)
    assert "expected the branch main, got topic" in new(scaffold, "birds", expect=1)
    run("git switch --quiet main && git branch --quiet --delete topic", scaffold)
    assert state(scaffold) == before.replace("?? new\n", "")
    assert not (tmp_path / "birds").exists()


@pytest.mark.slow
def test_a_project_begins_once(scaffold: Path) -> None:
    """What the sample's run made is removed, another's is not; and nothing is pushed to the scaffold."""
    said = new(scaffold, "birds")
    assert "removed here: data, " in said
    assert "removed here: predictions.csv, " in said
    assert "kept here: reports/report.html, " in said
    assert {path.name for path in scaffold.iterdir()} == {
        *(".git", ".gitignore", "LICENSE", "README.md", "corrections.csv", "docs", "params.yaml", "pyproject.toml"),
        "reports",
    }
    assert (scaffold / "corrections.csv").read_text() == CORRECTIONS.partition("0/")[0]
    readme = (scaffold / "README.md").read_text()
    assert readme.startswith("# birds\n")
    assert "[code](stages/params.py)" in readme
    assert 'name = "birds"\n' in (scaffold / "pyproject.toml").read_text()
    assert (scaffold / "docs/scaffold.md").read_text() == front_page(README)
    assert run("git log --format=%s", scaffold).stdout == "Begin birds from dvc-pytorch-scaffold\nfirst\n"
    assert run("git status --porcelain", scaffold).stdout == ""
    assert run("git remote", scaffold).stdout == "upstream\n"
    run("git push", scaffold, expect=None)
    before = state(scaffold)
    assert "this is a project already. Nothing was changed" in new(scaffold, "owls", expect=1)
    assert state(scaffold) == before


@pytest.mark.slow
def test_what_was_interrupted_goes_on(scaffold: Path) -> None:
    """Another process holds Git's index when main is to move; and before that, Git has nobody to commit as."""
    before = state(scaffold)
    command: list[str | Path] = [BIN / "python", "-m", "scripts.new", "birds"]
    done = run(command, scaffold, expect=1, PYTHONPATH=str(ROOT), GIT_AUTHOR_NAME="", GIT_COMMITTER_NAME="")
    assert "Nothing was changed" in refusal(done)
    assert state(scaffold) == before
    (scaffold / ".git/index.lock").touch()
    assert "index.lock" in new(scaffold, "birds", expect=1)
    assert (scaffold / "README.md").read_text() == README
    (scaffold / ".git/index.lock").unlink()
    new(scaffold, "birds")
    assert (scaffold / "README.md").read_text().startswith("# birds\n")
    assert run("git remote && git status --porcelain", scaffold).stdout == "upstream\n"


@pytest.mark.slow
def test_a_new_folder_with_the_sample(scaffold: Path, tmp_path: Path) -> None:
    """The clone stays as it is; upstream is where it came from."""
    before = state(scaffold)
    new(scaffold, "birds", "--to", tmp_path / "new/birds", "--sample", "keep")
    assert state(scaffold) == before
    folder = tmp_path / "new/birds"
    assert (folder / "corrections.csv").read_text() == CORRECTIONS
    assert (folder / "data.dvc").exists() and (folder / "metrics/evaluate.json").exists()
    assert run("git remote get-url upstream && git status --porcelain", folder).stdout == f"{tmp_path / 'source'}\n"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["birds"]


def test_the_front_page_leads_to_the_same_files() -> None:
    page = front_page(README)
    assert "README.zh-CN" not in page
    assert "[data](own-data.md), [code](../stages/params.py), [DVC](https://dvc.org)" in page


@pytest.mark.slow
def test_without_images_the_next_step_is_said(scaffold: Path) -> None:
    new(scaffold, "birds")
    shutil.copytree(ROOT / ".dvc", scaffold / ".dvc", ignore=shutil.ignore_patterns("cache", "tmp", "*.local"))
    for module in ("scripts.get_data", "review"):
        command: list[str | Path] = [BIN / "python", "-m", module, *(["summary"] if module == "review" else [])]
        (scaffold / "dvc.yaml").touch()
        message = refusal(run(command, scaffold, expect=1, PYTHONPATH=str(ROOT)))
        assert "put yours into data/" in message
