"""The model's answers on one split, and the files that are written of val by evaluate and of test by claim."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from stages.common import tables
from stages.common.dependencies import require_modules_listed
from stages.common.errors import UserError
from stages.common.files import require_writable
from stages.common.params import load
from stages.common.softmax import softmax
from stages.evaluate.metrics import confusion_matrix, measure, per_class
from stages.evaluate.own_metric import load_metric
from stages.evaluate.params import EvaluateParams
from stages.model.dataset import PREPARED, Batch, DatasetInfo, Split, load_info, require_digests
from stages.model.runtime import Runtime, setup
from stages.model.trained import MODEL, TrainedModel, load_trained

# Of an image's SHA-256, as many as tell ten million images apart; Git keeps them, and digests do not compress.
IMAGE_DIGITS = 16

SplitName = Literal["val", "test"]


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
    rows = list(read_rows(PREPARED / "manifest.csv", name))
    labels = split.labels.cpu().numpy()
    if [row["class"] for row in rows] != [info.classes[label] for label in labels]:
        raise UserError(
            f"{PREPARED}/manifest.csv: its {name} rows are not those of {name}-labels.npy. `dvc repro prepare` makes "
            "both."
        )
    require_writable(*outputs)
    print(f"evaluate: {len(split)} {name} images on {runtime}", flush=True)
    model.to(runtime.device)
    logits = model.logits(split.batches(params.eval_batch_size), runtime)
    mirrored = model.logits(mirrored_batches(split, params.eval_batch_size), runtime) if params.tta_flip else None
    metrics = measure(logits, labels, mirrored, metric)
    require_modules_listed()
    return Evaluation(model, split, rows, logits.argmax(1), softmax(logits), metrics)


def load_split(name: SplitName, model: TrainedModel, info: DatasetInfo, runtime: Runtime) -> Split:
    """A split. UserError where it, or the model, is not of the data that `info` describes, or lacks a class."""
    # Pretrained weights have constants of their own.
    expected = replace(info, mean=model.info.mean, std=model.info.std) if model.origin else info
    if model.info != expected:
        raise UserError(
            f"{MODEL}: trained on other data than {PREPARED}/dataset.json describes. `dvc repro train` trains on these."
        )
    split = Split.load(name, model.info, runtime.device)
    require_digests(name, info)
    absent = set(range(len(info.classes))) - set(split.labels.tolist())
    if absent:
        raise UserError(
            f"{PREPARED}/{name}-labels.npy: no {name} image of "
            f"{', '.join(info.classes[label] for label in sorted(absent))}; expected some of every class. "
            "`dvc repro prepare` makes such splits, or says which images are missing."
        )
    return split


def mirrored_batches(split: Split, batch_size: int) -> Iterator[Batch]:
    """The images, left and right exchanged."""
    return (batch._replace(images=batch.images.flip(3)) for batch in split.batches(batch_size))


def read_rows(path: Path, name: SplitName) -> Iterator[dict[str, str]]:
    """The rows of the manifest that are images of split `name`, in the order of the arrays. UserError where it is no
    manifest."""
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = tables.Rows(stream, ("path", "class", "split", "sha256", "status"))
            for row in rows:
                if row is None:
                    raise tables.TableError(f"line {rows.line} has other than {len(rows.columns)} values")
                if row["split"] == name and row["status"] == "kept":
                    yield row
    except (FileNotFoundError, tables.TableError) as error:
        raise UserError(f"{path}: not what prepare wrote ({error}). `dvc repro prepare` makes it.") from None


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
