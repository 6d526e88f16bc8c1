"""`make index`: a row for each tag and experiment, with the figures that its commit proves, best val accuracy first."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from review.git import Commit
from review.index.page import page
from review.index.rows import EXPERIMENT, HEAD, Row, Share
from review.page import write_page
from stages.common.errors import UserError
from stages.common.versions import folder_name
from tests.project import BIN, ROOT, run

TAG_MESSAGE = "from review.tag import Revision, tag_message; print(tag_message(Revision.named('HEAD')), end='')"


def md5(content: str) -> str:
    return hashlib.md5(content.encode()).hexdigest()


def accuracy(value: float) -> dict[str, float]:
    return {"accuracy": value, "accuracy_low": value - 0.03, "accuracy_high": value + 0.03, "images": 500}


def entries(digests: dict[str, str]) -> list[dict[str, str]]:
    return [{"path": path, "hash": "md5", "md5": digest} for path, digest in digests.items()]


def write(path: Path, content: Any) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text := content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False))
    return md5(text)


def write_result(folder: Path, value: float, *, val: str = "val", data: str = "data", **params: object) -> None:
    """A project whose run reached this val accuracy, and claims 0.01 less on the test split, the best of 8 runs."""
    metrics = {
        "metrics/evaluate.json": json.dumps(accuracy(value) | {"loss": 0.25}),
        "metrics/run.json": json.dumps({"total_seconds": 12.3}),
        "metrics/environment.json": "{}",
    }
    outs = {path: write(folder / path, text) for path, text in metrics.items()}
    weights = {"models/model.safetensors": md5(f"{value} {params}")}
    prepared = {f"prepared/{name}-{kind}.npy": md5(val) for name in ("val", "test") for kind in ("images", "labels")}
    params = {"lr": 0.1, "model": "resnet9"} | params
    write(folder / "params.yaml", params)
    command = {"cmd": "python -m stages.evaluate", "params": {"params.yaml": params}}
    inputs = {path: digest for path, digest in prepared.items() if "val" in path} | {"data": md5(data)}
    stage = command | {"deps": entries(inputs), "outs": entries(outs | weights | {"prepared": f"{md5(val)}.dir"})}
    write(folder / "dvc.lock", {"schema": "2.0", "stages": {"evaluate": stage}})

    code = {name: write(folder / "stages/evaluate" / name, "") for name in ("__init__.py", "claim.py")}
    measured = weights | {path: digest for path, digest in prepared.items() if "test" in path}
    figures = accuracy(value - 0.01) | {"measured": [{"path": path, "md5": it} for path, it in measured.items()]}
    digest = write(folder / "claim/test.json", json.dumps(figures))
    write(folder / "claim/chosen.json", json.dumps({"md5": weights["models/model.safetensors"], "runs": 8}))
    deps = measured | {"stages/evaluate": folder_name(code)}
    claim = {"cmd": "python -m stages.evaluate.claim", "wdir": "..", "deps": [*deps]}
    outs_of_claim = [{"claim/test.json": {"cache": False}}]
    write(folder / "claim/dvc.yaml", {"stages": {"claim": claim | {"outs": outs_of_claim}}})
    locked = {"cmd": claim["cmd"], "deps": entries(deps), "outs": entries({"claim/test.json": digest})}
    write(folder / "claim/dvc.lock", {"schema": "2.0", "stages": {"claim": locked}})


class _Table(HTMLParser):
    """The cells of a page's table as text, row by row, each by the text of its column's header."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.cells: list[list[str]] = []
        self.inside = False
        self.feed(text)
        header, *rows = self.cells
        self.rows = [dict(zip(header, row, strict=True)) for row in rows]

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag == "tr":
            self.cells.append([])
        if tag in ("td", "th"):
            self.cells[-1].append("")
            self.inside = True

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.cells[-1][-1] += data


def rows_of(text: str) -> dict[str, dict[str, str]]:
    return {row["name"]: row for row in _Table(text).rows}


