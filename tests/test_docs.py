"""The documents are true: their commands, typed one after the other in a clone, and what they say is printed."""

import getpass
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from review.drift import service_log
from review.gate import KINDS
from stages.common import tables
from tests.pages import PAGES, TEXTS, fenced, type_commands
from tests.project import (
    BIN,
    QUEUE_IS_EMPTY,
    ROOT,
    VENV,
    edit_params,
    refusal,
    run,
    scaffold_only,
    write_cifar10,
    write_images,
    write_patterns,
)
from tests.servers import KEY, SECRET, free_port, s3, sftp
from tests.service_logs import answers_like, write_log


def test_own_data(copy_reproduced: Callable[[str], Path], tmp_path: Path) -> None:
    """On colour images with official train and test splits, with the params that are proposed for them."""
    write_images(tmp_path / "images/train", {"cat": 60, "dog": 60}, colour=True, side=12, seed=1)
    write_images(tmp_path / "images/test", {"cat": 9, "dog": 9}, colour=True, side=12, seed=2)
    folder = copy_reproduced("project")
    done = type_commands("docs/own-data.md", folder, {"<folder of your images>": str(tmp_path / "images")})
    assert "data/: 138 files in 2 classes (class folders under train, test)" in done.stdout
    assert "params.yaml is written" in done.stdout
    assert "\nimage_size: 12\n" in (folder / "params.yaml").read_text()
    assert "prepare: 138 files in 2 classes (class folders under train, test)" in done.stdout
    assert json.loads((folder / "metrics/prepare.json").read_text())["test_images"] == 18
    assert "different in" in run("make summary", folder).stdout
    assert len(list((folder / "data").iterdir())) < 5
    # Packed, they are the same images: nothing after prepare has to run.
    assert done.stdout.count("Running stage 'train'") == 1


# Of the scaffold's tests, those that a project's own files could break, and that take seconds.
QUICK_TESTS = [
    f"tests/{name}.py"
    for name in ("test_configs", "test_docs", "test_dvc_yaml", "test_front_page", "stages/test_params")
]


def test_new_project(copy_reproduced: Callable[[str], Path], tmp_path: Path) -> None:
    """From a clone of the scaffold to a release and a colleague, and over a later version of the scaffold, in a project
    with other images, classes, size, params and name; in it, what is quick of the scaffold's own tests passes."""
    scaffold = with_later_version(copy_reproduced("scaffold"))
    write_patterns(tmp_path / "images", ("crow", "owl"), 90, side=14)
    (tmp_path / "place").mkdir()
    run("git init --quiet --bare --initial-branch main team.git", tmp_path)
    values = {"image_size": 12, "model": "simplenet", "epochs": 2, "flip": "random"}
    own_params = "; ".join(f"s/^{key}: .*/{key}: {value}/" for key, value in values.items())
    edits = {
        "<url of this repository> birds && cd birds": f"{scaffold} birds && cd birds && ln -s {VENV} .venv",
        "../colleague && cd ../colleague": f"../colleague && cd ../colleague && ln -s {VENV} .venv",
        "<url of your repository>": f"{tmp_path}/team.git",
        "<folder of your images>": f"{tmp_path}/images",
        "dvc add data\n": f"dvc add data\nsed -i '{own_params}' params.yaml\n",
        "<address of the team's storage>": f"{tmp_path}/storage",
        "make upgrade": f"git -C {scaffold} merge --quiet --ff-only later && make upgrade && make repro",
    }
    done = type_commands("docs/new-project.md", tmp_path / "place", edits)
    assert "without the sample and its result: " in done.stdout
    assert "identical byte for byte" in done.stdout
    # Once with the first params, by nobody's hand for the colleague, and once after the upgrade.
    assert done.stdout.count("Running stage 'train'") == 2
    folder = tmp_path / "place/birds"
    kept = ("README.md", "data.dvc", "dvc.lock", ".dvc/config", "claim", "metrics", "models", "plots")
    run(["git", "diff", "--exit-code", "v1.0-birds", "HEAD", "--", *kept], folder)
    added = run("git diff --unified=0 v1.0-birds HEAD -- params.yaml | grep '^[-+][^-+]'", folder).stdout
    assert "+shine: 3\n" in added
    assert "\n-" not in added
    assert (folder / "stages/train/loop.py").read_text().endswith("# later\n")
    assert not (folder / "benchmarks/portable.py").exists()
    assert re.search(r'name = "birds"\nversion = "0.*# later\n$', (folder / "pyproject.toml").read_text(), re.S)
    assert "## 9.0\n\nRun again: train." in done.stdout
    assert re.search(r"^  train: .*stages/train", done.stdout, re.M)
    quick = "not clone and not slow and not image"
    # With a folder of its own, since in the common one pytest removes what earlier runs left, however long that takes.
    own = f"--basetemp={tmp_path}/quick"
    run([BIN / "python", "-m", "pytest", "-n", "0", "-q", own, "-m", quick, *QUICK_TESTS], folder)


