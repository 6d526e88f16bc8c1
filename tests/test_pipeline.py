"""The pipeline as users run it: real git, real dvc, a clone, .venv not activated."""

from collections.abc import Callable
from pathlib import Path

from tests.project import BIN, QUEUE_IS_EMPTY, edit_params, refusal, run

DVC = BIN / "dvc"
RESULTS = (
    "models",
    "prepared",
    "predictions.csv",
    "metrics/prepare.json",
    "metrics/train.json",
    "metrics/evaluate.json",
)


def result_bytes(folder: Path) -> dict[str, bytes]:
    files = [file for name in RESULTS for file in [folder / name, *(folder / name).rglob("*")] if file.is_file()]
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def table(folder: Path) -> dict[str, dict[str, str]]:
    """`dvc exp show` by experiment name."""
    lines = run([DVC, "exp", "show", "--csv"], folder).stdout.splitlines()
    header = lines[0].split(",")
    rows = [dict(zip(header, line.split(","), strict=False)) for line in lines[1:]]
    return {row["Experiment"]: row for row in rows if row["Experiment"]}


def test_two_forced_runs_are_identical(copy_reproduced: Callable[[str], Path]) -> None:
    """Every file that is a result, byte for byte, and `make summary` says so."""
    folder = copy_reproduced("twice")
    first = result_bytes(folder)
    assert len(first) == 16
    run([DVC, "repro", "--force", "--quiet"], folder)
    assert first == result_bytes(folder)
    assert "identical byte for byte (16 of 16 outputs)" in run("make summary", folder).stdout
    assert run([DVC, "status", "dvc.yaml"], folder).stdout.strip() == "Data and pipelines are up to date."


def test_a_second_repro_does_nothing_and_says_so(copy_reproduced: Callable[[str], Path]) -> None:
    folder = copy_reproduced("second")
    done = run("make repro", folder)
    assert "Running stage" not in done.stdout
    assert "up to date" in done.stdout + done.stderr
    assert "committed result  identical byte for byte" in done.stdout
    assert run("git status --porcelain", folder).stdout == ""


def test_experiment_aside_leaves_the_workspace(copy_reproduced: Callable[[str], Path]) -> None:
    """`dvc exp run --temp` changes no file here; its figures are in its commit."""
    folder = copy_reproduced("temp")
    before = result_bytes(folder)
    run([DVC, "exp", "run", "--temp", "--name", "aside", "--set-param", "lr=0.001"], folder)
    assert result_bytes(folder) == before
    assert run("git status --porcelain", folder).stdout == ""
    assert table(folder)["aside"]["lr"] == "0.001"
    assert table(folder)["aside"]["accuracy"] != ""


def test_the_queue_runs_the_code_that_was_queued(copy_reproduced: Callable[[str], Path]) -> None:
    """Two queued experiments run in two workers, and a later edit in the workspace has no say in them."""
    folder = copy_reproduced("queue")
    code = folder / "stages" / "evaluate" / "__main__.py"
    original = code.read_text()
    written = "write_json(METRICS, evaluation.metrics)"
    assert original.count(written) == 1
    code.write_text(original.replace(written, 'write_json(METRICS, {**evaluation.metrics, "queued_code": 1})'))
    for seed in (1, 2):
        run([DVC, "exp", "run", "--queue", "--name", f"seed-{seed}", "--set-param", f"seed={seed}"], folder)
    code.write_text("raise SystemExit('the code of the workspace ran')\n")
    run(QUEUE_IS_EMPTY, folder)
    code.write_text(original)
    rows = table(folder)
    assert [rows[f"seed-{seed}"]["seed"] for seed in (1, 2)] == ["1", "2"]
    assert [rows[f"seed-{seed}"]["queued_code"] for seed in (1, 2)] == ["1", "1"]


def test_a_stopped_experiment_goes_on(copy_reproduced: Callable[[str], Path]) -> None:
    """After a stop, the folder of `dvc exp run --temp` is gone; the main checkout's store is not."""
    folder = copy_reproduced("stopped")
    marker = folder / "stop"
    code = folder / "stages" / "train" / "loader.py"
    text = code.read_text()
    body = "        order = self._order("
    assert text.count(body) == 1
    stopping = f"""\
        import os, pathlib, signal
        marker = pathlib.Path({str(marker)!r})
        if number == 3 and marker.exists():
            marker.unlink()
            os.kill(os.getpid(), signal.SIGTERM)
"""
    code.write_text(text.replace(body, stopping + body))
    run([DVC, "repro", "--quiet"], folder)
    expected = result_bytes(folder)
    experiment = f"{DVC} exp run --temp --force --name again --set-param seed=0"
    marker.touch()
    run(experiment, folder, expect=None)
    assert not marker.exists()
    done = run(experiment, folder)
    assert "resumed from epoch 3, step 1" in done.stdout
    run([DVC, "exp", "apply", "again"], folder)
    assert result_bytes(folder) == expected
    assert not any((folder / ".dvc/tmp/checkpoints").iterdir())


