"""CI does what the Makefile does, with pinned actions and the least rights. `make lint` checks the files themselves."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from review import markdown, verdict
from review.gate import exceptions
from review.verdict import OPEN
from tests.project import BIN, ROOT, edit_params, refusal, run

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
STEPS = [
    (f"{path.stem}.{name}", step)
    for path in WORKFLOWS
    for name, job in yaml.safe_load(path.read_text())["jobs"].items()
    for step in job["steps"]
]


def test_nothing_is_allowed_that_a_job_does_not_ask_for() -> None:
    for path in WORKFLOWS:
        content = yaml.safe_load(path.read_text())
        assert content["permissions"] == {}
        for name, job in content["jobs"].items():
            writes = [right for right, level in job["permissions"].items() if level == "write"]
            expected = {
                "comment": ["pull-requests"],
                "image": ["packages"],
                "request": ["contents", "pull-requests"],
            }
            assert writes == expected.get(name, [])


def test_actions_are_pinned_and_commands_are_makes() -> None:
    """The jobs that may write into the repository run nothing of the project, not even make."""
    for job, step in STEPS:
        if "uses" in step:
            assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", step["uses"]), step
        elif job in ("checks.comment", "promote.request"):
            assert "make" not in step["run"]
            assert job == "promote.request" or 'own=".user.login == \\"github-actions[bot]\\"' in step["run"]
        else:
            allowed = (
                r"make [a-z-]+( REGISTRY=\S+)?|cat (review|reproduce)\.md >> \S+|"
                r'echo "\$TOKEN" \| docker login [^|;&]+|git checkout --quiet --detach "\$(BASE|TAG)"|'
                r'git merge-base --is-ancestor "\$TAG" HEAD|'
                r"sudo sysctl --quiet --write kernel\.apparmor_restrict_unprivileged_userns=0"
            )
            assert re.fullmatch(allowed, step["run"]), step
        # What GitHub would write into the shell's text is for the environment.
        assert "${{" not in step.get("run", "")


def steps_of(job: str) -> list[Any]:
    return [step for name, step in STEPS if name == job]


def test_what_judges_a_change_is_not_its_own() -> None:
    """The code of the base runs the change's own commit, not the merge; it fails where the claim is different, and what
    it cannot tell is allowed by a reason that is shown."""
    checkout, base, sandbox, install, again, *_ = steps_of("checks.reproduce")
    assert checkout["with"]["fetch-depth"] == 0
    assert base["env"] == {"BASE": "${{ github.event.pull_request.base.sha }}"}
    assert "sysctl" in sandbox["run"]
    assert [install["run"], again["run"]] == ["make install", "make reproduce"]
    assert again["env"]["REV"] == "${{ github.event.pull_request.head.sha }}"
    assert "continue-on-error" not in again
    assert [word for word, _ in exceptions(again["env"]["ALLOW"], OPEN)] == ["not checked", "not comparable"]
    (again,) = [step for step in steps_of("reproduce.reproduce") if step.get("run") == "make reproduce"]
    assert not {"ALLOW", "MINUTES"} & set(again["env"])


def test_the_comment_says_both_verdicts(tmp_path: Path) -> None:
    """Within GitHub's limit; and where a job has written nothing, that nobody has checked it. A
    program that keeps what it is given stands for GitHub's."""
    (script,) = [step["run"] for step in steps_of("checks.comment") if "run" in step]
    (tmp_path / "gh").write_text("#!/bin/sh\ncp comment.md posted 2> /dev/null || true\n")
    (tmp_path / "gh").chmod(0o755)
    posting = f"PATH={tmp_path}:$PATH MARK='<!-- -->' REPOSITORY=a/b NUMBER=1 bash -e <<'END'\n{script}\nEND"
    run(posting, tmp_path)
    assert "nobody has checked this claim" in (tmp_path / "posted").read_text()
    (tmp_path / "reproduce.md").write_text("## Run again: different\n" + 9_000 * "€")
    (tmp_path / "review.md").write_text("# Review\n" + 99_000 * "€")
    run(posting, tmp_path)
    posted = (tmp_path / "posted").read_text(errors="replace")
    assert posted.startswith("<!-- -->\n## Run again: different")
    assert "# Review" in posted
    assert 20_000 < len(posted) < 65_536
    # What the project's own code writes is never cut.
    assert re.findall(r"head --bytes (\d+) (\w+)\.md", script) == [
        (str(verdict.MOST_BYTES), "reproduce"),
        (str(markdown.MOST_BYTES), "review"),
    ]


