"""`make upgrade`: what it refuses, what it keeps, and a conflict that is left to a person."""

from pathlib import Path

import pytest

from tests.project import BIN, PARAMS, ROOT, refusal, run

HEADER = "path,sha256,decision,class,reason\n"


def upgrade(folder: Path, *arguments: str, expect: int | None = 0) -> str:
    command: list[str | Path] = [BIN / "python", "-m", "scripts.upgrade", *arguments]
    done = run(command, folder, expect=expect, PYTHONPATH=str(ROOT))
    return done.stdout + refusal(done) if expect else done.stdout


def commit(folder: Path, **files: str | None) -> None:
    """Commit files by their names, `_` for `.`; None removes one."""
    for name, text in files.items():
        path = folder / name.replace("_", ".")
        path.unlink() if text is None else path.write_text(text)
    run("git add --all && git commit --quiet --message change", folder)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of a few files, and the scaffold, a commit ahead, that it was made from."""
    source = tmp_path / "source"
    run("git init --quiet --initial-branch main source", tmp_path)
    common = {"README_md": "# dvc-pytorch-scaffold\n", "code_py": "a = 1\n\n\n\nb = 1\n", "old_py": ""}
    commit(
        source, **common, dvc_lock="sample", data_dvc="sample", params_yaml=PARAMS.read_text(), requirements_lock="a\n"
    )
    run("git -C source tag v1.0-birds && git clone --quiet --origin upstream source project", tmp_path)
    own = PARAMS.read_text().replace("\nlr: 0.1\n", "\nlr: 0.2\n")
    commit(tmp_path / "project", README_md="# birds\n", dvc_lock=None, data_dvc="own", params_yaml=own)
    theirs = PARAMS.read_text().replace("\nlr: 0.1\n", "\nlr: 0.3\n").replace("\nepochs: 12\n", "\nepochs: 13\n")
    commit(source, dvc_lock="other", data_dvc="other", params_yaml=theirs, README_md="# dvc-pytorch-scaffold\n\nNew.\n")
    commit(source, code_py="a = 2\n\n\n\nb = 1\n", old_py=None, metrics_json="{}", requirements_lock="b\n")
    commit(source, corrections_csv=f"{HEADER}a.png,{'0' * 64},keep,,\n")
    commit(source, CHANGELOG_md="# Changelog\n\n## 2.0\n\nRun again: all.\n")
    return tmp_path / "project"


@pytest.mark.slow
def test_refusals_change_nothing(project: Path) -> None:
    before = run("git show-ref --heads && git status --porcelain", project).stdout
    assert "TO: expected a branch, tag or commit" in upgrade(project, "main:main", expect=1)
    assert "couldn't find remote ref" in upgrade(project, "nowhere", expect=1)
    (project / "new").touch()
    assert "  new\n" in upgrade(project, expect=1)
    (project / "new").unlink()
    run("git remote rename upstream other", project)
    assert "git remote add upstream" in upgrade(project, expect=1)
    run("git remote rename other upstream", project)
    run("git merge --no-commit --no-ff --strategy ours --quiet upstream/main", project)
    assert "a merge is under way" in upgrade(project, expect=1)
    run("git merge --abort", project)
    assert run("git show-ref --heads && git status --porcelain", project).stdout == before
    assert "make new" in upgrade(project.parent / "source", expect=1)


def test_what_is_the_projects_own_stays(project: Path) -> None:
    """Although both have changed it, or one has removed what the other has changed; twice is once."""
    own = run("git ls-tree HEAD README.md data.dvc params.yaml", project).stdout
    run("git tag v1.0-birds --force", project)
    tag = run("git rev-parse v1.0-birds", project).stdout
    said = upgrade(project)
    assert "## 2.0\n\nRun again: all." in said
    assert "requirements.lock has changed" in said
    assert run("git ls-tree HEAD README.md data.dvc params.yaml", project).stdout == own
    assert {path.name for path in project.iterdir()} == {
        *(
            ".git",
            "CHANGELOG.md",
            "README.md",
            "code.py",
            "corrections.csv",
            "data.dvc",
            "metrics.json",
            "params.yaml",
            "requirements.lock",
        )
    }
    assert (project / "code.py").read_text() == "a = 2\n\n\n\nb = 1\n"
    # A project that is older than the file begins it.
    assert (project / "corrections.csv").read_text() == HEADER
    assert run("git status --porcelain", project).stdout == ""
    assert run("git rev-parse v1.0-birds", project).stdout == tag
    assert run("git rev-list --merges --count HEAD", project).stdout == "1\n"
    assert "is in this project already" in upgrade(project)


def test_one_side_alone_has_changed_what_is_own(project: Path) -> None:
    """Git would take upstream's params where the project has kept the sample's, and add a result."""
    run("git checkout --quiet upstream/main -- params.yaml README.md && git commit --quiet --message same", project)
    (project / "README.md").write_text("# birds\n")
    (project / "corrections.csv").write_text(f"{HEADER}own\n")
    run("git add corrections.csv && git commit --quiet --all --message own", project)
    upgrade(project)
    assert (project / "params.yaml").read_text() == PARAMS.read_text()
    assert (project / "corrections.csv").read_text() == f"{HEADER}own\n"
    assert not (project / "dvc.lock").exists()


def test_a_conflict_in_code_is_a_persons(project: Path) -> None:
    """Of the lines that both have changed; what is own is kept by then, and Git's way back works."""
    commit(project, code_py="a = 3\n\n\n\nb = 1\n")
    before = run("git rev-parse HEAD", project).stdout
    message = upgrade(project, expect=1)
    assert "both the project and the scaffold have changed\n  code.py\n" in message
    assert "git merge --abort" in message
    assert run("git diff --name-only --diff-filter=U", project).stdout == "code.py\n"
    run("git merge --abort", project)
    assert run("git rev-parse HEAD && git status --porcelain", project).stdout == before


def test_a_lock_that_both_have_changed(project: Path) -> None:
    """upstream's, and said."""
    commit(project, requirements_lock="c\n")
    assert "`make lock` writes it anew" in upgrade(project)
    assert (project / "requirements.lock").read_text() == "b\n"
