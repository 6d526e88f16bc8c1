"""Start training by `launcher` of params.yaml, an argument list: `python -m stages.train.launch`, which dvc.yaml runs.

No shell reads it, because a param of a branch would otherwise be a command on the machine of whoever runs that branch.
`$NAME` and `${NAME}` are variables of the environment, such as Slurm's.
"""

import argparse
import os
import re
import shutil
import sys
from collections.abc import Sequence
from typing import NoReturn

from stages.common.errors import UserError, run_main
from stages.common.params import PARAMS_FILE, load
from stages.train.params import LaunchParams

MODULE = ["-m", "stages.train"]
# Names of further programs, which whoever runs the pipeline lets `launcher` start, with any options.
ALLOWED = "ALLOW_LAUNCHER"
# What launches processes and says how many and where. Not among them: what runs something else (srun's --prolog,
# torchrun's --no-python), or writes where the launcher says (--output, --log-dir).
_OPTIONS = {
    "torchrun": """--nnodes --nproc-per-node --node-rank --standalone! --rdzv-backend --rdzv-endpoint --rdzv-id
        --rdzv-conf --master-addr --master-port --local-addr --local-ranks-filter --max-restarts --monitor-interval
        --start-method --role""",
    "srun": """--nodes -N --ntasks -n --ntasks-per-node --ntasks-per-gpu --cpus-per-task -c --cpus-per-gpu --gpus -G
        --gpus-per-node --gpus-per-task --gpu-bind --cpu-bind --gres --mem --mem-per-gpu --partition -p --account -A
        --qos -q --constraint -C --time -t --job-name -J --nodelist -w --exclude -x --kill-on-bad-exit --wait -W --mpi
        --distribution -m --label! -l! --unbuffered! -u! --exclusive! --overlap! --verbose! -v!""",
    "python": "-u! -X -W",
}


def main() -> None:
    argparse.ArgumentParser(
        prog="python -m stages.train.launch", description="Start stage 2 by the launcher that params.yaml names."
    ).parse_args()
    launch([str(part) for part in load(LaunchParams).launcher])


def launch(launcher: Sequence[str]) -> NoReturn:
    """Become the training that `launcher` starts. UserError where it is none that may be started, or not here."""
    allowed = os.environ.get(ALLOWED, "").split()
    refused = why_refused(launcher, allowed)
    if refused:
        raise UserError(
            f"launcher: {refused}. Expected python, torchrun or srun, and options of theirs that start processes. "
            f"If you trust this {PARAMS_FILE}: {ALLOWED}=NAME in the environment lets another program start training."
        )
    command = [_expanded(part) for part in launcher] + MODULE
    if command != ["python", *MODULE]:
        print(f"train: {' '.join(command)}", flush=True)
    program = sys.executable if command[0] == "python" else shutil.which(command[0])
    if program is None:
        raise UserError(f"launcher: {command[0]}: no such program on this machine (PATH is {os.environ.get('PATH')}).")
    os.execv(program, command)


def why_refused(launcher: Sequence[str], allowed: Sequence[str] = ()) -> str:
    """Why a launcher may not be started; empty where it may. `allowed`: names of further programs that may."""
    program, *arguments = launcher
    if program in allowed:
        return ""
    if program not in _OPTIONS:
        return f"got the program {program!r}"
    options = {text.rstrip("!"): not text.endswith("!") for text in _OPTIONS[program].split()}
    while arguments:
        argument = arguments.pop(0)
        if program == "srun" and not argument.startswith("-"):
            return why_refused([argument, *arguments], allowed)
        name, equals, _ = argument.partition("=")
        # torchrun takes --nproc_per_node, too.
        name = name.replace("_", "-") if program == "torchrun" else name
        if name not in options:
            return f"got {argument!r}, an argument that {program} may not have here"
        if options[name] and not equals:
            if not arguments:
                return f"{argument!r} of {program} has no value"
            arguments.pop(0)
        elif equals and not options[name]:
            return f"got {argument!r}, an option of {program} without value"
    return "srun has no program to start" if program == "srun" else ""


def _expanded(text: str) -> str:
    def value(found: "re.Match[str]") -> str:
        name = found[1] or found[2]
        if name not in os.environ:
            raise UserError(f"launcher: {text!r} names the variable {name}, which the environment does not have.")
        return os.environ[name]

    return re.sub(r"\$(?:(\w+)|\{(\w+)\})", value, text)


if __name__ == "__main__":
    run_main(main)
