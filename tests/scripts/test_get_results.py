"""`make results`: what somebody pushed is fetched; what nobody pushed is no failure, and is said in plain words."""

import shutil
from collections.abc import Callable
from pathlib import Path

from tests.project import BIN, run

DVC = BIN / "dvc"
OUTPUTS = ("prepared", "models/model.json", "models/model.safetensors", "predictions.csv", "reports/report.html")


def lose(folder: Path, path: str) -> None:
    if (folder / path).is_dir():
        shutil.rmtree(folder / path)
    else:
        (folder / path).unlink()


def said(folder: Path) -> list[str]:
    """What `make results` says of results; of data/ it may say something too."""
    done = run("make results", folder)
    assert done.stderr == ""
    return [line for line in done.stdout.splitlines() if line.startswith("results: ")]


def test_nobody_has_pushed(copy_reproduced: Callable[[str], Path]) -> None:
    """Neither to a remote that is not there yet nor to one that has a part."""
    folder = copy_reproduced("first")
    shutil.rmtree(folder / ".dvc/cache/files")
    for path in OUTPUTS:
        lose(folder, path)
    assert said(folder) == [f"results: nobody has pushed {', '.join(OUTPUTS)} yet, so the stages make them"]


def test_somebody_has_pushed(copy_reproduced: Callable[[str], Path]) -> None:
    """All, or some."""
    folder = copy_reproduced("pushed")
    run([DVC, "push", "--quiet", *(path for path in OUTPUTS if path != "predictions.csv")], folder)
    shutil.rmtree(folder / ".dvc/cache/files")
    for path in OUTPUTS[2:]:
        lose(folder, path)
    assert said(folder) == ["results: nobody has pushed predictions.csv yet, so the stages make them"]
    assert (folder / "models/model.safetensors").exists()
    lose(folder, "models/model.json")
    run([DVC, "repro", "--quiet"], folder)
    run([DVC, "push", "--quiet"], folder)
    shutil.rmtree(folder / ".dvc/cache/files")
    lose(folder, "predictions.csv")
    assert said(folder) == ["results: predictions.csv: there, from the cache or the remote"]
    assert said(folder) == []


def test_a_stale_result_is_not_fetched(copy_reproduced: Callable[[str], Path]) -> None:
    folder = copy_reproduced("stale")
    lose(folder, "predictions.csv")
    (folder / "stages/evaluate/card.py").write_text("# nothing\n")
    assert said(folder) == []
    assert not (folder / "predictions.csv").exists()
