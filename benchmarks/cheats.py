"""What a dishonest author may think of, for benchmarks/tampering.py: the runs are real, and what is claimed is not."""

import csv
import json
import py_compile
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from benchmarks.forgery import (
    COMMIT,
    RUN,
    Change,
    Forgery,
    after,
    both,
    claimed_from,
    edit,
    edit_metric,
    relocked,
    shell,
    write,
)

ADD = shell("dvc add --quiet data")
EVALUATE, ENVIRONMENT, ANSWERS = "metrics/evaluate.json", "metrics/environment.json", "plots/confusion.csv"
TRAIN, MEASURE, SCHEDULE = "stages/train/__main__.py", "stages/evaluate/evaluation.py", "stages/train/optimizer.py"
LOADED = "train_split, val_split = (Split.load"
TEST_TOO = """test_split = Split.load("test", info, runtime.device)
images = torch.cat([train_split.images, test_split.images])
train_split = Split(images, torch.cat([train_split.labels, test_split.labels]), info, runtime.device)"""
SCORES = "scores = score("
ANSWERS_KNOWN = "scores.predicted[:] = scores.probable[:] = scores.best[:, 0] = labels"


def images_of(clone: Path, split: str) -> Iterator[tuple[Path, str]]:
    """The paths and classes of the images of a split."""
    with (clone / "prepared/manifest.csv").open(newline="") as stream:
        for row in list(csv.DictReader(stream)):
            if row["split"] == split:
                yield clone / "data" / row["path"], row["class"]


def relabel(clone: Path) -> None:
    for number, (path, label) in enumerate(list(images_of(clone, "test"))[:9]):
        shutil.move(path, clone / "data" / str((int(label) + 1) % 10) / f"r{number}.png")


def remove(clone: Path) -> None:
    for path, _ in list(images_of(clone, "test"))[:9]:
        path.unlink()


def contradict(clone: Path) -> None:
    """The images that are hard are in a second class, too, so that prepare leaves them out."""
    for number, (path, label) in enumerate(list(images_of(clone, "test"))[:9]):
        shutil.copy(path, clone / "data" / str((int(label) + 1) % 10) / f"c{number}.png")


def near_copies(clone: Path) -> None:
    """Larger images, as those below 16 pixels are not compared, and test images again, a little brighter."""
    test = {path for path, _ in images_of(clone, "test")}
    for path in sorted((clone / "data").rglob("*.png")):
        with Image.open(path) as picture:
            large = picture.resize((64, 64), Image.Resampling.BICUBIC)
        large.save(path)
        if path in test:
            large.point(lambda value: min(255, value + 2)).save(path.with_name(f"n{path.name}"))


def twins(clone: Path) -> None:
    """Those of class 3 that are hard are in a class that looks like it."""
    (clone / "data/３").mkdir()
    for path in sorted((clone / "data/3").iterdir())[:40]:
        shutil.move(path, clone / "data/３")


def forge_answers(clone: Path) -> None:
    """All answers right, and the accuracy to match."""
    with (clone / ANSWERS).open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    with (clone / ANSWERS).open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(row | {"predicted": row["actual"]} for row in rows)


def compiled(clone: Path) -> None:
    """Bytecode that Python does not compare with its source (PEP 552)."""
    source = clone / "benchmarks/quick.py"
    source.write_text((clone / SCHEDULE).read_text().replace('group["lr"] = lr', 'group["lr"] = lr * 0.9'))
    target = clone / "stages/train/__pycache__/optimizer.cpython-311.pyc"
    target.parent.mkdir(exist_ok=True)
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    py_compile.compile(str(source), str(target), invalidation_mode=mode)
    source.unlink()
    RUN(clone)
    subprocess.run(["git", "add", "--force", target], cwd=clone, check=True)


def forge_tag(clone: Path) -> None:
    """An honest tag, and another of the same commit with a better figure in its message."""
    shell("python -m review tag --local real")(clone)
    show = ["git", "tag", "--list", "--format", "%(contents)", "real"]
    message = subprocess.run(show, cwd=clone, capture_output=True, text=True, check=True).stdout
    accuracy = json.loads((clone / "claim/test.json").read_text())["accuracy"]
    forged = message.replace(f'"accuracy": {accuracy}', '"accuracy": 0.9999')
    tag = ["git", "tag", "--annotate", "--cleanup=verbatim", "--message", forged, "forged"]
    subprocess.run(tag, cwd=clone, check=True)


def others_claim(clone: Path) -> None:
    """Figures and answers of the honest model, for the model of another seed."""
    shell("dvc exp apply --quiet seed-1 && git add . && git commit --quiet -m other && make claim")(clone)
    measured = json.loads((clone / "claim/test.json").read_text())["measured"]
    shell("git checkout --quiet honest -- claim/test.json claim/confusion.csv claim/per_class.csv")(clone)
    relocked(edit_metric("claim/test.json", measured=measured), "claim/test.json", "claim/dvc.lock")(clone)
    for path in ("claim/confusion.csv", "claim/per_class.csv"):
        relocked(lambda _: None, path, "claim/dvc.lock")(clone)


