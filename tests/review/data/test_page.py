"""The page of `make look`: what it shows, what it embeds for its script, and that texts of others stay texts."""

import base64
import hashlib
import html
import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from review.data import page as page_module
from review.data.decided import undecided
from review.data.findings import (
    Copies,
    Findings,
    LearningCurve,
    Oddity,
    Picture,
    Point,
    Slice,
    Stranger,
    Suspect,
    Wanted,
)
from review.data.lists import write_suspects
from review.data.page import Page, page
from review.data.sheet import LARGE, SMALL
from review.data.terminal import lines
from stages.common import tables
from tests import chromium, markup

HOSTILE = "</script><script>alert(1)</script> \"q\" 'q' & ü, 蟻"
# What else may be in the browser's memory: a decision about an image that the project has one about, one that another
# page has asked for, and what is none.
OTHERS = [
    ["f" * 64, {"path": "cat/old.jpg", "decision": "leave out", "label": "", "reason": ""}],
    ["e" * 64, {"path": "cat/unseen.jpg", "decision": "leave out", "label": "", "reason": "blurred"}],
    ["d" * 64, {"path": "cat/other.jpg", "decision": "relabel", "label": "no class", "reason": ""}],
    7,
]
REMEMBER = """
const { key } = JSON.parse(document.getElementById("data").textContent);
localStorage.setItem(key, JSON.stringify([...JSON.parse(localStorage.getItem(key)), ...%s]));
"""
ROW = ("cat/old.jpg", "f" * 64, "keep", "", 'was "looked" at, before')


def picture(name: str, label: str = "cat", split: str = "train") -> Picture:
    return Picture(hashlib.sha256(name.encode()).hexdigest(), f"{label}/{name}", label, split)


def suspect(name: str, label: str = "cat", suggested: str = "dog") -> Suspect:
    like = picture(f"like {label}", label), picture(f"like {suggested}", suggested)
    return Suspect(picture(name, label), suggested, 0.02, 0.97, *like)


def found(**parts: Any) -> Findings:
    nothing = Findings({}, [], ["cat", "dog"], [], [], [], [], [], "a classifier", LearningCurve([], None, "few"), [])
    return replace(nothing, **parts)


def everything(label: str = "cat", other: str = "dog") -> Findings:
    points = [Point(10, 0.8, 0.7, 0.9), Point(20, 0.9, 0.85, 0.95)]
    return found(
        facts={"features": other},
        remarks=[f"of {other}"],
        classes=[label, other],
        suspects=[suspect("one", label, other), suspect("two", label, other)._replace(like_given=None)],
        strangers=[Stranger(picture("stranger", label), 3.21)],
        copies=[Copies(picture("copy", label), picture("leak", label, "test"), 0.9876)],
        oddities=[Oddity(picture("odd", label), "dark", f"brightness 3, {other}")],
        slices=[
            Slice("camera", other, 40, 28, 0.55, 0.82, 0.004),
            Slice("class", label, 50, 45, 0.79, 0.96, 1.0),
            Slice("class", other, 50, 47, 0.84, 0.98, 1.0),
        ],
        curve=LearningCurve(points, Point(40, 0.93, 0.88, 0.97)),
        wanted=[Wanted(label, 10, 0.8, 0.9), Wanted(other, 10, 0.9, None)],
    )


class Drawn:
    """Pictures that say whose they are and how large; those that were asked for."""

    def __init__(self, length: int = 0, kind: str = "jpeg") -> None:
        self.asked: list[tuple[str, int]] = []
        self._length, self._kind = length, kind

    def __call__(self, one: Picture, side: int) -> str:
        self.asked.append((one.path, side))
        return f"data:image/{self._kind};base64,{len(self.asked)}{'x' * self._length}"


def page_of(findings: Findings, draw: Callable[[Picture, int], str] | None = None) -> Page:
    made = page(findings, draw or Drawn(), [ROW], manifest="0" * 64, everything="reports/suspects.csv")
    assert markup.Page(made.text).open == []
    return made


def embedded(text: str, name: str) -> Any:
    (content,) = re.findall(rf'<script type="application/json" id="{name}">(.*?)</script>', text, re.S)
    return json.loads(content)


def test_texts_of_others_stay_texts() -> None:
    findings = everything(f"c {HOSTILE}", f"d {HOSTILE}")
    text = page_of(findings).text
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.S)
    assert f"script-src 'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}';" in text
    assert markup.Page(text).tags.count("script") == 3
    assert "alert(1)" not in text.replace("alert(1)&lt;/script&gt;", "").replace("alert(1)\\u003c/script>", "")
    data = embedded(text, "data")
    assert data["classes"] == findings.classes
    assert data["rows"] == [list(ROW)]
    assert [findings.suspects[0].picture.sha256, findings.suspects[0].picture.path, 0] in data["images"]
    assert not re.search(r'(?:src|href)="(?!data:|#)|url\((?!#)', text), "an address"


