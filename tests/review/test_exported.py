"""An export is of the revision's own model, or a reason against it: for the gate, and for a tag."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from review import claim, exported
from review.comparison import _stale
from review.gate import _commands, _undeclared
from review.revision import Revision
from review.tag import not_in_cache, require_complete
from scripts import get_results
from stages.common.errors import UserError
from stages.common.versions import md5_of
from tests.project import BIN, edit_params, run


def export(folder: Path, content: bytes = b"a model", **figures: object) -> None:
    """What `make export` leaves, of a file that is no model, recorded without the stage."""
    (folder / exported.MODEL).write_bytes(content)
    paths = [*claim.MEASURED, exported.MODEL]
    measured = [{"path": path, "md5": md5_of(folder / path)} for path in paths]
    (folder / exported.FIGURES).write_text(json.dumps({"changed": 0, "measured": measured} | figures))
    record(folder)


def record(folder: Path) -> None:
    """Make export/dvc.lock say that its run wrote what is there, as `dvc commit` does, and commit."""
    lock = folder / "export/dvc.lock"
    if lock.exists():
        for path in (exported.MODEL, exported.FIGURES):
            md5 = md5_of(folder / path)
            lock.write_text(re.sub(rf"(path: {path}\n +hash: md5\n +md5: )\w+", rf"\g<1>{md5}", lock.read_text()))
    else:
        shutil.copy(folder / "export/stage.yaml", folder / "export/dvc.yaml")
        run([BIN / "dvc", "commit", "--quiet", "--force", "export/dvc.yaml"], folder)
    run("git add . && git commit --quiet --message export", folder)


def test_from_an_export_to_another_model(
    copy_reproduced: Callable[[str], Path], enter: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy_reproduced("exported")
    enter(folder)

    def found() -> list[str]:
        return [finding.text for finding in exported.export_findings(Revision.named("HEAD"))]

    assert exported.fresh_lock(Revision.named("HEAD")) is None
    export(folder)
    head = Revision.named("HEAD")
    lock = exported.fresh_lock(head)
    assert lock is not None
    assert {out["path"] for out in lock["stages"]["export"]["outs"]} == {exported.MODEL, exported.FIGURES}
    assert found() == not_in_cache(head) == []
    assert [*_commands(head), *_undeclared(head)] == []
    digest = md5_of(folder / exported.MODEL)
    cached = folder / ".dvc/cache/files/md5" / digest[:2] / digest[2:]

    # It comes with the results, where its lock is of the model here; where nobody has it, that is said.
    (folder / exported.MODEL).unlink()
    get_results.main()
    assert f"results: {exported.MODEL}: there, from" in capsys.readouterr().out
    (folder / exported.MODEL).unlink()
    cached.unlink()
    assert not_in_cache(head) == [exported.MODEL]
    get_results.main()
    assert f"results: nobody has pushed {exported.MODEL} yet, so `make export` makes them" in capsys.readouterr().out

    export(folder, b"another", changed=3)
    assert found() == [f"{exported.FIGURES}: changed: expected 0, got 3"]
    head = Revision.named("HEAD")
    assert found()[0] in [finding.text for finding in _stale(head)]
    with pytest.raises(UserError, match=rf"export: the export in HEAD .*{found()[0]}.*`git rm export/dvc\.\*"):
        require_complete(head, "v1", local=True)
    export(folder)
    # DVC records whatever lies there; the figures say of what they are.
    (folder / exported.MODEL).write_bytes(b"another")
    record(folder)
    assert found() == [f"{exported.FIGURES}: says that other weights, images or another export were compared"]
    run("git reset --quiet --hard HEAD~1", folder)
    assert found() == []
    (folder / exported.FIGURES).write_text("{}")
    run("git commit --quiet --all --message edited", folder)
    assert found() == [f"{exported.FIGURES}: not what export wrote; changed after the run"]
    run("git reset --quiet --hard HEAD~1", folder)

    edit_params(folder, tta_flip="true")
    run("git commit --quiet --all --message other", folder)
    assert "export: tta_flip was False in the run, is True" in found()
    run("git reset --quiet --hard HEAD~1", folder)

    # A stage that `reproduce` would take for that of dvc.yaml.
    for name in ("dvc.yaml", "dvc.lock"):
        with (folder / "export" / name).open("a") as stream:
            stream.write("  train:\n    cmd: echo\n" + ("    wdir: ..\n" if name == "dvc.yaml" else ""))
    texts = [finding.text for finding in exported.export_findings(Revision.named("workspace"))]
    assert "export/dvc.lock: expected the stage export alone, got train" in texts
    run("git reset --quiet --hard", folder)
    run("git rm --quiet export/dvc.lock metrics/export.json && git commit --quiet --message never", folder)
    assert found() == ["export: declared in export/dvc.yaml, but never run"]
    run("git rm --quiet export/dvc.yaml && git commit --quiet --message none", folder)
    assert found() == []
    run([BIN / "dvc", "checkout", "--quiet"], folder)
