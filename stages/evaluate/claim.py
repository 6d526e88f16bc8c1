"""The claim: measure the model on the test split, by which nothing is chosen. `make claim` runs it. Writes into claim/:

test.json        accuracy with its 95 % interval, balanced accuracy, top-5, macro-F1, loss, calibration error; and the
                 MD5 of the weights and of the test images that they are of
per_class.csv    precision, recall, F1 and number of images of each class
confusion.csv    a row per test image, 50,000 at most: the first digits of its sha256, its class and the predicted one
"""

import argparse
from pathlib import Path

from stages.common.errors import run_main
from stages.common.files import write_json
from stages.common.versions import md5_of
from stages.evaluate.evaluation import evaluate, write_tables
from stages.model.dataset import PREPARED
from stages.model.trained import WEIGHTS

CLAIM = Path("claim")
FIGURES = CLAIM / "test.json"


def main() -> None:
    argparse.ArgumentParser(
        prog="python -m stages.evaluate.claim", description="Measure models/ on the test split of prepared/."
    ).parse_args()
    evaluation = evaluate("test", FIGURES)
    write_tables(evaluation, CLAIM)
    # `dvc commit` and `dvc exp save` record whatever lies there as what the stage made of what lies there.
    inputs = [WEIGHTS, *(PREPARED / f"test-{part}.npy" for part in ("images", "labels"))]
    measured = [{"path": path.as_posix(), "md5": md5_of(path)} for path in inputs]
    write_json(FIGURES, {**evaluation.metrics, "measured": measured})
    print(f"{evaluation} → {CLAIM}/")


if __name__ == "__main__":
    run_main(main)
