"""Calibration by hand on small cases."""

import numpy as np
import pytest

from stages.evaluate.calibration import binned, calibration_error


def test_calibration_by_hand() -> None:
    """Bins of a fifth: two images at 0.5 and 0.55, one right; one at 0.9, right; gaps of 0.025 and 0.1, by numbers."""
    confidence, right = np.array([0.5, 0.55, 0.9]), np.array([True, False, True])
    assert calibration_error(confidence, right, 5) == pytest.approx((2 * 0.025 + 0.1) / 3)
    assert calibration_error(np.ones(2), np.array([True, True])) == 0
    assert calibration_error(np.ones(2), np.array([False, False])) == 1


def test_bins_hold_every_prediction() -> None:
    """Also those at 0 and at 1."""
    probabilities = np.array([[1.0, 0], [0.5, 0.5], [0.05, 0.95], [0.0, 1.0]])
    by_confidence = binned(probabilities.max(1), probabilities.argmax(1) == [0, 1, 1, 0], 10)
    assert by_confidence.images.tolist() == [0, 0, 0, 0, 0, 1, 0, 0, 0, 3]
    assert by_confidence.right.tolist() == [0, 0, 0, 0, 0, 0, 0, 0, 0, 2]
    assert by_confidence.confidence[9] == pytest.approx(2.95)
