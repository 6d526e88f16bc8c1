"""The pictures in plots/, for DVC's plots and editors; `python -m review report` draws a page."""

from pathlib import Path

import numpy as np
import torch

from stages.common import tables
from stages.evaluate import figures
from stages.evaluate.evaluation import Evaluation
from stages.evaluate.metrics import Confusions

PLOTS = Path("plots")
CURVES = PLOTS / "curves.csv"
_SHOWN_MISTAKES = 8


def write_pictures(evaluation: Evaluation, confusions: Confusions, recall: np.ndarray) -> None:
    """Draw everything into plots/."""
    classes = evaluation.model.info.classes
    rows = tables.parse(CURVES.read_bytes(), ("epoch", "val_loss", "val_accuracy"))
    curves = [{name: float(value) for name, value in row.items()} for row in rows]
    figures.draw_curves(curves, PLOTS / "curves.png")
    figures.draw_confusion(confusions, classes, PLOTS / "confusion.png")
    figures.draw_recall(recall.tolist(), confusions.of_class.tolist(), classes, PLOTS / "recall.png")
    scores = evaluation.scores
    figures.draw_reliability(scores.confidence, scores.probable == evaluation.labels, PLOTS / "reliability.png")
    figures.draw_mistakes(confident_mistakes(evaluation), classes, PLOTS / "mistakes.png")


def confident_mistakes(evaluation: Evaluation) -> list[figures.Mistake]:
    """The wrong predictions that were most probable, eight at most."""
    classes, labels, scores = evaluation.model.info.classes, evaluation.labels, evaluation.scores
    predicted, confidence = scores.predicted, scores.confidence
    wrong = np.flatnonzero(predicted != labels)
    wrong = wrong[np.argsort(-confidence[wrong], kind="stable")][:_SHOWN_MISTAKES]
    split = evaluation.split
    (images,) = split.rows([torch.from_numpy(wrong).to(split.indexed_on)])
    return [
        figures.Mistake(image, classes[labels[index]], classes[predicted[index]], float(confidence[index]))
        for index, image in zip(wrong.tolist(), images.cpu().numpy(), strict=True)
    ]
