"""The page of a run answers its questions from files that are what the run wrote; the rest is said, not guessed."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from review.report.answers import Answer, Answers
from review.report.cards import Pictures
from review.report.command import draw
from review.report.facts import Against, Facts, OfClass, Recipe
from review.report.matrix import confusion_matrix
from review.revision import Missing, Revision
from review.significance import Prediction, compare_models
from review.thumbnails import Thumbnails
from tests.markup import Page
from tests.project import BIN, edit_params, refusal, run

REPORT = [str(BIN / "python"), "-m", "review", "report"]


def page_of(folder: Path, *arguments: str, name: str = "report.html") -> str:
    run([*REPORT, *arguments], folder)
    text = (folder / "reports" / name).read_text()
    parsed = Page(text)
    assert parsed.open == []
    assert parsed.tags.count("h1") == 1
    assert "script" not in parsed.tags
    assert not re.search(r'(?:src|href)="(?!data:|#)|url\((?!#)', text), "an address"
    assert '<img alt=""' not in text
    assert len(text) < 2_000_000
    return text


def tile(page: str, title: str) -> str:
    found = re.search(rf'<section class="answer"><h2>{title}</h2>(.*?)</section>', page)
    assert found, title
    return re.sub("<[^>]+>", " ", found[1])


def test_a_run(copy_reproduced: Callable[[str], Path]) -> None:
    """Of the working tree, then of its commit; then against the last tag, with an experiment's worse model."""
    folder = copy_reproduced("run")
    metrics = json.loads((folder / "metrics/evaluate.json").read_text())
    page = page_of(folder)
    assert f"{100 * metrics['accuracy']:.0f} %" in tile(page, "Val accuracy")
    assert "better" in tile(page, "Against the largest class")
    assert "no earlier release" in tile(page, "Against the last tag")
    assert "make claim" in tile(page, "Test accuracy")
    head = run("git rev-parse --short=7 HEAD", folder).stdout.strip()
    assert head in tile(page, "Commit")
    assert " of 3" in tile(page, "Epoch")
    assert "400 images" in tile(page, "Data")
    wrong = metrics["images"] - round(metrics["accuracy"] * metrics["images"])
    assert f"{wrong} of {metrics['images']} val images." in page
    assert page.count('class="mistake"') == min(wrong, 12)
    assert re.search(r'<div class="name">[a-e]/\d{4}\.png</div>', page)
    assert "<td>simplenet</td>" in page, "not as in the recipe"
    assert "cpu_capability" in page

    run("git tag --annotate --message first v1 && git commit --quiet --allow-empty --message later", folder)
    assert "the same answers" in tile(page_of(folder, "HEAD", name=f"{commit(folder)[:12]}.html"), "Against v1")
    edit_params(folder, lr="1.0e-5")
    run([BIN / "dvc", "repro", "--quiet"], folder)
    page = page_of(folder)
    assert "not committed" in tile(page, "Commit")
    assert "worse" in tile(page, "Against v1")


def commit(folder: Path) -> str:
    return run("git rev-parse HEAD", folder).stdout.strip()


def test_what_is_not_there_is_said(copy_reproduced: Callable[[str], Path]) -> None:
    folder = copy_reproduced("less")
    # Another number than the run's is none of its figures, and an edited array is drawn, as nobody hashes it, or not.
    metrics = folder / "metrics/train.json"
    metrics.write_text(metrics.read_text().replace("best_epoch", "worst_epoch"))
    predictions = folder / "predictions.csv"
    predictions.chmod(0o644)
    predictions.write_text(predictions.read_text() + "\n")
    np.save(folder / "prepared/val-images.npy.new", np.zeros((3, 8, 8, 1), np.uint8))
    (folder / "prepared/val-images.npy.new.npy").replace(folder / "prepared/val-images.npy")
    (folder / "prepared/train-images.npy").unlink()
    shutil.rmtree(folder / ".dvc/cache/files")
    page = page_of(folder)
    assert "Not the result of what is there: " in page
    assert "metrics/train.json: not what the run wrote" in tile(page, "Epoch")
    assert "predictions.csv: not what the run wrote; changed after it." in page
    assert "No pictures: prepared: of the working tree, neither in DVC" in page
    run("git checkout --quiet metrics && rm dvc.lock", folder)
    assert "dvc.lock: not in the working tree" in refusal(run(REPORT, folder, expect=1))


