"""STAGE 3: measure the model on the test split, which no other stage reads. Writes predictions.csv and plots/.

predictions.csv         a row per test image: sha256, path, class, predicted, and a probability per class, p_<class>
metrics/evaluate.json   accuracy with its 95 % interval, balanced accuracy, top-5, macro-F1, loss, calibration error
plots/per_class.csv     precision, recall, F1 and number of images of each class
plots/confusion.csv     a row per test image: the first digits of its sha256, its class and the predicted one; for DVC's
                        confusion matrix, and for the review, which compares two models image by image
plots/*.png             curves, confusion matrix, recall per class, reliability, the most confident mistakes
reports/report.html     all of it on one page that needs no network
models/README.md        the model card
"""

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from stages.common import tables
from stages.common.dependencies import require_modules_listed
from stages.common.errors import UserError, run_main
from stages.common.files import require_writable, write_json
from stages.common.params import load
from stages.evaluate.metrics import confusion_matrix, measure, per_class
from stages.evaluate.own_metric import load_metric
from stages.evaluate.params import EvaluateParams
from stages.evaluate.report import CARD, PLOTS, REPORT, write_pictures, write_report
from stages.model.dataset import PREPARED, Batch, DatasetInfo, Split, load_info, require_digests
from stages.model.runtime import Runtime, setup
from stages.model.trained import MODEL, TrainedModel, load_trained, softmax

PREDICTIONS = Path("predictions.csv")
METRICS = Path("metrics/evaluate.json")
# Of an image's SHA-256, as many as tell ten million images apart; Git keeps them, and digests do not compress.
IMAGE_DIGITS = 16


def main() -> None:
    argparse.ArgumentParser(
        prog="python -m stages.evaluate", description="Stage 3: measure models/ on the test split of prepared/."
    ).parse_args()
    params = load(EvaluateParams)
    runtime = setup(params)
    info = load_info()
    metric = load_metric(params.metric, len(info.classes)) if params.metric else None
    # DVC has written dvc.lock since train ran; whoever runs the stages without it, has not.
    model = load_trained(recorded="DVC_STAGE" in os.environ)
    test = load_test(model, info, runtime)
    require_writable(PREDICTIONS, METRICS, PLOTS / "per_class.csv", REPORT, CARD)
    print(f"evaluate: {len(test)} test images on {runtime}", flush=True)
    model.to(runtime.device)
    logits = model.logits(test.batches(params.eval_batch_size), runtime)
    mirrored = model.logits(mirrored_batches(test, params.eval_batch_size), runtime) if params.tta_flip else None
    labels = test.labels.cpu().numpy()

    metrics = measure(logits, labels, mirrored, metric)
    probabilities = softmax(logits)
    require_modules_listed()
    images = write_predictions(probabilities, labels, info)
    matrix, recall = write_tables(images, logits.argmax(1), labels, info.classes)
    write_report(model, metrics, write_pictures(probabilities, test, info, matrix, recall), recall)
    write_json(METRICS, metrics)
    print(
        f"  accuracy {metrics['accuracy']:.4f}, 95 % interval {metrics['accuracy_low']:.4f} to "
        f"{metrics['accuracy_high']:.4f}; "
        f"macro-F1 {metrics['macro_f1']:.4f} → {METRICS}, {REPORT}"
    )
    if mirrored is not None:
        print(f"  accuracy {metrics['tta_accuracy']:.4f} with the answers to mirrored images averaged in (tta_flip)")


def load_test(model: TrainedModel, info: DatasetInfo, runtime: Runtime) -> Split:
    """The test split. UserError where it, or the model, is not of the data that `info` describes, or lacks a class."""
    if model.info != info:
        raise UserError(
            f"{MODEL}: trained on other data than {PREPARED}/dataset.json describes. `dvc repro train` trains on these."
        )
    test = Split.load("test", info, runtime.device)
    require_digests("test", info)
    absent = set(range(len(info.classes))) - set(test.labels.tolist())
    if absent:
        raise UserError(
            f"{PREPARED}/test-labels.npy: no test image of {', '.join(info.classes[label] for label in sorted(absent))}"
            "; expected some of every class. `dvc repro prepare` makes such splits, or says which images are missing."
        )
    return test


def mirrored_batches(test: Split, batch_size: int) -> Iterator[Batch]:
    """The test images, left and right exchanged."""
    return (batch._replace(images=batch.images.flip(3)) for batch in test.batches(batch_size))


def write_predictions(probabilities: np.ndarray, labels: np.ndarray, info: DatasetInfo) -> list[str]:
    """Write predictions.csv; a row of the manifest tells which picture each test image is. Returns their SHA-256."""
    images = list(read_test_rows(PREPARED / "manifest.csv"))
    classes = info.classes
    if [image["class"] for image in images] != [classes[label] for label in labels]:
        raise UserError(
            f"{PREPARED}/manifest.csv: its test rows are not those of test-labels.npy. `dvc repro prepare` makes both."
        )
    tables.write(
        PREDICTIONS,
        ["sha256", "path", "class", "predicted", *(f"p_{label}" for label in classes)],
        (
            [image["sha256"], image["path"], image["class"], classes[row.argmax()], *(f"{p:.6f}" for p in row.tolist())]
            for image, row in zip(images, probabilities, strict=True)
        ),
    )
    return [image["sha256"] for image in images]


def read_test_rows(path: Path) -> Iterator[dict[str, str]]:
    """The rows of the manifest that are test images, in the order of the arrays. UserError where it is no manifest."""
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = tables.Rows(stream, ("path", "class", "split", "sha256", "status"))
            for row in rows:
                if row is None:
                    raise tables.TableError(f"line {rows.line} has other than {len(rows.columns)} values")
                if row["split"] == "test" and row["status"] == "kept":
                    yield row
    except (FileNotFoundError, tables.TableError) as error:
        raise UserError(f"{path}: not what prepare wrote ({error}). `dvc repro prepare` makes it.") from None


def write_tables(
    images: list[str], predicted: np.ndarray, labels: np.ndarray, classes: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Write the per-class figures, and the answer to each of `images`; return the confusion matrix and the recalls."""
    matrix = confusion_matrix(labels, predicted, len(classes))
    figures = per_class(matrix)
    tables.write(
        PLOTS / "per_class.csv",
        ["class", *figures._fields, "images"],
        (
            [name, *(f"{value:.6f}" for value in values), count]
            for name, *values, count in zip(classes, *figures, matrix.sum(1).tolist(), strict=True)
        ),
    )
    tables.write(
        PLOTS / "confusion.csv",
        ["image", "actual", "predicted"],
        (
            [digest[:IMAGE_DIGITS], classes[label], classes[answer]]
            for digest, label, answer in zip(images, labels.tolist(), predicted.tolist(), strict=True)
        ),
    )
    return matrix, figures.recall


if __name__ == "__main__":
    run_main(main)