@pytest.mark.slow
def test_all_runs_of_a_clone(tmp_path: Path) -> None:
    """HEAD, experiments and tags; those that somebody wrote by hand, or forged, with the reason in place of figures."""
    run("git init --quiet --initial-branch main", tmp_path)

    def commit() -> str:
        return run("git add . && git commit --quiet --message x && git rev-parse HEAD", tmp_path).stdout.strip()

    def experiment(name: str) -> None:
        run(f"git update-ref refs/exps/{head[:2]}/{head[2:]}/{name} {commit()}", tmp_path)
        run("git reset --quiet --hard main", tmp_path)

    def tag(name: str, message: str, of: str = "HEAD") -> None:
        (tmp_path / ".git/message").write_text(message)
        run(f"git tag --annotate --no-sign --cleanup=verbatim --file .git/message {name} '{of}'", tmp_path)

    write_result(tmp_path, 0.9)
    head = commit()
    message = run([BIN / "python", "-c", TAG_MESSAGE], tmp_path, PYTHONPATH=str(ROOT)).stdout
    tag("v1", message)
    tag("signed", f"{message}-----BEGIN SSH SIGNATURE-----\nU1NI\n-----END SSH SIGNATURE-----\n")
    tag("forged", message.replace('"accuracy": 0.9,', '"accuracy": 0.99,'))
    tag("modest", re.sub(r'"chosen_from": \d+', '"chosen_from": 1', message))
    tag("by-hand", "a release\n\nof somebody")
    tag("malformed", "x\n\n{NaN")
    tag("large", "x\n\n{" + " " * (17 << 20) + "}")
    tag("tree", "x\n\n{}", "HEAD^{tree}")
    run("git tag light", tmp_path)
    run("git checkout --quiet --detach", tmp_path)
    write_result(tmp_path, 0.92, lr=0.2)
    experiment("better")
    write_result(tmp_path, 0.95, val="other images", data="other data")
    experiment("other")
    write_result(tmp_path, 0.5)
    (tmp_path / "metrics/evaluate.json").write_text("{}")
    experiment("edited")
    write_result(tmp_path, 5.0)
    experiment("too-good")
    (tmp_path / "dvc.lock").write_text("stages: [")
    experiment("broken")
    run("git checkout --quiet main", tmp_path)
    write_result(tmp_path, 0.85)
    run("git checkout --quiet claim", tmp_path)

    (tmp_path / "reports").mkdir()
    (tmp_path / f"reports/{head[:12]}.html").touch()
    done = run([BIN / "python", "-m", "review", "index"], tmp_path, PYTHONPATH=str(ROOT))
    assert re.search(r"reports/index.html, \d+ kB, 9 tags and 5 experiments: open it", done.stdout)
    text = (tmp_path / "reports/index.html").read_text()
    rows = rows_of(text)
    assert [*rows][:6] == ["better", "HEAD", "modest", "signed", "v1", "workspace"]
    assert rows["better"]["val accuracy"] == "92 % 89 to 95 %"
    assert (rows["better"]["lr"], rows["v1"]["lr"]) == ("0.2", "0.1")
    assert "model" not in rows["v1"]  # the same in all rows
    assert rows["better"]["test accuracy"] == "—"
    assert "claim/ is of another model" in rows["workspace"]["test accuracy"]
    assert rows["workspace"]["val accuracy"] == "85 % 82 to 88 %"
    for name in ("HEAD", "v1", "signed", "modest"):
        assert rows[name]["test accuracy"] == "89 % 86 to 92 %best of 8 runs"
        assert (rows[name]["seconds"], rows[name]["report"]) == ("12", "report")
    assert f'href="{head[:12]}.html"' in text
    assert rows["other"]["val accuracy"] == "95 % 92 to 98 %other val images"
    assert rows["other"]["data"] == md5("other data")[:7]
    reasons = {
        "forged": "its message says otherwise than its commit: metrics",
        "by-hand": "made by hand: its message has no JSON",
        "light": "made by hand: its message has no JSON",
        "malformed": "its message has no JSON that can be read",
        "large": "17,825,794 bytes; expected 16,777,216 at most",
        "tree": "it names no commit",
        "edited": "metrics/evaluate.json: not what the run wrote",
        "too-good": "expected an accuracy of 0 to 1 in its interval, got 5.0",
        "broken": "dvc.lock: not YAML",
    }
    for name, reason in reasons.items():
        assert reason in rows[name]["val accuracy"]
        assert rows[name]["val accuracy"].startswith("no result: ")
        assert rows[name]["test accuracy"] == "—"


