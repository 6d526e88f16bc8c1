"""How fast training is: `.venv/bin/python -m benchmarks.train [small] [resnet18] [startup] [memory] [processes]`.

small, resnet18   images/s on CIFAR-10 (JPEG copy), in fp32 and, where the device has it, bf16, ÷ the limit: the same
                  model, loss and optimizer on a constant batch of real images; and ÷ the peer, in fp32 on a CPU
startup           from the process's start to its first step, above the bare imports of the packages that it uses
memory            largest resident memory that is not the mapped files, at 50,000 and 500,000 images of 32 px
processes         two processes ÷ one, one thread each, and, for the limit, two that do not know of each other ÷ one

The peer is what one writes first: torchvision's RandomCrop, RandomHorizontalFlip, ToTensor and Normalize on PIL images
in a DataLoader with two workers, torch.optim.SGD and OneCycleLR as they come, loss.item() for the log at each step. It
has the same model, batch size and hyper-parameters. Its workers go on loading while the others are measured; what then
waits is used up before its clock starts. Rounds are interleaved, of speed four times as many of 10 or 2 steps; medians,
with the smallest and the largest in brackets.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from benchmarks.cifar import environment, prepare_cifar, write_params
from benchmarks.kills import TORCHRUN
from benchmarks.startup import ROOT, spread
from stages.common.params import load
from stages.model.architectures import build_model, to_device
from stages.model.dataset import DatasetInfo, Split, load_info
from stages.model.runtime import Runtime, choose_precision, cpu_name, setup
from stages.train import loop
from stages.train.checkpoint import StopSignals, Store
from stages.train.distributed import World
from stages.train.loader import Loader
from stages.train.optimizer import build_optimizer, set_lr
from stages.train.params import TrainParams
from stages.train.state import TrainingState

RECIPE = ROOT / "configs" / "cifar10-cpu.yaml"
# What train imports of others' packages before its first step.
BARE_IMPORTS = "import numpy, pydantic, safetensors.torch, torch, torch.distributed, tqdm, yaml"


def main() -> None:
    parts: dict[str, Callable[[Path, int], None]] = {
        "small": lambda folder, rounds: speed(folder, rounds, "resnet9", 10),
        "resnet18": lambda folder, rounds: speed(folder, rounds, "resnet18", 2),
        "startup": startup,
        "memory": memory,
        "processes": processes,
    }
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train", description="How fast training is.")
    parser.add_argument("parts", nargs="*", choices=[[], *parts], help=f"which of {', '.join(parts)} (default: all)")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default: 5)")
    arguments = parser.parse_args()
    print(f"{cpu_name()}, {len(os.sched_getaffinity(0))} cores, {arguments.rounds} rounds", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare_cifar(folder, RECIPE)
        os.chdir(folder)
        for part in arguments.parts or parts:
            parts[part](folder, arguments.rounds)


def speed(folder: Path, rounds: int, model: str, steps: int) -> None:
    precisions = dict.fromkeys(("fp32", choose_precision(setup(load(TrainParams)).device)))
    measured: dict[str, list[float]] = {}
    for precision in precisions:
        measured |= {f"{precision} {kind}": [] for kind in ("train", "limit")}
    contestants: dict[str, Callable[[int], float]] = {}
    for precision in precisions:
        write_params(folder, RECIPE, model=model, precision=precision)
        params = load(TrainParams)
        runtime = setup(params)
        info = load_info()
        split = Split.load("train", info, runtime.device)
        contestants[f"{precision} train"] = trainer(params, runtime, info, split)
        contestants[f"{precision} limit"] = limit(params, runtime, info, split)
    contestants["fp32 peer"] = peer(params, info, runtime.device)
    measured["fp32 peer"] = []
    for seconds in contestants.values():
        seconds(2)
    for _ in range(4 * rounds):
        for name, seconds in contestants.items():
            measured[name].append(steps * params.batch_size / seconds(steps))
    for precision in precisions:
        mine = measured[f"{precision} train"]
        print(
            f"{model}, {precision}, batch {params.batch_size}: {spread(mine)} images/s; "
            f"÷ limit {spread(ratios(mine, measured[f'{precision} limit']))}; "
            f"÷ peer in fp32 {spread(ratios(mine, measured['fp32 peer']))}",
            flush=True,
        )


def ratios(some: list[float], others: list[float]) -> list[float]:
    return [one / other for one, other in zip(some, others, strict=True)]


def trainer(params: TrainParams, runtime: Runtime, info: DatasetInfo, split: Split) -> Callable[[int], float]:
    """train's own loop; here and below: steps → seconds."""
    alone = World()
    state = TrainingState(built(params, runtime, info), params, runtime, alone)
    loader = Loader(split, params, alone)
    # Far beyond what is run, so that the learning rate stays small and nothing is saved.
    run = loop.Run(params, runtime, alone, Store("benchmark"), StopSignals(), 10**6)
    model = loop.prepared(state, run)
    bar = loop.progress_bar(run)
    stream = itertools.chain.from_iterable(map(loader.epoch, itertools.count(1)))

    def go(steps: int) -> float:
        loader.epoch = lambda *_, **__: itertools.islice(stream, steps)  # type: ignore[method-assign]
        before = state.step_seconds
        loop.train_one_epoch(state, model, loader, run, bar)
        state.step = 0
        return state.step_seconds - before

    return go


