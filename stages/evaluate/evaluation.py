"""The model's answers on one split, and the files that are written of val by evaluate and of test by claim."""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stages.common import tables
from stages.common.dependencies import require_modules_listed
from stages.common.files import require_writable
from stages.common.params import load
from stages.common.softmax import softmax
from stages.evaluate.metrics import confusion_matrix, measure, per_class
from stages.evaluate.own_metric import load_metric
from stages.evaluate.params import EvaluateParams
from stages.model.checked_split import SplitName, load_rows, load_split, mirrored_batches
from stages.model.dataset import Split, load_info
from stages.model.runtime import setup
from stages.model.trained import TrainedModel, load_trained

# Of an image's SHA-256, as many as tell ten million images apart; Git keeps them, and digests do not compress.
IMAGE_DIGITS = 16


class Evaluation(NamedTuple):
    """The model on a split: of each image, its row of the manifest, the predicted label, int64 N, and the probabilities
    of the classes, float64 N×classes; and the figures over all of them."""

    model: TrainedModel
    split: Split
    rows: list[dict[str, str]]
    predicted: np.ndarray
    probabilities: np.ndarray
    metrics: dict[str, float]

    @property
    def labels(self) -> np.ndarray:
        labels: np.ndarray = self.split.labels.cpu().numpy()
        return labels

    def __str__(self) -> str:
        text = (
            f"  accuracy {self.metrics['accuracy']:.4f}, 95 % interval {self.metrics['accuracy_low']:.4f} to "
            f"{self.metrics['accuracy_high']:.4f}; macro-F1 {self.metrics['macro_f1']:.4f}"
        )
        if "tta_accuracy" in self.metrics:
            text += f"; {self.metrics['tta_accuracy']:.4f} with the answers to mirrored images averaged in (tta_flip)"
        if self.metrics["accuracy"] <= self.metrics["majority_accuracy"]:
            text += f"\n  warning: no better than naming the largest class ({self.metrics['majority_accuracy']:.4f})"
        return text


def evaluate(name: SplitName, *outputs: Path) -> Evaluation:
    """Measure the model in models/ on split `name` of prepared/. `outputs`: the files that will be written of it, which
    must be writable before the work begins. UserError where model and split do not belong together."""
    params = load(EvaluateParams)
    runtime = setup(params)
    info = load_info()
    metric = load_metric(params.metric, len(info.classes)) if params.metric else None
    # DVC has written dvc.lock since train ran; whoever runs the stages without it, has not.
    model = load_trained(recorded="DVC_STAGE" in os.environ)
    split = load_split(name, model, info, runtime)
    rows = load_rows(name, split)
    labels = split.labels.cpu().numpy()
    require_writable(*outputs)
    print(f"evaluate: {len(split)} {name} images on {runtime}", flush=True)
    model.to(runtime.device)
    logits = model.logits(split.batches(params.eval_batch_size), runtime)
    mirrored = model.logits(mirrored_batches(split, params.eval_batch_size), runtime) if params.tta_flip else None
    metrics = measure(logits, labels, mirrored, metric)
    require_modules_listed()
    return Evaluation(model, split, rows, logits.argmax(1), softmax(logits), metrics)


def write_predictions(evaluation: Evaluation, path: Path) -> None:
    """Write a row per image: sha256, path, class, predicted, and a probability per class, p_<class>."""
    classes = evaluation.model.info.classes
    tables.write(
        path,
        ["sha256", "path", "class", "predicted", *(f"p_{label}" for label in classes)],
        (
            [row["sha256"], row["path"], row["class"], classes[p.argmax()], *(f"{share:.6f}" for share in p.tolist())]
            for row, p in zip(evaluation.rows, evaluation.probabilities, strict=True)
        ),
    )


def write_tables(evaluation: Evaluation, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Write two tables into `folder`; return the confusion matrix and the recalls.

    per_class.csv    precision, recall, F1 and number of images of each class
    confusion.csv    a row per image: the first digits of its sha256, its class and the predicted one; for DVC's
                     confusion matrix, and for the review, which compares two models image by image
    """
    classes, labels, predicted = evaluation.model.info.classes, evaluation.labels, evaluation.predicted
    matrix = confusion_matrix(labels, predicted, len(classes))
    figures = per_class(matrix)
    tables.write(
        folder / "per_class.csv",
        ["class", *figures._fields, "images"],
        (
            [name, *(f"{value:.6f}" for value in values), count]
            for name, *values, count in zip(classes, *figures, matrix.sum(1).tolist(), strict=True)
        ),
    )
    tables.write(
        folder / "confusion.csv",
        ["image", "actual", "predicted"],
        (
            [row["sha256"][:IMAGE_DIGITS], classes[label], classes[answer]]
            for row, label, answer in zip(evaluation.rows, labels.tolist(), predicted.tolist(), strict=True)
        ),
    )
    return matrix, figures.recall
