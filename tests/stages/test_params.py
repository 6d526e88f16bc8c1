"""params.yaml: every problem at once, in words, before any work."""

import sys
from pathlib import Path

import pytest
import yaml

from scripts.own_files import is_scaffold
from stages.common.errors import UserError
from stages.common.params import load
from stages.evaluate.params import EvaluateParams
from stages.model.names import TORCHVISION_MODELS
from stages.params import Params, main
from stages.prepare.params import PrepareParams
from stages.train.params import TrainParams
from tests.project import PARAMS, ROOT, edit_params


@pytest.fixture
def file(workspace: Path) -> Path:
    return workspace / "params.yaml"


def message(file: Path) -> str:
    with pytest.raises(UserError) as caught:
        load(TrainParams, file)
    return str(caught.value)


def test_the_samples_file_is_valid_and_commented() -> None:
    """Every key of it has a comment above it, and lr is not the 0.001 of the README's experiment."""
    assert load(Params, PARAMS).lr != 0.001
    lines = PARAMS.read_text().splitlines()
    keys = [number for number, line in enumerate(lines) if line and not line.startswith("#")]
    # A project may have added others to the schema, with defaults.
    added = {name for name, field in Params.model_fields.items() if not field.is_required()}
    expected = set(Params.model_fields) - (set() if is_scaffold(ROOT) else added)
    assert {lines[number].split(":")[0] for number in keys} >= expected
    assert all(lines[number - 1].startswith("# ") for number in keys)


def test_every_key_wrong_at_once(file: Path) -> None:
    """One message names every wrong key, with what was expected and what came."""
    wrong = dict.fromkeys(Params.model_fields)
    file.write_text(yaml.safe_dump(wrong))
    text = message(file)
    assert f"{len(wrong)} problems" in text
    for name in wrong:
        (line,) = (line for line in text.splitlines() if line.startswith(f"  {name}: "))
        assert "expected" in line
        assert line.endswith("got null")


def test_unknown_and_missing_keys(file: Path) -> None:
    """A misspelt key is reported as unknown, with the right spelling, and the right one as missing."""
    file.write_text(file.read_text().replace("weight_decay:", "wieght_decay:"))
    text = message(file)
    assert "wieght_decay: unknown key; did you mean 'weight_decay'?" in text
    assert "weight_decay: missing; expected a number from 0 up to 1" in text


def test_a_key_that_came_later(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An older file is valid, and what is filled in is said; DVC wants it whole, so there is a command for that."""
    lines = PARAMS.read_text().splitlines()
    later = [name for name, field in Params.model_fields.items() if not field.is_required()]
    file.write_text("\n".join(line for line in lines if line.partition(":")[0] not in later))
    assert load(TrainParams, file).augment == ""
    assert "params: augment: not in " in capsys.readouterr().err
    with pytest.raises(UserError, match=r"lacks keys that are newer than it: .*augment.*--add-missing"):
        main()
    sys.argv.append("--add-missing")
    main()
    printed = capsys.readouterr().out
    assert all(f"added `{name}: " in printed for name in later)
    # Each with its comment, which is the one that the recipes have; a project's own param may be in no recipe.
    for text in (file.read_text(), PARAMS.read_text()):
        comments = " ".join(line.removeprefix("# ") for line in text.splitlines())
        assert all(str(Params.model_fields[name].description) in comments for name in later if f"\n{name}:" in text)
    assert load(Params, file) == load(Params, PARAMS)
    added = file.read_text()
    main()
    assert file.read_text() == added
    file.write_text(f"{file.read_text().replace('augment:', 'loose:')}...\n")
    with pytest.raises(UserError, match=r"nothing can be written to its end. Write there: augment"):
        main()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("{width: 64, p: 1e-1, flag: true, name: a}", ""),
        ("{'a b': 1}", "expected names of parameters, not 'a b'"),
        ("{class: 1}", "expected names of parameters, not 'class'"),
        ("{a: [1]}", "expected names with numbers, texts, true or false"),
        ("3", "expected names with numbers"),
    ],
)
def test_options(file: Path, options: str, expected: str) -> None:
    edit_params(file.parent, options=options)
    if expected:
        assert f"  options: {expected}" in message(file)
    else:
        assert load(TrainParams, file).options == {"width": 64, "p": 0.1, "flag": True, "name": "a"}


@pytest.mark.parametrize(
    ("text", "value"), [("1e-05", 1e-5), ("1E-5", 1e-5), (".5", 0.5), ("1", 1.0), ("1.e-1", 0.1), ("1_0", 10.0)]
)
def test_numbers_in_any_yaml_spelling(file: Path, text: str, value: float) -> None:
    """`1e-05`, which `dvc exp run -S lr=1e-5` writes, is a number to DVC."""
    edit_params(file.parent, lr=text)
    assert load(TrainParams, file).lr == value


@pytest.mark.parametrize(
    "text", ["abc", "true", ".nan", ".inf", "null", "0", "-1", "1e3", "'1e'", "[0.1]", "{a: 1}", ""]
)
def test_what_is_no_learning_rate(file: Path, text: str) -> None:
    edit_params(file.parent, lr=text)
    assert "  lr: expected a number above 0 up to 100; got" in message(file)


@pytest.mark.parametrize("text", ["1.0", "1.5", "true", "abc", "0", "100001", "1e2"])
def test_what_is_no_number_of_epochs(file: Path, text: str) -> None:
    edit_params(file.parent, epochs=text)
    assert "  epochs: expected an integer from 1 up to 100000; got" in message(file)


def test_seed_zero_is_a_seed(file: Path) -> None:
    edit_params(file.parent, seed=0)
    assert load(TrainParams, file).seed == 0


def test_unknown_model_offers_near_names(file: Path) -> None:
    edit_params(file.parent, model="resnet81")
    text = message(file)
    assert "did you mean resnet18" in text
    assert 'got "resnet81"' in text


def test_torchvision_models_are_those_of_the_installed_version() -> None:
    """The list that stands in for a slow import has not gone stale."""
    import torchvision

    assert list(TORCHVISION_MODELS) == torchvision.models.list_models(module=torchvision.models)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "got an empty file"),
        ("just words", "got a str"),
        ("- lr: 1", "got a list"),
        ("lr: [", "not YAML"),
        ("lr: 1\nlr: 2", "key 'lr' is given twice"),
        ("a: \0", "not YAML"),
    ],
)
def test_not_a_mapping(file: Path, content: str, expected: str) -> None:
    file.write_text(content)
    assert expected in message(file)


def test_missing_and_not_text(file: Path) -> None:
    file.write_bytes(b"\xff\xfe\x00")
    assert "not YAML" in message(file)
    file.unlink()
    assert "no such file. `git checkout" in message(file)


def test_padding_as_wide_as_the_image(file: Path) -> None:
    """What the stages could not use together is refused with the rest."""
    edit_params(file.parent, image_size=8, crop_padding=8)
    assert "  crop_padding: expected less than image_size, 8; got 8" in message(file)


def test_two_ways_to_crop(file: Path) -> None:
    edit_params(file.parent, crop_padding=2, resized_crop=0.5)
    assert "  crop_padding and resized_crop: expected one of them; got 2 and 0.5" in message(file)


def test_a_stage_gets_only_its_own_keys(file: Path) -> None:
    """A knob that dvc.yaml does not list for a stage cannot be read by it."""
    assert not hasattr(load(PrepareParams, file), "lr")
    assert not hasattr(load(EvaluateParams, file), "epochs")