def test_a_page_is_written_to_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, reason in ((tmp_path, "got a folder"), (tmp_path / "file/page.html", "no file can be written there")):
        with pytest.raises(UserError, match=f"^{path}: .*{reason}"):
            write_page(path, "")
    write_page(tmp_path / "new/page.html", "page")
    assert (tmp_path / "new/page.html").read_text() == "page"


COMMIT = Commit("0123456789" * 4, None)


def a_row(name: str, value: float, half: float = 0.01, **rest: Any) -> Row:
    return Row(EXPERIMENT, name, COMMIT, Share(value, value - half, min(1.0, value + half)), 0.25, 1.0, **rest)


def index(*rows: Row, folder: Path = Path("nowhere")) -> str:
    return page([Row(HEAD, "HEAD", COMMIT), *rows], folder)


def test_texts_of_others_stay_texts() -> None:
    hostile = "<script>alert(1)</script>\x1b[31m@team \"q\" 'q' </style>\n"
    params: dict[str, Any] = {"lr": hostile, hostile: 1, "options": {hostile: [hostile]}}
    text = index(
        a_row("harmless", 0.9, params={"lr": 0.1}), a_row(hostile, 0.9, params=params, notes=(hostile,), data=hostile)
    )
    assert text.count("<script>") == text.count("</script>") == text.count("</style>") == 1
    assert "\x1b" not in text
    (script,) = re.findall(r"<script>(.*)</script>", text, re.S)
    assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in text


@pytest.mark.parametrize("reverse", [False, True])
def test_order_without_a_script(reverse: bool) -> None:
    """By val alone, whatever test says; what is not comparable, or has no result, comes last."""
    rows = [
        a_row("best", 0.9, test=Share(0.5, 0.4, 0.6), chosen_from=3),
        a_row("second", 0.8, test=Share(0.99, 0.98, 1.0), chosen_from=1),
        a_row("of other images", 0.99, other_val=True),
    ]
    text = index(*(rows[::-1] if reverse else rows))
    found = _Table(text).rows
    assert [row["name"] for row in found] == ["best", "second", "of other images", "HEAD"]
    assert [row["test accuracy"][-13:] for row in found[:2]] == [" %best of 3 runs"[-13:], "only run known"[-13:]]
    assert re.search(r'<th scope="col" data-first="descending" aria-sort="descending">val accuracy', text)
    assert '<th scope="col">test accuracy' in text


def test_bars_have_a_scale_that_a_failed_run_does_not_stretch() -> None:
    text = index(*(a_row(f"run {number}", 0.9 + number / 1000) for number in range(8)), a_row("failed", 0.1))
    assert "Bars are 95 % intervals, 89 to 91.8 %" in text
    (failed,) = re.findall(r"<tr [^>]*><th [^>]*>failed.*?</tr>", text)
    assert 'class="track left unmarked out" style="--low:0.0;--value:0.0;--high:0.0"' in failed
    assert text.count('class="track left') == 1


def test_a_thousand_experiments_and_params_without_end() -> None:
    rows = [
        a_row(f"experiment-{number}", 0.9, params={"seed": number, "lr": number % 3, "own": "x" * 1000, "a_b": 1})
        for number in range(1000)
    ]
    text = index(*rows)
    assert len(text) < 2_000_000
    assert len(_Table(text).rows) == 1001
    assert "x" * 80 + "… (the first of 1,000 characters)" in text
    many = a_row("stranger", 0.9, params={f"p{number}": number for number in range(5000)} | {"seed": 1})
    text = index(a_row("own", 0.9, params={"seed": 0}), many)
    assert len(_Table(text).rows[0]) == 6 + 40
    assert "seed" in _Table(text).rows[0]
    assert "4,961 more params differ, and have no column: p39, p40, " in text
