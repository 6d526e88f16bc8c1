"""STAGE 3: measure the model on the test split, which no other stage reads. Writes predictions.csv and plots/.

predictions.csv         a row per test image: sha256, path, class, predicted, and a probability per class, p_<class>
metrics/evaluate.json   accuracy with its 95 % interval, balanced accuracy, top-5, macro-F1, loss, calibration error
plots/per_class.csv     precision, recall, F1 and number of images of each class
plots/confusion.csv     a row per test image: its class and the predicted one, for DVC's confusion matrix
plots/*.png             curves, confusion matrix, recall per class, reliability, the most confident mistakes
reports/report.html     all of it on one page that needs no network
models/README.md        the model card
"""

import argparse
import csv
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from stages import figures, report
from stages.card import write_card
from stages.dataset import PREPARED, DatasetInfo, Split, load_info, read_dataset
from stages.errors import UserError, run_main
from stages.files import read_json, replacing, write_json
from stages.params import EvaluateParams, load
from stages.runtime import setup
from stages.trained import MODELS, TrainedModel, load_trained, probabilities

PREDICTIONS = Path("predictions.csv")
METRICS = Path("metrics/evaluate.json")
PLOTS = Path("plots")
CURVES = PLOTS / "curves.csv"
REPORT = Path("reports/report.html")
CARD = MODELS / "README.md"
ENVIRONMENT = Path("metrics/environment.json")
# What an environment has in common with others that give the same bytes.
_KIND = ("device", "cpu_capability", "precision", "deterministic", "threads", "processes")
_SHOWN_MISTAKES = 8


def main() -> None:
    argparse.ArgumentParser(
        prog="python -m stages.evaluate", description="Stage 3: measure models/ on the test split of prepared/."
    ).parse_args()
    params = load(EvaluateParams)
    runtime = setup(params)
    info = load_info()
    model = load_trained()
    require_same_data(model, info)
    test = Split.load("test", info, runtime.device)
    print(f"evaluate: {len(test)} test images on {runtime}", flush=True)
    logits = model.to(runtime.device).logits(test.batches(params.eval_batch_size), runtime)
    labels = test.labels.cpu().numpy()

    metrics = measure(logits, labels)
    shares = probabilities(logits)
    write_predictions(shares, labels, info)
    matrix, recall = write_tables(logits.argmax(1), labels, info.classes)
    pictures = write_pictures(shares, test, info, matrix, recall)
    environment = read_json(ENVIRONMENT, "`dvc repro train` makes it.")
    report.write_report(
        REPORT,
        model=f"{model.params.model} for {len(info.classes)} classes",
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
        info=info,
        dataset=read_dataset(),
        params=model.params.model_dump(),
        metrics=metrics,
        recall=recall.tolist(),
        environment=environment,
    )
    write_json(METRICS, metrics)
    print(
        f"  accuracy {metrics['accuracy']:.4f}, 95 % interval {metrics['accuracy_low']:.4f} to "
        f"{metrics['accuracy_high']:.4f}; "
        f"macro-F1 {metrics['macro_f1']:.4f} → {METRICS}, {REPORT}"
    )


def require_same_data(model: TrainedModel, info: DatasetInfo) -> None:
    """UserError where the model is of other data than `info` describes."""
    if model.info != info:
        raise UserError(
            f"{MODELS}/model.json: trained on other data than {PREPARED}/dataset.json describes. "
            "`dvc repro train` trains on these."
        )


def measure(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The figures of metrics/evaluate.json.

    The interval is Wilson's (1927), as scipy computes it: the range of true accuracies that the test images do not
    contradict at 95 %, were they drawn at random. Loss is the mean cross-entropy in nats. Macro-F1, balanced accuracy
    (the mean of the classes' recalls) and top-5 accuracy, where there are more than five classes, are scikit-learn's.
    """
    from scipy.stats import binomtest
    from sklearn.metrics import balanced_accuracy_score, f1_score, top_k_accuracy_score

    classes = range(logits.shape[1])
    predicted = logits.argmax(1)
    correct = int((predicted == labels).sum())
    interval = binomtest(correct, len(labels)).proportion_ci(0.95, method="wilson")
    figures = {
        "accuracy": correct / len(labels),
        "accuracy_low": float(interval.low),
        "accuracy_high": float(interval.high),
        "balanced_accuracy": float(balanced_accuracy_score(labels, predicted)),
        "calibration_error": calibration_error(probabilities(logits), labels),
        "loss": F.cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels)).item(),
        "macro_f1": float(f1_score(labels, predicted, average="macro", labels=classes, zero_division=0.0)),
    }
    if len(classes) > 5:
        figures["top5_accuracy"] = float(top_k_accuracy_score(labels, logits, k=5, labels=classes))
    return {name: round(value, 6) for name, value in sorted(figures.items())} | {"images": len(labels)}


def calibration_error(shares: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error: by how much stated confidence and accuracy differ, on average over the images.

    Guo et al., "On Calibration of Modern Neural Networks" (2017): images are sorted by the probability of the predicted
    class into `bins` of equal width; the bins' |accuracy - mean confidence| is weighted by their numbers of images.
    """
    confidence, right = shares.max(1), shares.argmax(1) == labels
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.bincount(index, right - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(labels))


def write_predictions(shares: np.ndarray, labels: np.ndarray, info: DatasetInfo) -> None:
    """Write predictions.csv; a row of the manifest tells which picture each test image is."""
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


def write_tables(predicted: np.ndarray, labels: np.ndarray, classes: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Write the per-class figures, and the rows that DVC makes a confusion matrix of; return that matrix and the
    classes' recalls."""
    import pandas as pd
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    PLOTS.mkdir(exist_ok=True)
    indices = range(len(classes))
    columns = precision_recall_fscore_support(labels, predicted, labels=indices, zero_division=0.0)
    per_class = pd.DataFrame(
        {"class": classes, **dict(zip(("precision", "recall", "f1", "images"), columns, strict=True))}
    )
    per_class.to_csv(PLOTS / "per_class.csv", index=False, float_format="%.6f", lineterminator="\n")
    names = np.array(classes)
    rows = pd.DataFrame({"actual": names[labels], "predicted": names[predicted]})
    rows.to_csv(PLOTS / "confusion.csv", index=False, lineterminator="\n")
    return confusion_matrix(labels, predicted, labels=indices), columns[1]


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
            f"{int(matrix.trace())} of {int(matrix.sum())} images lie on the diagonal, where predicted is actual",
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
