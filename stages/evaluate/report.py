"""What a person sees of a run: the pictures in plots/, reports/report.html and the model card, models/README.md."""

from pathlib import Path

import numpy as np

from stages.common import tables
from stages.common.files import read_json
from stages.evaluate import figures
from stages.evaluate.card import write_card
from stages.evaluate.evaluation import Evaluation
from stages.evaluate.page import Picture, write_page
from stages.model.dataset import PREPARED, read_dataset
from stages.model.trained import MODELS

PLOTS = Path("plots")
CURVES = PLOTS / "curves.csv"
REPORT = Path("reports/report.html")
CARD = MODELS / "README.md"
ENVIRONMENT = Path("metrics/environment.json")
# What an environment has in common with others that give the same bytes.
_KIND = ("device", "arithmetic", "cpu_capability", "precision", "deterministic", "threads", "processes")
_SHOWN_MISTAKES = 8


def write_pictures(evaluation: Evaluation, matrix: np.ndarray, recall: np.ndarray) -> list[Picture]:
    """Draw everything into plots/; what the report says of each."""
    info = evaluation.model.info
    rows = tables.parse(CURVES.read_bytes(), ("epoch", "val_loss", "val_accuracy"))
    curves = [{name: float(value) for name, value in row.items()} for row in rows]
    figures.draw_curves(curves, PLOTS / "curves.png")
    figures.draw_confusion(matrix, info.classes, PLOTS / "confusion.png")
    figures.draw_recall(recall.tolist(), matrix.sum(1).tolist(), info.classes, PLOTS / "recall.png")
    figures.draw_reliability(evaluation.probabilities, evaluation.labels, PLOTS / "reliability.png")
    mistakes = confident_mistakes(evaluation)
    figures.draw_mistakes(mistakes, info.classes, PLOTS / "mistakes.png")
    lowest = info.classes[int(recall.argmin())]
    described = "; ".join(f"{mistake.actual} → {mistake.predicted}" for mistake in mistakes) or "none"
    legend = f". {names}" if (names := figures.legend(info.classes)) else ""
    last = curves[-1]
    return [
        Picture(
            PLOTS / "curves.png",
            "Training",
            f"Loss, accuracy and learning rate over {len(curves)} epochs; in the last, validation loss "
            f"{last['val_loss']:.4f}, validation accuracy {last['val_accuracy']:.4f}",
        ),
        Picture(
            PLOTS / "mistakes.png",
            "Mistakes",
            f"The most confident of {int(matrix.sum() - matrix.trace())}: {described}{legend}",
        ),
        Picture(
            PLOTS / "confusion.png",
            "Confusion matrix",
            f"{int(matrix.trace())} of {int(matrix.sum())} images lie on the diagonal, where predicted is actual; "
            f"confused most often: {frequent_confusions(matrix, info.classes)}{legend}",
        ),
        Picture(
            PLOTS / "recall.png",
            "Recall per class",
            f"Lowest is {lowest}, {recall.min():.4f}; highest {recall.max():.4f}{legend}",
        ),
        Picture(
            PLOTS / "reliability.png",
            "Reliability",
            "How often the predicted class is right, by its stated probability",
        ),
    ]


def write_report(evaluation: Evaluation, pictures: list[Picture], recall: np.ndarray) -> None:
    """Write the report and the model card."""
    model, metrics = evaluation.model, evaluation.metrics
    environment = read_json(ENVIRONMENT, "`dvc repro train` makes it.")
    write_page(
        REPORT,
        model=f"{model.params['model']} for {len(model.info.classes)} classes",
        metrics=metrics,
        pictures=pictures,
        data=(PREPARED / "summary.txt").read_text(encoding="utf-8"),
        tables={
            "Params": dict(sorted(model.params.items())),
            "Environment of training": {name: environment[name] for name in _KIND} | environment["packages"],
        },
    )
    write_card(
        CARD,
        info=model.info,
        dataset=read_dataset(),
        params=model.params,
        origin=model.origin,
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


def confident_mistakes(evaluation: Evaluation) -> list[figures.Mistake]:
    """The wrong predictions that were most probable, eight at most."""
    classes, labels, predicted = evaluation.model.info.classes, evaluation.labels, evaluation.predicted
    confidence = evaluation.probabilities.max(1)
    wrong = np.flatnonzero(predicted != labels)
    wrong = wrong[np.argsort(-confidence[wrong], kind="stable")][:_SHOWN_MISTAKES]
    return [
        figures.Mistake(
            evaluation.split.images[index].cpu().numpy(),
            classes[labels[index]],
            classes[predicted[index]],
            float(confidence[index]),
        )
        for index in wrong.tolist()
    ]
