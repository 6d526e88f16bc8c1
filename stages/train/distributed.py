"""Several processes that train one model. torchrun, or whatever sets the same variables, starts them and tells each its
rank; a single process is rank 0 of a world of 1."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import torch
from torch import distributed, nn

from stages.common.errors import UserError


class World:
    """The processes that train together, seen from one of them. In a world of one, no operation changes anything."""

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank = rank
        self.size = size

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, which alone prints and writes."""
        return self.rank == 0

    def shard(self, total: int) -> slice:
        """This rank's part of `total` items; parts differ in size by one at most."""
        return slice(total * self.rank // self.size, total * (self.rank + 1) // self.size)

    def all_reduce_sum(self, tensor: torch.Tensor) -> None:
        """Put the sum over all ranks into `tensor`."""
        if self.size > 1:
            distributed.all_reduce(tensor)

    def all_reduce_max(self, tensor: torch.Tensor) -> "distributed.Work | None":
        """Start to put the maximum over all ranks into `tensor`; `wait` for what it returns before reading it."""
        if self.size == 1:
            return None
        work: distributed.Work = distributed.all_reduce(tensor, distributed.ReduceOp.MAX, async_op=True)
        return work

    def all_gather(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensors of all ranks, stacked in their order."""
        if self.size == 1:
            return tensor[None]
        gathered = [torch.empty_like(tensor) for _ in range(self.size)]
        distributed.all_gather(gathered, tensor)
        return torch.stack(gathered)

    def broadcast_object(self, content: Any) -> Any:
        """Rank 0's `content`, on every rank."""
        if self.size == 1:
            return content
        box = [content]
        distributed.broadcast_object_list(box)
        return box[0]

    def broadcast_buffers(self, model: nn.Module) -> None:
        """Give every rank the buffers of rank 0: until then, running statistics of batch normalisation differ."""
        if self.size > 1:
            for buffer in model.buffers():
                distributed.broadcast(buffer, 0)

    def data_parallel(self, model: nn.Module) -> nn.Module:
        """`model`, whose backward pass leaves every rank with the mean of all gradients."""
        if self.size == 1:
            return model
        return nn.parallel.DistributedDataParallel(
            model,
            # Only rank 0's are ever used; `broadcast_buffers` says when.
            broadcast_buffers=False,
            # On CPUs, sending while the backward pass goes on takes the cores that it needs: one message at its end.
            bucket_cap_mb=None if next(model.parameters()).is_cuda else 1 << 20,
            gradient_as_bucket_view=True,
        )


def without_exchange(model: nn.Module) -> "contextlib.AbstractContextManager[None]":
    """A backward pass in here keeps its gradients on its rank; the next one outside adds to them and shares all."""
    return model.no_sync() if isinstance(model, nn.parallel.DistributedDataParallel) else contextlib.nullcontext()


def wait(work: "distributed.Work | None") -> None:
    """Wait until what `World.all_reduce_max` started is done."""
    if work is not None:
        work.wait()


@contextlib.contextmanager
def process_group(device: torch.device) -> Iterator[World]:
    """Initialise the process group that the environment describes, if it describes one; destroy it at the end.

    Raises UserError where another process ended, whose own message says why.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World()
        return
    # Tensors on the CPU, such as the flags of stop signals, never wait for a GPU.
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    with _lost_peers_as_user_errors():
        distributed.init_process_group(backend, device_id=device if device.type == "cuda" else None)
        world = World(distributed.get_rank(), size)
        with contextlib.ExitStack() as stack:
            if not world.is_main:
                # One process reports for all.
                silence = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123
                stack.enter_context(contextlib.redirect_stdout(silence))
            yield world
    distributed.destroy_process_group()


@contextlib.contextmanager
def _lost_peers_as_user_errors() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        # Gloo's errors have no class of their own.
        lost = ("Connection closed by peer", "Connection reset", "Broken pipe", "Connection refused")
        if isinstance(error, distributed.DistError) or any(words in str(error) for words in lost):
            reason = str(error).strip().split("\n")[0]
            raise UserError(f"train: another process has ended; its own message says why ({reason}).") from None
        raise


def local_rank() -> int:
    """The rank among the processes of this machine, and so the index of this process's GPU."""
    return int(os.environ.get("LOCAL_RANK", "0"))
