"""The recipe, top to bottom: epochs, the steps of an epoch, the loss, validation, and when a checkpoint is saved.

For another optimizer or schedule, see optimizer.py; for another loss or augmentation, docs/extend.md.
"""

import contextlib
import math
import os
import sys
import time
from pathlib import Path
from typing import NamedTuple, NoReturn, TextIO, cast

import torch
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from stages.common.errors import UserError
from stages.common.extensions import Extension
from stages.common.tables import write_rows
from stages.model.dataset import Split
from stages.model.runtime import Runtime, seed_layers, stream_seed
from stages.model.shard_storage import StorageLostError
from stages.train import checkpoint
from stages.train.distributed import World, wait, without_exchange
from stages.train.loader import Loader, TrainingBatch
from stages.train.optimizer import learning_rate, optimized, set_lr
from stages.train.params import TrainParams
from stages.train.state import TrainingState

CURVES = Path("plots/curves.csv")
# A kill costs about so much work, or less; more only where saving would take over 2 % of the time (Store.due).
SAVE_SECONDS = 60


class Run(NamedTuple):
    """What stays the same from the first step to the last."""

    params: TrainParams
    runtime: Runtime
    world: World
    store: checkpoint.Store
    stop_signals: checkpoint.StopSignals
    steps: int
    loss: Extension | None = None
    # float32, a weight for each class; None where all are 1.
    class_weights: torch.Tensor | None = None

    def epochs(self, steps_per_epoch: int) -> int:
        """Whole and begun passes over the train split."""
        return math.ceil(self.steps / steps_per_epoch)


def fit(state: TrainingState, loader: Loader, val: Split, run: Run) -> None:
    """Train from `state` to the last step; write the curves; keep the weights of the best epoch.

    Saves a checkpoint every minute and at the end of each epoch, or as often as takes 2 % of the time. Exits with
    checkpoint.STOPPED, after saving, on a stop signal. UserError where the loss is not finite.
    """
    model = prepared(state, run)
    # The other ranks' curves are the same.
    curves = CURVES if run.world.is_main else Path(os.devnull)
    curves.parent.mkdir(parents=True, exist_ok=True)
    with curves.open("w", encoding="utf-8", newline="") as stream, progress_bar(run) as bar:
        for figures in state.curves:
            write_row(stream, figures)
        bar.update(state.total_steps)
        while state.total_steps < run.steps and not state.stalled(run.params.patience):
            if state.epoch == run.params.freeze_epochs + 1 and state.step == 0:
                model = prepared(state, run)
            try:
                train_one_epoch(state, model, loader, run, bar)
            except StorageLostError:
                save_what_there_is(state, run)
                raise
            run.world.all_reduce_sum(state.sums)
            require_finite(state, run)
            train_loss, correct, images = state.sums.tolist()
            run.world.broadcast_buffers(state.validated)
            val_loss, val_accuracy = validate(state.validated, val, run)
            if not math.isfinite(val_loss):
                raise UserError(
                    f"train: the validation loss is {val_loss} after epoch {state.epoch} (lr {state.lr:.3g}), though "
                    "training's is finite. Lower lr."
                )
            figures = {
                "epoch": state.epoch,
                "lr": state.lr,
                "train_loss": train_loss / images,
                "train_accuracy": correct / images,
                "val_loss": val_loss,
                "val_accuracy": val_accuracy,
            }
            write_row(stream, figures)
            tqdm.write(
                f"  epoch {state.epoch:3}/{run.epochs(loader.steps_per_epoch)}  "
                f"train loss {figures['train_loss']:.4f}  val loss {val_loss:.4f}  val accuracy {val_accuracy:.4f}",
                file=sys.stdout,
            )
            sys.stdout.flush()
            state.end_epoch(figures)
            should_stop, should_save = agree(run, save=run.store.due)
            if should_stop or should_save:
                is_over = state.total_steps == run.steps or state.stalled(run.params.patience)
                save_checkpoint(state, run, stop=should_stop and not is_over)