def test_each_picture_is_embedded_once() -> None:
    """Large where somebody decides about it, also where it stands beside another one first."""
    draw = Drawn()
    again = suspect("three")._replace(like_given=picture("four"))
    text = page_of(found(suspects=[suspect("one"), suspect("two"), again, suspect("four")]), draw).text
    large = [(f"cat/{name}", LARGE) for name in ("four", "one", "three", "two")]
    assert sorted(draw.asked) == sorted([*large, ("cat/like cat", SMALL), ("dog/like dog", SMALL)])
    assert len(embedded(text, "pictures")) == len(embedded(text, "data")["images"]) == 6
    assert re.findall(r'<img (?:class="pixels" )?alt="([^"]*)" data-picture="3"', text) == ["cat/two"]
    assert 'class="pixels"' not in text
    assert 'class="pixels"' in page_of(found(suspects=[suspect("one")]), Drawn(kind="png")).text


def test_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """No page is larger than the limit, nor much smaller than it where there is more to show; all parts have room."""
    monkeypatch.setattr(page_module, "MOST_BYTES", 300_000)
    findings = found(
        suspects=[suspect(f"suspect {number} ä") for number in range(200)],
        strangers=[Stranger(picture(f"stranger {number}"), 3.0) for number in range(200)],
        copies=[Copies(picture("copy"), picture("same"), 0.99)],
    )
    made = page_of(findings, Drawn(4000))
    assert 280_000 < len(made.text.encode()) <= 300_000
    shown = made.shown
    assert shown["Copies and near copies"] == (1, 1)
    assert 20 < shown["Suspected labels"][0] < 60
    assert shown["Suspected labels"][0] // 6 <= shown["Images that do not belong"][0] + 1
    assert f"Showing {shown['Suspected labels'][0]} of 200; all are in reports/suspects.csv." in made.text
    assert made.text.count("Showing ") == 2
    pictures = embedded(made.text, "pictures")
    assert len(pictures) == len(embedded(made.text, "data")["images"])
    numbers = set(map(int, re.findall(r'data-picture="(\d+)"', made.text)))
    assert numbers == set(range(len(pictures)))


def test_what_is_said() -> None:
    text = page_of(everything()).text
    plain = html.unescape(re.sub(r"<[^>]+>", " ", text.split("<template")[0]))
    plain = " ".join(plain.split())
    assert "labelled cat 2 % looks like dog 97 %" in plain
    assert 'data-suggested="1" data-reason="looked wrong: p(cat) 0.02, p(dog) 0.97"' in text
    assert "3.2 times the usual distance" in plain
    assert "over two splits , likeness 0.988" in plain
    assert 'data-reason="likeness 0.988 to cat/leak of test"' in text
    assert '<strong class="warn">test</strong>' in text
    assert "dark: brightness 3, dog" in plain
    assert "1 of 3 slices is worse than the rest by more than chance" in plain
    assert plain.index("camera dog 40 images 70 % 55 to 82 % worse, p = 0.004") < plain.index("class cat 50")
    assert "90 % (85 to 95 %) with 20 images; 93 % (88 to 97 %) are to be expected of 40 of the same kind" in plain
    assert "cat 10 80 % 90 % dog 10 90 % —" in plain
    assert text.count("<svg") == 1
    # Each in its part, in one group of a dozen.
    assert text.count('<div class="group">') == 4
    assert text.count("<article ") == 6


def test_nothing_found() -> None:
    text = page_of(found()).text
    assert text.count("<p>None.</p>") == 4
    assert "No slices" in text
    assert "Not known: few" in text
    assert "<svg" not in text


def test_reasons_are_short_enough_for_corrections() -> None:
    name = "x" * 250
    copies = [Copies(picture("y" * 3000, name), picture("z" * 3000, name), 0.99)]
    text = page_of(found(classes=[name, name[:-1]], suspects=[suspect("one", name, name[:-1])], copies=copies)).text
    reasons = re.findall(r'data-reason="([^"]*)"', text)
    assert len(reasons) == 3
    assert max(map(len, reasons)) < 250