def test_what_a_tag_asks_for_becomes_a_change_request(tmp_path: Path) -> None:
    """One for each stage: a later tag's takes the place of an earlier one's, which is closed where deploy/ has what is
    asked for. A program stands for GitHub's: it keeps what it is given, and has the open request of the file `open`."""
    (script,) = [step["run"] for step in steps_of("promote.request") if "run" in step]
    gh, asked, opened = tmp_path / "gh", tmp_path / "asked", tmp_path / "open"
    gh.write_text(f'#!/bin/sh\necho "$@" >> {asked}\n[ "$2" != list ] || cat {opened}\n')
    gh.chmod(0o755)
    opened.touch()
    run("git init --quiet --bare --initial-branch main origin && git clone --quiet origin work 2> /dev/null", tmp_path)
    folder, origin = tmp_path / "work", tmp_path / "origin"
    run("git commit --quiet --allow-empty --message x && git push --quiet origin HEAD:main", folder)

    def ask(tag: str, stage: str, content: str) -> str:
        run(f"git reset --quiet --hard origin/main && mkdir --parents deploy/{stage}", folder)
        (folder / "deploy" / stage / "serve.yaml").write_text(content)
        asked.unlink(missing_ok=True)
        variables = f"PATH={tmp_path}:$PATH TAG='{tag}' BASE=main GH_TOKEN=x"
        done = run(f"{variables} bash -e <<'END'\n{script}\nEND", folder)
        return done.stdout + asked.read_text()

    said = ask("classifier#prod#3", "prod", "3")
    assert "pr create --base main --head promote/prod --title Deploy classifier#prod#3 --body What the tag `" in said
    opened.write_text("17\n")
    said = ask("classifier#prod#4", "prod", "4")
    assert "pr edit 17 --title Deploy classifier#prod#4" in said
    assert "create" not in said
    assert run("git show promote/prod:deploy/prod/serve.yaml", origin).stdout == "4"
    run("git push --quiet origin HEAD:main && git fetch --quiet", folder)
    said = ask("classifier#prod#5", "prod", "4")
    assert "deploy/prod/ has what classifier#prod#5 asks for" in said
    assert said.endswith("pr close 17\n")
    opened.write_text("")
    assert "--head promote/staging " in ask("classifier@v1.0.0", "staging", "1")
    assert run("git log --format=%s --max-count=1 promote/staging", origin).stdout == "Deploy classifier@v1.0.0\n"


def test_a_version_is_run_again_before_it_becomes_an_image() -> None:
    """By its tag's name, with its message, where it has been merged; and all that follows needs that."""
    jobs = yaml.safe_load((ROOT / ".github/workflows/promote.yml").read_text())["jobs"]
    assert (jobs["image"]["needs"], jobs["manifest"]["needs"], jobs["request"]["needs"]) == (
        "reproduce",
        "image",
        "manifest",
    )
    checkout, merged, tag, *_, again, _ = steps_of("promote.reproduce")
    # With `ref` of a tag, the action makes one without a message.
    assert "default_branch" in checkout["with"]["ref"]
    assert merged["env"] == tag["env"] == {"TAG": "${{ github.ref }}"}
    assert again["env"]["REV"] == "${{ github.ref_name }}"
    assert not {"ALLOW", "MINUTES"} & set(again["env"])


def test_every_target_of_ci_exists() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    used = [step["run"].split()[1] for _, step in STEPS if step.get("run", "").startswith("make ")]
    assert set(used) <= set(targets)
    assert {"test", "converge", "review", "reproduce", "publish", "audit", "deploy"} <= set(used)