def prepared(state: TrainingState, run: Run) -> nn.Module:
    """The model as the coming epochs train it: all but the head frozen in the first `freeze_epochs`."""
    if run.params.freeze_epochs:
        for parameter in optimized(state.optimizer):
            parameter.requires_grad_(not is_frozen(state, run))
        state.model.get_submodule(state.head).requires_grad_()
    model = run.world.data_parallel(state.model)
    # Module.compile() compiles nothing of an nn.Sequential.
    return cast(nn.Module, torch.compile(model)) if run.params.compile else model


def is_frozen(state: TrainingState, run: Run) -> bool:
    return state.epoch <= run.params.freeze_epochs


def train_one_epoch(state: TrainingState, model: nn.Module, loader: Loader, run: Run, bar: "tqdm[NoReturn]") -> None:
    """The rest of an epoch's pass over the train split, from step `state.step` on, at most to the last of all."""
    params, world = run.params, run.world
    model.train()
    if is_frozen(state, run):
        # Else batch normalisation's running statistics would move, and dropout would blur what the head sees.
        model.eval()
        state.model.get_submodule(state.head).train()
    if state.step == 0:
        state.lr = learning_rate(params, state.total_steps, run.steps)
    started = time.perf_counter()
    for batch in loader.epoch(state.epoch, first=state.step):
        # The ranks agree on stopping and saving while the step is computed.
        flags = own_flags(run, save=run.store.age > SAVE_SECONDS and run.store.due)
        agreement = world.all_reduce_max(flags)
        # Dropout's masks differ between steps and between ranks.
        seed_layers(run.runtime.device, stream_seed(params.seed, "layers", state.total_steps, world.rank))
        state.optimizer.zero_grad()
        for number, part in enumerate(batch.parts(params.accumulate), 1):
            with without_exchange(model) if number < params.accumulate else contextlib.nullcontext():
                with run.runtime.autocast():
                    logits = model(part.images)
                total_loss = training_loss(logits, part, params.label_smoothing, run.loss, run.class_weights)
                # Parts may differ by an image; the mean of these over the ranks is the mean over the whole batch.
                state.scaler.scale(total_loss * (world.size / batch.size)).backward()
            state.add(total_loss, logits, part.labels)
        if params.clip_norm:
            state.scaler.unscale_(state.optimizer)
            nn.utils.clip_grad_norm_(optimized(state.optimizer), params.clip_norm)
        set_lr(state.optimizer, learning_rate(params, state.total_steps, run.steps))
        state.scaler.step(state.optimizer)
        state.scaler.update()
        if state.ema:
            state.ema.update(state.total_steps)
        state.end_step()
        if run.runtime.device.type == "cpu":
            require_finite(state, run)
        now = time.perf_counter()
        state.step_seconds += now - started
        started = now
        bar.update()
        wait(agreement)
        should_stop, should_save = flags.tolist()
        if (should_stop or should_save) and state.total_steps < run.steps:
            save_checkpoint(state, run, stop=bool(should_stop))
        if state.total_steps == run.steps:
            break
    if run.runtime.device.type == "cuda":
        torch.cuda.synchronize()
    state.step_seconds += time.perf_counter() - started


