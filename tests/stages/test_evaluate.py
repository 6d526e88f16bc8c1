"""evaluate: definitions by hand on small cases, and refusal of what does not fit together."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from stages import evaluate, prepare, train
from stages.dataset import Split, load_info
from stages.errors import UserError
from tests.project import edit_params


@pytest.fixture
def trained(image_workspace: Path) -> Path:
    prepare.main()
    train.main()
    return image_workspace


def refused() -> str:
    with pytest.raises(UserError) as caught:
        evaluate.main()
    return str(caught.value)


def test_figures_by_hand() -> None:
    """Three of four right: accuracy 0.75, Wilson's interval by its formula, loss and macro-F1 by theirs."""
    logits = np.log(np.array([[0.7, 0.3], [0.6, 0.4], [0.2, 0.8], [0.9, 0.1]]))
    figures = evaluate.measure(logits, np.array([0, 0, 1, 1]))
    z, p, n = 1.959964, 0.75, 4
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    assert figures == pytest.approx(
        {
            "accuracy": 0.75,
            "accuracy_low": centre - half,
            "accuracy_high": centre + half,
            "balanced_accuracy": (1 + 1 / 2) / 2,
            "calibration_error": ((1 - 0.7) + (1 - 0.6) + (1 - 0.8) + (0.9 - 0)) / 4,
            "loss": -sum(map(math.log, (0.7, 0.6, 0.8, 0.1))) / 4,
            "macro_f1": (2 * 2 / 5 + 2 * 1 / 3) / 2,
            "images": 4,
        },
        abs=1e-6,
    )


def test_calibration_by_hand() -> None:
    """Bins of a fifth: two images at 0.5 and 0.55, one right; one at 0.9, right; gaps of 0.025 and 0.1, by numbers."""
    shares = np.array([[0.5, 0.5], [0.45, 0.55], [0.9, 0.1]])
    assert evaluate.calibration_error(shares, np.array([0, 0, 0]), 5) == pytest.approx((2 * 0.025 + 0.1) / 3)
    assert evaluate.calibration_error(np.eye(2), np.array([0, 1])) == 0
    assert evaluate.calibration_error(np.eye(2), np.array([1, 0])) == 1


def test_top5_where_there_are_more_than_five_classes() -> None:
    """The right class is first, fifth and sixth of six."""
    logits = np.array([[6.0, 5, 4, 3, 2, 1]] * 3)
    figures = evaluate.measure(logits, np.array([0, 4, 5]))
    assert figures["top5_accuracy"] == pytest.approx(2 / 3, abs=1e-6)
    assert "top5_accuracy" not in evaluate.measure(logits[:, :5], np.array([0, 4, 3]))


def test_predictions_are_one_row_per_test_image(trained: Path) -> None:
    """Each row names its picture as the manifest does; its probabilities sum to 1; the figures follow from the rows."""
    evaluate.main()
    with evaluate.PREDICTIONS.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    with Path("prepared/manifest.csv").open(newline="") as stream:
        expected = [row for row in csv.DictReader(stream) if row["split"] == "test"]
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
        assert [(row["actual"], row["predicted"]) for row in csv.DictReader(stream)] == [
            (row["class"], row["predicted"]) for row in rows
        ]
    with Path("plots/per_class.csv").open(newline="") as stream:
        for line in csv.DictReader(stream):
            right = sum(row["class"] == row["predicted"] == line["class"] for row in rows)
            assert float(line["recall"]) == pytest.approx(right / int(line["images"]), abs=1e-6)


def test_twice_the_same_bytes(trained: Path) -> None:
    written = [
        evaluate.PREDICTIONS,
        evaluate.METRICS,
        evaluate.REPORT,
        evaluate.CARD,
        *sorted(evaluate.PLOTS.iterdir()),
    ]
    evaluate.main()
    first = [path.read_bytes() for path in written]
    evaluate.main()
    assert first == [path.read_bytes() for path in written]


