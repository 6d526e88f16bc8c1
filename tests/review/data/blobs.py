"""Features like those of a network, drawn by chance, for tests: a cloud for each class."""

import numpy as np

from review.data.features import Features, Image


def images(labels: np.ndarray, **fields: object) -> list[Image]:
    """An image for each label, all alike but for `fields`."""
    return [
        Image(
            split="train",
            path=f"{label}/{row}.png",
            label=str(label),
            sha256=f"{row:064x}",
            group="",
            width=640,
            height=480,
            brightness=100.0,
            contrast=50.0,
            sharpness=500.0,
            plain=0.1,
            taken="",
            camera="",
        )._replace(**fields)  # type: ignore[arg-type]
        for row, label in enumerate(labels.tolist())
    ]


def clouds(
    classes: int, each: int, width: int = 12, apart: float = 4.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Vectors, float32 N×width, and labels, int64 N, in turn: of each class about a centre of its own, `apart` standard
    deviations from 0."""
    generator = np.random.default_rng(seed)
    centres = np.eye(width)[:classes] * apart
    labels = np.arange(classes * each) % classes
    return (centres[labels] + generator.standard_normal((len(labels), width))).astype(np.float32), labels


def features(vectors: np.ndarray, rows: list[Image], *, own_model: bool = False) -> Features:
    return Features(rows, vectors, {"features_of": "weights test", "own_model": own_model})
