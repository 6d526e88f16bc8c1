"""`make results`: what somebody pushed is fetched; what nobody pushed is no failure, and is said in plain words."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

from tests.project import BIN, refusal, run

DVC = BIN / "dvc"
OUTPUTS = ("prepared", "models/model.json", "models/model.safetensors", "predictions.csv")


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


def test_a_remote_whose_weights_were_swapped(copy_reproduced: Callable[[str], Path]) -> None:
    """`dvc pull` takes them without `verify`, and `dvc status` is content; predict and evaluate are not, nor is `make
    results`, which writes nothing. From a remote that is right again, it does."""
    folder = copy_reproduced("swapped")
    run([DVC, "push", "--quiet"], folder)
    weights = folder / "models/model.safetensors"
    right = weights.read_bytes()
    digest = hashlib.md5(right).hexdigest()
    stored = folder / "dvc-storage/files/md5" / digest[:2] / digest[2:]
    stored.chmod(0o644)
    stored.write_bytes(right[:-400] + bytes(400))
    stored.chmod(0o444)
    run([DVC, "remote", "modify", "local", "verify", "false"], folder)
    shutil.rmtree(folder / ".dvc/cache/files")
    for path in OUTPUTS:
        lose(folder, path)
    run([DVC, "pull", "--quiet", *OUTPUTS], folder)
    picture = sorted((folder / "data").rglob("*.png"))[0]
    expected = "models/model.safetensors: not the file that dvc.lock records"
    assert expected in refusal(run([BIN / "python", "-m", "stages.predict", picture], folder, expect=1))
    evaluate = run([DVC, "repro", "--force", "--single-item", "evaluate"], folder, expect=None)
    assert expected in evaluate.stderr
    # DVC deletes a stage's outputs before it runs the stage.
    run("git checkout --quiet metrics plots models", folder)
    weights.unlink()
    text = refusal(run("make results", folder, expect=2))
    assert f"'models/model.safetensors': expected MD5 {digest}, got " in text
    assert not weights.exists()
    stored.chmod(0o644)
    stored.write_bytes(right)
    assert "models/model.safetensors" in run("make results", folder).stdout
    assert weights.read_bytes() == right
