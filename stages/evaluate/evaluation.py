"""The model's answers on one split, and the files that are written of val by evaluate and of test by claim."""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stages.common import tables
from stages.common.dependencies import require_modules_listed
from stages.common.files import require_writable
from stages.common.params import load
from stages.evaluate import answers
from stages.evaluate.metrics import Confusions, measure
from stages.evaluate.own_metric import load_metric
from stages.evaluate.params import EvaluateParams
from stages.evaluate.scores import Scores, score
from stages.model.checked_split import SplitName, load_rows, load_split, mirrored_batches
from stages.model.dataset import Split, load_info
from stages.model.runtime import setup
from stages.model.trained import TrainedModel, load_trained


class Evaluation(NamedTuple):
    """The model on a split: of each image, its row of the manifest and the scores; and the figures over all of them."""

    model: TrainedModel
    split: Split
    rows: list[dict[str, str]]
    scores: Scores
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
    logits = model.logit_parts(split.batches(params.eval_batch_size), runtime)
    mirrored = None
    if params.tta_flip:
        mirrored = model.logit_parts(mirrored_batches(split, params.eval_batch_size), runtime)
    keep_all = metric is not None or len(info.classes) <= answers.MOST_PROBABILITIES
    scores = score(logits, labels, mirrored, keep_all=keep_all)
    metrics = measure(scores, labels, len(info.classes), metric)
    require_modules_listed()
    return Evaluation(model, split, rows, scores, metrics)


def write_predictions(evaluation: Evaluation, path: Path) -> None:
    """Write a row per image: sha256, path, class, predicted, and a probability per class, p_<class>; of more than 100
    classes p_class, p_predicted, and the next four classes with theirs."""
    classes = evaluation.model.info.classes
    tables.write(
        path,
        answers.columns(classes),
        (
            [row["sha256"], row["path"], row["class"], *values]
            for row, values in zip(evaluation.rows, answers.values(evaluation.scores, classes), strict=True)
        ),
    )


def write_tables(evaluation: Evaluation, folder: Path) -> tuple[Confusions, np.ndarray]:
    """Write two tables into `folder`; return the confusions and the recalls.

    per_class.csv    precision, recall, F1 and number of images of each class
    confusion.csv    a row per image: the first digits of its sha256, its class and the predicted one; for DVC's
                     confusion matrix, and for the review, which compares two models image by image. Of more than
                     50,000 images, those with the smallest sha256
    """
    classes, labels, predicted = evaluation.model.info.classes, evaluation.labels, evaluation.scores.predicted
    confusions = Confusions.of(labels, predicted, len(classes))
    figures = confusions.per_class()
    tables.write(
        folder / "per_class.csv",
        ["class", *figures._fields, "images"],
        (
            [name, *(f"{value:.6f}" for value in values), count]
            for name, *values, count in zip(classes, *figures, confusions.of_class.tolist(), strict=True)
        ),
    )
    digests = [row["sha256"] for row in evaluation.rows]
    places = answers.places_in_git(digests)
    if len(places) < len(labels):
        print(f"  {folder}/confusion.csv: the {len(places):,} of {len(labels):,} images with the smallest sha256")
    tables.write(
        folder / "confusion.csv",
        ["image", "actual", "predicted"],
        (
            [
                evaluation.rows[place]["sha256"][: answers.IMAGE_DIGITS],
                classes[labels[place]],
                classes[predicted[place]],
            ]
            for place in places
        ),
    )
    return confusions, figures.recall
