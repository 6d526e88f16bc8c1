"""Whether exported models give the answers of their networks: `.venv/bin/python -m benchmarks.export PHOTOS SMALL`.

Of each network, answers that change and the largest difference of a probability between PyTorch and onnxruntime, in
batches of 1, 7 and 64, on real images and on random ones; of batches of 1 against those of 64; of PyTorch in fp32
against itself in fp64, which is what rounding does to this network; seconds of the export, and megabytes of the file.
PHOTOS and SMALL are archives (tar) of pictures, for networks of 224 and of 32 px.

Weights are drawn at random, with statistics of batch normalisation from some of the images: the answers of such a
network are nearer to each other than a trained one's, so rounding changes them more easily.
"""

import argparse
import copy
import tarfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import nn

from stages.common import arithmetic
from stages.common.softmax import softmax
from stages.export.onnx_model import OPSET, onnx_model
from stages.export.parity import BATCHES, Parity, compare
from stages.model.architectures import build_model
from stages.model.dataset import DatasetInfo, Split
from stages.model.names import OWN_MODELS
from stages.model.runtime import Runtime, cpu_name
from stages.model.trained import TrainedModel
from stages.onnx.classifier import classifier_of
from stages.onnx.description import MADE_OF, Description
from stages.prepare.picture import decode, to_square

NETWORKS = {
    **dict.fromkeys(OWN_MODELS, 32),
    "torchvision's resnet18": 224,
    "mobilenet_v3_small": 224,
    "efficientnet_b0": 224,
    "timm/resnet10t": 224,
}
CLASSES = 10
# So many images of each kind decide the statistics of batch normalisation.
SETTLING = 48
# What is stored of an image beyond what the network sees, so that the crop has something to do.
MARGIN = 4
SUFFIXES = (".jpg", ".jpeg", ".png")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.export", description="Parity of exported networks.")
    parser.add_argument("photos", type=Path, metavar="PHOTOS", help="archive of pictures for networks of 224 px")
    parser.add_argument("small", type=Path, metavar="SMALL", help="archive of pictures for networks of 32 px")
    parser.add_argument("--images", type=int, default=1000, help="of each kind, at 32 px (default: 1000)")
    parser.add_argument("--photos", type=int, default=200, dest="most", help="of each kind, at 224 px (default: 200)")
    arguments = parser.parse_args()
    arithmetic.use_portable_torch()
    torch.set_num_threads(2)
    print(f"{cpu_name()}, 2 threads, fp32; opset {OPSET}\n")
    batches = " | ".join(f"batch {batch}" for batch in BATCHES)
    print(f"| network | px | images | {batches} | 1 against 64 | fp32 against fp64 | export, s | MB |")
    print(f"{'|---' * (7 + len(BATCHES))}|")
    for size, archive, count in ((32, arguments.small, arguments.images), (224, arguments.photos, arguments.most)):
        real = np.stack(list(islice(pictures(archive, size + MARGIN), count)))
        random = np.random.default_rng(0).integers(0, 256, real.shape, dtype=np.uint8)
        for name in (name for name, side in NETWORKS.items() if side == size):
            measure(name, size, {"real": real, "random": random})


def pictures(archive: Path, side: int) -> Iterator[np.ndarray]:
    """uint8 S×S×3, as prepare stores them."""
    with tarfile.open(archive) as file:
        for member in file:
            if member.isfile() and member.name.lower().endswith(SUFFIXES):
                stream = file.extractfile(member)
                assert stream is not None
                yield to_square(decode(stream.read()).rgb, side, "crop")


def measure(name: str, size: int, images: dict[str, np.ndarray]) -> None:
    """Print a row of the table for each kind of images."""
    architecture = name.removeprefix("torchvision's ")
    names = [str(label) for label in range(CLASSES)]
    info = DatasetInfo(names, 3, size, size + MARGIN, "crop", [0.48, 0.46, 0.41], [0.23, 0.22, 0.23], {})
    torch.manual_seed(0)
    network = build_model(architecture, num_classes=CLASSES, channels=3, image_size=size)
    splits = {kind: Split(torch.from_numpy(rows), torch.zeros(len(rows)), info) for kind, rows in images.items()}
    mixed = np.stack([rows[:SETTLING] for rows in images.values()], 1).reshape(-1, *images["real"].shape[1:])
    settle(network, Split(torch.from_numpy(mixed), torch.zeros(len(mixed)), info))
    model = TrainedModel(network, info, {"model": architecture})
    description = Description(
        architecture, names, 3, size, info.stored_size, "crop", False, OPSET, {}, dict.fromkeys(MADE_OF, ""), None
    )
    started = time.perf_counter()
    content = onnx_model(model, description)
    seconds = time.perf_counter() - started
    classifier = classifier_of(content, Path(name), 2)
    model.to(torch.device("cpu"))
    for kind, split in splits.items():
        logits = model.logits(split.batches(64), Runtime(torch.device("cpu"), "fp32"))
        parity = compare(logits, split, classifier)
        cells = [f"{len(parity.changed(batch))}, {parity.difference(batch):.1e}" for batch in BATCHES]
        between = Parity(parity.found[BATCHES[0]], {BATCHES[-1]: parity.found[BATCHES[-1]]})
        cells.append(f"{len(between.changed(BATCHES[-1]))}, {between.difference(BATCHES[-1]):.1e}")
        exact = Parity(parity.expected, {0: softmax(in_fp64(network, split))})
        cells.append(f"{len(exact.changed(0))}, {exact.difference(0):.1e}")
        answered = len(np.unique(logits.argmax(1)))
        print(
            f"| {name} | {size} | {len(split)} {kind}, of {answered} classes | {' | '.join(cells)} | "
            f"{seconds:.0f} | {len(content) / 1e6:.1f} |",
            flush=True,
        )


@torch.inference_mode()
def in_fp64(network: nn.Module, split: Split) -> np.ndarray:
    """The logits of the network in double precision."""
    exact = copy.deepcopy(network).double()
    logits: np.ndarray = torch.cat([exact(batch.images.double()) for batch in split.batches(64)]).numpy()
    return logits


@torch.no_grad()
def settle(network: nn.Module, split: Split) -> None:
    """Set the statistics of batch normalisation to those of these images, and the last layer such that its logits for
    them have mean 0 and standard deviation 3."""
    network.train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    for batch in split.batches(32):
        network(batch.images)
    network.eval()
    last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    logits = torch.cat([network(batch.images) for batch in split.batches(32)])
    scale = 3 / logits.std(0).clamp(min=1e-6)
    last.weight.mul_(scale[:, None])
    last.bias.copy_((last.bias - logits.mean(0)) * scale)


if __name__ == "__main__":
    main()
