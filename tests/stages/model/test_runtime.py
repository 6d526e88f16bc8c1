"""Device, precision, threads and determinism are set, and what was set is recorded."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from stages.common.errors import UserError
from stages.common.params import load
from stages.evaluate.params import EvaluateParams
from stages.model import runtime
from stages.train.environment import environment
from tests.project import edit_params


@pytest.fixture(autouse=True)
def settings_restored() -> Iterator[None]:
    yield
    torch.set_deterministic_debug_mode("error")


def set_up(workspace: Path, **changes: object) -> runtime.Runtime:
    edit_params(workspace, **changes)
    return runtime.setup(load(EvaluateParams))


def test_settings_hold_and_are_recorded(workspace: Path) -> None:
    chosen = set_up(workspace, threads=1, device="cpu")
    assert torch.get_num_threads() == 1
    assert torch.are_deterministic_algorithms_enabled()
    record = environment(chosen, 3)
    assert (record["device"], record["threads"], record["processes"]) == ("cpu", 1, 3)
    assert (record["precision"], record["deterministic"]) == ("fp32", True)
    assert record["packages"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert "1 threads; fp32, portable arithmetic, channels_last, deterministic" in str(chosen)


def test_not_deterministic_is_said(workspace: Path) -> None:
    chosen = set_up(workspace, device="cpu", deterministic="false")
    assert "not deterministic" in str(chosen)
    assert environment(chosen)["deterministic"] is False
    torch.zeros(3).put_(torch.tensor([0, 0]), torch.tensor([1.0, 2.0]))  # raises in deterministic mode


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_precision_is_that_of_products(workspace: Path, precision: str, dtype: torch.dtype) -> None:
    chosen = set_up(workspace, device="cpu", precision=precision)
    with chosen.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
    assert environment(chosen)["precision"] == precision


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [({"avx512_bf16": True}, "bf16"), ({"amx_bf16": True}, "bf16"), ({"avx2": True}, "fp32")],
)
def test_auto_precision_on_a_cpu(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], expected: str
) -> None:
    """By what the CPU says of itself, which a test cannot change."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    chosen = set_up(workspace, device="cpu", precision="auto", cpu_arithmetic="native")
    assert chosen.precision == expected
    assert set_up(workspace, device="cpu", precision="auto", cpu_arithmetic="portable").precision == "fp32"
    remark = "slow on this CPU" in str(runtime.Runtime(chosen.device, "bf16"))
    assert remark == (expected == "fp32")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA GPU, so asking for one is no mistake")
def test_a_gpu_that_is_not_there(workspace: Path) -> None:
    with pytest.raises(UserError, match="sees no CUDA GPU"):
        set_up(workspace, device="cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_gpu_is_found_and_recorded(workspace: Path) -> None:
    chosen = set_up(workspace, precision="auto")
    assert chosen.device.type == "cuda"
    assert environment(chosen)["gpu"] == torch.cuda.get_device_name()
    assert chosen.precision in ("bf16", "fp16", "fp32")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_more_processes_than_gpus(workspace: Path) -> None:
    with pytest.raises(UserError, match=r"finds .* GPUs, one for each"):
        runtime.setup(load(EvaluateParams), local_rank=torch.cuda.device_count())


def test_random_streams_are_independent() -> None:
    def draw(*key: int | str) -> float:
        return torch.rand((), generator=runtime.seeded_generator(0, *key)).item()

    assert draw("order", 1) == draw("order", 1)
    assert len({draw("order", 1), draw("order", 2), draw("augment", 1), draw("order", 1, 2)}) == 4
    assert len({runtime.stream_seed(0, "order", epoch) for epoch in range(10_000)}) == 10_000


def test_layers_draw_what_they_are_seeded_to() -> None:
    masks = []
    for seed in (5, 5, 2**63 + 6):
        runtime.seed_layers(torch.device("cpu"), seed)
        masks.append(torch.nn.functional.dropout(torch.ones(100)))
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])
