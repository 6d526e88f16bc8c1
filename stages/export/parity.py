"""Whether an exported model gives the answers of the network that it was made of: image by image, in several batches.

PyTorch's exporter may trace a network wrongly without an error, or fix a size of the example, so nothing but a
comparison shows that a file is right; and of a batch of one image, runtimes choose other kernels than of many.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from stages.common.errors import UserError, listed
from stages.common.softmax import softmax
from stages.model.dataset import Split
from stages.onnx.classifier import OnnxClassifier

BATCHES = (1, 7, 64)
# Kernels that sum in another order change a probability by 1e-6 or so; what changes it by more is another network.
MOST = 1e-3
# onnxruntime chooses kernels by the CPU, so what is smaller differs from machine to machine.
_LEAST_EXPONENT = -4
_NAMED = 8
_REMEDY = (
    "Nothing was written. If it is an own model, write in other operations what PyTorch exports wrongly; else choose "
    "another architecture, or use the model with PyTorch, by `python -m stages.predict`."
)


class Parity(NamedTuple):
    """Of each image of a split, the probabilities by PyTorch, float64 N×classes, and the same by onnxruntime for each
    size of the batch."""

    expected: np.ndarray
    found: dict[int, np.ndarray]

    def changed(self, batch: int) -> np.ndarray:
        """The indices of the images that are of another class by onnxruntime, in batches of this size."""
        indices: np.ndarray = np.flatnonzero(self.expected.argmax(1) != self.found[batch].argmax(1))
        return indices

    def difference(self, batch: int) -> float:
        """The largest difference of a probability between PyTorch and onnxruntime, in batches of this size."""
        return float(np.abs(self.expected - self.found[batch]).max())

    def figures(self) -> dict[str, Any]:
        """For metrics/export.json, which should not depend on the CPU: of a largest difference, the power of ten that
        is not below it, 0.0001 at least."""
        first, last = self.found[BATCHES[0]], self.found[BATCHES[-1]]
        return {
            "images": len(self.expected),
            "changed": sum(len(self.changed(batch)) for batch in BATCHES),
            "largest_difference_at_most": power_of_ten(max(map(self.difference, BATCHES))),
            "batches": {
                str(batch): {
                    "changed": len(self.changed(batch)),
                    "largest_difference_at_most": power_of_ten(self.difference(batch)),
                }
                for batch in BATCHES
            },
            f"batch_{BATCHES[0]}_against_{BATCHES[-1]}": {
                "changed": int((first.argmax(1) != last.argmax(1)).sum()),
                "largest_difference_at_most": power_of_ten(float(np.abs(first - last).max())),
            },
        }


def compare(logits: np.ndarray, split: Split, classifier: OnnxClassifier) -> Parity:
    """Compare with `logits`, float64 N×classes, the network's of all images of the split. UserError where onnxruntime
    cannot compute the graph for a size of the batch."""
    found = {}
    for batch in BATCHES:
        try:
            found[batch] = softmax(_logits(split, classifier, batch))
        except UserError:
            raise
        except Exception as error:  # onnxruntime's own have no common class but this
            raise UserError(
                f"export: the exported model cannot compute batches of {batch} ({error}). {_REMEDY}"
            ) from None
    return Parity(softmax(logits), found)


def require_equal(parity: Parity, paths: Sequence[str], classes: Sequence[str]) -> None:
    """UserError, with images by their path, where an answer is another one, or a probability is by more than MOST.
    `paths`: of each image; `classes`: their names, in label order."""
    wrong = {index: batch for batch in reversed(BATCHES) for index in parity.changed(batch).tolist()}
    if not wrong:
        for batch in BATCHES:
            apart = np.abs(parity.expected - parity.found[batch]).max(1)
            wrong |= dict.fromkeys(np.flatnonzero(apart > MOST).tolist(), batch)
    if not wrong:
        return
    lines = [
        f"{paths[index]}: {_said(parity.expected[index], classes)} by PyTorch, "
        f"{_said(parity.found[batch][index], classes)} by onnxruntime, in batches of {batch}"
        for index, batch in sorted(wrong.items())[:_NAMED]
    ]
    if len(wrong) > _NAMED:
        lines.append(f"and {len(wrong) - _NAMED:,} more")
    raise UserError(
        f"export: {len(wrong):,} of {len(parity.expected):,} test images are answered otherwise by the exported model; "
        f"expected the same class, and probabilities that differ by {MOST:g} at most:\n{listed(lines)}\n"
        f"{_REMEDY}"
    )


def power_of_ten(difference: float) -> float:
    """The least power of ten, from 0.0001 on, that is not below `difference`."""
    exponent = math.ceil(math.log10(difference)) if difference > 0 else _LEAST_EXPONENT
    return float(f"1e{max(exponent, _LEAST_EXPONENT)}")


def _logits(split: Split, classifier: OnnxClassifier, batch: int) -> np.ndarray:
    slices = [slice(start, start + batch) for start in range(0, len(split), batch)]
    return np.concatenate([classifier.logits(rows.cpu().numpy()) for rows in split.rows(slices)])


def _said(probabilities: np.ndarray, classes: Sequence[str]) -> str:
    best = int(probabilities.argmax())
    return f"{classes[best]} {probabilities[best]:.6f}"
