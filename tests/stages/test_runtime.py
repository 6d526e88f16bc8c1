"""Device, threads and determinism are set, and what was set is recorded."""

from pathlib import Path

import pytest
import torch

from stages import runtime
from stages.errors import UserError
from stages.params import EvaluateParams, load
from tests.project import edit_params


def test_settings_hold_and_are_recorded(workspace: Path) -> None:
    edit_params(workspace, threads=1, device="cpu")
    device = runtime.setup(load(EvaluateParams))
    assert torch.get_num_threads() == 1
    assert torch.are_deterministic_algorithms_enabled()
    record = runtime.environment(device)
    assert (record["device"], record["threads"], record["deterministic"]) == ("cpu", 1, True)
    assert record["packages"]["torch"].split("+")[0] == torch.__version__.split("+")[0]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA GPU, so asking for one is no mistake")
def test_a_gpu_that_is_not_there(workspace: Path) -> None:
    edit_params(workspace, device="cuda")
    with pytest.raises(UserError, match="sees no CUDA GPU"):
        runtime.setup(load(EvaluateParams))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_gpu_is_found_and_recorded(workspace: Path) -> None:
    device = runtime.setup(load(EvaluateParams))
    assert device.type == "cuda"
    assert runtime.environment(device)["gpu"] == torch.cuda.get_device_name()


def test_several_processes_are_refused(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="expected one process, got 2"):
        runtime.setup(load(EvaluateParams))


def test_random_streams_are_independent() -> None:
    def draw(*key: int | str) -> float:
        return torch.rand((), generator=runtime.seeded_generator(0, *key)).item()

    assert draw("order", 1) == draw("order", 1)
    assert len({draw("order", 1), draw("order", 2), draw("augment", 1), draw("order", 1, 2)}) == 4