def test_push_and_pull_between_clones(copy_reproduced: Callable[[str], Path], tmp_path: Path) -> None:
    """`dvc push` works at once; with that storage, another clone pulls data and weights."""
    folder = copy_reproduced("pusher")
    run([DVC, "push"], folder)
    run(["git", "clone", "--quiet", folder, tmp_path / "colleague"], tmp_path)
    colleague = tmp_path / "colleague"
    run([DVC, "remote", "modify", "--local", "local", "url", folder / "dvc-storage"], colleague)
    run([DVC, "pull"], colleague)
    assert result_bytes(colleague) == result_bytes(folder)
    assert run([DVC, "status", "dvc.yaml"], colleague).stdout.strip() == "Data and pipelines are up to date."


def test_the_model_is_an_artifact(copy_reproduced: Callable[[str], Path], tmp_path: Path) -> None:
    """A version that a GTO tag names is had without a clone, model card included, and predicts."""
    folder = copy_reproduced("registry")
    run([DVC, "push"], folder)
    run("git tag --annotate classifier@v1.0.0 --message first", folder)
    (tmp_path / "elsewhere").mkdir()
    run([DVC, "artifacts", "get", folder, "classifier"], tmp_path / "elsewhere")
    received = sorted(path.name for path in (tmp_path / "elsewhere/models").iterdir())
    assert received == ["README.md", "model.json", "model.safetensors"]
    picture = sorted((folder / "data/c").iterdir())[0]
    command: list[str | Path] = [BIN / "python", "-m", "stages.predict", "--model", "models", picture]
    assert run(command, tmp_path / "elsewhere").stdout.startswith(f"{picture}: ")


def test_a_wrong_param_stops_before_any_work(copy_reproduced: Callable[[str], Path]) -> None:
    """`dvc exp run -S` accepts anything; the stage says what is wrong, and the other stages' results stay."""
    folder = copy_reproduced("wrong")
    for wrong, expected in {
        "lr=abc": "lr: expected a number above 0 up to 100",
        "model=resnet81": "did you mean resnet18",
    }.items():
        done = run([DVC, "exp", "run", "--set-param", wrong], folder, expect=None)
        assert expected in done.stderr
        assert "Traceback" not in done.stderr
        assert (folder / "prepared" / "dataset.json").exists()
        run("git checkout params.yaml", folder)
    run("git checkout metrics plots && .venv/bin/dvc checkout && make repro", folder)


def test_make_repro_without_params_deletes_nothing(copy_reproduced: Callable[[str], Path]) -> None:
    """The check comes before DVC, which would delete the outputs of a stage that it finds changed."""
    folder = copy_reproduced("params")
    before = result_bytes(folder)
    (folder / "params.yaml").unlink()
    assert "params.yaml: no such file" in refusal(run("make repro", folder, expect=2))
    for content, expected in {
        "": "got an empty file",
        "a: [b": "params.yaml: not YAML",
        "lr: 0.1": "  image_size: missing; expected an integer",
    }.items():
        (folder / "params.yaml").write_text(content)
        assert expected in refusal(run("make repro", folder, expect=2))
    assert result_bytes(folder) == before


def test_stages_refuse_politely_when_their_input_is_missing(clone: Path) -> None:
    for stage in ("prepare", "train", "evaluate"):
        done = run([BIN / "python", "-m", f"stages.{stage}"], clone, expect=1)
        assert "no such file" in refusal(done) or "no such folder" in refusal(done)


def test_help_says_what_a_stage_does(clone: Path) -> None:
    for module in ("stages.prepare", "stages.train", "stages.evaluate", "stages.params", "scripts.sample"):
        done = run([BIN / "python", "-m", module, "--help"], clone)
        assert f"usage: python -m {module}" in done.stdout


def test_launcher_starts_train(copy_reproduced: Callable[[str], Path]) -> None:
    """`launcher` may be torchrun, which is found without activation, and changes no result. No shell reads it."""
    folder = copy_reproduced("launcher")
    edit_params(folder, launcher="[torchrun, --standalone, --nproc-per-node, $PROCESSES]")
    before = result_bytes(folder)
    done = run([DVC, "repro"], folder, PROCESSES="1")
    assert "train: torchrun --standalone --nproc-per-node 1 -m stages.train" in done.stdout
    assert result_bytes(folder) == before
    edit_params(folder, launcher="[python, '; touch RAN; $(touch RAN) `touch RAN` python']")
    assert "launcher: got '; touch RAN; " in run([DVC, "repro"], folder, expect=255).stderr
    assert not (folder / "RAN").exists()


def test_start_up_imports_only_what_is_needed(copy_reproduced: Callable[[str], Path]) -> None:
    """prepare does without torch; no stage imports torchvision, pandas or scikit-learn before it needs them."""
    folder = copy_reproduced("imports")
    loaded = {}
    # evaluate needs scikit-learn in the end.
    for stage, end in (("prepare", "main()"), ("train", "main()"), ("evaluate", "pass")):
        program = f"import sys; sys.argv = ['']; from stages.{stage}.__main__ import main; {end}; print(*sys.modules)"
        modules = run([BIN / "python", "-c", program], folder).stdout.splitlines()[-1].split()
        loaded[stage] = {"torch", "torchvision", "pandas", "sklearn"} & set(modules)
    assert loaded == {"prepare": set(), "train": {"torch"}, "evaluate": {"torch"}}
