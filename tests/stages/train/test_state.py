"""What training keeps of its epochs."""

from pathlib import Path

import torch

from stages.common.params import load
from stages.model.runtime import setup
from stages.train.distributed import World
from stages.train.params import TrainParams
from stages.train.state import TrainingState


def test_the_best_epoch(workspace: Path) -> None:
    """The highest val accuracy; of equal ones the lowest val loss; of equal ones the earliest. Its weights are kept."""
    params = load(TrainParams)
    model = torch.nn.Linear(1, 1, bias=False)
    state = TrainingState(model, params, setup(params), World())
    kept = []
    for epoch, (accuracy, loss) in enumerate(
        [(0.5, 2.0), (0.7, 1.5), (0.6, 0.1), (0.7, 1.0), (0.7, 1.0), (0.7, 1.2)], 1
    ):
        torch.nn.init.constant_(model.weight, epoch)
        state.end_epoch({"val_accuracy": accuracy, "val_loss": loss, "epoch": epoch})
        assert state.best_weights["weight"].item() == state.best["epoch"]
        kept.append(state.best["epoch"])
    assert kept == [1, 2, 2, 4, 4, 4]
    assert [state.stalled(patience) for patience in (0, 1, 2, 3)] == [False, True, True, False]
    assert state.epoch == 7
