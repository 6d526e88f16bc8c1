"""The documents are true: their commands, typed one after the other in a clone, and what they say is printed."""

import getpass
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from review.gate import KINDS
from stages.common.arithmetic import why_not_portable
from tests.project import BIN, QUEUE_IS_EMPTY, ROOT, VENV, edit_params, refusal, run, write_cifar10, write_images
from tests.servers import KEY, SECRET, free_port, s3, sftp

PAGES = sorted(path.relative_to(ROOT).as_posix() for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
TEXTS = {page: (ROOT / page).read_text() for page in PAGES}


def fenced(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXTS[page], re.M | re.S)


def type_commands(page: str, folder: Path, edits: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    """Each ```sh block of a page, in order, in one shell that stops at the first failure, with the environment active.

    `edits` puts in what a reader has of their own; each must be there. No .venv is made anew.
    """
    script = "\n".join(fenced(page, "sh"))
    for old, new in edits.items():
        assert old in script, f"{page} has no {old!r}"
        script = script.replace(old, new)
    file = folder.with_name(f"{folder.name}.sh")
    file.write_text(f"set -euo pipefail\nsource {BIN}/activate\nset -x\n{script}")
    return run(["bash", file], folder, timeout=400)


def test_readme(pristine_clone: Path, tmp_path: Path) -> None:
    write_images(tmp_path / "pictures", {"cat": 2}, colour=True, side=12)
    (tmp_path / "place").mkdir()
    edits = {
        "git clone <url of this repository> project && cd project": f"git clone --quiet {pristine_clone} project && "
        f"cd project && ln -s {VENV} .venv",
        "<a picture> <a folder of pictures>": f"{tmp_path}/pictures/cat/0000.png {tmp_path}/pictures/cat",
        # Where another kind of machine made the commit's weights, going back to it leaves none.
        "python -m stages.predict": "make repro && python -m stages.predict",
    }
    done = type_commands("README.md", tmp_path / "place", edits)
    assert "wrote the embedded sample" in done.stdout
    if not why_not_portable():
        assert re.search(r"committed result +identical byte for byte", done.stdout)


def test_own_data(copy_reproduced: Callable[[str], Path], tmp_path: Path) -> None:
    """On colour images with official train and test splits."""
    write_images(tmp_path / "images/train", {"cat": 60, "dog": 60}, colour=True, side=12, seed=1)
    write_images(tmp_path / "images/test", {"cat": 9, "dog": 9}, colour=True, side=12, seed=2)
    folder = copy_reproduced("project")
    done = type_commands("docs/own-data.md", folder, {"<folder of your images>": str(tmp_path / "images")})
    assert "138 files in 2 classes (class folders under train, test)" in done.stdout
    assert json.loads((folder / "metrics/evaluate.json").read_text())["images"] == 18
    assert "different in" in run("make summary", folder).stdout
    assert len(list((folder / "data").iterdir())) < 5
    # Packed, they are the same images: nothing after prepare has to run.
    assert done.stdout.count("Running stage 'train'") == 1


def test_experiments(copy_reproduced: Callable[[str], Path]) -> None:
    folder = copy_reproduced("project")
    edits = {
        # The pipe ends with the last of the workers, who inherit it.
        "dvc queue start -j 2 ": "dvc queue start -j 2 | cat ",
        "dvc queue status\n": f"dvc queue status\n{QUEUE_IS_EMPTY}\n",
    }
    done = type_commands("docs/experiments.md", folder, edits)
    assert "Failed" not in run([BIN / "dvc", "queue", "status"], folder).stdout
    # Each command shows something: exp diff, metrics show, plots show, the notebook.
    assert re.search(r"params.yaml\s+lr\s+0\.1\s+0\.001", done.stdout)
    assert re.search(r"metrics/evaluate.json\s+accuracy\s+0\.\d+\s+0\.\d+", done.stdout)
    (metrics,) = (line for line in done.stdout.splitlines() if line.startswith("Path  ") and "HEAD" not in line)
    assert all(word in metrics for word in ("accuracy", "val_accuracy", "macro_f1"))
    page = (folder / "dvc_plots" / "index.html").read_text()
    assert all(title in page for title in ("val_loss", "Confusion matrix", "Recall per class"))
    assert re.search(r"val accuracy 0\.\d{4}: \d+ of \d+ images are wrong", done.stdout)


def test_extend(copy_reproduced: Callable[[str], Path]) -> None:
    """An own model and an own augmentation; a model of the wrong shape is refused in the page's words."""
    folder = copy_reproduced("project")
    done = type_commands("docs/extend.md", folder, {})
    assert "train: stages.model.mynet:mynet, " in done.stdout
    model = json.loads((folder / "models/model.json").read_text())
    assert (model["architecture"], model["params"]["options"]) == ("stages.model.mynet:mynet", {"width": 8})
    assert model["params"]["augment"] == "stages.train.brightness:brightness"
    assert "params.yaml has every key" in done.stdout
    picture = next((folder / "data").rglob("*.png"))
    assert str(picture) in run([BIN / "python", "-m", "stages.predict", picture], folder).stdout
    file = folder / "stages/model/mynet.py"
    right = file.read_text()
    refused = fenced("docs/extend.md", "text")
    file.write_text(right.replace("image_size**2, num_classes", "image_size**2, num_classes + 1"))
    assert refusal(run([BIN / "python", "-m", "stages.train"], folder, expect=1)) == refused[0]
    # The module is imported late, when the model is built.
    (folder / "lib").mkdir()
    (folder / "lib/blocks.py").write_text("")
    file.write_text(f"import lib.blocks\n{right}")
    assert refusal(run([BIN / "python", "-m", "stages.train"], folder, expect=1)) == refused[1]


def test_review(reproduced_clone: Path, tmp_path: Path) -> None:
    """From a branch to a tag, in a clone with a remote."""
    run(["git", "clone", "--quiet", "--bare", reproduced_clone, tmp_path / "origin.git"], tmp_path)
    folder = tmp_path / "project"
    run(["cp", "--archive", reproduced_clone, folder], tmp_path)
    run(["git", "remote", "set-url", "origin", tmp_path / "origin.git"], folder)
    run("git fetch --quiet", folder)
    # A second seed is enough to see a spread, and the quick model of the tests is another one with half the lr.
    done = type_commands("docs/review.md", folder, {"N=3": "N=2", "lr=0.05": "lr=0.11"})
    assert "(n=2 seeds)" in done.stdout
    assert "this recipe against that recipe (seeds and test images)" in done.stdout
    assert "gate: passed" in done.stderr
    assert "lower-lr (" in done.stdout
    assert ": identical. 17 of 17 outputs have the same bytes." in done.stdout
    assert re.search(r"v1.0-resnet9-digits: test accuracy .*; over seeds 0\.\d+ ± 0\.\d+ \(n=2 seeds\)", done.stdout)
    assert done.stdout.count("seeds: running 1; 1 at a time") == 2


def test_remote_storage(copy_reproduced: Callable[[str], Path], tmp_path: Path) -> None:
    """Real servers; no credential gets into a committed file, and the colleague's `make repro` trains nothing."""
    folder = copy_reproduced("project")
    keys = tmp_path / "key"
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", keys], tmp_path)
    (tmp_path / "s3" / "bucket").mkdir(parents=True)
    with s3(tmp_path / "s3") as bucket, sftp(tmp_path / "sftp", keys.with_suffix(".pub")) as server:
        edits = {
            "<your key>": KEY,
            "<your secret>": SECRET,
            # There is no profile of this name here; the keys after it are what is used.
            "profile my-aws-profile": "region us-east-1",
            "<https://s3.example.org>": f"http://127.0.0.1:{bucket.port}",
            "<ssh://user@server/srv/dvc/project>": f"ssh://{getpass.getuser()}@127.0.0.1:{server.port}/project",
            "<~/.ssh/id_ed25519>": str(keys),
            "<url of this repository> colleague && cd colleague": f"{folder} colleague && cd colleague && "
            f"ln -s {VENV} .venv",
        }
        done = type_commands("docs/remote-storage.md", folder, edits)
    assert list((tmp_path / "s3" / "bucket" / "project" / "files").iterdir())
    assert "Running stage" not in done.stdout
    assert "reports/report.html: there, from the cache or the remote" in done.stdout
    assert "identical byte for byte (17 of 17 outputs)" in done.stdout
    config = (folder / ".dvc" / "config").read_text()
    assert config == run("git show HEAD:.dvc/config", folder).stdout
    assert not {"access_key_id", "secret_access_key", "keyfile", SECRET} & set(re.findall(r"[\w-]+", config))
    run([BIN / "python", "-m", "scripts.find_secrets", ".dvc/config"], folder)


def test_trust(copy_reproduced: Callable[[str], Path], tmp_path: Path) -> None:
    """A stranger's branch is looked at and run from one's own."""
    folder = copy_reproduced("project")
    run("git switch --quiet --create stranger", folder)
    edit_params(folder, lr=0.11)
    run([BIN / "dvc", "repro", "--quiet"], folder)
    run("git commit --quiet --all --message stranger && git switch --quiet main", folder)
    run(["git", "clone", "--quiet", folder, "mine"], tmp_path)
    (tmp_path / "mine/.venv").symlink_to(VENV)
    run([BIN / "dvc", "remote", "modify", "--local", "local", "url", folder / ".dvc/cache"], tmp_path / "mine")
    allowed = "--gate --allow 'unpushed,loss=a test, no remote'"
    done = type_commands("docs/trust.md", tmp_path / "mine", {"--gate": allowed})
    assert "gate: passed" in done.stderr
    assert "| lr | 0.1 | 0.11 |" in done.stdout
    assert "in a sandbox: without your environment, files and network" in done.stderr
    assert "): identical. 17 of 17 outputs" in done.stdout


def test_several_gpus(copy_reproduced: Callable[[str], Path]) -> None:
    """Two processes, by one torchrun and by two, as on two machines."""
    folder = copy_reproduced("project")
    done = type_commands("docs/several-gpus.md", folder, {"29400": str(free_port())})
    assert done.stdout.count("2 processes") == 2


def test_cifar10(copy_reproduced: Callable[[str], Path], tmp_path: Path) -> None:
    """With a few random images in the form of CIFAR-10's archive, which no test can download, and a quick model."""
    folder = copy_reproduced("project")
    write_cifar10(tmp_path / "cifar-10-batches-py", images=300)
    run("tar --create --gzip --file cifar-10-python.tar.gz cifar-10-batches-py", tmp_path)
    edits = {
        """python -c "from torchvision.datasets import CIFAR10; CIFAR10('data', download=True)"
rm -r data/cifar-10-batches-py
""": f"cp {tmp_path}/cifar-10-python.tar.gz data\n",
        "cp configs/cifar10-cpu.yaml params.yaml": "sed 's/^epochs: .*/epochs: 1/; s/^model: .*/model: simplenet/; "
        "s/^precision: .*/precision: fp32/' configs/cifar10-cpu.yaml > params.yaml",
        "N=3": "N=2",
    }
    done = type_commands("docs/cifar10.md", folder, edits)
    assert "prepare: 1800 files in 10 classes (published files cifar-10-batches-py/data_batch_1" in done.stdout
    assert "v1.0-resnet9-cifar10 (" in done.stdout
    assert ": identical. 17 of 17 outputs have the same bytes." in done.stdout


def test_contributing(clone: Path, tmp_path: Path) -> None:
    """`make lint` is what CI runs before these tests; here, that it is there."""
    edits = {"make hooks": f"export PRE_COMMIT_HOME={tmp_path}/hooks && make hooks", "make lint": "make --dry-run lint"}
    type_commands("CONTRIBUTING.md", clone, edits)
    assert (clone / ".git/hooks/pre-commit").exists()


def test_every_page_with_commands_is_typed() -> None:
    """A page that is added needs a test here."""
    source = Path(__file__).read_text()
    assert {page for page in PAGES if fenced(page, "sh") and f'"{page}"' not in source} <= {"README.zh-CN.md"}


def test_no_page_puts_a_secret_into_a_committed_file() -> None:
    """Every command that gives a remote something private says `--local`."""
    private = "access_key_id|secret_access_key|session_token|password|profile|keyfile|credentialpath|token"
    for text in TEXTS.values():
        for line in re.findall(rf"^dvc remote modify .*\b(?:{private})\b.*$", text, re.M):
            assert " --local " in line


def test_the_table_of_make_repro(pristine_clone: Path) -> None:
    """The figures in the README are those of the committed metrics."""
    evaluate = json.loads((pristine_clone / "metrics/evaluate.json").read_text())
    train = json.loads((pristine_clone / "metrics/train.json").read_text())
    (table,) = (block for block in fenced("README.md", "text") if block.startswith("test accuracy"))
    assert f"{evaluate['accuracy']:.4f}, 95 % interval {evaluate['accuracy_low']:.4f} to" in table
    assert f"{train['val_accuracy']:.4f} (best epoch: {train['best_epoch']})" in table


def test_the_refusal_of_wrong_params(clone: Path) -> None:
    """The message in the page is the one that these mistakes give."""
    edit_params(clone, lr="fast", model="resnet81", threads=0)
    with (clone / "params.yaml").open("a") as stream:
        stream.write("epoch: 5\n")
    text = refusal(run([BIN / "python", "-m", "stages.train"], clone, expect=1))
    assert text in fenced("docs/experiments.md", "text")


def test_the_kinds_of_the_gate() -> None:
    table = TEXTS["docs/review.md"].partition("| kind |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| ([a-z-]+) \|", table, re.M) == list(KINDS)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    """To a file, and to a heading of it, where one is named."""
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", TEXTS[page]):
        path, _, heading = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), link
        if heading:
            headings = re.findall(r"^#+ (.+)$", target.read_text(), re.M)
            assert heading in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in headings}, link


