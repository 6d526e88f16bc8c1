"""How fast evaluation and prediction are: `.venv/bin/python -m benchmarks.evaluate [speed] [startup] [predict]`.

speed     images/s over the test images of CIFAR-10 (JPEG copy) with resnet9, from prepared/ to logits on the CPU, in
          fp32 and, where the device has it, bf16; ÷ the peer in fp32: torchvision's ToTensor and Normalize on PIL
          images, a DataLoader with two workers, model.eval() and torch.no_grad()
startup   from the process's start to the first batch, above `import torch` alone
predict   wall of `python -m stages.predict` on one picture ÷ wall of `import torch` alone

Rounds are interleaved; medians, with the smallest and the largest in brackets.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks.cifar import environment, prepare_cifar, run_stage, write_params
from benchmarks.startup import ROOT, spread
from stages.common.params import load
from stages.evaluate.params import EvaluateParams
from stages.model.dataset import DatasetInfo, Split, load_info
from stages.model.runtime import choose_precision, cpu_name, setup
from stages.model.trained import load_trained

RECIPE = ROOT / "configs" / "cifar10-cpu.yaml"
LEAVE = "; import os; os._exit(0)"  # taking PyTorch down is not starting it up


def main() -> None:
    parts: dict[str, Callable[[int], None]] = {"speed": speed, "startup": startup, "predict": predict}
    parser = argparse.ArgumentParser(prog="python -m benchmarks.evaluate", description="How fast evaluation is.")
    parser.add_argument("parts", nargs="*", choices=[[], *parts], help=f"which of {', '.join(parts)} (default: all)")
    parser.add_argument("--rounds", type=int, default=10, help="interleaved rounds (default: 10)")
    arguments = parser.parse_args()
    print(f"{cpu_name()}, {len(os.sched_getaffinity(0))} cores, {arguments.rounds} rounds", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare_cifar(folder, RECIPE)
        # Speed does not ask how well the weights were chosen.
        write_params(folder, RECIPE, steps=1)
        run_stage(folder, "train")
        os.chdir(folder)
        for part in arguments.parts or parts:
            parts[part](arguments.rounds)


def speed(rounds: int) -> None:
    info = load_info()
    contestants: dict[str, Callable[[], int]] = {}
    for precision in dict.fromkeys(("fp32", choose_precision(setup(load(EvaluateParams)).device))):
        write_params(Path(), RECIPE, precision=precision)
        contestants[precision] = evaluation(info)
    contestants["peer"] = peer(info)
    measured: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds + 1):
        for name, evaluate in contestants.items():
            started = time.perf_counter()
            images = evaluate()
            if number:
                measured[name].append(images / (time.perf_counter() - started))
    for name, rates in measured.items():
        ratios = [mine / theirs for mine, theirs in zip(rates, measured["peer"], strict=True)]
        print(f"speed: {name}: {spread(rates)} images/s; ÷ peer {spread(ratios)}", flush=True)


def evaluation(info: DatasetInfo) -> Callable[[], int]:
    """What claim does from opening the test split to its logits; evaluate does the same with val."""
    params = load(EvaluateParams)
    runtime = setup(params)
    model = load_trained().to(runtime.device)

    def evaluate() -> int:
        test = Split.load("test", info, runtime.device)
        return len(model.logits(test.batches(params.eval_batch_size), runtime))

    return evaluate


def peer(info: DatasetInfo) -> Callable[[], int]:
    from PIL import Image
    from torchvision import transforms

    images, labels = (np.load(f"prepared/test-{part}.npy") for part in ("images", "labels"))
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(info.mean, info.std)])
    params = load(EvaluateParams)
    device = setup(params).device
    model = load_trained().network.to(device)

    class Images(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
        def __len__(self) -> int:
            return len(labels)

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            return transform(Image.fromarray(images[index])), int(labels[index])

    loader = torch.utils.data.DataLoader(Images(), params.eval_batch_size, num_workers=2)

    def evaluate() -> int:
        model.eval()
        with torch.no_grad():
            return len(torch.cat([model(inputs.to(device)).cpu() for inputs, _ in loader]))

    return evaluate


def startup(rounds: int) -> None:
    """`Split.batches` is where the first batch is asked for."""
    until_first_batch = (
        "import os\nfrom stages.evaluate import __main__ as evaluate\nfrom stages.model.dataset import Split\n"
        "def stop(*_): print(flush=True); os._exit(0)\nSplit.batches = stop\nevaluate.main()"
    )
    mine, bare = walls({"first batch": until_first_batch, "torch": "import torch" + LEAVE}, rounds).values()
    above = [one - other for one, other in zip(mine, bare, strict=True)]
    print(
        f"startup: until the first batch {spread(mine)} s; `import torch` {spread(bare)} s; above it {spread(above)} s"
    )


def predict(rounds: int) -> None:
    picture = next(Path("data/test").rglob("*.jpg"))
    arguments = [str(picture), "--model", "models"]
    program = f"import sys; sys.argv[1:] = {arguments}; from stages import predict; predict.main()"
    mine, bare = walls({"predict": program, "torch": "import torch"}, rounds).values()
    ratios = [one / other for one, other in zip(mine, bare, strict=True)]
    print(f"predict: {spread(mine)} s; `import torch` {spread(bare)} s; ÷ {spread(ratios)}")


def walls(programs: dict[str, str], rounds: int) -> dict[str, list[float]]:
    """Wall seconds of Python programs, after a round that is not counted."""
    measured: dict[str, list[float]] = {name: [] for name in programs}
    for number in range(rounds + 1):
        for name, program in programs.items():
            started = time.perf_counter()
            subprocess.run([sys.executable, "-c", program], check=True, env=environment(), stdout=subprocess.DEVNULL)
            if number:
                measured[name].append(time.perf_counter() - started)
    return measured


if __name__ == "__main__":
    main()