def training_loss(
    logits: torch.Tensor,
    batch: TrainingBatch,
    label_smoothing: float,
    loss: Extension | None = None,
    class_weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """The sum of the images' losses, cross-entropies unless params.yaml names another `loss`, in fp32; of a mixed
    image, weighted by its shares. `class_weights`: a factor for each image's loss, by its class."""
    logits = logits.float()

    def losses(labels: torch.Tensor) -> torch.Tensor:
        of_images: torch.Tensor = (
            loss(logits, labels)
            if loss
            else F.cross_entropy(logits, labels, label_smoothing=label_smoothing, reduction="none")
        )
        return of_images if class_weights is None else of_images * class_weights[labels]

    if batch.mix:
        return torch.lerp(losses(batch.mix.labels), losses(batch.labels), batch.mix.share).sum()
    if loss or class_weights is not None:
        return losses(batch.labels).sum()
    return F.cross_entropy(logits, batch.labels, label_smoothing=label_smoothing, reduction="sum")


@torch.inference_mode()
def validate(model: nn.Module, val: Split, run: Run) -> tuple[float, float]:
    """Mean cross-entropy, without label smoothing, and accuracy on the val split."""
    model.eval()
    sums = torch.zeros(2, dtype=torch.float64, device=val.device)
    for batch in val.batches(run.params.eval_batch_size, run.world.shard(len(val))):
        with run.runtime.autocast():
            logits = model(batch.images)
        sums[0] += F.cross_entropy(logits.float(), batch.labels, reduction="sum")
        sums[1] += (logits.argmax(1) == batch.labels).sum()
    run.world.all_reduce_sum(sums)
    loss, correct = sums.tolist()
    return loss / len(val), correct / len(val)


def require_finite(state: TrainingState, run: Run) -> None:
    """UserError where a loss of this epoch was not finite: its running sum then never is again.

    Waits for a GPU, so there it is asked only before anything is kept: at an epoch's end and before a checkpoint.
    """
    if math.isfinite(state.sums[0].item()):
        return
    hint = "" if run.params.clip_norm else ", or set clip_norm to 1"
    where = "" if run.runtime.device.type == "cpu" else " or before"
    raise UserError(
        f"train: the loss is not finite in epoch {state.epoch}, step {state.step}{where} "
        f"(lr {learning_rate(run.params, state.total_steps - 1, run.steps):.3g}); nothing was saved since. "
        f"Lower lr{hint}."
    )


def own_flags(run: Run, *, save: bool) -> torch.Tensor:
    """int32 (should_stop, should_save) of this rank; rank 0 alone knows when to save. Raises there what went wrong in
    writing the last checkpoint."""
    run.store.check()
    return torch.tensor([run.stop_signals.received is not None, run.world.is_main and save]).int()


def agree(run: Run, *, save: bool) -> tuple[bool, bool]:
    """Whether any rank should stop, and whether to save."""
    flags = own_flags(run, save=save)
    wait(run.world.all_reduce_max(flags))
    should_stop, should_save = flags.bool().tolist()
    return should_stop, should_save


def save_checkpoint(state: TrainingState, run: Run, *, stop: bool) -> None:
    """Save while training goes on; or, to `stop`, save and exit with checkpoint.STOPPED. All ranks must call it at the
    same step."""
    snapshot = state.snapshot()
    # After a loss that is not finite on any rank, the weights of all are worthless.
    if not torch.isfinite(snapshot.tensors["sums"][:, 0]).all():
        state.sums[0] = math.nan
        require_finite(state, run)
    if run.world.is_main:
        # To `stop`, there is no need of a copy.
        (run.store.save if stop else run.store.save_beside)(snapshot)
    if stop:
        if run.world.is_main:
            print(
                f"stopped by {run.stop_signals.received or 'a signal to another process'} after epoch {state.epoch}, "
                f"step {state.step}; the same command goes on from there ({run.store.folder})",
                file=sys.stderr,
            )
        sys.exit(checkpoint.STOPPED)


def save_what_there_is(state: TrainingState, run: Run) -> None:
    """Save where a step's images cannot be had; then, where a stop signal is why they were waited for no longer, exit
    with checkpoint.STOPPED. Of several processes, the others wait in that step, and the last checkpoint has to do."""
    if run.world.size > 1:
        return
    if run.stop_signals.received:
        save_checkpoint(state, run, stop=True)
    require_finite(state, run)
    run.store.save(state.snapshot())


def write_row(stream: TextIO, figures: dict[str, float]) -> None:
    """Append a row to the curves, the header first, and flush, so that the curve can be watched."""
    header = [figures] if stream.tell() == 0 else []
    write_rows(stream, [*header, [round(value, 6) for value in figures.values()]])
    stream.flush()


def progress_bar(run: Run) -> "tqdm[NoReturn]":
    """A bar on a terminal; nothing in a log, where a line per epoch says enough."""
    return tqdm(total=run.steps, unit="step", leave=False, disable=not (run.world.is_main and sys.stderr.isatty()))
