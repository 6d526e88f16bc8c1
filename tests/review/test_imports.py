"""What a stage uses and dvc.yaml does not list, told from the source of a revision, which may be a stranger's."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from review.freshness import findings
from review.imports import Closure, closure, starts, unlisted_modules, unlisted_params
from review.revision import Revision
from tests.project import BIN, refusal, run

DEPS = ["stages/common", "stages/model"]


def used(files: dict[str, str], *names: str) -> Closure:
    contents = {path: text.encode() for path, text in files.items()}
    return closure(dict.fromkeys(names or ["start"], "the test"), contents.get)


def test_every_form_of_import() -> None:
    files = {
        "start.py": "from pack import a\nimport pack.b as x\ndef late():\n from pack.c import thing\n import torch",
        "pack/__init__.py": "",
        "pack/a.py": "from . import e\nfrom .sub.f import g",
        "pack/b.py": "from pack import start, h as i",
        "pack/c.py": "from pack.d import *\nfrom pack.many import *",
        "pack/d.py": "import numpy.linalg",
        "pack/e.py": "import importlib\nimportlib.import_module('single')\nimportlib.import_module('.k', __package__)",
        "pack/h.py": "A = ['python', '-m', 'pack.started']\nB = ['-m', 'pack.run']\nMODEL = 'pack.named:function'",
        "pack/k.py": "",
        "pack/many/__init__.py": "__all__ = ['one']",
        "pack/many/one.py": "",
        "pack/named.py": "",
        "pack/run/__init__.py": "",
        "pack/run/__main__.py": "",
        "pack/started.py": "",
        "pack/sub/f.py": "from ..j import k",
        "pack/j.py": "",
        "pack/unused.py": "",
        "single.py": "# coding: utf-7\n# +AAo-import hidden",
        "hidden.py": "",
    }
    found = used(files)
    assert found.importers.keys() == files.keys() - {"pack/unused.py"}
    assert found.packages - {"importlib"} == {"numpy", "torch"}
    assert found.importers["pack/d.py"] == {"pack/c.py"}


def test_what_a_stage_starts_with() -> None:
    """The modules of its command, and those that params name: its own, and those in a room that it lists."""
    params = {"model": "stages.model.mine:net", "loss": "lib.x:loss", "metric": "stages.evaluate.x:f", "lr": 0.1}
    stage = {"cmd": "python -m stages.train.launch && python -u tools/after.py", "deps": DEPS, "params": ["loss"]}
    assert {name for name in starts(stage, params) if not name.endswith("__main__")} == {
        "stages.train.launch",
        "tools.after",
        "stages.model.mine",
        "lib.x",
    }


def test_what_no_dep_covers() -> None:
    """Modules elsewhere, and a schema that is more than one; not what has no say in a result."""
    files = {
        "start.py": "import stages.common.params, lib.helper, tools, stages.evaluate.params",
        "stages/__init__.py": "'''Stages.'''\nimport stages.common",
        "stages/common/__init__.py": "",
        "stages/common/params.py": "import importlib\nimportlib.import_module('stages.params')",
        "stages/params.py": "import stages.train.params",
        "stages/train/params.py": "import stages.model.names",
        "stages/evaluate/params.py": "",
        "stages/model/names.py": "",
        "lib/__init__.py": "from lib import helper",
        "lib/helper.py": "",
        "tools/__init__.py": "",
    }
    stage = {"deps": ["start.py", "stages/common"]}
    assert list(unlisted_modules(used(files), stage)) == [
        ("lib/__init__.py", "start.py"),
        ("lib/helper.py", "lib/__init__.py"),
        ("stages/evaluate/params.py", "start.py"),
    ]
    assert list(unlisted_modules(used(files), {"deps": [*stage["deps"], "lib", "stages/evaluate"]})) == []


def test_params_that_are_not_listed() -> None:
    files = {
        "start.py": "from stages.common.params import load as get\nfrom rooms import params\nimport json\n"
        "get(params.Mine)\nget(wild)\njson.load(params.Mine)",
        "rooms/params.py": "from rooms.base import Base\nclass Mine(Base):\n  width: int\n  depth: int\n  other = 1",
        "rooms/base.py": "from stages.common.params import Schema as S\nclass Base(S):\n  seed: int",
        "stages/common/params.py": "class Schema:\n  config: int\ndef load(): ...",
    }
    found = list(unlisted_params(used(files), {"deps": [], "params": ["width", {"params.yaml": ["seed"]}]}))
    assert found == [("depth", "start.py"), ("load(wild)", "start.py")]


@pytest.mark.parametrize(
    "text",
    [
        "def f(:",
        "x = (" * 9999,
        "x = " + "-" * 200_000 + "1",
        "x = 1" + "+1" * 99_999,
        "\0",
        "# coding: nix",
        "#" * 600_000,
    ],
    ids=["syntax", "brackets", "signs", "sum", "zero", "coding", "size"],
)
def test_what_is_no_module(text: str) -> None:
    """A reason, soon, and nothing else."""
    found = used({"start.py": "import bad", "bad.py": text})
    assert list(found.unreadable) == ["bad.py"]
    assert "\n" not in found.unreadable["bad.py"]


def test_more_modules_than_a_project_has() -> None:
    files = {f"m{number}.py": f"import m{number + 1}" for number in range(3000)}
    assert "at most" in next(iter(used(files, "m0").unreadable.values()))


def test_nothing_stale_gets_in(copy_reproduced: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage that imports an unlisted module is refused at its first run; and should there be a result of it, made by
    other code, by each verb, also at the commit that changes the module alone."""
    folder = copy_reproduced("project")
    metrics = folder / "stages/evaluate/metrics.py"
    unix = metrics.read_bytes()
    metrics.write_bytes(unix.replace(b"\n", b"\r\n"))
    message = refusal(run([BIN / "python", "-m", "stages.evaluate"], folder, expect=1))
    assert "modules with the line ends of Windows" in message
    assert "\n  stages/evaluate/metrics.py" in message
    metrics.write_bytes(unix)
    (folder / "lib").mkdir()
    (folder / "lib/helper.py").write_text("WIDTH = 1\n")
    metrics.write_text(metrics.read_text() + "\n\nfrom lib.helper import WIDTH  # noqa\n")
    python, dvc = BIN / "python", BIN / "dvc"
    # Of the two pipelines, the one that starts the module.
    claim = refusal(run([python, "-m", "stages.evaluate.claim"], folder, expect=1))
    assert "claim imports modules that claim/dvc.yaml does not list" in claim
    message = refusal(run([python, "-m", "stages.evaluate"], folder, expect=1))
    assert "evaluate imports modules that dvc.yaml does not list" in message
    assert "  lib/helper.py (imported by stages/evaluate/metrics.py)" in message
    assert "add its folder to stages.evaluate.deps in dvc.yaml" in message
    assert "lib/helper.py" in run([dvc, "repro"], folder, expect=None).stderr
    run("git checkout --quiet metrics plots models && git add --all && git commit --quiet -m unlisted", folder)
    run([dvc, "checkout", "--quiet"], folder)
    run([dvc, "commit", "--force", "--quiet", "evaluate"], folder)
    run("git add --all && git commit --quiet --allow-empty -m forced", folder)
    (folder / "lib/helper.py").write_text("WIDTH = 2\n")
    run("git commit --quiet --all -m edited", folder)
    gate = run([python, "-m", "review", "diff", "--gate", "--offline", "HEAD~1", "HEAD"], folder, expect=1)
    reason = "evaluate: uses lib/helper.py (imported by stages/evaluate/metrics.py), which dvc.yaml does not list"
    assert f"unlisted: {reason}" in refusal(gate)
    assert reason in refusal(run([python, "-m", "review", "tag", "--local", "v1"], folder, expect=1))

    # A param that the schema has and dvc.yaml does not list.
    run("git reset --quiet --hard HEAD~3 && git clean --quiet --force -d lib", folder)
    pipeline: dict[str, Any] = yaml.safe_load((folder / "dvc.yaml").read_text())
    pipeline["stages"]["evaluate"]["params"].remove("tta_flip")
    (folder / "dvc.yaml").write_text(yaml.safe_dump(pipeline))
    message = refusal(run([python, "-m", "stages.evaluate"], folder, expect=1))
    assert "evaluate reads params that dvc.yaml does not list for it" in message
    assert "tta_flip. Add them to stages.evaluate.params" in message
    monkeypatch.chdir(folder)
    found = [finding for finding in findings(Revision("workspace", None)) if finding.kind == "unlisted"]
    assert [finding.text.partition(",")[0] for finding in found] == [
        "evaluate: stages/evaluate/evaluation.py reads tta_flip"
    ]
    # A module that Git does not track yet.
    (folder / "lib").mkdir()
    (folder / "lib/helper.py").write_text("WIDTH = 1\n")
    metrics.write_text(metrics.read_text() + "\n\nfrom lib.helper import WIDTH  # noqa\n")
    assert any(finding.text.startswith(reason) for finding in findings(Revision("workspace", None)))
