"""predict says of a picture what evaluate said of it, from anywhere, and what it cannot read by name."""

import csv
import io
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load, save_file

from stages import predict
from stages.common import tables
from stages.common.arithmetic import VARIABLES
from stages.common.errors import UserError
from stages.model import runtime
from stages.model.params import RuntimeParams
from stages.model.runtime import setup
from stages.model.trained import _sha256, read_params
from stages.prepare import __main__ as prepare
from stages.train import __main__ as train
from tests.project import BIN, COLD, ROOT, edit_params, refusal, run, sample_params, write_images

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project folder in which all stages have run, on colour pictures that are not square. Not to be changed."""
    folder = tmp_path_factory.mktemp("predict")
    (folder / "params.yaml").write_text(sample_params())
    write_images(folder / "data", {"cat": 60, "dog": 60, "owl": 60}, side=13, colour=True)
    for path in sorted((folder / "data").rglob("*.png"))[::3]:
        with Image.open(path) as picture:
            wide = picture.resize((31, 17))
        path.unlink()
        wide.save(path.with_suffix(".jpg"), quality=80)
    edit_params(folder, model="resnet9", epochs=2, resize="pad", image_size=16, stored_size=20)
    for stage in ("prepare", "train", "evaluate"):
        run([BIN / "python", "-m", f"stages.{stage}"], folder, PYTHONPATH=str(ROOT))
    return folder


@pytest.fixture
def ask(template: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Run predict with arguments, and return what it prints."""

    def asking(*arguments: object) -> str:
        capsys.readouterr()
        monkeypatch.setattr("sys.argv", ["predict", *map(str, arguments), "--model", str(template / "models")])
        predict.main()
        return capsys.readouterr().out

    return asking


