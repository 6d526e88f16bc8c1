"""What is said of a claim by what a run again left: here, the files of the honest run that the claim forges."""

import csv
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from review.cleanroom import Cleanroom
from review.judgement import compare
from review.revision import Revision
from review.verdict import Verdict
from tests.project import edit_params, relock, run

STAGES = ("prepare", "train", "evaluate")


@pytest.fixture
def left(copy_reproduced: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the run again has left."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    return copy_reproduced("left")


@pytest.fixture
def folder(copy_reproduced: Callable[[str], Path], enter: Callable[[Path], None]) -> Path:
    """Whose HEAD claims something; the current folder."""
    folder = copy_reproduced("claims")
    enter(folder)
    return folder


def judged(folder: Path, left: Path, stages: Sequence[str] = STAGES, **record: str) -> Verdict:
    """Commit what the folder says, and that its run was on such a machine, with a dvc.lock to match; judge it."""
    path = folder / "metrics/environment.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | record, indent=2) + "\n")
    relock(folder, "metrics/environment.json")
    run("git commit --quiet --allow-empty --all --message claimed", folder)
    revision = Revision.named("HEAD")
    return compare(revision, {"stages": dict(revision.lock["stages"])}, Cleanroom(left, confined=False), list(stages))


def compute_natively(*folders: Path) -> None:
    """Let params and records say `cpu_arithmetic: native`, which gives the same bytes on the same kind of machine."""
    for folder in folders:
        edit_params(folder, cpu_arithmetic="native")
        lock = folder / "dvc.lock"
        lock.write_text(lock.read_text().replace("cpu_arithmetic: portable", "cpu_arithmetic: native"))
        record = folder / "metrics/environment.json"
        record.write_text(json.dumps(json.loads(record.read_text()) | {"arithmetic": "native"}))


def ask_for_any_device(folder: Path) -> None:
    edit_params(folder, device="auto")
    (folder / "dvc.lock").write_text((folder / "dvc.lock").read_text().replace("device: cpu", "device: auto"))


def edit(folder: Path, name: str) -> None:
    """Other bytes in an output."""
    path = folder / name
    path.write_text(path.read_text() + "\n")
    relock(folder, name)


def edit_answers(folder: Path, count: int, *, figures: bool = True) -> None:
    """Let the claim be wrong in `count` images more; `figures`: its accuracy, too."""
    with (folder / "plots/confusion.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    for row in [row for row in rows if row["actual"] == row["predicted"]][:count]:
        row["predicted"] = "0" if row["actual"] != "0" else "1"
    with (folder / "plots/confusion.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    relock(folder, "plots/confusion.csv")
    if figures:
        right = sum(row["actual"] == row["predicted"] for row in rows)
        path = folder / "metrics/evaluate.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"accuracy": right / len(rows)}))
        relock(folder, "metrics/evaluate.json")


def test_the_same_bytes(folder: Path, left: Path) -> None:
    assert judged(folder, left) == Verdict("identical", "16 of 16 outputs have the same bytes.")


def test_a_forged_record_excuses_nothing(folder: Path, left: Path) -> None:
    """In portable arithmetic, what the claim says of its machine does not make other bytes consistent."""
    record = {"cpu": "Abacus 9", "cpu_vendor": "Abacus", "arithmetic": "native"}
    edit(folder, "models/README.md")
    found = judged(folder, left, STAGES, **record)
    assert found.word == "different"
    assert found.why.startswith("1 of 16 outputs have other bytes, in portable arithmetic")
    assert "since stage evaluate: models/README.md" in found.particulars
    for name, value in record.items():
        assert any(text.startswith(f"machine: {name} {value} → ") for text in found.particulars)


def test_a_forged_record_excuses_no_other_weights(folder: Path, left: Path) -> None:
    text, count = re.subn(
        r"(- path: models/model.safetensors\n      hash: md5\n      md5: )\w{32}",
        rf"\g<1>{'f' * 32}",
        (folder / "dvc.lock").read_text(),
    )
    assert count == 2
    (folder / "dvc.lock").write_text(text)
    found = judged(folder, left, cpu="Abacus 9")
    assert found.word == "different"
    assert found.why.startswith("1 of 16 outputs have other bytes, in portable arithmetic")
    assert "since stage train: models/model.safetensors" in found.particulars


def test_what_only_a_gpu_can_tell(folder: Path, left: Path) -> None:
    """A claim that says a GPU made it is not consistent with a run on a CPU."""
    ask_for_any_device(folder)
    edit(folder, "models/README.md")
    found = judged(folder, left, device="cuda", gpu="NVIDIA Abacus", arithmetic="native")
    assert found.word == "not comparable"
    assert found.why.startswith("1 of 16 outputs have other bytes here, on a CPU.")
    assert "Taken on trust: the claim's record says it was made on cuda, NVIDIA Abacus; on a machine" in found.why


def test_other_images_are_no_matter_of_a_gpu(folder: Path, left: Path) -> None:
    """Prepare computes on a CPU whatever the claim's record says."""
    ask_for_any_device(folder)
    edit(folder, "metrics/prepare.json")
    found = judged(folder, left, device="cuda")
    assert found.word == "different"
    assert found.why.startswith("1 of 16 outputs have other bytes, since prepare, which computes on no device")


def test_another_machine_is_consistent_or_not(folder: Path, left: Path) -> None:
    """In native arithmetic, a claim that names another CPU is judged by predictions and the claimed interval; one that
    names this machine by its bytes, which this machine tells where nothing was trained."""
    compute_natively(folder, left)
    edit(folder, "models/README.md")
    found = judged(folder, left, ["evaluate"])
    assert found.word == "different"
    assert found.why.startswith("1 of 10 outputs have other bytes, on the same kind of machine")
    found = judged(folder, left, cpu="Abacus 9")
    assert (found.word, found.why) == (
        "consistent",
        "Other bytes on another kind of machine; the predictions are the same.",
    )
    assert any(text.startswith("machine: cpu Abacus 9 → ") for text in found.particulars)
    assert "taken on trust: what the claim's metrics/environment.json says of its machine" in found.particulars


@pytest.mark.parametrize(
    ("changed", "figures", "verdict", "why"),
    [
        (1, True, "consistent", "1 of 65 val images changed between right and wrong"),
        (40, True, "different", "40 of 65 val images changed between right and wrong"),
        (40, False, "different", "of the answers in plots/confusion.csv are right"),
    ],
)
def test_another_machine_that_predicts_otherwise(
    folder: Path, left: Path, changed: int, figures: bool, verdict: str, why: str
) -> None:
    """The claim's predictions differ in one image, or in many more right ones than rounding could make; or its figures
    are not those of its predictions."""
    compute_natively(folder, left)
    edit_answers(folder, changed, figures=figures)
    found = judged(folder, left, cpu="Abacus 9")
    assert found.word == verdict
    assert why in found.why