def test_the_tree_is_complete() -> None:
    """Every top-level folder and every module of stages/ is named in the README's tree."""
    (tree,) = (block for block in fenced("README.md", "text") if block.startswith("dvc.yaml"))
    listed = run("git ls-files --cached --others --exclude-standard", ROOT).stdout.split()
    folders = {path.split("/")[0] + "/" for path in listed if "/" in path and not path.startswith(".")}
    modules = {path.split("/")[1] for path in listed if path.startswith("stages/")} - {"__init__.py"}
    assert {name for name in folders | modules if name not in tree} == set()


def outline(page: str) -> dict[str, list[str]]:
    """What a translation keeps: levels of headings, commands, other blocks, links, and rows of tables."""
    text = TEXTS[page]
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    return {
        "headings": [match.split(" ")[0] for match in re.findall(r"^#+ .+$", prose, re.M)],
        "commands": [re.sub(r" *#.*$", "", block, flags=re.M) for block in fenced(page, "sh")],
        "output": fenced(page, "text")[:-1],
        "links": [link.replace(".zh-CN", "") for link in re.findall(r"\]\(([^)]+)\)", prose)],
        "rows": [row.split("|")[1].strip() if "`" in row else "" for row in re.findall(r"^\|.*$", prose, re.M)],
        "code": sorted(set(re.findall(r"`[^`\n]+`", prose))),
    }


def test_translation() -> None:
    """README.zh-CN.md has the headings, commands, outputs, links, tables and names of README.md, in its order."""
    english, chinese = outline("README.md"), outline("README.zh-CN.md")
    for part in english:
        assert english[part] == chinese[part], part
    ratio = len(re.findall(r"[\u4e00-\u9fff]", TEXTS["README.zh-CN.md"])) / len(TEXTS["README.zh-CN.md"])
    assert ratio > 0.1
