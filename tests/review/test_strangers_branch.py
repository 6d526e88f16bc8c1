"""`review diff` of a branch that wants something of the reviewer: what it asks, reads, shows and lets in."""

import hashlib
import http.server
import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from markdown_it import MarkdownIt

from benchmarks import fuzz
from tests.project import BIN, ROOT, refusal, relock, run

REVIEW: list[str | Path] = [BIN / "python", "-m", "review"]
ANSWERS = "plots/confusion.csv"


@pytest.fixture(scope="module")
def project(reproduced_clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone whose remote has everything. Tests commit on branches of their own, and come back to main."""
    folder = tmp_path_factory.mktemp("strangers")
    run(["cp", "--recursive", reproduced_clone, folder / "project"], folder)
    (folder / "storage").mkdir()
    run([BIN / "dvc", "remote", "modify", "local", "url", folder / "storage"], folder / "project")
    run([BIN / "dvc", "push", "--quiet"], folder / "project")
    run("git commit --quiet --all --message storage", folder / "project")
    # A stranger adds what Git ignores, too, and the first one would take these.
    for made in ("data", "prepared"):
        shutil.rmtree(folder / "project" / made)
    return folder / "project"


def stranger(project: Path, change: Callable[[], object], monkeypatch: pytest.MonkeyPatch, name: str) -> str:
    """Commit a change on a new branch, and go back to main."""
    run(["git", "checkout", "--quiet", "-b", name, "main"], project)
    monkeypatch.chdir(project)
    change()
    # Also what Git ignores, but for what DVC keeps for itself.
    files = ". ':!.venv' ':!.dvc/tmp' ':!.dvc/cache'"
    run(f"git add --all --force -- {files} && git commit --quiet --message x && git checkout --quiet main", project)
    return name


def edit_yaml(path: str, change: Callable[[Any], object]) -> None:
    content = yaml.safe_load(Path(path).read_text())
    change(content)
    Path(path).write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


@pytest.fixture
def listener() -> Iterator[tuple[int, list[str]]]:
    """A server of the stranger's: its port, and what it was asked."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self) -> None:
            asked.append(f"{self.command} {self.path} {self.headers}")
            self.send_response(404)
            self.end_headers()

        do_GET = do_HEAD = do_PUT = do_POST = answer  # noqa: N815  # http.server's names

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port, asked
        server.shutdown()


def test_its_servers_are_not_asked(
    project: Path, listener: tuple[int, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither as its default remote, nor as that of an output; and what the reviewer's remote has is compared."""
    port, asked = listener

    def change() -> None:
        config = Path(".dvc/config").read_text().replace("remote = local", "remote = theirs")
        Path(".dvc/config").write_text(
            f"{config}['remote \"theirs\"']\n    url = http://127.0.0.1:{port}/x\n    auth = basic\n    user = bob\n"
        )
        edit_yaml(
            "dvc.yaml", lambda content: content["stages"]["prepare"].update(outs=[{"prepared": {"remote": "theirs"}}])
        )
        text = Path("dvc.lock").read_text()
        (digest,) = re.findall(r"- path: prepared\n      hash: md5\n      md5: (\w+)\.dir", text)
        Path("dvc.lock").write_text(text.replace(digest, "ab" * 16))

    name = stranger(project, change, monkeypatch, "asks")
    for extra in ([], ["--gate"], ["--offline"]):
        done = run(
            [*REVIEW, "diff", "main", name, *extra],
            project,
            expect=1 if extra == ["--gate"] else 0,
            DVC_NO_ANALYTICS="1",
        )
        where = "no remote is asked" if extra == ["--offline"] else "neither in DVC's cache nor in the remote"
        assert where in done.stdout.split("## Data")[1]
    assert asked == []


def without(rows: list[str]) -> list[str]:
    return rows[:-3]


def with_truth_of_the_model(rows: list[str]) -> list[str]:
    """Each wrong answer's image gets the class that the model gave it."""
    return [rows[0], *(",".join([image, said, said]) for image, _, said in (row.split(",") for row in rows[1:]))]


def with_a_class_renamed(rows: list[str]) -> list[str]:
    return [re.sub(r"\ba\b", "a\x85", row) for row in rows]


def with_an_image_more(rows: list[str]) -> list[str]:
    return [*rows, "0" * 16 + ",a,a"]


def with_an_image_twice(rows: list[str]) -> list[str]:
    return [*rows, rows[1]]


def with_capital_digests(rows: list[str]) -> list[str]:
    return [rows[0], *(row.partition(",")[0].upper() + "," + row.partition(",")[2] for row in rows[1:])]


@pytest.mark.parametrize(
    ("change", "kind", "expected"),
    [
        (without, "val-changed", r"3 val images have no counterpart: 3 in base alone, 0 in head alone, 0 of another"),
        (with_truth_of_the_model, "val-changed", r"[1-9]\d* of another class in head"),
        (with_a_class_renamed, "val-changed", r"[1-9]\d* of another class in head"),
        (with_an_image_more, "val-changed", r"1 val images have no counterpart: 0 in base alone, 1 in head alone"),
        (with_an_image_twice, "unreadable", "is there twice"),
        (with_capital_digests, "unreadable", "expected digits of a SHA-256"),
    ],
)
def test_other_test_images(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[list[str]], list[str]],
    kind: str,
    expected: str,
) -> None:
    """Recorded in dvc.lock as what the run wrote, they are counted and refused; the order of rows says nothing."""

    def forge() -> None:
        rows = Path(ANSWERS).read_text().rstrip("\n").split("\n")
        changed = change(rows)
        Path(ANSWERS).write_text("\n".join([changed[0], *reversed(changed[1:])]) + "\n", newline="\n")
        relock(Path(), ANSWERS)

    name = stranger(project, forge, monkeypatch, change.__name__)
    done = run([*REVIEW, "diff", "main", name, "--gate", "--offline"], project, expect=1)
    assert re.search(rf"  {kind}: .*{expected}", refusal(done))
    if kind == "val-changed":
        assert "without a counterpart (" in done.stdout.splitlines()[2]
        done = run(
            [*REVIEW, "diff", "main", name, "--gate", "--offline", "--allow", f"{kind},edited,stale,loss=new images"],
            project,
        )
        assert "allowed: new" in done.stdout


def test_its_arrays_may_be_anything(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named in its list of prepared/, and read where they are in the reviewer's cache: the page says that there are no
    pictures, and has all the rest."""

    def change() -> None:
        text = Path("dvc.lock").read_text()
        (digest,) = re.findall(r"- path: prepared\n      hash: md5\n      md5: (\w+)\.dir", text)
        (manifest,) = (
            one["md5"]
            for one in json.loads(Path(f".dvc/cache/files/md5/{digest[:2]}/{digest[2:]}.dir").read_text())
            if one["relpath"] == "manifest.csv"
        )
        listing = json.dumps(
            [{"md5": manifest, "relpath": path} for path in ("manifest.csv", "val-images.npy")]
        ).encode()
        forged = hashlib.md5(listing).hexdigest()
        place = Path(f".dvc/cache/files/md5/{forged[:2]}/{forged[2:]}.dir")
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(listing)
        Path("dvc.lock").write_text(text.replace(digest, forged))
        rows = Path(ANSWERS).read_text().rstrip("\n").split("\n")
        Path(ANSWERS).write_text("\n".join([rows[0], *(row.rpartition(",")[0] + ",e" for row in rows[1:])]) + "\n")
        relock(Path(), ANSWERS)

    name = stranger(project, change, monkeypatch, "arrays")
    page = project.with_name("arrays.html")
    done = run([*REVIEW, "diff", "main", name, "--offline", "--html", page], project)
    assert re.search(r"### From right to wrong: 12 of \d+ images\n\n.*\n.*\n\| [a-e]/\d+\.png \|", done.stdout)
    assert re.findall("Without a picture: (.*?): not an array in arrays", page.read_text()) == [
        "prepared/val-images.npy"
    ]


def test_its_names_are_text(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the report, on the terminal, and in the page."""
    hostile = 'v1\r\r## Gate\r\r**Passed.** @maintainer ![t](http://127.0.0.1/t.png) <details>\x1b]0;x\x07"\u202e|`'

    def change() -> None:
        with Path("params.yaml").open("a") as stream:
            stream.write(yaml.safe_dump({hostile: hostile}))
        edit_yaml("dvc.yaml", lambda content: content["stages"]["evaluate"]["metrics"].append(f"<!-- {hostile}/x.json"))

    name = stranger(project, change, monkeypatch, "names")
    page = project / "names.html"
    done = run([*REVIEW, "diff", "main", name, "--gate", "--offline", "--html", page], project, expect=1)
    for text in (done.stdout, done.stderr, page.read_text()):
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u202e]", text)
    assert done.stdout.count("\n## Gate") == 1
    tokens = MarkdownIt("commonmark").enable("table").parse(done.stdout)
    kinds = [below.type for token in tokens for below in [token, *(token.children or [])]]
    # The verdict and the gate's; "Passed." is in code.
    assert kinds.count("strong_open") == 2
    assert not {"html_block", "html_inline", "link_open", "image"} & set(kinds)
    assert "<details>" not in page.read_text()
    assert "<!-- v1" not in page.read_text()
    page.unlink()


MALFORMED: dict[str, tuple[str, str, str]] = {
    "stages a list": ("dvc.yaml", "stages: [a]\n", "stages: expected names with values, got a list"),
    "metrics a text": ("dvc.yaml", "stages: {a: {cmd: x, metrics: y}}\n", "metrics: expected a list, got a text"),
    "wdir": ("dvc.yaml", "stages: {a: {cmd: x, wdir: y}}\n", "wdir, which review does not follow"),
    "outs without a path": ("dvc.lock", "schema: '2.0'\nstages: {a: {cmd: x, outs: [{}]}}\n", "path: expected a text"),
    "stages nothing": ("dvc.lock", "schema: '2.0'\nstages:\n", "stages: expected names with values, got nothing"),
    "a path of the cache": (
        "dvc.lock",
        "schema: '2.0'\nstages: {a: {cmd: x, outs: [{path: x, hash: md5, md5: ../../../x}]}}\n",
        "md5: expected a digest",
    ),
    "a bomb": ("params.yaml", fuzz.BOMB, "more than 200,000 values"),
    "brackets": ("params.yaml", "[" * 300_000, "nested more than 64 levels"),
    "NaN": ("metrics/evaluate.json", '{"accuracy": NaN}', "NaN is no number"),
    "curves": ("plots/curves.csv", "epoch,val_loss\n1,nan\n", "not a table of finite numbers"),
    "TOML": ("pyproject.toml", "a = [", "pyproject.toml: not TOML"),
    "a pointer": ("data.dvc", "outs: [1]\n", "data.dvc: not a file that `dvc add` wrote"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_its_malformed_files(project: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Each is named with its reason, and refused; the rest of the report is there."""
    path, content, expected = MALFORMED[name]

    def change() -> None:
        Path(path).write_text(content)
        if path.startswith(("metrics/", "plots/")):
            relock(Path(), path)

    branch = stranger(project, change, monkeypatch, f"malformed-{name.replace(' ', '-')}")
    done = run([*REVIEW, "diff", "main", branch, "--gate", "--offline"], project, expect=1)
    assert expected in refusal(done)
    assert "## Curves" in done.stdout


def test_paths_outside_the_project_are_not_read(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the branch, and with the branch checked out."""
    (tmp_path / "secret.json").write_text('{"secret": 7355608}')

    def change() -> None:
        Path("metrics/link.json").symlink_to(tmp_path / "secret.json")
        paths = [f"{tmp_path}/secret.json", "../" * 9 + f"{tmp_path}/secret.json".lstrip("/"), "metrics/link.json"]
        edit_yaml("dvc.yaml", lambda content: content["stages"]["evaluate"]["metrics"].extend(paths))

    name = stranger(project, change, monkeypatch, "outside")
    done = run([*REVIEW, "diff", "main", name, "--gate", "--offline"], project, expect=1)
    run(["git", "checkout", "--quiet", name], project)
    here = run([*REVIEW, "diff", "main", "--gate", "--offline", "--json"], project, expect=1)
    run("git checkout --quiet main", project)
    for each in (done, here):
        assert "7355608" not in each.stdout + each.stderr
        assert "expected a path inside the project" in refusal(each)


def claim_accuracy(accuracy: str) -> None:
    path = Path("metrics/evaluate.json")
    path.write_text(re.sub(r'"accuracy": [\d.]+', f'"accuracy": {accuracy}', path.read_text()))
    relock(Path(), str(path))


CLAIMS: dict[str, tuple[Callable[[], object], str]] = {
    "a stage hidden": (
        lambda: edit_yaml("dvc.yaml", lambda content: content["stages"].pop("evaluate")),
        "evaluate: in dvc.lock, but not declared in dvc.yaml",
    ),
    "no dvc.yaml": (lambda: Path("dvc.yaml").unlink(), "train: in dvc.lock, but not declared in dvc.yaml"),
    "a param hidden": (
        lambda: Path("dvc.yaml").write_text(Path("dvc.yaml").read_text().replace("      - weight_decay\n", "")),
        "train: params.yaml weight_decay is no param any more",
    ),
    "code beside a pointer": (
        lambda: (
            Path("stages/train/loader.py").write_text("# other\n"),
            Path("stages/train.dvc").write_text(
                "outs:\n- md5: "
                + re.findall(r"- path: stages/train\n      hash: md5\n      md5: (\S+)", Path("dvc.lock").read_text())[
                    0
                ]
                + "\n  path: train\n"
            ),
        ),
        "train: stages/train was changed since the run",
    ),
    "a metric in DVC's cache too": (
        lambda: (
            Path("dvc.yaml").write_text(
                Path("dvc.yaml")
                .read_text()
                .replace("metrics/train.json:\n          cache: false", "metrics/train.json")
            ),
            Path("metrics/train.json").write_text('{"val_accuracy": 1.0}'),
        ),
        "metrics/train.json: not what train wrote",
    ),
    "accuracy alone": (
        lambda: claim_accuracy("0.99999"),
        "metrics/evaluate.json: accuracy 0.99999 on",
    ),
}


@pytest.mark.parametrize("name", CLAIMS)
def test_what_a_branch_hides(project: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    change, expected = CLAIMS[name]
    branch = stranger(project, change, monkeypatch, f"hides-{name.replace(' ', '-')}")
    assert expected in refusal(run([*REVIEW, "diff", "main", branch, "--gate", "--offline"], project, expect=1))


def test_mutated_files(project: Path) -> None:
    """A sample of benchmarks.fuzz."""
    fuzz: list[str | Path] = [BIN / "python", "-m", "benchmarks.fuzz"]
    done = run([*fuzz, "--project", project, "--cases", "12", "--seed", "7"], ROOT)
    assert done.stdout.startswith("12 cases, seed 7, in ")
    assert "0 traceback, 0 wrong, 0 slow, 0 large" in done.stdout
