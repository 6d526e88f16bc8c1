"""STAGE 3: measure the model on the test split, which no other stage reads. Writes predictions.csv and plots/.

predictions.csv         a row per test image: sha256, path, class, predicted, and a probability per class, p_<class>
metrics/evaluate.json   accuracy with its 95 % interval, balanced accuracy, top-5, macro-F1, loss, calibration error
plots/per_class.csv     precision, recall, F1 and number of images of each class
plots/confusion.csv     a row per test image: its class and the predicted one, for DVC's confusion matrix
plots/confusion.png     the same as a picture
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from stages.dataset import PREPARED, DatasetInfo, Split, load_info
from stages.errors import UserError, run_main
from stages.files import replacing, write_json
from stages.params import EvaluateParams, load
from stages.runtime import setup
from stages.trained import MODELS, TrainedModel, load_trained, probabilities

PREDICTIONS = Path("predictions.csv")
METRICS = Path("metrics/evaluate.json")
PLOTS = Path("plots")


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
    write_predictions(logits, labels, info)
    write_plots(logits.argmax(1), labels, info.classes)
    write_json(METRICS, metrics)
    print(
        f"  accuracy {metrics['accuracy']:.4f}, 95 % interval {metrics['accuracy_low']:.4f} to "
        f"{metrics['accuracy_high']:.4f}; "
        f"macro-F1 {metrics['macro_f1']:.4f} → {METRICS}"
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


def write_predictions(logits: np.ndarray, labels: np.ndarray, info: DatasetInfo) -> None:
    """Write predictions.csv; a row of the manifest tells which picture each test image is."""
    import pandas as pd

    manifest = pd.read_csv(PREPARED / "manifest.csv", dtype=str, keep_default_na=False)
    rows = manifest[(manifest["split"] == "test") & (manifest["status"] == "kept")]
    classes = np.array(info.classes)
    if not np.array_equal(rows["class"].to_numpy(), classes[labels]):
        raise UserError(
            f"{PREPARED}/manifest.csv: its test rows are not those of test-labels.npy. `dvc repro prepare` makes both."
        )
    table = rows[["sha256", "path", "class"]].assign(predicted=classes[logits.argmax(1)])
    table = table.join(
        pd.DataFrame(probabilities(logits), index=table.index, columns=[f"p_{label}" for label in info.classes])
    )
    with replacing(PREDICTIONS) as temporary:
        table.to_csv(temporary, index=False, float_format="%.6f", lineterminator="\n")


def write_plots(predicted: np.ndarray, labels: np.ndarray, classes: list[str]) -> None:
    """Write the per-class table and the confusion matrix, as rows and as a picture."""
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
    draw_confusion(confusion_matrix(labels, predicted, labels=indices), classes, PLOTS / "confusion.png")


def draw_confusion(matrix: np.ndarray, classes: list[str], path: Path) -> None:
    """Draw counts, actual classes down and predicted ones across; the colour is the share of the actual class."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    side = 2.5 + 0.45 * min(len(classes), 40)
    figure = Figure(figsize=(side, side), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.imshow(matrix / matrix.sum(1, keepdims=True), cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="predicted", ylabel="actual", title="Test images")
    if len(classes) <= 40:
        axes.set_xticks(range(len(classes)), classes, rotation=90)
        axes.set_yticks(range(len(classes)), classes)
        for row, column in zip(*np.nonzero(matrix), strict=True):
            share = matrix[row, column] / matrix[row].sum()
            axes.text(
                column,
                row,
                str(matrix[row, column]),
                ha="center",
                va="center",
                color="white" if share > 0.5 else "black",
            )
    # Without the writing library's version in it, the file's bytes are those of the picture.
    figure.savefig(path, metadata={"Software": None})


if __name__ == "__main__":
    run_main(main)