def test_batch_size_does_not_change_a_prediction(trained: Path) -> None:
    evaluate.main()
    first = evaluate.PREDICTIONS.read_text().splitlines()
    edit_params(trained, eval_batch_size=5)
    evaluate.main()
    assert [line.split(",")[:4] for line in evaluate.PREDICTIONS.read_text().splitlines()] == [
        line.split(",")[:4] for line in first
    ]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda: train.WEIGHTS.unlink(), "model.safetensors: no such file"),
        (lambda: train.WEIGHTS.write_bytes(train.WEIGHTS.read_bytes()[:-9]), "not the weights of the simplenet"),
        (lambda: train.WEIGHTS.write_bytes(b"\x80\x04pickle"), "not the weights of the simplenet"),
        (lambda: train.MODEL.unlink(), "model.json: no such file"),
        (lambda: train.MODEL.write_text("{}"), "model.json: no key 'classes'"),
        (lambda: edit_model(architecture="resnet9"), "not the weights of the resnet9"),
        (lambda: edit_model(mean=[0.1]), "trained on other data"),
        (lambda: edit_model(params={"lr": 1}), "model.json: not what train writes"),
        (lambda: edit_model(image_size="8"), "model.json: not what train writes"),
        (
            lambda: Path("prepared/manifest.csv").write_text("path,class,split,sha256,status\n"),
            "not those of test-labels",
        ),
    ],
)
def test_what_does_not_fit_together(trained: Path, change: object, expected: str) -> None:
    assert callable(change)
    change()
    assert expected in refused()


def edit_model(**changes: object) -> None:
    train.MODEL.write_text(json.dumps(json.loads(train.MODEL.read_text()) | changes))


def test_the_report_stands_alone(trained: Path) -> None:
    """One page: figures, five pictures with words for who does not see them, data, params, environment; no address."""
    evaluate.main()
    page = evaluate.REPORT.read_text()
    metrics = json.loads(evaluate.METRICS.read_text())
    assert f"<b>{metrics['accuracy']:.4f}</b>" in page
    assert f"{metrics['accuracy_low']:.4f} to {metrics['accuracy_high']:.4f}" in page
    assert page.count('src="data:image/png;base64,') == page.count("<img alt=") == 5
    assert '<img alt=""' not in page
    assert "left out: none" in page
    assert all(word in page for word in ("weight_decay", "cpu_capability", "torchvision"))
    assert "http" not in page.replace("data:", "")
    assert len(page) < 2_000_000


def test_the_card_has_the_facts(trained: Path) -> None:
    evaluate.main()
    card = evaluate.CARD.read_text()
    metrics = json.loads(evaluate.METRICS.read_text())
    assert f"| accuracy | {metrics['accuracy']:.4f}, 95 % interval" in card
    assert "Classes: cat, dog, owl" in card
    assert json.loads(Path("prepared/dataset.json").read_text())["sha256"]["train-images.npy"][:16] in card
    with Path("plots/per_class.csv").open(newline="") as stream:
        worst = min(csv.DictReader(stream), key=lambda row: float(row["recall"]))
    assert f"recognised least: {worst['class']} (recall {float(worst['recall']):.2f})" in card


def test_mistakes_are_the_most_confident_ones(trained: Path) -> None:
    """At most eight, all wrong, in falling order of probability, each with its own image."""
    test = Split.load("test", load_info(), torch.device("cpu"))
    shares = np.full((len(test), 3), 0.1)
    wrong = (test.labels.numpy() + 1) % 3
    shares[np.arange(len(test)), test.labels.numpy()] = 0.8
    chosen = [3, 5, 1, 7, 9, 11, 13, 15, 17, 19]
    for rank, index in enumerate(chosen):
        shares[index, wrong[index]] = 0.99 - rank / 100
    mistakes = evaluate.confident_mistakes(shares, test, load_info())
    assert [mistake.probability for mistake in mistakes] == [0.99 - rank / 100 for rank in range(8)]
    for index, mistake in zip(chosen, mistakes, strict=False):
        assert np.array_equal(mistake.image, test.images[index].numpy())
        assert mistake.actual == load_info().classes[test.labels[index]]
        assert mistake.predicted == load_info().classes[wrong[index]]