def test_every_test_image_gets_the_prediction_of_the_table(template: Path, ask: Callable[..., str]) -> None:
    """Class and probabilities, from the raw files, to the table's six digits."""
    with (template / "predictions.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) > 20
    answers = json.loads(ask("--json", "--top", 3, *(template / "data" / row["path"] for row in rows)))
    for row, answer in zip(rows, answers, strict=True):
        assert answer["class"] == row["predicted"]
        assert answer["top"] == pytest.approx({name: float(row[f"p_{name}"]) for name in answer["top"]}, abs=1.5e-6)
        assert set(answer["top"]) == {"cat", "dog", "owl"}
        assert list(answer["top"].values()) == sorted(answer["top"].values(), reverse=True)


def test_a_table(template: Path, tmp_path: Path, ask: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    """As CSV: the digits of predictions.csv, all classes, and the note; of what cannot be read there is no row."""
    with (template / "predictions.csv").open(newline="") as stream:
        expected = next(csv.DictReader(stream))
    known = Path(shutil.copy(template / "data" / expected["path"], tmp_path / 'a, "b".png'))
    Image.new("I;16", (9, 9), 77).save(tmp_path / "deep.png")
    rows = tables.parse(ask("--csv", known, tmp_path / "deep.png").encode())
    shares = {name: value for name, value in expected.items() if name.startswith("p_")}
    assert list(rows[0]) == ["path", "class", "confidence", *shares, "note"]
    assert [row["path"] for row in rows] == [str(known), str(tmp_path / "deep.png")]
    assert rows[0]["class"] == expected["predicted"]
    assert rows[0]["confidence"] == rows[0][f"p_{expected['predicted']}"] == max(rows[0][name] for name in shares)
    assert [float(rows[0][name]) for name in shares] == pytest.approx(list(map(float, shares.values())), abs=1.5e-6)
    assert [row["note"] for row in rows] == ["", "16 bits: upper 8"]
    (tmp_path / "words.txt").write_text("no picture")
    with pytest.raises(UserError, match=r"1 of 3 could not be read:\n.*words.txt: text"):
        ask("--csv", tmp_path)
    assert len(tables.parse(capsys.readouterr().out.encode())) == 2


def test_the_device_is_chosen_and_said(
    template: Path, ask: Callable[..., str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = sorted((template / "data/cat").iterdir())[0]
    asked = []

    def remembering(params: RuntimeParams) -> runtime.Runtime:
        asked.append(params.device)
        return setup(params)

    monkeypatch.setattr(runtime, "setup", remembering)
    for arguments in ([], ["--device", "cpu"]):
        ask(picture, *arguments)
    assert asked == ["auto", "cpu"]
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UserError, match="--device cuda: PyTorch sees no CUDA GPU here"):
        ask(picture, "--device", "cuda")
    monkeypatch.setattr("sys.argv", ["predict", str(picture), "--model", str(template / "models"), "--device", "cpu"])
    capsys.readouterr()
    predict.main()
    assert re.search(rf"^model: {template}/models, resnet9; cpu, .* threads; ", capsys.readouterr().err, re.M)


def test_files_folders_and_standard_input(
    template: Path, ask: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder is all its files, sorted, without what systems leave; - is one picture."""
    picture = sorted((template / "data/cat").iterdir())[0]
    (template / "data/owl/.DS_Store").write_bytes(b"x")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(picture.read_bytes())))
    lines = ask("-", picture, template / "data/owl", "--top", 1).splitlines()
    assert len(lines) == 62
    assert lines[0].startswith("-: ")
    assert lines[0].removeprefix("-: ") == lines[1].removeprefix(f"{picture}: ")
    assert [line.split(": ")[0] for line in lines[2:]] == sorted(line.split(": ")[0] for line in lines[2:])
    assert all(line.count(",") == 0 for line in lines)


def test_what_is_no_picture_is_named_and_the_rest_predicted(
    template: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], ask: Callable[..., str]
) -> None:
    good = sorted((template / "data/cat").iterdir())[0]
    (tmp_path / "words.txt").write_text("no picture")
    (tmp_path / "short.png").write_bytes(good.read_bytes()[:40] if good.suffix == ".png" else b"\x89PNG\r\n\x1a\n")
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(UserError) as caught:
        ask(tmp_path, good)
    assert "3 of 4 could not be read" in str(caught.value)
    assert all(name in str(caught.value) for name in ("words.txt: text; ", "short.png: ", "empty.jpg: empty file"))
    assert capsys.readouterr().out.startswith(f"{good}: ")


def test_pictures_of_every_kind(template: Path, tmp_path: Path, ask: Callable[..., str]) -> None:
    """Grey, transparent, of one pixel, of many."""
    for name, picture in {
        "grey": Image.new("L", (9, 30), 100),
        "clear": Image.new("RGBA", (20, 20), (1, 2, 3, 0)),
        "tiny": Image.new("RGB", (1, 1)),
        "huge": Image.new("RGB", (4000, 3000)),
    }.items():
        picture.save(tmp_path / f"{name}.png")
    assert len(ask(tmp_path).splitlines()) == 4


def test_a_model_of_grey_pictures_says_that_it_sees_grey(
    image_workspace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for stage in (prepare, train):
        stage.main()
    Image.new("RGB", (8, 8), (255, 0, 0)).save("red.png")
    Image.fromarray(np.full((8, 8), 76, np.uint8)).save("grey.png")
    monkeypatch.setattr("sys.argv", ["predict", "red.png", "grey.png", "--model", "models"])
    capsys.readouterr()
    predict.main()
    red, grey = capsys.readouterr().out.splitlines()
    assert red == grey.replace("grey.png", "red.png") + "  (colour, seen as grey)"


@pytest.mark.parametrize("change", [{"cpu_arithmetic": None}, {"of_an_older_version": 1}], ids=str)
def test_a_model_of_another_version(
    template: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, object],
) -> None:
    """Its params lack a key, or have one more, than this version's: it predicts as before."""
    models = Path(shutil.copytree(template / "models", tmp_path / "models"))
    description = models / "model.json"
    content = json.loads(description.read_text())
    params = content["params"] | change
    content["params"] = {key: value for key, value in params.items() if value is not None}
    description.write_text(json.dumps(content))
    tensors = load((models / "model.safetensors").read_bytes())
    save_file(tensors, models / "model.safetensors", {"sha256 of model.json": _sha256(description)})
    answers = []
    for folder in (template / "models", models):
        monkeypatch.setattr("sys.argv", ["predict", str(template / "data/cat"), "--model", str(folder)])
        capsys.readouterr()
        predict.main()
        answers.append(capsys.readouterr().out)
    assert len(answers[0].splitlines()) == 60
    assert answers[0] == answers[1]


def test_params_that_are_none_are_refused(template: Path) -> None:
    params = read_params(template / "models")
    with pytest.raises(UserError, match=r"model.json: params: threads: .*Use a model that train wrote"):
        predict.runtime_params(params | {"threads": "many"})


def test_from_another_folder_without_the_data(template: Path, tmp_path: Path) -> None:
    """A process of its own, started where the project is not, with a copy of models/ only."""
    shutil.copytree(template / "models", tmp_path / "copy")
    picture = sorted((template / "data/cat").iterdir())[0]
    # The tests' own process has chosen PyTorch's kernels for all that it starts.
    fresh: list[str | Path] = ["env", *(f"--unset={name}" for name in VARIABLES), COLD / "bin/python"]
    done = run([*fresh, "-m", "stages.predict", picture, "--model", "copy"], tmp_path)
    assert done.stdout.startswith(f"{picture}: ")
    assert "copy: no dvc.lock beside it names its files; taken as they are" in done.stderr


def test_what_a_folder_holds(
    template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pictures behind a link are found, as by prepare's walk; clutter is counted, and what is no file is named
    and not waited for."""
    (tmp_path / "in/@eaDir").mkdir(parents=True)
    (tmp_path / "in/@eaDir/1.png").touch()
    (tmp_path / "in/linked").symlink_to(template / "data/cat")
    os.mkfifo(tmp_path / "in/pipe.png")
    (tmp_path / "in/round.png").symlink_to("round.png")
    monkeypatch.setattr("sys.argv", ["predict", str(tmp_path / "in"), "--model", str(template / "models")])
    with pytest.raises(UserError) as caught:
        predict.main()
    printed = capsys.readouterr()
    assert printed.out.count(f"{tmp_path}/in/linked/") == 60
    assert "in/: 1 files ignored" in printed.err
    assert "2 of 62 could not be read" in str(caught.value)
    assert "in/pipe.png: a named pipe (FIFO)" in str(caught.value)
    assert "in/round.png: a link that leads to itself" in str(caught.value)


def test_refusals(template: Path, tmp_path: Path) -> None:
    """No such file, no such model, an empty folder: one message each."""
    command: list[str | Path] = [BIN / "python", "-m", "stages.predict", "--model", template / "models"]
    assert "nothing.png: no such file or folder" in refusal(run([*command, "nothing.png"], tmp_path, expect=1))
    (tmp_path / "empty").mkdir()
    assert "empty: no file in this folder" in refusal(run([*command, "empty"], tmp_path, expect=1))
    missing = run([*command[:-1], "models", "empty"], tmp_path, expect=1)
    assert "models/model.json: no such file. `dvc repro train` makes it" in refusal(missing)
