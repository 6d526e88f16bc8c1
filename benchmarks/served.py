"""What the benchmarks of the service share: an exported network, the service on loopback, and the memory it has."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from stages.common.arithmetic import use_portable_torch
from stages.onnx.description import MADE_OF, Description

ROOT = Path(__file__).parent.parent


class Served(NamedTuple):
    """The service: its port, its process, and the file of its messages."""

    port: int
    process: subprocess.Popen[bytes]
    messages: Path

    def megabytes(self) -> float:
        """Resident memory of all its processes together, now."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return sum(map(_megabytes, [self.process.pid, *map(int, children)]))


def _megabytes(process: int) -> float:
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0.0  # it has just ended
    found = re.search(r"^VmRSS:\s+(\d+) kB", status, re.M)
    return int(found[1]) * 1024 / 1e6 if found else 0.0


@contextmanager
def served(model: Path, folder: Path, *options: str) -> Iterator[Served]:
    """`python -m serve` with a log in `folder`, from when it answers; killed at the end, unless it has ended."""
    messages = folder / "messages.txt"
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "serve",
        "--port",
        "0",
        "--model",
        model,
        "--log",
        folder / "log.jsonl",
        *options,
    ]
    with messages.open("wb") as stream:
        process = subprocess.Popen(command, cwd=ROOT, stderr=stream)
    try:
        while not (found := re.search(r"on http://127\.0\.0\.1:(\d+)/\n", messages.read_text())):
            assert process.poll() is None, messages.read_text()
        yield Served(int(found[1]), process, messages)
    finally:
        process.kill()
        process.wait()


def write_network(path: Path, architecture: str, side: int) -> Path:
    """An architecture with random weights, as `make export` writes one; speed and faults do not depend on weights."""
    import torch

    from stages.export.onnx_model import OPSET, onnx_model
    from stages.model.architectures import build_model
    from stages.model.dataset import DatasetInfo
    from stages.model.trained import TrainedModel

    use_portable_torch()
    torch.manual_seed(0)
    classes = [f"class {number}" for number in range(10)]
    network = build_model(architecture, num_classes=len(classes), channels=3, image_size=side, options={})
    info = DatasetInfo(classes, 3, side, side, "crop", [0.5] * 3, [0.25] * 3, {})
    description = Description(
        architecture=architecture,
        classes=classes,
        channels=3,
        image_size=side,
        stored_size=side,
        resize="crop",
        tta_flip=False,
        opset=OPSET,
        versions={},
        sha256=dict.fromkeys(MADE_OF, "0" * 64),
        pretrained=None,
    )
    path.write_bytes(onnx_model(TrainedModel(network, info, {}), description))
    return path
