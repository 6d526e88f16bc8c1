"""How far training has come: all that decides how it goes on, in use or as a checkpoint."""

import time

import torch
from torch import nn
from torch.amp.grad_scaler import GradScaler

from stages.model.runtime import Runtime
from stages.train.checkpoint import Checkpoint
from stages.train.distributed import World
from stages.train.ema import EMA
from stages.train.optimizer import build_optimizer, load_optimizer_tensors, optimizer_tensors
from stages.train.params import TrainParams


class TrainingState:
    """Model, optimizer, moving average and counters. Order, augmentation and dropout are functions of (seed, epoch,
    step), so no random generator is part of it."""

    def __init__(self, model: nn.Module, params: TrainParams, runtime: Runtime, world: World, head: str = "") -> None:
        """`head`: the layer that is new in a pretrained model."""
        self.model = model
        self.head = head
        self.world = world
        self.optimizer = build_optimizer(model, params, head)
        self.ema = EMA(model, params.ema_decay) if params.ema_decay else None
        # In fp16 small gradients would vanish. What it skips at first is not skipped work: the scale is too large then.
        self.scaler = GradScaler(runtime.device.type, enabled=runtime.precision == "fp16")
        self.epoch = 1
        self.step = 0  # steps done of this epoch
        self.total_steps = 0  # of all epochs
        self.lr = 0.0  # at the epoch's first step
        self.curves: list[dict[str, float]] = []
        self.best: dict[str, float] = {}
        self.best_weights: dict[str, torch.Tensor] = {}
        self.resumed = 0
        self.step_seconds = 0.0  # in passes over the train split, without validation
        self._seconds_before = 0.0
        self._started = time.perf_counter()
        self._device = runtime.device
        self._reset_sums()

    @property
    def validated(self) -> nn.Module:
        """The model that is validated and kept: the moving average, where there is one."""
        return self.ema.model if self.ema else self.model

    @property
    def seconds(self) -> float:
        """Time spent training, in all runs together, without what a killed run did after it last saved."""
        return self._seconds_before + time.perf_counter() - self._started

    def stalled(self, patience: int) -> bool:
        """Whether the best epoch is `patience` epochs ago or more; never with 0."""
        return patience > 0 and bool(self.best) and self.epoch - 1 - int(self.best["epoch"]) >= patience

    def add(self, loss: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> None:
        """Add images, with their summed loss, to the epoch's sums, on the device: reading a number would make the CPU
        wait for the GPU."""
        self.sums[0] += loss.detach()
        self.sums[1] += (logits.detach().argmax(1) == labels).sum()
        self.sums[2] += len(labels)

    def end_step(self) -> None:
        """Count a step."""
        self.step += 1
        self.total_steps += 1

    def end_epoch(self, figures: dict[str, float]) -> None:
        """Keep the figures, and the weights if they are the best; a tie goes to the lower loss, then to the earlier."""
        self.curves.append(figures)
        if not self.best or (figures["val_accuracy"], -figures["val_loss"]) > (
            self.best["val_accuracy"],
            -self.best["val_loss"],
        ):
            self.best = figures
            self.best_weights = {name: tensor.clone() for name, tensor in self.validated.state_dict().items()}
        self.epoch += 1
        self.step = 0
        self._reset_sums()

    def snapshot(self) -> Checkpoint:
        """Everything that `restore` needs; all ranks must call it at the same step."""
        tensors = _with_prefix("model.", self.model.state_dict())
        tensors |= _with_prefix("optimizer.", optimizer_tensors(self.optimizer))
        if self.ema:
            tensors |= _with_prefix("ema.", self.ema.model.state_dict())
        tensors["sums"] = self.world.all_gather(self.sums)
        state = {
            "epoch": self.epoch,
            "step": self.step,
            "total_steps": self.total_steps,
            "lr": self.lr,
            "best": self.best,
            "seconds": self.seconds,
            "step_seconds": self.step_seconds,
            "resumed": self.resumed,
            "scaler": self.scaler.state_dict(),
        }
        return Checkpoint(tensors, state, self.best_weights, int(self.best.get("epoch", 0)), self.curves)

    def restore(self, saved: Checkpoint) -> None:
        """Go to where `saved` was taken, in a state of the same experiment."""
        tensors, state = dict(saved.tensors), saved.state
        self.model.load_state_dict(_without_prefix("model.", tensors))
        self.best_weights = {name: tensor.to(self._device) for name, tensor in saved.best.items()}
        load_optimizer_tensors(self.optimizer, _without_prefix("optimizer.", tensors))
        if self.ema:
            self.ema.model.load_state_dict(_without_prefix("ema.", tensors))
        self.scaler.load_state_dict(state["scaler"])
        self.sums = tensors["sums"][self.world.rank].to(self._device)
        self.epoch, self.step, self.total_steps = state["epoch"], state["step"], state["total_steps"]
        self.lr, self.curves, self.best = state["lr"], list(saved.curves), state["best"]
        self.resumed = state["resumed"] + 1
        self._seconds_before, self.step_seconds = state["seconds"], state["step_seconds"]

    def _reset_sums(self) -> None:
        # Of losses, of right answers, of images; float64 counts images exactly.
        self.sums = torch.zeros(3, dtype=torch.float64, device=self._device)


def _with_prefix(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def _without_prefix(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
