"""Errors of PyTorch that a param can mend, as messages that name the param."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator

import torch

from stages.common.errors import UserError
from stages.train.params import TrainParams

# Of a kind of device: the variable that names the compiler, programs that are looked for without it, and the language.
_COMPILERS = {"cuda": ("CC", ("gcc", "clang"), "c"), "cpu": ("CXX", ("g++",), "c++")}


@contextlib.contextmanager
def as_user_errors(params: TrainParams, precision: str) -> Iterator[None]:
    """Turn PyTorch's errors about memory and about determinism into UserErrors that say which param to change."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        reason = str(error).strip().split("\n")[0]
        # What PyTorch's CPU allocator and oneDNN say when memory is refused to them.
        refused = "can't allocate memory" in reason or "could not create a primitive" in reason
        if isinstance(error, torch.OutOfMemoryError | MemoryError) or refused:
            remedies = [f"batch_size {params.batch_size // 2}"] if params.batch_size > 1 else ["a smaller model"]
            if precision == "fp32":
                remedies.append("precision bf16")
            raise UserError(
                f"train: out of memory with {params.model}, batch_size {params.batch_size}, eval_batch_size "
                f"{params.eval_batch_size} and precision {precision} ({reason}). Try {' or '.join(remedies)}."
            ) from None
        if "does not have a deterministic implementation" in reason:
            raise UserError(
                f"train: {params.model} needs {reason.split(' does not')[0]}, which PyTorch does in no fixed order. "
                "Choose another model, or set `deterministic: false` in params.yaml."
            ) from None
        raise


def require_compiler(device: torch.device) -> None:
    """UserError where no compiler works by which the kernels for `device` are built, or what starts them.

    Looked for as Triton (triton/runtime/build.py, 3.6) and Inductor (torch/_inductor/cpp_builder.py) do. Their own
    errors come many seconds later, and from a GPU's maybe from another process, behind its tracebacks.
    """
    variable, programs, language = _COMPILERS[device.type]
    compiler = os.environ.get(variable) or next(filter(None, map(shutil.which, programs)), None)
    if not compiler:
        raise _no_compiler(f"neither {variable} is set, nor {' or '.join(programs)} on PATH")
    with tempfile.TemporaryDirectory() as folder:
        # An empty program, linked: a compiler may be there without its linker.
        command = [compiler, "-shared", "-fPIC", "-x", language, "-o", f"{folder}/empty.so", "-"]
        try:
            subprocess.run(command, input=b"", capture_output=True, check=True)
        except OSError as error:
            raise _no_compiler(f"{compiler}: {error.strerror}") from None
        except subprocess.CalledProcessError as error:
            said = error.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {error.returncode}"]
            raise _no_compiler(f"{compiler}: {said[0]}") from None


def _no_compiler(reason: str) -> UserError:
    return UserError(
        f"train: `compile: true` in params.yaml, but no C and C++ compiler works here ({reason}). Install g++, or "
        "set `compile: false`."
    )
