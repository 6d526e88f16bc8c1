"""evaluate: what it writes agrees with itself and with prepare; what does not fit together is refused."""

import csv
import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from stages.common.errors import UserError
from stages.common.params import load
from stages.evaluate import __main__ as evaluate
from stages.evaluate import answers, card, claim, evaluation, pictures
from stages.evaluate.params import EvaluateParams
from stages.evaluate.scores import score
from stages.model.checked_split import load_split, mirrored_batches
from stages.model.dataset import Split, load_info
from stages.model.runtime import setup
from stages.model.trained import WEIGHTS, load_trained
from tests.project import BIN, ROOT, edit_params, run, sample_params, write_images

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project folder in which all stages have run, without its images. Not to be changed."""
    folder = tmp_path_factory.mktemp("evaluate")
    (folder / "params.yaml").write_text(sample_params())
    edit_params(folder, model="simplenet", epochs=2)
    write_images(folder / "data", {"cat": 60, "dog": 60, "owl": 60})
    for stage in ("prepare", "train", "evaluate"):
        run([BIN / "python", "-m", f"stages.{stage}"], folder, PYTHONPATH=str(ROOT))
    shutil.rmtree(folder / "data")
    return folder


@pytest.fixture
def evaluated(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `template`; the current folder."""
    folder = Path(shutil.copytree(template, tmp_path / "project"))
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.argv", ["evaluate"])
    return folder


@pytest.fixture
def trained(evaluated: Path) -> Path:
    """The same before it was evaluated."""
    kept = pictures.CURVES.read_bytes()
    for path in (evaluate.PREDICTIONS, evaluate.METRICS, card.CARD):
        path.unlink()
    shutil.rmtree(pictures.PLOTS)
    pictures.PLOTS.mkdir()
    pictures.CURVES.write_bytes(kept)
    return evaluated


def refused() -> str:
    with pytest.raises(UserError) as caught:
        evaluate.main()
    return str(caught.value)


def test_predictions_are_one_row_per_val_image(evaluated: Path) -> None:
    """Each row names its picture as the manifest does; its probabilities sum to 1; the figures follow from the rows."""
    with evaluate.PREDICTIONS.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    with Path("prepared/manifest.csv").open(newline="") as stream:
        expected = [row for row in csv.DictReader(stream) if row["split"] == "val"]
    assert [(row["sha256"], row["path"], row["class"]) for row in rows] == [
        (row["sha256"], row["path"], row["class"]) for row in expected
    ]
    for row in rows:
        probabilities = {label: float(row[f"p_{label}"]) for label in ("cat", "dog", "owl")}
        assert sum(probabilities.values()) == pytest.approx(1, abs=3e-6)
        assert probabilities[row["predicted"]] == max(probabilities.values())
    accuracy = sum(row["class"] == row["predicted"] for row in rows) / len(rows)
    metrics = json.loads(evaluate.METRICS.read_text())
    assert metrics["accuracy"] == pytest.approx(accuracy, abs=1e-6)
    assert metrics["images"] == len(rows)
    with Path("plots/confusion.csv").open(newline="") as stream:
        assert [(row["image"], row["actual"], row["predicted"]) for row in csv.DictReader(stream)] == [
            (row["sha256"][:16], row["class"], row["predicted"]) for row in rows
        ]
    with Path("plots/per_class.csv").open(newline="") as stream:
        for line in csv.DictReader(stream):
            right = sum(row["class"] == row["predicted"] == line["class"] for row in rows)
            assert float(line["recall"]) == pytest.approx(right / int(line["images"]), abs=1e-6)