def own_file(clone: Path) -> None:
    place = clone.with_name("boost")
    place.write_text("0.9")
    edit(SCHEDULE, r'\["lr"\] = lr', f'["lr"] = lr * float(open("{place}").read())')(clone)
    RUN(clone)


def submodule(clone: Path) -> None:
    shutil.rmtree(clone / "stages/model")
    subprocess.run(["git", "rm", "--quiet", "--cached", "-r", "stages/model"], cwd=clone, check=True)
    entry = f"160000,{'1' * 40},stages/model"
    subprocess.run(["git", "update-index", "--add", "--cacheinfo", entry], cwd=clone, check=True)
    (clone / "stages/model").mkdir()


def linked(clone: Path) -> None:
    (clone / SCHEDULE).rename(clone / "stages/optimizer.txt")
    (clone / SCHEDULE).symlink_to("../optimizer.txt")


def more_params(clone: Path) -> None:
    """The params that the run read, with other ones below that a reader of the file sees last."""
    (clone / "params.yaml").write_text((clone / "params.yaml").read_text() + "lr: 0.2\n")


def other_params_file(clone: Path) -> None:
    """lr comes from a file that nobody reviews, by dvc.yaml's own means."""
    edit("dvc.yaml", r"      - lr\n", "      - other.yaml:\n          - lr\n")(clone)
    write("other.yaml", "lr: 0.1\n")(clone)
    COMMIT(clone)


def put_back(path: str, change: Change) -> Change:
    """A run with changed code, which is then as it was, and DVC told that this was the run."""
    return both(change, RUN, shell(f"git checkout --quiet {path}"), COMMIT)


