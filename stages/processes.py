"""Several processes that train one model. torchrun, or whatever sets the same variables, starts them and tells each its
rank; one process by itself is rank 0 of 1."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import torch
from torch import distributed, nn

from stages.errors import UserError


class Processes:
    """This process's place among those that train together, and how they agree."""

    def __init__(self, rank: int = 0, count: int = 1) -> None:
        self.rank = rank
        self.count = count

    @property
    def first(self) -> bool:
        """Whether this is rank 0, which alone prints and writes."""
        return self.rank == 0

    def share(self, total: int) -> slice:
        """This process's part of `total` things; parts differ in size by one at most."""
        return slice(total * self.rank // self.count, total * (self.rank + 1) // self.count)

    def add(self, *tensors: torch.Tensor) -> None:
        """Put the sum over all processes into each of `tensors`."""
        if self.count > 1:
            for tensor in tensors:
                distributed.all_reduce(tensor)

    def largest(self, tensor: torch.Tensor) -> "distributed.Work | None":
        """Begin to put the largest value of all processes into `tensor`; `finish` what it returns before reading it."""
        if self.count == 1:
            return None
        work: distributed.Work = distributed.all_reduce(tensor, distributed.ReduceOp.MAX, async_op=True)
        return work

    def everyone(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensors of all processes, stacked in the order of ranks."""
        if self.count == 1:
            return tensor[None]
        gathered = [torch.empty_like(tensor) for _ in range(self.count)]
        distributed.all_gather(gathered, tensor)
        return torch.stack(gathered)

    def from_first(self, content: Any) -> Any:
        """What rank 0 gave as `content`, in every process."""
        if self.count == 1:
            return content
        box = [content]
        distributed.broadcast_object_list(box)
        return box[0]

    def buffers_from_first(self, model: nn.Module) -> None:
        """Give every process rank 0's buffers: the running statistics of batch normalisation differ until then."""
        if self.count > 1:
            for buffer in model.buffers():
                distributed.broadcast(buffer, 0)

    def averaging_gradients(self, model: nn.Module) -> nn.Module:
        """`model` such that its backward pass leaves every process with the mean of all gradients."""
        if self.count == 1:
            return model
        return nn.parallel.DistributedDataParallel(
            model,
            # Only rank 0's are ever used; `buffers_from_first` says when.
            broadcast_buffers=False,
            # On CPUs, sending while the backward pass goes on takes the cores that it needs: one message at its end.
            bucket_cap_mb=None if next(model.parameters()).is_cuda else 1 << 20,
            gradient_as_bucket_view=True,
        )


def finish(work: "distributed.Work | None") -> None:
    """Wait until what `Processes.largest` began is done."""
    if work is not None:
        work.wait()


@contextlib.contextmanager
def joined(device: torch.device) -> Iterator[Processes]:
    """Meet the other processes, if there are any; part from them at the end.

    Raises UserError where another process ended, whose own message says why.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Processes()
        return
    # Tensors on the CPU, such as the flags of stop signals, never wait for a GPU.
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    with _partings_explained():
        distributed.init_process_group(backend, device_id=device if device.type == "cuda" else None)
        processes = Processes(distributed.get_rank(), count)
        with contextlib.ExitStack() as stack:
            if not processes.first:
                # One process reports for all.
                silence = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123
                stack.enter_context(contextlib.redirect_stdout(silence))
            yield processes
    distributed.destroy_process_group()


@contextlib.contextmanager
def _partings_explained() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        # Gloo's errors have no class of their own.
        parted = ("Connection closed by peer", "Connection reset", "Broken pipe", "Connection refused")
        if isinstance(error, distributed.DistError) or any(words in str(error) for words in parted):
            reason = str(error).strip().split("\n")[0]
            raise UserError(f"train: another process has ended; its own message says why ({reason}).") from None
        raise


def local_rank() -> int:
    """Which of this machine's processes this is, and so which GPU it takes."""
    return int(os.environ.get("LOCAL_RANK", "0"))
