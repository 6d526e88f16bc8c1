"""`python -m review diff` on real revisions: every part is there, and what is missing is named."""

import contextlib
import csv
import json
import os
import pty
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.project import BIN, edit_params, refusal, relock, run, user_environment

DVC = BIN / "dvc"
REVIEW: list[str | Path] = [BIN / "python", "-m", "review"]


@pytest.fixture(scope="module")
def compared(reproduced_clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone in which a branch `changed` has another lr, another evaluate.py and other data, reproduced. Not to be
    changed."""
    folder = tmp_path_factory.mktemp("compared") / "project"
    shutil.copytree(reproduced_clone, folder, symlinks=True)
    run("git checkout --quiet -b changed", folder)
    edit_params(folder, lr=0.01)
    with (folder / "stages/evaluate/__main__.py").open("a") as stream:
        stream.write("# a line more\n")
    images = sorted((folder / "data/c").iterdir())
    shutil.move(images[0], folder / "data/d/moved.png")
    shutil.move(images[1], folder / "data/c/renamed.png")
    images[2].unlink()
    run([DVC, "repro", "--quiet"], folder)
    run("git commit --quiet --all --message changed", folder)
    return folder


def section(text: str, title: str) -> str:
    return text.split(f"## {title}\n")[1].split("\n## ")[0]


def test_everything_that_differs_is_said(compared: Path, tmp_path: Path) -> None:
    done = run([*REVIEW, "diff", "main", "changed", "--html", tmp_path / "diff.html"], compared)
    text = done.stdout
    assert re.search(r"\*\*(Better|Worse|No significant difference): accuracy .* this model against that model", text)
    assert "| lr | 0.1 | 0.01 |" in section(text, "Params")
    (verdict,) = re.findall(r"^\*\*(Better|Worse|No)", text, re.M)
    metrics = section(text, "Metrics")
    word = {"Better": " better", "Worse": " worse", "No": ""}[verdict]
    assert re.search(
        rf"\| evaluate accuracy \| [\d.]+ \([\d.]+–[\d.]+\) \| [\d.]+ \(.* \| (same|[+-][\d.e-]+{word}) \|", text
    )
    # Of no other metric anything was tested, and of speed nothing is claimed.
    assert metrics.count(" better |") + metrics.count(" worse |") == (verdict != "No")
    base, head = (
        json.loads(run(["git", "show", f"{revision}:metrics/run.json"], compared).stdout)["training_seconds"]
        for revision in ("main", "changed")
    )
    assert ("| run training_seconds | " in metrics) == (base != head)
    assert "McNemar's test, mid-p: p = " in section(text, "More than noise?")
    data = section(text, "Data")
    assert "| c | 0 | 1 |" in data
    assert "| c | d | 1 |" in data
    assert "1 renamed" in data
    assert "| evaluate | `stages/evaluate/__main__.py` |" in section(text, "Code")
    assert "The same." in section(text, "Environment")
    assert "xychart-beta" in section(text, "Curves")
    page = (tmp_path / "diff.html").read_text()
    assert page.count("<svg ") == section(text, "Curves").count("xychart-beta")
    # Each image with its picture: the removed one out of base's arrays.
    moved = re.search(r"\| d/moved\.png \| c \| d \| (\w+) \|", data)
    removed = re.search(r"\| (c/\d+\.png) \| c \| (\w+) \|", data)
    assert moved and removed
    assert re.search(rf'<img [^>]*alt="d/moved.png: class was c, class is d, split {moved[1]}"', page)
    assert re.search(rf'<img [^>]*alt="{removed[1]}: class was c, split was {removed[2]}"', page)
    turned = re.findall(r"### From .*: (\d+) images?$", section(text, "More than noise?"), re.M)
    assert page.count("<img ") == 2 + sum(map(int, turned))
    assert "Without a picture" not in page


def test_json_has_the_same_facts(compared: Path) -> None:
    facts = json.loads(run([*REVIEW, "diff", "main", "changed", "--json"], compared).stdout)
    (relabelled,) = [one for one in facts["data"]["images"] if one["base"] and one["head"]]
    assert (relabelled["base"]["class"], relabelled["head"]["class"]) == ("c", "d")
    assert relabelled["head"]["paths"] == ["d/moved.png"]
    assert len(facts["data"]["images"]) == 2
    assert len(facts["turned"]) == facts["model"]["gained"] + facts["model"]["lost"]
    assert facts["params"] == {"lr": {"base": 0.1, "head": 0.01}}
    assert facts["data"]["relabelled"] == [{"from": "c", "to": "d", "images": 1}]
    assert facts["data"]["renamed"] == 1
    assert facts["data"]["removed"] == {"c": 1}
    assert facts["model"]["images"] > 50
    assert facts["model"]["gained"] + facts["model"]["lost"] == sum(
        one["gained"] + one["lost"] for one in facts["model"]["moved"]
    )
    assert facts["stale"] == []


def test_by_default_the_working_tree_against_where_the_main_branch_was_left(
    copy_reproduced: Callable[[str], Path],
) -> None:
    """What is not committed counts; what is stale is said in the verdict."""
    folder = copy_reproduced("default")
    run(
        "git remote remove origin && git checkout --quiet -b topic && git commit --quiet --allow-empty --message empty",
        folder,
    )
    base = run("git rev-parse --short=7 main", folder).stdout.strip()
    same = run([*REVIEW, "diff"], folder).stdout
    assert same.startswith(f"# {base} → the working tree\n\n**The same answers on ")
    edit_params(folder, lr=0.5)
    text = run("make diff", folder).stdout
    assert "dvc.lock is stale, so head's figures are not those of its code" in text
    assert "train: lr was 0.1 in the run, is 0.5" in section(text, "Code")
    assert "Gate" not in text
    master, slave = pty.openpty()
    process = subprocess.Popen([*REVIEW, "diff"], cwd=folder, env=user_environment(COLUMNS="100"), stdout=slave)
    os.close(slave)
    seen = b""
    with contextlib.suppress(OSError):  # Linux's way to say that nobody writes any more
        while block := os.read(master, 65536):
            seen += block
    os.close(master)
    assert process.wait() == 0
    assert "→ the working tree" in seen.decode()
    assert not {b"#", b"##", b"|"} & set(seen.split())


def test_a_fresh_clone_needs_no_cache_and_no_remote(compared: Path, tmp_path: Path) -> None:
    """Predictions are in Git, so the verdict is that of the clone that made them; of the rest, what is missing is named
    with its remedy."""
    run(["git", "clone", "--quiet", compared, tmp_path / "bare"], tmp_path)
    folder = tmp_path / "bare"
    # The working tree's manifest names images of another commit where it is that commit's, to the byte.
    (folder / "prepared").mkdir()
    manifest = (compared / "prepared/manifest.csv").read_text()
    (folder / "prepared/manifest.csv").write_text(manifest.replace("/", "/other-"))
    text = run([*REVIEW, "diff", "origin/main", "HEAD", "--html", tmp_path / "page.html"], folder).stdout
    there = run([*REVIEW, "diff", "main", "changed"], compared).stdout
    assert re.search(r"\*\*.* on \d+ common val images(, \d without a counterpart \(.*\))?; this model against", text)
    verdict, verdict_there = (said.splitlines()[2] for said in (text, there))
    assert verdict.removesuffix(" Whether the test set changed cannot be told; data did.**") == (
        verdict_there.removesuffix(" The test set changed: 0 images added, 0 removed, 1 of another class.**")
    )
    noise, noise_there = (section(each, "More than noise?") for each in (text, there))
    tables, _, unnamed = noise.partition("\n\nImages are called by digits of the SHA-256 of their pixels: ")
    assert "neither in DVC's cache nor in the remote" in unnamed
    # The names of images are in the manifest, which is not here, and neither are pictures.
    page = (tmp_path / "page.html").read_text()
    assert "<img " not in page
    assert re.search("Without a picture: prepared.*: of HEAD .*in DVC&#x27;s cache", page)
    assert re.sub(r"\| [0-9a-f]{16}… \|", "| ? |", tables) == re.sub(r"\| ./\S+ \|", "| ? |", noise_there.rstrip("\n"))
    assert "neither in DVC's cache nor in the remote" in section(text, "Data")
    assert "`dvc push`" in section(text, "Data")
    assert "| lr | 0.1 | 0.01 |" in text
    assert "evaluate accuracy" in section(text, "Metrics")
    assert "xychart-beta" in text


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda text: re.sub(r"(?m)^[^,]*,", "", text),
            "not a CSV table in HEAD (COMMIT) (no column image; expected the columns image, actual, predicted, got "
            "actual, predicted). Choose a revision",
        ),
        (lambda text: text + text.splitlines()[-1] + "\n", "is there twice"),
        (lambda text: text + "picture.png,0,0\n", "image 'picture.png': expected digits of a SHA-256"),
        (lambda text: text + "0123456789abcdef,0\n", "has other than 3 values)"),
        (lambda text: text + '0123456789abcdef,0,"0\n', "unexpected end of data)"),
        (lambda text: text + "0123456789abcdef,0,\udcff\n", "'utf-8' codec can't decode"),
        (lambda text: text.splitlines()[0] + "\n", "no rows in HEAD (COMMIT)"),
        (lambda text: "", "got an empty file"),
    ],
    ids=["old", "twice", "no digest", "short row", "quote", "encoding", "no rows", "empty"],
)
def test_predictions_that_cannot_be_compared(
    reproduced_clone: Path, tmp_path: Path, change: Callable[[str], str], expected: str
) -> None:
    """One sentence that names the file and the revision; the rest of the comparison is there."""
    folder = Path(shutil.copytree(reproduced_clone, tmp_path / "project", symlinks=True))
    path = folder / "plots/confusion.csv"
    path.write_bytes(change(path.read_text()).encode("utf-8", "surrogateescape"))
    relock(folder, "plots/confusion.csv")
    run("git commit --quiet --all --message other", folder)
    done = run([*REVIEW, "diff", "HEAD~1", "HEAD"], folder)
    commit = run("git rev-parse --short=7 HEAD", folder).stdout.strip()
    assert done.stdout.splitlines()[2].startswith("**Not comparable: plots/confusion.csv: ")
    assert expected.replace("COMMIT", commit) in done.stdout.splitlines()[2]
    assert "None changed." in section(done.stdout, "Params")
    assert done.stderr == ""


def test_edited_predictions_are_not_compared(copy_reproduced: Callable[[str], Path]) -> None:
    folder = copy_reproduced("edited")
    path = folder / "plots/confusion.csv"
    path.write_text(re.sub(r",\w\n$", ",x\n", path.read_text()))
    text = run([*REVIEW, "diff", "HEAD"], folder).stdout
    assert (
        "**Not comparable: plots/confusion.csv: not what the run wrote; changed after it, in the working tree" in text
    )


def test_names_hold_any_character(copy_reproduced: Callable[[str], Path]) -> None:
    """Of classes: what Python takes for the end of a line, quotes, commas."""
    folder = copy_reproduced("names")
    path = folder / "plots/confusion.csv"
    with path.open(newline="") as stream:
        rows = list(csv.reader(stream))
    odd = 'a\u0085b\u2028,"c"\n'
    with path.open("w", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows(
            [odd if name == "c" else name for name in row] for row in rows
        )
    relock(folder, "plots/confusion.csv")
    run("git commit --quiet --all --message names", folder)
    facts = json.loads(run([*REVIEW, "diff", "HEAD", "HEAD", "--json"], folder).stdout)
    assert (facts["model"]["images"], facts["model"]["unmatched"]) == (len(rows) - 1, 0)
    facts = json.loads(run([*REVIEW, "diff", "HEAD~1", "HEAD", "--json"], folder).stdout)
    renamed = sum(row[1] == "c" for row in rows)
    assert (facts["model"]["images"], facts["model"]["unmatched"]) == (len(rows) - 1 - renamed, renamed)
    assert facts["verdict"].startswith("Another task: other classes, 5 in base (a, b, c, d, e), 5 in head (a, ")
    text = run([*REVIEW, "diff", "HEAD~1", "HEAD"], folder).stdout
    assert f"{renamed} without a counterpart ({renamed} of another class)" in section(text, "More than noise?")
    assert "Nothing is better or worse here: other classes" in section(text, "Metrics")
    assert not re.search(" (better|worse) \\|", text)


def test_a_revision_without_metrics(copy_reproduced: Callable[[str], Path]) -> None:
    folder = copy_reproduced("before")
    run("git checkout --quiet --orphan before && git rm -r --quiet --cached . ", folder)
    run("git add README.md && git commit --quiet --message 'before all' && git checkout --quiet --force main", folder)
    text = run([*REVIEW, "diff", "before", "main"], folder).stdout
    assert "metrics: before" in section(text, "Metrics")
    assert "Choose a revision that was committed after `dvc repro`" in section(text, "Metrics")
    assert "have no common ancestor" in refusal(
        run("git checkout --quiet --force before && .venv/bin/python -m review diff", folder, expect=1)
    )


def test_refusals(compared: Path, tmp_path: Path) -> None:
    """Unknown revisions, a merge under way, a shallow clone."""
    assert "nothing: no such revision or experiment here" in refusal(
        run([*REVIEW, "diff", "nothing"], compared, expect=1)
    )
    run(["git", "clone", "--quiet", "--depth", "1", f"file://{compared}", tmp_path / "shallow"], tmp_path)
    done = run([*REVIEW, "diff", "HEAD~1"], tmp_path / "shallow", expect=1)
    assert "This clone is shallow: `git fetch --unshallow`" in refusal(done)
    folder = tmp_path / "merging"
    shutil.copytree(compared, folder, symlinks=True)
    run("git checkout --quiet main && git checkout --quiet -b other && sed -i 's/^lr: .*/lr: 0.2/' params.yaml", folder)
    run("git commit --quiet --all --message other; git merge changed", folder, expect=None)
    assert "unmerged files: params.yaml" in refusal(run([*REVIEW, "diff"], folder, expect=1))


def test_params_that_are_not_yaml(copy_reproduced: Callable[[str], Path]) -> None:
    """The parts that do not need them are told."""
    folder = copy_reproduced("broken")
    (folder / "params.yaml").write_text("a: [b")
    text = run([*REVIEW, "diff", "HEAD"], folder).stdout
    assert "params.yaml: not YAML in the working tree" in section(text, "Params")
    assert "params.yaml: not YAML" in section(text, "Code")
    assert "**The same answers on" in text


def test_a_detached_head_and_an_experiment_by_name(compared: Path, tmp_path: Path) -> None:
    folder = tmp_path / "detached"
    shutil.copytree(compared, folder, symlinks=True)
    run("git checkout --quiet --detach changed", folder)
    run([DVC, "exp", "save", "--name", "saved", "--force", "dvc.yaml"], folder)
    text = run([*REVIEW, "diff", "saved"], folder).stdout
    assert text.startswith("# saved (")
    assert "**The same answers" in text