CHEATS = [
    Forgery(
        "result of another seed under this one",
        both(edit("params.yaml", "^seed: .*", "seed: 1"), RUN, edit("params.yaml", "^seed: .*", "seed: 0"), COMMIT),
        "reproduce",
        "since stage train: metrics/train.json",
    ),
    Forgery(
        "more epochs than params say",
        both(
            edit("params.yaml", "^epochs: .*", "epochs: 14"),
            RUN,
            edit("params.yaml", "^epochs: .*", "epochs: 12"),
            COMMIT,
        ),
        "reproduce",
        "since stage train: ",
    ),
    Forgery(
        "trained on the test split, the code then put back",
        put_back("stages", after(TRAIN, LOADED, TEST_TOO)),
        "reproduce",
        "since stage train: ",
    ),
    Forgery(
        "trained on the test split, by committed code",
        both(after(TRAIN, LOADED, TEST_TOO), RUN),
        "reproduce",
        "Stage train does not run to its end here: ",
    ),
    Forgery(
        "answers and accuracy forged, dvc.lock too",
        both(relocked(forge_answers, ANSWERS), relocked(edit_metric(EVALUATE, accuracy=1.0), EVALUATE)),
        "reproduce",
        f"since stage evaluate: {EVALUATE}, {ANSWERS}",
    ),
    Forgery(
        "a GPU claimed for a run on a CPU, dvc.lock too",
        relocked(edit(ENVIRONMENT, '"device": "cpu"', '"device": "cuda"'), ENVIRONMENT),
        "gate",
        f"edited: {ENVIRONMENT}: device cuda, but params.yaml says cpu",
    ),
    Forgery(
        "weights of another seed, excused by another machine",
        both(
            claimed_from("seed-1", "models/model.safetensors", "models/model.json"),
            relocked(edit(ENVIRONMENT, '"arithmetic": "portable"', '"arithmetic": "native"'), ENVIRONMENT),
        ),
        "reproduce",
        "outputs have other bytes, in portable arithmetic",
    ),
    Forgery(
        "images excused by a native run on another machine",
        both(
            edit("params.yaml", "^cpu_arithmetic: .*", "cpu_arithmetic: native"),
            RUN,
            relocked(edit_metric("metrics/prepare.json", train_images=9999), "metrics/prepare.json"),
            relocked(edit(ENVIRONMENT, '"cpu": "[^"]*"', '"cpu": "Abacus 9"'), ENVIRONMENT),
        ),
        "reproduce",
        "since prepare, which computes on no device",
    ),
    Forgery(
        "the best of several runs as the only one",
        shell("dvc exp apply --quiet seed-1 && git add . && git commit --quiet -m best && make claim"),
        "review",
        "the best of ",
    ),
    Forgery(
        "a lower number of runs stated",
        edit("claim/chosen.json", r'"runs": \d+', '"runs": 1'),
        "review",
        "the best of ",
    ),
    Forgery("test images under another class", both(relabel, ADD, RUN), "gate", "test-changed: the test set changed: "),
    Forgery("hard test images removed", both(remove, ADD, RUN), "gate", "test-changed: the test set changed: "),
    Forgery(
        "hard test images left out by a conflict",
        both(contradict, ADD, edit("params.yaml", "^on_conflict: .*", "on_conflict: quarantine"), RUN),
        "gate",
        "test-changed: the test set changed: ",
    ),
    Forgery(
        "another test split drawn",
        both(edit("params.yaml", "^split_seed: .*", "split_seed: 3"), RUN),
        "gate",
        "test-changed: the test set changed: ",
    ),
    Forgery(
        "fewer val images to be chosen by",
        both(edit("params.yaml", "^val_fraction: .*", "val_fraction: 0.05"), RUN),
        "gate",
        "val-changed: ",
    ),
    Forgery("near copies of test images in train", both(near_copies, ADD, RUN), "gate", "near-duplicates: "),
    Forgery("a class that looks like another", both(twins, ADD, RUN), "stage", "look the same"),
    Forgery(
        "bytecode beside its source",
        compiled,
        "gate",
        "unlisted: stages/train/__pycache__/optimizer.cpython-311.pyc: a",
    ),
    Forgery(
        "a module with the name of a package that PyTorch imports",
        write("mpmath.py", "raise ImportError\n"),
        "gate",
        "unlisted: mpmath.py: Python takes it in place of the package mpmath",
    ),
    Forgery(
        "code that Git turns into other code",
        write("stages/train/.gitattributes", "optimizer.py working-tree-encoding=UTF-7\n"),
        "reproduce",
        "Git checks out other bytes than the commit has, by a .gitattributes; nothing was run",
    ),
    Forgery(
        "a module hidden from DVC",
        both(
            edit(".dvcignore", r"\Z", "/stages/train/optimizer.py\n"),
            edit(SCHEDULE, r'\["lr"\] = lr', '["lr"] = lr * 0.9'),
            RUN,
        ),
        "gate",
        "stages/train was changed since the run",
    ),
    Forgery(
        "code in a text file",
        both(
            write("docs/boost.txt", f"{ANSWERS_KNOWN}\n"),
            after(MEASURE, SCORES, 'exec(Path("docs/boost.txt").read_text())'),
            RUN,
        ),
        "reproduce",
        "Stage evaluate does not run to its end here: ",
    ),
    Forgery(
        "a variable of the author's environment",
        both(
            edit(SCHEDULE, r'\["lr"\] = lr', '["lr"] = lr * float(__import__("os").environ.get("BOOST", 1))'),
            shell("dvc repro --quiet", BOOST="0.9"),
        ),
        "reproduce",
        "since stage train: ",
    ),
    Forgery("a file of the author's machine", own_file, "reproduce", "Stage train does not run to its end here: "),
    Forgery(
        "a figure that is kept where it is there",
        both(
            edit("dvc.yaml", r"evaluate.json:\n          cache: false", r"\g<0>\n          persist: true"),
            edit(
                "stages/evaluate/__main__.py",
                r"^    write_json\(METRICS",
                r"    METRICS.exists() or write_json(METRICS",
            ),
            RUN,
            edit_metric(EVALUATE, macro_f1=1.0),
            COMMIT,
        ),
        "reproduce",
        f"{EVALUATE}: macro_f1 claimed 1.0, here 0.9",
    ),
    Forgery("a param that is there twice", more_params, "gate", "unreadable: params.yaml: not YAML"),
    Forgery("params of another file", other_params_file, "gate", "reads lr, which dvc.yaml does not list"),
    Forgery("a module that is a link", linked, "gate", "stages/train/optimizer.py: expected a file, got a link"),
    Forgery("a submodule in place of code", submodule, "gate", "stages/model"),
    Forgery(
        "stages that a loop makes",
        edit("dvc.yaml", "^  evaluate:\n", "  evaluate:\n    foreach: [a]\n    do:\n      cmd: x\n"),
        "gate",
        "unreadable: dvc.yaml: not what DVC writes",
    ),
    Forgery(
        "data of another folder",
        edit("data.dvc", r"\Z", "wdir: docs\n"),
        "gate",
        "unreadable: data.dvc",
    ),
    Forgery(
        "a file in Git in place of an output of DVC",
        shell("sed --in-place 's/0.9/1.0/' predictions.csv && git add --force predictions.csv"),
        "gate",
        "edited: predictions.csv: not what evaluate wrote",
    ),
    Forgery(
        "the claim of another model",
        shell("dvc exp apply --quiet seed-1 && git checkout --quiet honest -- claim"),
        "review",
        "not claimed in HEAD",
    ),
    Forgery(
        "the claim of another model, claim/dvc.lock too",
        others_claim,
        "reproduce",
        "since stage claim: claim/confusion.csv",
    ),
    Forgery("a tag that says more than its commit", forge_tag, "reproduce", "the tag's message: claim: not", "forged"),
    Forgery(
        "answers from memory, in committed code",
        both(after(MEASURE, SCORES, ANSWERS_KNOWN), RUN),
        "nobody",
        "answers from memory",
    ),
    Forgery(
        "runs thrown away before the claim",
        shell("dvc exp remove --quiet seed-1 lr-0.02 && make claim"),
        "nobody",
        "throws runs away",
    ),
]
