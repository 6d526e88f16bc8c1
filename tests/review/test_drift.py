"""`python -m review drift`: the tests' own promises by simulation, the border, and the verdict on real answers."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from benchmarks.drift import class_power, confidence_power, false_alarms
from review import claim
from review.drift import labels, service_log
from review.drift.command import share
from review.drift.facts import accuracy_of
from review.drift.homogeneity import chi_square, holm, kolmogorov_smirnov
from review.revision import Revision
from stages.common.errors import UserError
from tests.markup import Page
from tests.project import BIN, run
from tests.service_logs import LINE, answers_like, write_log

CLASSES = ["cat", "dog"]


@pytest.mark.slow
def test_what_has_not_drifted_is_seldom_called_drift() -> None:
    """5 % of 400 reports, within 3 standard deviations, with many equal confidences and few expected counts."""
    share, _ = false_alarms(10, 60, 100, 0.9, False, 400, 199, np.random.default_rng(1))
    assert 0.018 < share < 0.083


@pytest.mark.slow
def test_drift_is_found_as_often_as_theory_says() -> None:
    generator = np.random.default_rng(2)
    for found, theory in (
        class_power(10, 500, 272, 0.14, 300, 99, generator),
        confidence_power(200, 150, 0.4, 100, 99, generator, paths=1_000),
    ):
        assert 0.6 < theory < 0.95
        assert found == pytest.approx(theory, abs=0.12)


@pytest.mark.slow
def test_distances_are_scipys() -> None:
    """χ² without Yates's correction, and D; p values as theirs where there are no ties and no small counts."""
    from scipy.stats import chi2_contingency, ks_2samp

    one, other = [40, 60, 100], [55, 45, 130]
    expected = chi2_contingency([one, other], correction=False)
    tested = chi_square([*one, 0], [*other, 0])
    assert tested.distance == pytest.approx(expected.statistic)
    assert tested.p_value == pytest.approx(expected.pvalue, abs=0.01)
    generator = np.random.default_rng(0)
    first, second = generator.random(150), generator.random(120) ** 1.2
    apart = kolmogorov_smirnov(first, second)
    assert apart.distance == pytest.approx(ks_2samp(first, second).statistic)
    assert apart.p_value == pytest.approx(ks_2samp(first, second).pvalue, abs=0.02)
    # With more values than cells, nearly so.
    first, second = generator.random(3000), generator.random(2000) ** 1.1
    assert 0 <= ks_2samp(first, second).statistic - kolmogorov_smirnov(first, second).distance < 1 / 400


def test_equal_samples_and_equal_values() -> None:
    assert chi_square([5, 0], [9, 0]) == (0.0, 1.0)
    assert kolmogorov_smirnov(np.full(9, 640), np.full(5, 640)) == (0.0, 1.0)
    assert chi_square([1, 1], [1, 1]).p_value > 0.5
    assert chi_square([400, 0], [0, 400]).p_value < 0.0001


