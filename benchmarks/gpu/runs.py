"""What the parts share: where their figures go, runs of the stages, and train's own loop in this process."""

import importlib.util
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from benchmarks.cifar import run_stage, write_params
from benchmarks.startup import ROOT
from benchmarks.train import trainer
from stages.common.params import load
from stages.model.dataset import PREPARED, Split, load_info
from stages.model.runtime import setup
from stages.train import loop
from stages.train.params import TrainParams

# The checkout's own `shared` is what travels to a lent machine.
SHARED = next((folder for folder in (ROOT / "shared", ROOT.parent / "shared") if folder.is_dir()), ROOT / "shared")
CIFAR = SHARED / "data" / "cifar10-jpeg.tar.xz"
RECIPE = ROOT / "configs" / "cifar10-resnet18.yaml"
# Prepare asks Pillow for what simplejpeg refuses.
NO_SIMPLEJPEG = "def decode_jpeg_header(data):\n    raise ValueError\n"
# Of metrics/run.json: what it is called here, and its unit.
RUN_FIGURES = {
    "training_seconds": ("training and validation", "s"),
    "images_per_second": ("training", "images/s"),
    "peak_memory_mb": ("peak memory", "MB"),
    "peak_gpu_memory_mb": ("peak GPU memory", "MB"),
}
FIGURES = Path("figures.jsonl")


class Size(NamedTuple):
    """How much is run: a small and a larger model, timed steps a round, rounds, steps and epochs of whole runs, the
    epochs to the aim, and, where patterns are drawn, so many images of each class."""

    models: tuple[str, str]
    batch_size: int
    steps: int
    rounds: int
    run_steps: int
    short_epochs: int
    epochs: int
    patterns: int


FULL = Size(("resnet9", "resnet18"), 512, 40, 5, 300, 1, 30, 1000)
QUICK = Size(("simplenet", "resnet9"), 32, 3, 3, 90, 4, 4, 60)


class Bench(NamedTuple):
    """What a part is told, and where its figures go: to a file, one by one, so that what ends the part loses none."""

    device: str
    data: Path
    quick: bool

    @property
    def size(self) -> Size:
        return QUICK if self.quick else FULL

    @property
    def params(self) -> dict[str, Any]:
        """Of all runs, where a part says nothing else. A CPU that lacks bf16 would compute it by conversion."""
        return {
            "device": self.device,
            "cpu_arithmetic": "native",
            "precision": "bf16" if self.device == "cuda" else "fp32",
            "batch_size": self.size.batch_size,
        }

    def add(self, figure: str, unit: str, *values: float | str | bool) -> None:
        """Add a figure: one value, or those of each round."""
        self.write({"figure": figure, "unit": unit, "values": values})

    def write(self, line: dict[str, Any]) -> None:
        with FIGURES.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")


class Skipped(Exception):  # noqa: N818  # it says why
    """A part that cannot be measured here."""


def place(bench: Bench, name: str, recipe: Path = RECIPE, **changes: Any) -> Path:
    """A folder in which train finds its params and this part's images."""
    folder = Path(name)
    folder.mkdir()
    (folder / PREPARED).symlink_to(PREPARED.absolute())
    write_params(folder, recipe, **bench.params | changes)
    return folder


def train(bench: Bench, name: str, recipe: Path = RECIPE, **changes: Any) -> Path:
    """The folder of a whole run."""
    folder = place(bench, name, recipe, **changes)
    run_stage(folder, "train")
    return folder


def contestant(
    bench: Bench, kind: Callable[..., Callable[[int], float]] = trainer, *, streamed: bool = False, **changes: Any
) -> Callable[[int], float]:
    """Steps → seconds, of train's own loop or, as `kind`, of the `limit`; `streamed`: wherever the images would fit."""
    write_params(Path(), RECIPE, **bench.params | changes)
    params, info = load(TrainParams), load_info()
    runtime = setup(params)
    if streamed:
        files = (PREPARED / f"train-{part}.npy" for part in ("images", "labels"))
        images, labels = (torch.from_numpy(np.load(file, mmap_mode="c")) for file in files)
        split = Split(images, labels, info, runtime.device, streamed=True)
    else:
        split = Split.load("train", info, runtime.device)
    go = kind(params, runtime, info, split)

    def seconds(steps: int) -> float:
        setup(params)  # the kind of algorithms is the process's
        return go(steps)

    return seconds


def interleaved(bench: Bench, contestants: dict[str, Callable[[int], float]]) -> dict[str, list[float]]:
    """Images/s of each, round by round."""
    size = bench.size
    # A checkpoint would be saved in the middle of a step that is timed.
    loop.SAVE_SECONDS = 10**9
    measured: dict[str, list[float]] = {name: [] for name in contestants}
    for seconds in contestants.values():
        seconds(size.steps)
    for _ in range(size.rounds):
        for name, seconds in contestants.items():
            measured[name].append(size.steps * size.batch_size / seconds(size.steps))
    return measured


def prepare(bench: Bench) -> None:
    """Run the stage here."""
    decoder = "simplejpeg" if importlib.util.find_spec("simplejpeg") else "Pillow"
    if decoder == "Pillow":
        Path("simplejpeg.py").write_text(NO_SIMPLEJPEG)
    started = time.perf_counter()
    run_stage(Path(), "prepare")
    bench.add(f"prepare, JPEG decoded by {decoder}", "s", time.perf_counter() - started)


def write_patterns(folder: Path, images: int) -> None:
    """So many images of each of 10 classes, its own colour in noise, which a model soon learns in part."""
    generator = np.random.default_rng(0)
    for label in range(10):
        (folder / f"class {label}").mkdir()
        colour = generator.integers(0, 256, 3)
        for number in range(images):
            pixels = colour + generator.normal(0, 50, 3) + generator.normal(0, 50, (32, 32, 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"class {label}" / f"{number:04}.png")


def add_run(bench: Bench, folder: Path, *names: str, prefix: str = "") -> None:
    """Add figures of metrics/run.json, those that it has: a run on a CPU has no memory of a GPU."""
    run = read(folder, "metrics/run.json")
    for name in names:
        if name in run:
            figure, unit = RUN_FIGURES[name]
            bench.add(prefix + figure, unit, run[name])


def read(folder: Path, name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / name).read_text())
    return content
