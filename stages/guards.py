"""Ends of a run that only training can bring about, found in time and said in words."""

import contextlib
from collections.abc import Iterator

import torch

from stages.errors import UserError
from stages.params import TrainParams
from stages.processes import Processes, finish


class FiniteLoss:
    """Remembers the first step whose loss was not finite; from then on `halt` keeps the optimizer from all changes.

    All of it happens on the device, so a GPU is not waited for: `first_bad` is what has come back from it so far, on a
    CPU always the truth, on a GPU soon, and for certain after the device has been waited for.
    """

    def __init__(self, device: torch.device, processes: Processes) -> None:
        self.halt = torch.zeros((), device=device)
        self._processes = processes
        self._first_bad = torch.full((), -1, dtype=torch.int64, device=device)
        self._seen = torch.full((), -1, dtype=torch.int64, pin_memory=device.type == "cuda")

    def watch(self, loss: torch.Tensor) -> None:
        """Begin to ask all processes about the loss of a step."""
        self._bad = (~torch.isfinite(loss.detach())).float()
        self._asking = self._processes.largest(self._bad)

    def settle(self, step: int) -> None:
        """Take in their answers, before the optimizer changes anything."""
        finish(self._asking)
        self._first_bad = torch.where((self._bad > 0) & (self._first_bad < 0), step, self._first_bad)
        self.halt = (self._first_bad >= 0).float()
        self._seen.copy_(self._first_bad, non_blocking=True)

    @property
    def first_bad(self) -> int | None:
        """The first step known to have had a loss that is not finite."""
        step = int(self._seen)
        return step if step >= 0 else None


@contextlib.contextmanager
def explained(params: TrainParams, precision: str) -> Iterator[None]:
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
        if "No working C++ compiler" in reason:
            raise UserError(
                f"train: `compile: true` in params.yaml, but there is no C++ compiler here ({reason}). "
                "Install g++, or set `compile: false`."
            ) from None
        if "does not have a deterministic implementation" in reason:
            raise UserError(
                f"train: {params.model} needs {reason.split(' does not')[0]}, which PyTorch does in no fixed order. "
                "Choose another model, or set `deterministic: false` in params.yaml."
            ) from None
        raise