@pytest.mark.parametrize(
    "value", ["a b;touch ran", "$(info ran)x", "$(shell touch ran)", "`touch ran`", "--gate", "'\""]
)
def test_what_people_and_ci_set_is_one_argument(value: str, tmp_path: Path) -> None:
    """Whether it comes from the environment or stands on make's command line, where `$` is written `$$`: neither make
    nor the shell runs any of it. A program that prints its arguments stands for Python."""
    python = tmp_path / "bin/python"
    python.parent.mkdir()
    python.write_text('#!/bin/sh\nprintf "[%s]" "$@"\n')
    python.chmod(0o755)
    make = ["make", "--silent", "--file", str(ROOT / "Makefile")]
    names = {
        "BASE": "diff",
        "MINUTES": "reproduce",
        "N": "seeds",
        "JOBS": "seeds",
        "REGISTRY": "publish",
        "REV": "reproduce",
        "NAME": "new",
        "SAMPLE": "new",
        "TO": "new",
        "VERSION": "promote",
        "STAGE": "promote",
        "TAG": "deploy",
    }
    options = {
        "JOBS": "--jobs=",
        "MINUTES": "--at-most=",
        "REGISTRY": "--registry=",
        "SAMPLE": "--sample=",
        "STAGE": "--stage=",
        "TO": "--to=",
    }
    for name, target in names.items():
        common = ["env", f"VENV={tmp_path}", f"PYTHON={python}"]
        for command in (
            [*common, f"{name}={value}", *make, target],
            [*common, *make, target, f"{name}={value.replace('$', '$$')}"],
        ):
            printed = run([*command], tmp_path).stdout
            assert f"[{options.get(name, '')}{value}]" in printed
            assert not printed.startswith("ran")
    run(["env", f"PYTHON={value}", f"VENV={value}", *make, "shell", "summary"], tmp_path, expect=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bin"]


def test_the_editors_container_is_the_image() -> None:
    """.devcontainer builds the Dockerfile's default target, and its user is one of the image's."""
    text = (ROOT / ".devcontainer/devcontainer.json").read_text()
    settings = json.loads(re.sub(r"^ *//.*$", "", text, flags=re.MULTILINE))
    folder = ROOT / ".devcontainer"
    dockerfile = (folder / settings["build"]["dockerfile"]).resolve()
    assert dockerfile == ROOT / "Dockerfile"
    assert (folder / settings["build"]["context"]).resolve() == ROOT
    assert f"AS {settings['build']['target']}" in dockerfile.read_text()
    assert re.search(rf"useradd .*{settings['remoteUser']}$", dockerfile.read_text(), re.MULTILINE)
    assert settings["workspaceFolder"] == "/project"


def test_the_report_of_a_change(copy_reproduced: Callable[[str], Path]) -> None:
    """What the review job types: refused with the reasons, and passed with an exception that the report shows."""
    folder = copy_reproduced("change")
    run("git checkout --quiet -b topic", folder)
    edit_params(folder, seed=3)
    run("git commit --quiet --all --message change", folder)
    # Links that a branch may have committed are replaced, not written through.
    for name in ("review.md", "review.html"):
        (folder / name).symlink_to(folder / "README.md")
    readme = (folder / "README.md").read_text()
    message = refusal(run("make review", folder, expect=2, BASE="main"))
    assert "stale: train: seed was 0 in the run, is 3" in message
    assert "unpushed: the default remote is dvc-storage/, a folder of this clone" in message
    assert "**Refused.**" in (folder / "review.md").read_text()
    assert (folder / "README.md").read_text() == readme
    run("make review", folder, BASE="main", ALLOW="stale,unpushed=an example")
    assert "| allowed: an example |" in (folder / "review.md").read_text()
    assert "allowed: an example" in (folder / "review.html").read_text()
    assert run("git status --porcelain", folder).stdout == ""


def test_training_that_does_not_learn_is_found(clone: Path) -> None:
    """A factor that should not be there."""
    path = clone / "stages/train/optimizer.py"
    assert path.read_text().count('group["lr"] = lr') == 1
    path.write_text(path.read_text().replace('group["lr"] = lr', 'group["lr"] = lr * 1e-7'))
    message = refusal(run([BIN / "python", "-m", "scripts.converge"], clone, expect=1))
    assert "converge: expected a val accuracy of 0.95 or more on the sample, got 0." in message