def with_later_version(folder: Path) -> Path:
    """Make a clone the scaffold: with a front page, and a later version, with a new param, on the branch `later`."""
    (folder / "README.md").write_text(
        "# dvc-pytorch-scaffold\n\n## Documentation\n\n[data](docs/own-data.md)\n\n## End\n"
    )
    run(["sed", "-i", 's/^name = .*/name = "dvc-pytorch-scaffold"/', "pyproject.toml"], folder)
    run("git commit --quiet --all --message scaffold && git switch --quiet --create later", folder)
    param = 'shine: int = Field(3, description="Shine.")'
    for path, old, new in (
        (
            "stages/train/params.py",
            "class TrainParams(",
            f"class Shine(Schema):\n    {param}\n\n\nclass TrainParams(Shine, ",
        ),
        ("dvc.yaml", "      - seed\n", "      - seed\n      - shine\n"),
        ("pyproject.toml", 'version = "', 'version = "9'),
        (".dvc/config", "analytics = false", "analytics = true"),
        ("CHANGELOG.md", "## ", "## 9.0\n\nRun again: train.\n\n## "),
    ):
        text = (folder / path).read_text()
        assert old in text
        (folder / path).write_text(text.replace(old, new, 1))
    for path in ("params.yaml", *(f"configs/{path.name}" for path in (folder / "configs").iterdir())):
        with (folder / path).open("a") as stream:
            stream.write("# Shine.\nshine: 3\n")
    for path in ("pyproject.toml", "stages/train/loop.py", "dvc.lock", "models/README.md", "README.md"):
        with (folder / path).open("a") as stream:
            stream.write("# later\n")
    (folder / "metrics/evaluate.json").write_text("{}\n")
    (folder / "benchmarks/portable.py").unlink()
    edit_params(folder, lr=0.01)
    run("git commit --quiet --all --message later && git switch --quiet main", folder)
    return folder