def test_arrays_of_somebody_else(copy_reproduced: Callable[[str], Path]) -> None:
    """They are no pictures: of another number, another shape, or no array at all."""
    folder = copy_reproduced("arrays")
    place = folder / "prepared/val-images.npy"
    place.chmod(0o644)
    for content, expected in (
        (np.zeros((3, 8, 8, 1), np.uint8), "3 images in the working tree, but prepared/manifest.csv has"),
        (
            np.zeros((3, 8, 9, 1), np.uint8),
            "expected uint8 of N×H×H×1 or N×H×H×3 in the working tree, got uint8 of 3×8×9×1",
        ),
        (np.zeros(3), "got float64 of 3"),
    ):
        np.save(place, content)
        assert expected in page_of(folder)
    place.write_bytes(b"\x80\x04no array")
    assert "prepared/val-images.npy: not an array" in page_of(folder)


def test_texts_of_others_stay_texts() -> None:
    """Whatever a revision calls its classes, files, params and machines; and each part may be missing."""
    nasty = '<script>alert(1)</script>"\x1b[2J\n@all [a](http://b)'
    compared = compare_models({"0": Prediction("a", "a")}, {"0": Prediction("a", "b")})
    assert compared is not None
    one = Answer("0" * 64, nasty, nasty, "b", 0.9)
    run = Facts(
        revision=Revision("workspace", None),
        commit=nasty,
        stale=[nasty],
        accuracy={"accuracy": 0.5, "accuracy_low": 0.4, "accuracy_high": 0.6, "majority_accuracy": 0.5, "images": 9},
        figures={nasty: 0.5},
        claim=nasty,
        chosen=nasty,
        against=Against(nasty, compared),
        epochs=nasty,
        classes=[OfClass(nasty, 0.5, 0.5, 0.5, 2), OfClass("b", 0, 0, 0, 0)],
        said={"0" * 16: Prediction(nasty, "b")},
        answers=Answers.of([one, one._replace(actual="b")]),
        curves={"val_loss": [1.0]},
        counts=nasty,
        summary=nasty,
        data_version=nasty,
        params={nasty: nasty, "model": nasty},
        recipe=Recipe(nasty, {nasty: (nasty, nasty)}),
        environment={nasty: nasty, "packages": {nasty: nasty}},
        run={nasty: nasty},
    )
    certain = ("revision", "commit", "stale", "summary", "data_version", "params")
    missing = {field.name: nasty for field in fields(run) if field.name not in certain}
    for facts in (run, replace(run, **missing)):  # type: ignore[arg-type]
        page = draw(facts, Pictures(no_pictures))
        parsed = Page(page)
        assert parsed.open == []
        assert "script" not in parsed.tags
        assert "\x1b" not in page


def no_pictures(split: str) -> Thumbnails:
    raise Missing(f"<script>{split}")


@pytest.mark.parametrize("count", [2, 21])
def test_a_confusion_matrix(count: int) -> None:
    """Of a few classes as a table, of many as squares; names are text."""
    classes = [f"<b>{number}" for number in range(count)]
    counts = {(name, name): 5 for name in classes} | {(classes[0], classes[1]): 2}
    markup = confusion_matrix(counts, classes)
    parsed = Page(markup)
    assert parsed.open == []
    assert "b" not in parsed.tags
    if count == 2:
        assert re.findall(r"<td[^>]*>(\d*)</td>", markup) == ["", "5", "2", "", "5"]
    else:
        assert parsed.tags.count("title") == count + 1
        assert "<title>&lt;b&gt;0 → &lt;b&gt;1: 2</title>" in markup
