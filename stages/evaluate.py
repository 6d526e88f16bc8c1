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
import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from stages import figures, report
from stages.card import write_card
from stages.dataset import PREPARED, Batch, DatasetInfo, Split, load_info, read_dataset, require_digests
from stages.errors import UserError, run_main
from stages.files import read_json, replacing, require_writable, write_json
from stages.params import EvaluateParams, load
from stages.runtime import Runtime, setup
from stages.scores import confusion_matrix, measure, per_class, probabilities
from stages.trained import MODEL, MODELS, TrainedModel, load_trained

PREDICTIONS = Path("predictions.csv")
METRICS = Path("metrics/evaluate.json")
PLOTS = Path("plots")
CURVES = PLOTS / "curves.csv"
REPORT = Path("reports/report.html")
CARD = MODELS / "README.md"
ENVIRONMENT = Path("metrics/environment.json")
# What an environment has in common with others that give the same bytes.
_KIND = ("device", "arithmetic", "cpu_capability", "precision", "deterministic", "threads", "processes")
_SHOWN_MISTAKES = 8
# Of an image's SHA-256, as many as tell a billion images apart; Git keeps them, and digests do not compress.
IMAGE_DIGITS = 16


def main() -> None:
    argparse.ArgumentParser(
        prog="python -m stages.evaluate", description="Stage 3: measure models/ on the test split of prepared/."
    ).parse_args()
    params = load(EvaluateParams)
    runtime = setup(params)
    info = load_info()
    model = load_trained()
    test = load_test(model, info, runtime)
    require_writable(PREDICTIONS, METRICS, PLOTS / "per_class.csv", REPORT, CARD)
    print(f"evaluate: {len(test)} test images on {runtime}", flush=True)
    model.to(runtime.device)
    logits = model.logits(test.batches(params.eval_batch_size), runtime)
    mirrored = model.logits(mirrored_batches(test, params.eval_batch_size), runtime) if params.tta_flip else None
    labels = test.labels.cpu().numpy()

    metrics = measure(logits, labels, mirrored)
    shares = probabilities(logits)
    images = write_predictions(shares, labels, info)
    matrix, recall = write_tables(images, logits.argmax(1), labels, info.classes)
    write_texts(model, metrics, write_pictures(shares, test, info, matrix, recall), recall)
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


def write_predictions(shares: np.ndarray, labels: np.ndarray, info: DatasetInfo) -> list[str]:
    """Write predictions.csv; a row of the manifest tells which picture each test image is. Returns their SHA-256."""
    import pandas as pd

    manifest = pd.read_csv(PREPARED / "manifest.csv", dtype=str, keep_default_na=False)
    rows = manifest[(manifest["split"] == "test") & (manifest["status"] == "kept")]
    classes = np.array(info.classes)
    if not np.array_equal(rows["class"].to_numpy(), classes[labels]):
        raise UserError(
            f"{PREPARED}/manifest.csv: its test rows are not those of test-labels.npy. `dvc repro prepare` makes both."
        )
    table = rows[["sha256", "path", "class"]].assign(predicted=classes[shares.argmax(1)])
    table = table.join(pd.DataFrame(shares, index=table.index, columns=[f"p_{label}" for label in info.classes]))
    with replacing(PREDICTIONS) as temporary:
        table.to_csv(temporary, index=False, float_format="%.6f", lineterminator="\n")
    return rows["sha256"].tolist()