def test_many_classes_and_images(evaluated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more classes than three, predictions.csv has the most probable; of more images than ten, confusion.csv a
    sample by digest; the figures stay."""
    figures = evaluate.METRICS.read_bytes()
    with evaluate.PREDICTIONS.open(newline="") as stream:
        full = list(csv.DictReader(stream))
    monkeypatch.setattr(answers, "MOST_PROBABILITIES", 2)
    monkeypatch.setattr(answers, "MOST_IN_GIT", 10)
    evaluate.main()
    assert evaluate.METRICS.read_bytes() == figures
    with Path("plots/confusion.csv").open(newline="") as stream:
        rows = [(row["image"], row["actual"], row["predicted"]) for row in csv.DictReader(stream)]
    sample = {row["sha256"] for row in sorted(full, key=lambda row: row["sha256"])[:10]}
    assert rows == [(row["sha256"][:16], row["class"], row["predicted"]) for row in full if row["sha256"] in sample]
    with evaluate.PREDICTIONS.open(newline="") as stream:
        short = list(csv.DictReader(stream))
    for row, other in zip(short, full, strict=True):
        assert [row[name] for name in answers.NAMES] == [other[name] for name in answers.NAMES]
        named = [
            (row["predicted"], row["p_predicted"]),
            *((row[f"class_{place}"], row[f"p_{place}"]) for place in (2, 3)),
        ]
        assert {name for name, _ in named} == {"cat", "dog", "owl"}
        for name, share in [*named, (row["class"], row["p_class"])]:
            assert float(share) == pytest.approx(float(other[f"p_{name}"]), abs=1e-6)


def test_a_claim_is_of_the_test_images(evaluated: Path) -> None:
    """Only it reads them, and it changes nothing of what evaluate wrote; figures follow from the rows."""
    before = {path: path.read_bytes() for path in [evaluate.METRICS, card.CARD, *pictures.PLOTS.iterdir()]}
    kept = Path("prepared/test-images.npy").rename("kept.npy")
    evaluate.main()
    with pytest.raises(UserError, match=r"test-images\.npy: no such file"):
        claim.main()
    kept.rename("prepared/test-images.npy")
    claim.main()
    assert before == {path: path.read_bytes() for path in before}
    assert sorted(path.name for path in claim.CLAIM.iterdir()) == ["confusion.csv", "per_class.csv", "test.json"]
    with Path("prepared/manifest.csv").open(newline="") as stream:
        images = [(row["sha256"][:16], row["class"]) for row in csv.DictReader(stream) if row["split"] == "test"]
    with (claim.CLAIM / "confusion.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["image"], row["actual"]) for row in rows] == images
    figures = json.loads(claim.FIGURES.read_text())
    right = sum(row["actual"] == row["predicted"] for row in rows)
    assert (figures["images"], figures["accuracy"]) == (len(images), pytest.approx(right / len(images), abs=1e-6))


def test_twice_the_same_bytes(evaluated: Path) -> None:
    """In two processes, too."""
    written = [
        evaluate.PREDICTIONS,
        evaluate.METRICS,
        card.CARD,
        *sorted(pictures.PLOTS.iterdir()),
    ]
    first = [path.read_bytes() for path in written]
    evaluate.main()
    assert first == [path.read_bytes() for path in written]


def test_batch_size_does_not_change_a_prediction(evaluated: Path) -> None:
    first = evaluate.PREDICTIONS.read_text().splitlines()
    edit_params(evaluated, eval_batch_size=5)
    evaluate.main()
    assert [line.split(",")[:4] for line in evaluate.PREDICTIONS.read_text().splitlines()] == [
        line.split(",")[:4] for line in first
    ]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda: WEIGHTS.unlink(), "model.safetensors: no such file"),
        (lambda: edit_dataset(mean=[0.1]), "model.json: trained on other data"),
        (lambda: edit_array("val-images.npy"), "val-images.npy: not the array of prepared/dataset.json"),
        (lambda: edit_array("val-labels.npy"), "val-labels.npy: not the array of prepared/dataset.json"),
        (lambda: np.save("prepared/val-images.npy", np.zeros((9, 5, 5, 1), np.uint8)), "got uint8 (9, 5, 5, 1)"),
        (lambda: Path("prepared/val-labels.npy").unlink(), "val-labels.npy: no such file"),
        (
            lambda: Path("prepared/manifest.csv").write_text("path,class,split,sha256,status\n"),
            "not those of val-labels",
        ),
        (lambda: replace_by_file("metrics"), "metrics: expected a folder, got a file"),
    ],
)
def test_what_does_not_fit_together(trained: Path, change: Callable[[], object], expected: str) -> None:
    change()
    assert expected in refused()
    assert not evaluate.METRICS.exists()


def replace_by_file(folder: str) -> None:
    shutil.rmtree(folder)
    Path(folder).write_text("a file")


def edit_dataset(**changes: object) -> None:
    path = Path("prepared/dataset.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_array(name: str) -> None:
    """Change its last byte."""
    path = Path("prepared", name)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_a_class_without_val_images_is_named(trained: Path) -> None:
    labels = np.load("prepared/val-labels.npy")
    np.save("prepared/val-labels.npy", np.minimum(labels, 1))
    info = load_info()
    digest = hashlib.sha256(Path("prepared/val-labels.npy").read_bytes()).hexdigest()
    info = replace(info, sha256=info.sha256 | {"val-labels.npy": digest})
    with pytest.raises(UserError, match=r"val-labels\.npy: no val image of owl; expected some of every class"):
        load_split("val", load_trained()._replace(info=info), info, setup(load(EvaluateParams)))


def test_mirrored_answers_are_reported_apart(evaluated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Everything else stays as it is without them; predictions are those of the images as they are."""
    plain, table = json.loads(evaluate.METRICS.read_text()), evaluate.PREDICTIONS.read_bytes()
    edit_params(evaluated, tta_flip="true")
    evaluate.main()
    both = json.loads(evaluate.METRICS.read_text())
    assert {name: both.pop(name) for name in sorted(both) if name.startswith("tta_")}.keys() == {
        "tta_accuracy",
        "tta_accuracy_high",
        "tta_accuracy_low",
    }
    assert both == plain
    assert evaluate.PREDICTIONS.read_bytes() == table
    assert "with the answers to mirrored images averaged in" in capsys.readouterr().out


def test_mirrored_batches_are_the_images_mirrored(trained: Path) -> None:
    val = Split.load("val", load_info(), torch.device("cpu"))
    for batch, mirrored in zip(val.batches(7), mirrored_batches(val, 7), strict=True):
        assert torch.equal(mirrored.images, batch.images[..., torch.arange(7, -1, -1)])
        assert torch.equal(mirrored.labels, batch.labels)


def test_the_card_has_the_facts(evaluated: Path) -> None:
    text = card.CARD.read_text()
    metrics = json.loads(evaluate.METRICS.read_text())
    assert f"| accuracy | {metrics['accuracy']:.4f}, 95 % interval" in text
    assert "Classes: cat, dog, owl" in text
    assert json.loads(Path("prepared/dataset.json").read_text())["sha256"]["train-images.npy"][:16] in text
    with Path("plots/per_class.csv").open(newline="") as stream:
        worst = min(csv.DictReader(stream), key=lambda row: float(row["recall"]))
    assert f"recognised least: {worst['class']} (recall {float(worst['recall']):.2f})" in text


def test_mistakes_are_the_most_confident_ones(trained: Path) -> None:
    """At most eight, all wrong, in falling order of probability, each with its own image."""
    val = Split.load("val", load_info(), torch.device("cpu"))
    probabilities = np.full((len(val), 3), 0.1)
    wrong = (val.labels.numpy() + 1) % 3
    probabilities[np.arange(len(val)), val.labels.numpy()] = 0.8
    chosen = [3, 5, 1, 7, 9, 11, 13, 15, 17, 19]
    for rank, index in enumerate(chosen):
        probabilities[index, wrong[index]] = 0.99 - rank / 100
    mistakes = pictures.confident_mistakes(
        evaluation.Evaluation(load_trained(), val, [], score([np.log(probabilities)], val.labels.numpy()), {})
    )
    shares = probabilities / probabilities.sum(1, keepdims=True)
    assert [mistake.probability for mistake in mistakes] == pytest.approx(shares[chosen[:8]].max(1).tolist())
    for index, mistake in zip(chosen, mistakes, strict=False):
        assert np.array_equal(mistake.image, val.images[index].numpy())
        assert mistake.actual == load_info().classes[val.labels[index]]
        assert mistake.predicted == load_info().classes[wrong[index]]
