"""STAGE 3: measure the model on the val split, by which epochs and experiments are chosen. Writes:

predictions.csv         a row per val image: sha256, path, class, predicted, and a probability per class, p_<class>;
                        of more than 100 classes those of its own, of the predicted and of the next four
metrics/evaluate.json   accuracy with its 95 % interval, balanced accuracy, top-5, macro-F1, loss, calibration error
plots/per_class.csv     precision, recall, F1 and number of images of each class
plots/confusion.csv     a row per val image, 50,000 at most: the first digits of its sha256, its class and the predicted
plots/*.png             curves, confusion matrix, recall per class, reliability, the most confident mistakes
models/README.md        the model card
"""

import argparse
from pathlib import Path

from stages.common.errors import run_main
from stages.common.files import write_json
from stages.evaluate.card import CARD, write_card
from stages.evaluate.evaluation import evaluate, write_predictions, write_tables
from stages.evaluate.pictures import PLOTS, write_pictures

PREDICTIONS = Path("predictions.csv")
METRICS = Path("metrics/evaluate.json")


def main() -> None:
    argparse.ArgumentParser(
        prog="python -m stages.evaluate", description="Stage 3: measure models/ on the val split of prepared/."
    ).parse_args()
    evaluation = evaluate("val", PREDICTIONS, METRICS, PLOTS / "per_class.csv", CARD)
    write_predictions(evaluation, PREDICTIONS)
    confusions, recall = write_tables(evaluation, PLOTS)
    write_pictures(evaluation, confusions, recall)
    write_card(evaluation, recall.tolist())
    write_json(METRICS, evaluation.metrics)
    print(f"{evaluation} → {METRICS}; `make report` draws a page of it")


if __name__ == "__main__":
    run_main(main)