def test_holm() -> None:
    """By hand: the smallest of three by 3, the next by 2, and none below the one before it."""
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_a_log(tmp_path: Path) -> None:
    """Other versions are counted, other keys left alone, a last line may be broken off, and answers are found by id."""
    other = LINE | {"version": "v0.9"}
    second = LINE | {"class": "dog", "id": "r-1", "time": "2026-04-30T00:00:00Z", "note": "x", "confidence": 1}
    path = write_log(tmp_path / "log", LINE, "", other, second)
    with path.open("a") as stream:
        stream.write('{"time": "2026')
    log = service_log.read(path, CLASSES, {"v1.0"}, {"r-1"})
    assert log.labels.tolist() == [0, 1]
    assert log.confidences.tolist() == [0.98, 1]
    assert (log.widths.tolist(), log.heights.tolist()) == ([640, 640], [480, 480])
    assert log.span == "2026-04-30 00:00 to 2026-05-01 12:00 UTC"
    assert log.answers == {"r-1": "dog"}
    assert log.others == {"v0.9": 1}
    assert log.broken == "line 5, the last one, is broken off"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"time": "2026', "line 2: not JSON"),
        ("[]", "line 2: not an object, but list"),
        ("{}", "line 2: no time, id, class, confidence, width, height, version"),
        ({"class": "owl"}, "line 2: class: expected one of the model's (cat, dog), got 'owl'"),
        ({"class": ["cat"]}, "line 2: class: expected a text"),
        ({"id": ""}, "line 2: id: expected a text"),
        ({"version": 1}, "line 2: version: expected a text"),
        ({"confidence": 1.01}, "line 2: confidence: expected a probability, got 1.01"),
        ({"confidence": True}, "line 2: confidence: expected a probability"),
        ('{"confidence": NaN}', "line 2: not JSON (NaN is no number of JSON)"),
        ({"width": 0}, "line 2: width: expected a number of pixels, got 0"),
        ({"height": 480.0}, "line 2: height: expected a number of pixels"),
        ({"time": "2026-05-01T12:00:00"}, "line 2: time: expected one such as 2026-05-01T12:00:00Z"),
        ({"time": 5}, "line 2: time: expected one such as"),
        ({"class": "dog"}, "line 2: id 'r-0' has another class in an earlier line"),
        (f'"{"x" * 70_000}"', "line 2 has more than 65,536 bytes"),
        ("\x1b\u202e", "line 2: not JSON"),
    ],
)
def test_what_is_no_log(line: dict[str, Any] | str, message: str, tmp_path: Path) -> None:
    path = write_log(tmp_path / "log", LINE, line if isinstance(line, str) else LINE | line, LINE)
    with pytest.raises(UserError, match=re.escape(f"{path}: {message}")):
        service_log.read(path, CLASSES, {"v1.0"}, {"r-0"})