def test_experiments(copy_reproduced: Callable[[str], Path]) -> None:
    folder = copy_reproduced("project")
    edits = {
        "dvc queue start -j 2 ": "dvc queue start -j 2 > /dev/null 2>&1 ",
        "dvc queue status\n": f"dvc queue status\n{QUEUE_IS_EMPTY}\n",
        # tests/scripts/test_install.py installs it, in an environment of its own.
        "make notebook": "make --dry-run notebook",
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


def test_photos(copy_reproduced: Callable[[str], Path], tmp_path: Path) -> None:
    """With one of timm's smallest networks, from a file, and patterns in place of photos."""
    folder = copy_reproduced("project")
    write_patterns(tmp_path / "photos", ("cat", "dog"), 20, side=100)
    make = "import sys, torch, timm, safetensors.torch as s; torch.manual_seed(0); "
    make += "s.save_model(timm.create_model('test_vit'), sys.argv[1])"
    run([BIN / "python", "-c", make, tmp_path / "weights.safetensors"], tmp_path)
    edits = {
        "<folder of your photos>": str(tmp_path / "photos"),
        "timm/resnet18.a1_in1k": f"timm/test_vit --from {tmp_path}/weights.safetensors --licence MIT",
        "<a photo>": str(tmp_path / "photos/cat/0000.png"),
    }
    done = type_commands("docs/photos.md", folder, edits)
    assert "proposed: configs/photos-cpu.yaml" in done.stdout
    assert re.search(
        r"train: timm/test_vit, \d+ parameters, from test_vit-\w{16}, .* train images, as features", done.stdout
    )
    assert "0000.png: cat " in done.stdout
    (origin,) = (folder / "weights").glob("*.json")
    tracked = run("git ls-files weights", folder).stdout.split()
    assert tracked == [f"weights/{origin.stem}{end}" for end in (".json", ".safetensors.dvc")]
    card = (folder / "models/README.md").read_text()
    assert f"trained from the pretrained weights {origin.stem} (licence MIT;" in card
    # Another clone gets them with the data, and the review says where they come from.
    run(["git", "clone", "--quiet", folder, tmp_path / "other"], tmp_path)
    (tmp_path / "other/.venv").symlink_to(VENV)
    run([BIN / "dvc", "remote", "modify", "--local", "local", "url", folder / ".dvc/cache"], tmp_path / "other")
    assert f"data: weights/{origin.stem}.safetensors is there" in run("make data", tmp_path / "other").stdout
    said = run("make diff BASE=HEAD~1", tmp_path / "other").stdout
    assert re.search(r"weights \(licence\).*MIT", said)


# Whoever looks: says of which class the pictures in a wrong folder are, and of one test image that it is of another.
DECIDE = """
import sys
from pathlib import Path
from stages.common import corrections, tables
rows = tables.parse(Path("prepared/manifest.csv").read_bytes())
said = [(row, "a") for row in rows if "/wrong" in row["path"]]
said += [(row, "c") for row in rows if row["split"] == "test" and row["class"] == "d"][:1]
corrections.write(
    Path(sys.argv[1]),
    [corrections.Correction(row["path"], row["sha256"], "relabel", label, "seen") for row, label in said],
)
"""


def test_data(copy_reproduced: Callable[[str], Path], tmp_path: Path) -> None:
    """From a look to what the review says, on an unchanged test set, with images of a class in another's folder."""
    folder = copy_reproduced("project")
    wrong = sorted((folder / "data/a").iterdir())[:20]
    for number, path in enumerate(wrong):
        path.rename(folder / f"data/b/wrong{number}.png")
    run([BIN / "dvc", "add", "--quiet", "data"], folder)
    write_patterns(tmp_path / "new", "x", 5, side=9)
    saved = tmp_path / "corrections.csv"
    (tmp_path / "decide.py").write_text(DECIDE)
    decide = f"PYTHONPATH=. python {tmp_path}/decide.py {saved}"
    edits = {
        "make correct FROM=~/Downloads/corrections.csv": f"{decide}\nmake correct FROM={saved}",
        "<folder of pictures>": str(tmp_path / "new"),
    }
    done = type_commands("docs/data.md", folder, edits)
    rows = tables.parse((folder / "prepared/manifest.csv").read_bytes())
    corrected = [row for row in rows if row["note"] == "corrected, was b: seen"]
    assert {row["class"] for row in corrected} == {"a"}
    assert {row["split"] for row in corrected} == {"train"}
    assert f"{len(wrong) + 1 - len(corrected)} of images that are not in train were not taken" in done.stdout
    assert f"By hand: {len(corrected)} labels corrected (corrections.csv)." in done.stdout
    assert "The test set changed" not in done.stdout
    assert "The features are of a model that has learned these labels" in done.stdout
    assert (folder / "reports/data.html").is_file()
    assert len(tables.parse((folder / "reports/labelling.csv").read_bytes())) == 5


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
    edits = {"N=3": "N=2", "lr=0.05": "lr=0.11", "review reproduce": "review reproduce --no-sandbox"}
    done = type_commands("docs/review.md", folder, edits)
    assert "(n=2 seeds)" in done.stdout
    assert "this recipe against that recipe (seeds and val images)" in done.stdout
    assert "gate: passed" in done.stderr
    assert "lower-lr (" in done.stdout
    assert ": identical. 16 of 16 outputs have the same bytes." in done.stdout
    over_seeds = r"over seeds, val accuracy 0\.\d+ ± 0\.\d+ \(n=2 seeds\)"
    assert re.search(rf"v1.0-resnet9-digits: test accuracy .*; {over_seeds}", done.stdout)
    assert done.stdout.count("seeds: running 1; 1 at a time") == 2


def test_serve(copy_reproduced: Callable[[str], Path]) -> None:
    """The page's code answers the images of the test split with what was exported; the service, a few pictures."""
    folder = copy_reproduced("project")
    port = str(free_port())
    edits = {
        "make serve\n": f"python -m serve --port {port} --drain-seconds 0 &\n"
        f"until curl --fail 127.0.0.1:{port}/ready; do :; done\n",
        "8000": port,
        "0/0000.png": "a/0000.png",
        "0/0001.png": "a/0001.png",
        "make serve-image TAG=v1.0": "kill $! && wait $! && git tag v1.0 && "
        "python -m scripts.serve_image --gather ../image v1.0",
    }
    done = type_commands("docs/serve.md", folder, edits)
    assert done.stdout.count('"class":"a"') == 3
    assert (folder / "../image/models/model.onnx").read_bytes() == (folder / "models/model.onnx").read_bytes()
    assert re.search(r"parity +0 answers changed on \d+ test images", done.stdout)
    assert re.search(
        r"to commit +`git add \. && git commit`: export/dvc\.lock, export/dvc\.yaml, metrics/export\.json", done.stdout
    )
    (snippet,) = fenced("docs/serve.md", "python")
    rows = "import numpy as np\nrows = np.load('prepared/test-images.npy')\n"
    shown = run([BIN / "python", "-c", f"{rows}{snippet}print(probabilities.sum(1).round(6))"], folder).stdout
    assert set(shown.strip("[]\n").split()) == {"1."}


def test_drift(copy_reproduced: Callable[[str], Path]) -> None:
    """Logs of answers like those to the val images, and true classes that came later."""
    folder = copy_reproduced("project")
    run("git tag --annotate --message release v1.0-resnet9-digits", folder)
    lines = answers_like(folder, 300, "v1.0-resnet9-digits")
    write_log(folder / "service.log", *lines[:150])
    write_log(folder / "today.log", *lines[150:])
    write_log(folder / "labels.csv", "id,class", *(f"{line['id']},{line['class']}" for line in lines[150:]))
    done = type_commands("docs/drift.md", folder, {})
    assert "**No drift found: 2 tests on 150 pictures" in done.stdout
    assert "of 150 labelled pictures of the log are right" in (folder / "drift.md").read_text()
    assert (folder / "drift.html").exists()
    (line,) = fenced("docs/drift.md", "json")
    assert set(service_log.KEYS) == json.loads(line).keys()


def test_promotion(clone: Path) -> None:
    """As far as it goes without an export, which takes long; tests/scripts/test_promote.py promotes."""
    edits = {
        "make export\n": "make --dry-run export\n",
        "git commit --quiet": "git commit --quiet --allow-empty",
        "python -m review tag --local": "git tag --annotate --message reached",
        "make promote VERSION=v1.0.0 STAGE=prod": "make --dry-run promote VERSION=v1.0.0 STAGE=prod",
        "make promote VERSION=v1.0.0 STAGE=staging": "git tag --annotate --message back 'classifier#staging#1'",
    }
    done = type_commands("docs/promotion.md", clone, edits)
    assert "v1.0.0            not claimed in classifier@v1.0.0" in done.stdout


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
    assert "predictions.csv: there, from the cache or the remote" in done.stdout
    assert "identical byte for byte (16 of 16 outputs)" in done.stdout
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
    assert "): identical. 16 of 16 outputs" in done.stdout


def test_several_gpus(copy_reproduced: Callable[[str], Path]) -> None:
    """Two processes, by one torchrun and by two, as on two machines."""
    folder = copy_reproduced("project")
    done = type_commands("docs/several-gpus.md", folder, {"29400": str(free_port())})
    assert done.stdout.count("2 processes") == 2


def test_cifar10(copy_reproduced: Callable[[str], Path], tmp_path: Path) -> None:
    """With a few random images in the form of CIFAR-10's archive, which no test can download, and a quick model."""
    folder = copy_reproduced("project")
    write_cifar10(tmp_path / "cifar-10-batches-py", images=100)
    run("tar --create --gzip --file cifar-10-python.tar.gz cifar-10-batches-py", tmp_path)
    edits = {
        """python -c "from torchvision.datasets import CIFAR10; CIFAR10('data', download=True)"
rm -r data/cifar-10-batches-py
""": f"cp {tmp_path}/cifar-10-python.tar.gz data\n",
        "cp configs/cifar10-cpu.yaml params.yaml": "sed 's/^epochs: .*/epochs: 1/; s/^model: .*/model: simplenet/; "
        "s/^precision: .*/precision: fp32/' configs/cifar10-cpu.yaml > params.yaml",
        "N=3": "N=2",
        "review reproduce": "review reproduce --no-sandbox",
    }
    done = type_commands("docs/cifar10.md", folder, edits)
    assert "prepare: 600 files in 10 classes (published files cifar-10-batches-py/data_batch_1" in done.stdout
    assert "v1.0-resnet9-cifar10 (" in done.stdout
    assert ": identical. 19 of 19 outputs have the same bytes." in done.stdout


def test_scope(clone: Path, tmp_path: Path) -> None:
    """The project as a submodule of a monorepo."""
    (tmp_path / "monorepo").mkdir()
    run("git init --quiet --initial-branch main", tmp_path / "monorepo")
    edits = {
        "git submodule add <url of your repository>": f"git -c protocol.file.allow=always submodule add {clone}",
        "make repro": f"ln -s {VENV} .venv && make data && python -m scripts.repro --dry prepare",
    }
    done = type_commands("docs/scope.md", tmp_path / "monorepo", edits)
    assert "> python -m stages.prepare" in done.stdout


def test_contributing(clone: Path, tmp_path: Path) -> None:
    """`make lint` is what CI runs before these tests; here, that it is there."""
    edits = {"make hooks": f"export PRE_COMMIT_HOME={tmp_path}/hooks && make hooks", "make lint": "make --dry-run lint"}
    type_commands("CONTRIBUTING.md", clone, edits)
    assert (clone / ".git/hooks/pre-commit").exists()


@scaffold_only
def test_every_page_with_commands_is_typed() -> None:
    """A page that is added needs a test here. A project may have others, of its own."""
    source = Path(__file__).read_text() + (ROOT / "tests/test_front_page.py").read_text()
    assert {page for page in PAGES if fenced(page, "sh") and f'"{page}"' not in source} <= {"README.zh-CN.md"}


def test_no_page_puts_a_secret_into_a_committed_file() -> None:
    """Every command that gives a remote something private says `--local`."""
    private = "access_key_id|secret_access_key|session_token|password|profile|keyfile|credentialpath|token"
    for text in TEXTS.values():
        for line in re.findall(rf"^dvc remote modify .*\b(?:{private})\b.*$", text, re.M):
            assert " --local " in line


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
