"""Speed, memory and start of the service: `.venv/bin/python -m benchmarks.serve`.

speed    For each network, pictures and number of clients, in interleaved rounds: requests a second of the service on
         loopback, each client sending one picture after the other, and pictures a second of one process that decodes as
         many pictures as there are clients, one after the other, and gives them to onnxruntime together. Printed are
         medians over the rounds, the ratio with its smallest and largest value, and the service's latency. The clients
         take their part of the same cores, which the bare process has for itself.
memory   Resident memory of all processes of the service, over 50,000 requests.
start    From the start of the process to the first answer of /ready.
answers  Of a reproduced and exported clone, `--project`: every val image, as the raw file that it is, through the
         service, and what it answers beside predictions.csv.
"""

import argparse
import csv
import http.client
import io
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from benchmarks.served import ROOT, Served, served, write_network
from stages.common.softmax import softmax
from stages.model.runtime import cpu_name
from stages.onnx.classifier import OnnxClassifier, load
from stages.prepare.picture import decode
from stages.prepare.seen import as_seen

THREADS = 2
_WAIT_SECONDS = 120


class Case(NamedTuple):
    """A network, and the pictures that it gets."""

    architecture: str
    side: int
    width: int
    height: int
    kind: str


CASES = {
    "resnet9": Case("resnet9", 32, 32, 32, "PNG"),
    "efficientnet_b0": Case("efficientnet_b0", 224, 500, 375, "JPEG"),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serve", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("what", nargs="*", default=["speed", "memory", "start"], help="speed, memory, start, answers")
    parser.add_argument("--networks", nargs="+", default=list(CASES), choices=list(CASES), help="default: all")
    parser.add_argument("--clients", nargs="+", type=int, default=[1, 8, 64], help="at a time (default: 1 8 64)")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default: 5)")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement (default: 4)")
    parser.add_argument("--requests", type=int, default=50_000, help="for memory (default: 50000)")
    parser.add_argument("--project", type=Path, help="for answers: a clone with data/, predictions.csv and model.onnx")
    arguments = parser.parse_args()
    print(f"{cpu_name()}, {THREADS} threads")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "speed" in arguments.what:
            for network in arguments.networks:
                speed(CASES[network], folder, arguments.clients, arguments.rounds, arguments.seconds)
        if "memory" in arguments.what:
            memory(folder, arguments.requests)
        if "start" in arguments.what:
            start(folder, arguments.rounds)
        if "answers" in arguments.what:
            if arguments.project is None:
                parser.error("answers: give a --project")
            answers(arguments.project, folder)