def test_what_was_decided_is_not_asked_again() -> None:
    findings = everything()
    names = {one.picture.path: one.picture.sha256 for one in findings.suspects}
    pair = [findings.copies[0].first.sha256, findings.copies[0].second.sha256]
    rest = undecided(findings, {names["cat/one"], pair[0]})
    assert [one.picture.path for one in rest.suspects] == ["cat/two"]
    assert rest.copies == findings.copies
    assert rest.remarks[-1].startswith("1 image that was found is not shown again")
    rest = undecided(findings, {names["cat/one"], *pair})
    assert rest.copies == []
    assert rest.remarks[-1].startswith("3 images that were found are not shown again")
    assert (rest.strangers, rest.oddities, rest.slices) == (findings.strangers, findings.oddities, findings.slices)
    assert undecided(findings, {"0" * 64}) == findings


def test_everything_in_a_table(tmp_path: Path) -> None:
    write_suspects(tmp_path / "suspects.csv", everything(f"c {HOSTILE}"))
    rows = tables.parse((tmp_path / "suspects.csv").read_bytes())
    assert [row["finding"] for row in rows] == ["label", "label", "stranger", "copy", "copy", "dark"]
    assert [row["split"] for row in rows] == ["train", "train", "train", "train", "test", "train"]
    first = rows[0]
    assert (first["path"], first["class"], first["suggested"]) == (f"c {HOSTILE}/one", f"c {HOSTILE}", "dog")
    assert (first["p_class"], first["p_suggested"]) == ("0.0200", "0.9700")
    assert rows[3]["what"] == f"likeness 0.9876 to test c {HOSTILE}/leak"


def test_at_a_terminal() -> None:
    said = dict(lines(everything()))
    assert said["suspected labels"] == "2, most often cat → dog (2)"
    assert said["do not belong"] == "1, first cat/stranger: 3.2 times the usual distance"
    assert said["copies"] == "1 pair, 1 over two splits"
    assert said["unusual pictures"] == "1: 1 dark"
    assert said["worse than others"] == "camera dog: 70 % (55 to 82 %) of 40 images, p = 0.004"
    assert said["more images"].startswith("90 % (85 to 95 %) with 20 images; 93 %")
    assert said["collect first"].startswith("cat (recall 80 % with 10 images, 90 % expected of twice as many); dog")
    assert dict(lines(found()))["slices"] == "none of 0 is worse than the rest by more than chance"


@pytest.mark.slow
@pytest.mark.skipif(chromium.PROGRAM is None, reason="this machine has no Chromium")
def test_deciding_by_keyboard(tmp_path: Path) -> None:
    """Keep, the suggested class, leave out, undo, another class, a reason, the class that an image has already; the
    page is opened again, and saves all that it remembers."""
    classes = ["=cat", 'dog, "quoted"', "蟻"]
    findings = found(
        classes=classes,
        suspects=[suspect(f"{number} é.jpg", classes[0], classes[1]) for number in range(5)],
        strangers=[Stranger(picture("stranger", classes[0]), 3.0)],
    )
    file = tmp_path / "data.html"
    file.write_text(page_of(findings).text, encoding="utf-8")
    count, banner = (f"document.getElementById('{name}').textContent" for name in ("count", "forgetful"))
    with chromium.browser(tmp_path / "profile") as browser:
        browser.open(file)
        for key in ["1", "2", "4", "u", "j", "Enter", "3", "蟻", "Enter", "r", "=", "1", "Enter", "3", "=", "Enter"]:
            browser.press(key)
        assert browser.evaluate(count) == "5 of 6 decided"
        browser.evaluate(REMEMBER % json.dumps(OTHERS))
        browser.reload()
        assert (browser.evaluate(count), browser.evaluate(banner)) == ("5 of 6 decided", "")
        saved = browser.download("document.querySelector('[data-act=save]').click()", tmp_path / "downloads")
        assert browser.errors == []
    reason = f"looked wrong: p({classes[0]}) 0.02, p({classes[1]}) 0.97"
    decided = {
        "0 é.jpg": ("keep", "", reason),
        "1 é.jpg": ("relabel", classes[1], reason),
        "3 é.jpg": ("relabel", classes[1], reason),
        "4 é.jpg": ("relabel", classes[2], "1"),
        "stranger": ("keep", "", "far from all others: 3.0 times the usual distance"),
    }
    pictures = {name: picture(name, classes[0]) for name in decided}
    rows = [ROW, ("cat/unseen.jpg", "e" * 64, "leave out", "", "blurred")]
    rows += [(pictures[name].path, pictures[name].sha256, *rest) for name, rest in decided.items()]
    expected = io.StringIO()
    tables.write_rows(expected, [("path", "sha256", "decision", "class", "reason"), *sorted(rows)])
    assert saved.decode() == expected.getvalue()