def write_tables(
    images: list[str], predicted: np.ndarray, labels: np.ndarray, classes: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Write the per-class figures, and the answer to each of `images`; return the confusion matrix and the recalls."""
    import pandas as pd

    matrix = confusion_matrix(labels, predicted, len(classes))
    columns = per_class(matrix)
    table = pd.DataFrame({"class": classes, **columns._asdict(), "images": matrix.sum(1)})
    table.to_csv(PLOTS / "per_class.csv", index=False, float_format="%.6f", lineterminator="\n")
    names = np.array(classes)
    rows = pd.DataFrame(
        {
            "image": [digest[:IMAGE_DIGITS] for digest in images],
            "actual": names[labels],
            "predicted": names[predicted],
        }
    )
    rows.to_csv(PLOTS / "confusion.csv", index=False, lineterminator="\n")
    return matrix, columns.recall


def write_pictures(
    shares: np.ndarray, test: Split, info: DatasetInfo, matrix: np.ndarray, recall: np.ndarray
) -> list[report.Picture]:
    """Draw everything into plots/; what the report says of each."""
    labels = test.labels.cpu().numpy()
    with CURVES.open(encoding="utf-8", newline="") as stream:
        curves = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(stream)]
    figures.draw_curves(curves, PLOTS / "curves.png")
    figures.draw_confusion(matrix, info.classes, PLOTS / "confusion.png")
    figures.draw_recall(recall.tolist(), matrix.sum(1).tolist(), info.classes, PLOTS / "recall.png")
    figures.draw_reliability(shares, labels, PLOTS / "reliability.png")
    mistakes = confident_mistakes(shares, test, info)
    figures.draw_mistakes(mistakes, PLOTS / "mistakes.png")
    lowest = info.classes[int(recall.argmin())]
    described = "; ".join(f"{mistake.actual} → {mistake.predicted}" for mistake in mistakes) or "none"
    last = curves[-1]
    return [
        report.Picture(
            PLOTS / "curves.png",
            "Training",
            f"Loss, accuracy and learning rate over {len(curves)} epochs; in the last, validation loss "
            f"{last['val_loss']:.4f}, validation accuracy {last['val_accuracy']:.4f}",
        ),
        report.Picture(
            PLOTS / "mistakes.png",
            "Mistakes",
            f"The most confident of {int(matrix.sum() - matrix.trace())}: {described}",
        ),
        report.Picture(
            PLOTS / "confusion.png",
            "Confusion matrix",
            f"{int(matrix.trace())} of {int(matrix.sum())} images lie on the diagonal, where predicted is actual; "
            f"confused most often: {frequent_confusions(matrix, info.classes)}",
        ),
        report.Picture(
            PLOTS / "recall.png",
            "Recall per class",
            f"Lowest is {lowest}, {recall.min():.4f}; highest {recall.max():.4f}",
        ),
        report.Picture(
            PLOTS / "reliability.png",
            "Reliability",
            "How often the predicted class is right, by its stated probability",
        ),
    ]


def write_texts(
    model: TrainedModel, metrics: dict[str, float], pictures: list[report.Picture], recall: np.ndarray
) -> None:
    """Write the report and the model card."""
    environment = read_json(ENVIRONMENT, "`dvc repro train` makes it.")
    report.write_report(
        REPORT,
        model=f"{model.params.model} for {len(model.info.classes)} classes",
        metrics=metrics,
        pictures=pictures,
        data=(PREPARED / "summary.txt").read_text(encoding="utf-8"),
        tables={
            "Params": dict(sorted(model.params.model_dump().items())),
            "Environment of training": {name: environment[name] for name in _KIND} | environment["packages"],
        },
    )
    write_card(
        CARD,
        info=model.info,
        dataset=read_dataset(),
        params=model.params.model_dump(),
        metrics=metrics,
        recall=recall.tolist(),
        environment=environment,
    )


def frequent_confusions(matrix: np.ndarray, classes: list[str], most: int = 5) -> str:
    """The largest counts beside the diagonal of a confusion matrix, in words."""
    counts = matrix.copy()
    np.fill_diagonal(counts, 0)
    largest = np.argsort(-counts, axis=None, kind="stable")[:most]
    pairs = [divmod(place, len(classes)) for place in largest.tolist() if counts.flat[place]]
    return ", ".join(f"{classes[row]} → {classes[column]} ({counts[row, column]})" for row, column in pairs) or "none"


def confident_mistakes(shares: np.ndarray, test: Split, info: DatasetInfo) -> list[figures.Mistake]:
    """The wrong predictions that were most probable, eight at most."""
    labels, predicted, confidence = test.labels.cpu().numpy(), shares.argmax(1), shares.max(1)
    wrong = np.flatnonzero(predicted != labels)
    wrong = wrong[np.argsort(-confidence[wrong], kind="stable")][:_SHOWN_MISTAKES]
    return [
        figures.Mistake(
            test.images[index].cpu().numpy(),
            info.classes[labels[index]],
            info.classes[predicted[index]],
            float(confidence[index]),
        )
        for index in wrong.tolist()
    ]


if __name__ == "__main__":
    run_main(main)
