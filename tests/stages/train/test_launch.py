"""What may start training: an argument list of known programs, and variables of the environment."""

import json
import shlex
from pathlib import Path

import pytest

from stages.common.errors import UserError
from stages.train.launch import launch, why_refused
from tests.project import BIN, run

MEETING = "--rdzv-backend c10d --rdzv-id $SLURM_JOB_ID --rdzv-endpoint $MASTER_ADDR:$MASTER_PORT"


@pytest.mark.parametrize(
    "launcher",
    [
        "python",
        "python -u",
        "torchrun --standalone --nproc-per-node 8",
        "torchrun --nproc_per_node=8 --nnodes 1:4 --max-restarts=3",
        f"srun torchrun --nnodes $SLURM_JOB_NUM_NODES --nproc-per-node 8 {MEETING}",
        "srun --ntasks-per-node 8 --gpus-per-task=1 -l python",
    ],
)
def test_what_starts_processes(launcher: str) -> None:
    assert why_refused(shlex.split(launcher)) == ""


@pytest.mark.parametrize(
    "launcher",
    [
        "python -c 'import os'",
        "python -mpdb",
        "python -m cProfile",
        "python -ic1",
        "python code.py",
        "python -",
        "python3",
        "./python",
        "/tmp/torchrun",
        "sh",
        "env python",
        "torchrun code.py",
        "torchrun --standalone=code.py",
        "torchrun --standalone --no-python sh",
        "torchrun --nproc 1 --run-path code.py",
        "torchrun --run_path",
        "torchrun --nproc-per-node",
        "torchrun -m code",
        "torchrun --log-dir /tmp --redirects 3",
        "torchrun --",
        "srun",
        "srun --prolog ./x torchrun",
        "srun --task-prolog=./x python",
        "srun --output /etc/x python",
        "srun sh -c true",
        "srun -n 2 python -c 1",
        "srun -- sh",
        "$SHELL",
        "''",
    ],
)
def test_what_runs_something_else(launcher: str) -> None:
    assert why_refused(shlex.split(launcher))


def test_another_program_needs_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the pipeline may let other programs start it, also under srun."""
    assert why_refused(["nsys", "profile", "python"], ["nsys"]) == ""
    assert why_refused(["srun", "nsys", "profile"], ["nsys"]) == ""
    assert why_refused(["nsys", "profile"], ["nsys2"])
    with pytest.raises(UserError, match=r"got the program 'nsys'\. Expected python.*ALLOW_LAUNCHER=NAME"):
        launch(["nsys", "profile", "python"])
    monkeypatch.setenv("ALLOW_LAUNCHER", "nsys")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match=r"nsys: no such program on this machine"):
        launch(["nsys", "profile", "python"])


def test_the_training_gets_the_arguments_as_they_are(tmp_path: Path) -> None:
    """Variables are put in, once, and nothing else is read as a shell would: no words, no patterns, no commands."""
    (tmp_path / "torchrun").write_text(f"#!{BIN}/python\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\n")
    (tmp_path / "torchrun").chmod(0o755)
    # The project's own programs come first on the PATH of each process of .venv.
    code = (
        f"import os, sys; os.environ['PATH'] = '{tmp_path}'; "
        "from stages.train.launch import launch; launch(['torchrun', '--rdzv-id', '${A}:$B *;`x`'])"
    )
    done = run([BIN / "python", "-c", code], Path.cwd(), A="$B $(y)", B="two words")
    assert json.loads(done.stdout.splitlines()[-1]) == ["--rdzv-id", "$B $(y):two words *;`x`", "-m", "stages.train"]


def test_a_variable_that_is_not_set() -> None:
    with pytest.raises(UserError, match=r"'\$NOT_SET' names the variable NOT_SET, which the environment does not have"):
        launch(["torchrun", "--rdzv-id", "$NOT_SET"])
