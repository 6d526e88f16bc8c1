"""Logs as a service writes them, for tests."""

import csv
import json
import random
from pathlib import Path
from typing import Any

LINE: dict[str, Any] = {
    "time": "2026-05-01T12:00:00.250+00:00",
    "id": "r-0",
    "class": "cat",
    "confidence": 0.98,
    "width": 640,
    "height": 480,
    "version": "v1.0",
}


def write_log(path: Path, *entries: dict[str, Any] | str) -> Path:
    """Write a line for each entry, and return the path."""
    texts = (entry if isinstance(entry, str) else json.dumps(entry) for entry in entries)
    path.write_text("".join(f"{text}\n" for text in texts))
    return path


def answers_like(folder: Path, count: int, version: str) -> list[dict[str, Any]]:
    """So many lines with answers drawn from those to the val images of the project in `folder`."""
    with (folder / "predictions.csv").open(encoding="utf-8", newline="") as stream:
        answers = [(row["predicted"], float(row[f"p_{row['predicted']}"])) for row in csv.DictReader(stream)]
    return [
        LINE | {"id": f"r-{number}", "class": label, "confidence": confidence, "version": version}
        for number, (label, confidence) in enumerate(random.Random(0).choices(answers, k=count))
    ]