def pictures(case: Case, count: int = 64) -> list[bytes]:
    """Pictures with as much detail as photos have, about."""
    noise = np.random.default_rng(0)
    found = []
    for _ in range(count):
        small = noise.integers(0, 256, (case.height // 8 + 1, case.width // 8 + 1, 3), dtype=np.uint8)
        stream = io.BytesIO()
        Image.fromarray(small).resize((case.width, case.height), Image.Resampling.BICUBIC).save(stream, case.kind)
        found.append(stream.getvalue())
    return found


def write_all(data: list[bytes], folder: Path) -> Path:
    """Put pictures into a new folder."""
    folder.mkdir()
    for number, one in enumerate(data):
        (folder / f"{number:03}").write_bytes(one)
    return folder


def speed(case: Case, folder: Path, numbers: list[int], rounds: int, seconds: float) -> None:
    """Print a line for each number of clients."""
    model = write_network(folder / f"{case.architecture}.onnx", case.architecture, case.side)
    data = pictures(case)
    place = write_all(data, folder / f"{case.architecture}-pictures")
    classifier = load(model, THREADS)
    size = sum(map(len, data)) / len(data) / 1000
    print(f"{case.architecture}, {case.side} px; {case.kind} of {case.width}×{case.height}, {size:.0f} kB")
    with served(model, folder, "--threads", str(THREADS), "--decoders", str(THREADS)) as service:
        for clients in numbers:
            rates, bares, latencies = [], [], []
            for _ in range(rounds):
                bares.append(bare(classifier, data, clients, seconds))
                taken = clients_of(service, place, clients, seconds)
                rates.append(len(taken) / seconds)
                latencies += taken
            ratios = sorted(rate / alone for rate, alone in zip(rates, bares, strict=True))
            p50, p99 = np.percentile(np.array(latencies) * 1000, [50, 99])
            print(
                f"  {clients:3} clients: {statistics.median(rates):7.1f} requests/s, bare "
                f"{statistics.median(bares):7.1f} pictures/s, ratio {statistics.median(ratios):.2f} "
                f"({ratios[0]:.2f} to {ratios[-1]:.2f}); p50 {p50:.1f} ms, p99 {p99:.1f} ms",
                flush=True,
            )


def bare(classifier: OnnxClassifier, data: list[bytes], together: int, seconds: float) -> float:
    """Pictures a second of one process: decode, stack, compute."""
    info = classifier.info
    done, started = 0, time.perf_counter()
    while (passed := time.perf_counter() - started) < seconds:
        chosen = [data[(done + number) % len(data)] for number in range(together)]
        rows = [as_seen(decode(one), info.stored_size, info.resize, info.channels).pixels for one in chosen]
        softmax(classifier.logits(np.stack(rows)))
        done += together
    return done / passed


def clients_of(service: Served, folder: Path, clients: int, seconds: float, most: int = sys.maxsize) -> list[float]:
    """The seconds that each answer took (load.py), of clients in a process of their own."""
    arguments = map(str, (service.port, folder, clients, seconds, most))
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.load", *arguments], cwd=ROOT, check=True, capture_output=True
    )
    found: list[float] = json.loads(done.stdout)
    return found


def memory(folder: Path, count: int) -> None:
    """Print it, at tenths of the requests."""
    case = CASES["resnet9"]
    model = write_network(folder / "memory.onnx", case.architecture, case.side)
    place = write_all(pictures(case), folder / "memory-pictures")
    with served(model, folder, "--threads", str(THREADS), "--decoders", str(THREADS)) as service:
        found = [service.megabytes()]
        sent = 0
        for _ in range(10):
            sent += len(clients_of(service, place, 16, 3600, count // 10))
            found.append(service.megabytes())
    print(f"memory of all processes over {sent} requests of 16 clients, MB: {' '.join(f'{one:.0f}' for one in found)}")


def start(folder: Path, rounds: int) -> None:
    """Print the median, and the smallest and largest."""
    case = CASES["resnet9"]
    model = write_network(folder / "start.onnx", case.architecture, case.side)
    found = []
    for _ in range(rounds):
        before = time.perf_counter()
        with served(model, folder, "--threads", str(THREADS), "--decoders", str(THREADS)) as service:
            connection = http.client.HTTPConnection("127.0.0.1", service.port)
            connection.request("GET", "/ready")
            assert connection.getresponse().status == 200
            found.append(time.perf_counter() - before)
            connection.close()
    found.sort()
    print(f"start to ready: median {statistics.median(found):.2f} s, {found[0]:.2f} to {found[-1]:.2f}, n = {rounds}")


def answers(project: Path, folder: Path) -> None:
    """Print how many val images have another class than in predictions.csv, and the largest difference."""
    with (project / "predictions.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    classes = sum(name.startswith("p_") for name in rows[0])
    changed, largest = 0, 0.0
    with served(project.resolve() / "models/model.onnx", folder) as service:
        connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=_WAIT_SECONDS)
        for row in rows:
            data = (project / "data" / row["path"]).read_bytes()
            connection.request("POST", f"/predict?top={classes}", data, {"Content-Type": "application/octet-stream"})
            content = json.loads(connection.getresponse().read())
            (found,) = content["predictions"]
            changed += found["class"] != row["predicted"]
            for name, value in found["top"].items():
                largest = max(largest, abs(value - float(row[f"p_{name}"])))
    print(f"{len(rows)} raw val files through the service: {changed} classes differ, largest |Δp| {largest:.1e}")


if __name__ == "__main__":
    main()