def limit(params: TrainParams, runtime: Runtime, info: DatasetInfo, split: Split) -> Callable[[int], float]:
    """Nothing but the arithmetic of a step, on the first batch of the split."""
    model = built(params, runtime, info)
    optimizer = build_optimizer(model, params)
    set_lr(optimizer, params.lr / 25)
    batch = next(split.batches(params.batch_size))

    def go(steps: int) -> float:
        started = time.perf_counter()
        model.train()
        for _ in range(steps):
            with runtime.autocast():
                logits = model(batch.images)
            loss = F.cross_entropy(logits.float(), batch.labels, label_smoothing=params.label_smoothing)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if runtime.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started

    return go


def peer(params: TrainParams, info: DatasetInfo, device: torch.device) -> Callable[[int], float]:
    """A plain loop of torchvision's transforms and a DataLoader."""
    from PIL import Image
    from torchvision import transforms

    images, labels = (np.load(f"prepared/train-{part}.npy") for part in ("images", "labels"))
    transform = transforms.Compose(
        [
            transforms.RandomCrop(info.image_size, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(info.mean, info.std),
        ]
    )

    class Images(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
        def __len__(self) -> int:
            return len(labels)

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            return transform(Image.fromarray(images[index])), int(labels[index])

    model = initial(params, info).to(device)
    optimizer = torch.optim.SGD(
        model.parameters(), params.lr, momentum=params.momentum, weight_decay=params.weight_decay, nesterov=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, params.lr, total_steps=10**6)
    loader = torch.utils.data.DataLoader(
        Images(), params.batch_size, shuffle=True, num_workers=2, drop_last=True, pin_memory=device.type == "cuda"
    )
    batches = itertools.chain.from_iterable(itertools.repeat(loader))
    waiting = 2 * loader.num_workers

    def go(steps: int) -> float:
        model.train()
        for step in range(waiting + steps):
            if step == waiting:
                started = time.perf_counter()
            inputs, targets = next(batches)
            loss = F.cross_entropy(model(inputs.to(device)), targets.to(device), label_smoothing=params.label_smoothing)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            loss.item()
        return time.perf_counter() - started

    return go


def initial(params: TrainParams, info: DatasetInfo) -> torch.nn.Module:
    torch.manual_seed(params.seed)
    return build_model(params.model, num_classes=len(info.classes), channels=info.channels, image_size=info.image_size)


def built(params: TrainParams, runtime: Runtime, info: DatasetInfo) -> torch.nn.Module:
    return to_device(initial(params, info), runtime.device)


def startup(folder: Path, rounds: int) -> None:
    """`stages.model.runtime.seed_layers` is the first thing that a step does."""
    write_params(folder, RECIPE)
    until_first_step = (
        "import os\nfrom stages.train import __main__ as train, loop\ndef stop(*_): print(flush=True); os._exit(0)\n"
        "loop.seed_layers = stop\ntrain.main()"
    )
    leave = "; import os; os._exit(0)"  # taking PyTorch down is not starting it up
    programs = {"first step": until_first_step, "bare": BARE_IMPORTS + leave, "torch": "import torch" + leave}
    measured: dict[str, list[float]] = {name: [] for name in programs}
    for number in range(rounds + 1):
        for name, program in programs.items():
            started = time.perf_counter()
            subprocess.run([sys.executable, "-c", program], check=True, env=environment(), stdout=subprocess.DEVNULL)
            if number:
                measured[name].append(time.perf_counter() - started)
    above = [mine - bare for mine, bare in zip(measured["first step"], measured["bare"], strict=True)]
    print(
        f"startup: until the first step {spread(measured['first step'])} s; bare imports {spread(measured['bare'])} s; "
        f"above them {spread(above)} s; `import torch` alone {spread(measured['torch'])} s",
        flush=True,
    )


def memory(folder: Path, _: int) -> None:
    write_params(folder, RECIPE, steps=30, batch_size=128)
    images, labels = (np.load(folder / f"prepared/train-{part}.npy") for part in ("images", "labels"))
    for times in (1, 10):
        many = folder / f"times-{times}"
        many.mkdir()
        (many / "params.yaml").write_bytes((folder / "params.yaml").read_bytes())
        (many / "prepared").mkdir()
        for path in (folder / "prepared").iterdir():
            (many / "prepared" / path.name).symlink_to(path)
        for part, array in (("images", images), ("labels", labels)):
            path = many / f"prepared/train-{part}.npy"
            path.unlink()
            np.save(path, np.concatenate([array] * times))
        process = subprocess.Popen(
            [sys.executable, "-m", "stages.train"], cwd=many, env=environment(), stdout=subprocess.DEVNULL
        )
        peak = 0
        while process.poll() is None:
            peak = max(peak, private_kilobytes(process.pid))
            time.sleep(0.02)
        print(f"memory: {len(images) * times} images, {peak / 1e3:.0f} MB besides mapped files", flush=True)


def private_kilobytes(process: int) -> int:
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith(("RssAnon", "RssShmem")))


def processes(folder: Path, rounds: int) -> None:
    for model, batch_size, steps in (("resnet9", 256, 30), ("resnet18", 64, 6)):
        for precision in ("fp32", "bf16"):
            pairs, strangers = [], []
            for _ in range(rounds):
                shared = {"model": model, "precision": precision, "threads": 1, "steps": steps}
                one = images_per_second(folder, 1, batch_size=batch_size, **shared)
                pairs.append(images_per_second(folder, 1, *TORCHRUN, batch_size=batch_size, **shared) / one)
                strangers.append(images_per_second(folder, 2, batch_size=batch_size // 2, **shared) / one)
            print(
                f"processes: {model}, {precision}, batch {batch_size}: two ÷ one {spread(pairs)}; "
                f"two strangers with half the batch each ÷ one {spread(strangers)}",
                flush=True,
            )


def images_per_second(folder: Path, count: int, *launcher: str, **changes: Any) -> float:
    """Of `count` trainings at once, together: what metrics/run.json says, which leaves out validation."""
    places = []
    for number in range(count):
        place = folder / f"process-{number}"
        if not place.exists():
            place.mkdir()
            (place / "prepared").symlink_to(folder / "prepared")
        write_params(place, RECIPE, **changes)
        places.append(place)
    command = [*(launcher or (sys.executable,)), "-m", "stages.train"]
    started = [
        subprocess.Popen(command, cwd=place, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for place in places
    ]
    if any(process.wait() for process in started):
        sys.exit(f"error: {command} failed")
    runs = [json.loads((place / "metrics/run.json").read_text()) for place in places]
    return float(sum(run["images_per_second"] for run in runs))


if __name__ == "__main__":
    main()