def test_no_log_of_this_version(tmp_path: Path) -> None:
    path = write_log(tmp_path / "log", LINE, LINE | {"version": "v2"})
    with pytest.raises(
        UserError, match=r"no answer of version v1.1; got v1.0 \(1 lines\), v2 \(1 lines\)\. .*--version"
    ):
        service_log.read(path, CLASSES, {"v1.1"})
    with pytest.raises(UserError, match="got an empty file"):
        service_log.read(write_log(tmp_path / "log"), CLASSES, {"v1.0"})
    with pytest.raises(UserError, match="expected a file, got a folder"):
        service_log.read(tmp_path, CLASSES, {"v1.0"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,class\na,cat\na,cat\n", "the id a is there twice"),
        ("id\na\n", "no column class"),
        ("id,class\na,\n", "the class '' of a: it is empty"),
        ("id,class\na,<b>\n", "the class '<b>' of a: <, which opens a tag"),
        ("id,class\n", "no rows"),
    ],
)
def test_what_are_no_labels(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(UserError, match=re.escape(message)):
        labels.read(tmp_path / "labels.csv")
    with pytest.raises(UserError, match="/dev/zero: no such file"):
        labels.read(Path("/dev/zero"))


def test_accuracy_against_the_claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """90 of 100 labelled pictures, where 392 of 400 test images are claimed: Fisher's exact test, by scipy, which does
    not count by half what was observed."""
    from scipy.stats import fisher_exact

    path = write_log(tmp_path / "log", *(LINE | {"id": f"r-{number}"} for number in range(120)))
    truth = {f"r-{number}": "cat" if number >= 10 else "dog" for number in range(100)} | {"r-200": "cat"}
    log = service_log.read(path, CLASSES, {"v1.0"}, truth.keys())
    figures = {"accuracy": 0.98, "accuracy_low": 0.961, "accuracy_high": 0.99}
    monkeypatch.setattr(claim, "figures", lambda _: figures)
    revision = cast(Revision, SimpleNamespace(number=lambda *_: 400.0))
    accuracy = accuracy_of(log, truth, revision, CLASSES)
    assert (accuracy.here.share, accuracy.images, accuracy.absent) == (0.9, 100, 1)
    assert accuracy.counts == ([90, 10], [392, 8])
    exact = fisher_exact(accuracy.counts).pvalue
    assert exact / 3 < chi_square(*accuracy.counts).p_value < exact
    with pytest.raises(UserError, match=r"none of the 1 ids is in log, such as x\."):
        accuracy_of(service_log.read(path, CLASSES, {"v1.0"}), {"x": "cat"}, revision, CLASSES)


def test_verdicts_on_the_answers_of_a_release(copy_reproduced: Callable[[str], Path], tmp_path: Path) -> None:
    """A log of answers like those to the val images, of which true classes came later; then one in which a class is
    gone, confidences are lower and pictures narrower, against the first one."""
    folder = copy_reproduced("project")
    run("git tag --annotate --message v1.0 classifier@v1.0", folder)
    lines = answers_like(folder, 150, "v1.0")
    same = write_log(tmp_path / "same.jsonl", *lines, LINE | {"version": "v0.9"})
    right = [f"{line['id']},{line['class'] if number % 3 else 'fox'}" for number, line in enumerate(lines)]
    truth = write_log(tmp_path / "labels.csv", "id,class", *right, "r-999,a")
    drift: list[str | Path] = [BIN / "python", "-m", "review", "drift", "--offline"]
    done = run([*drift, same, "classifier@v1.0", "--labels", truth], folder)
    assert "**No drift found: 2 tests on 150 pictures" in done.stdout
    assert "Left out: lines of other versions, v0.9 (1)." in done.stdout
    assert re.search(
        r"6\d % \(Wilson, .*\) of 150 labelled pictures .* Not compared with a claim: not claimed", done.stdout
    )
    assert "the model has no such class: fox (50)" in done.stdout
    assert "left out: 1." in done.stdout
    assert "The medians of all images of the release are 8 and 8 pixels." in done.stdout

    changes = {"width": 320, "version": "v1.0"}
    gone = [line | {"confidence": line["confidence"] / 2} | changes for line in lines if line["class"] != "a"]
    other = write_log(tmp_path / "other.jsonl", *gone)
    page, table = tmp_path / "page.html", tmp_path / "drift.md"
    done = run(
        [*drift, other, "HEAD", "--reference", same, "--json", "--html", page, "--markdown", table], folder, expect=1
    )
    facts = json.loads(done.stdout)
    assert [test["what"] for test in facts["tests"]] == ["class shares", "confidence", "width", "height"]
    assert [test["corrected"] < 0.05 for test in facts["tests"]] == [True, True, True, False]
    assert facts["reference"] == {"name": "same.jsonl", "pictures": 150}
    assert re.search(r"\*\*Drift: class shares \(p = \S+\), confidence \(p = \S+\), width", table.read_text())
    assert Page(page.read_text()).open == []


def test_what_cannot_be_told_has_an_exit_code_of_its_own(reproduced_clone: Path, tmp_path: Path) -> None:
    other = write_log(tmp_path / "other.jsonl", LINE)
    drift: list[str | Path] = [BIN / "python", "-m", "review", "drift", other, "HEAD"]
    done = run(drift, reproduced_clone, expect=2)
    assert re.match(r"error: .*no answer of version \w{7}, .*; got v1.0 \(1 lines\)", done.stderr)
    done = run([*drift, "--markdown", other], reproduced_clone, expect=2)
    assert re.match(r"error: .*other.jsonl: is read here", done.stderr)
    assert other.exists()


@pytest.mark.parametrize("text", ["0", "0.0009", "1", "nan", "inf", "x"])
def test_what_is_no_level(text: str) -> None:
    with pytest.raises(ValueError, match=text):
        share(text)
    assert share("0.001") == 0.001
