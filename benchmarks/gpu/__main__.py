"""What a GPU gives, in one call of 9.5 minutes at most: `.venv/bin/python -m benchmarks.gpu`.

Where there is no .venv, as on a machine that is lent for an hour, `PYTHONPATH=FOLDER python3 -m benchmarks.gpu` does it
with any Python that has what the stages import (PyTorch, torchvision, pydantic, …), installed or in FOLDER. Neither DVC
nor a network is needed. Without simplejpeg, prepare decodes by Pillow, which gives the same pixels. The images are
looked for in shared/data, in the checkout or beside it. The parts, in the order in which they run:

data        the images of all parts: the JPEG copy of CIFAR-10, or, where --data does not exist, patterns in noise
bytes       whether two runs of `deterministic: true` give the same weights (SHA-256 of the file); and what it costs:
            seconds of a step with true ÷ with false
loading     images/s of training, with all images in the GPU's memory (resident) and with images that the host sends
            (streamed), ÷ those of pure compute: the same model, loss and optimizer on one batch that stays on the GPU
resume      whether a run that SIGKILL ends after its first checkpoint, and that is started again, ends in the bytes of
            one that nothing ended
accuracy    CIFAR-10 (JPEG copy): val and test accuracy of one seed, and how long it took; the aim is a test accuracy of
            0.94. The interval is Wilson's, of 95 %; tta averages the answers to mirrored images in
photos      val accuracy on photos of ants and bees, of pretrained weights that are fine-tuned, and from scratch
devices     the same short recipe in fp32 on the CPU, on the GPU, and there with another seed: test accuracies, and
            whether McNemar's test finds a difference (by mid-p, as the review does). Rounding differs between devices
            and changes the weights as another seed does, so the last pair is what the first is to be seen beside
precision   images/s in bf16 and fp32; peak memory of the process and, as allocated, of the GPU, in MB of 10^6 bytes, of
            runs with the larger model
compile     seconds by which the first step takes longer with `compile: true`, how many graphs were compiled, and
            images/s ÷ without. Validation is not compiled

Each part is a process of its own with a time limit, so none takes the figures of another with it. A part that might
overrun them is skipped, with the reason. Runs are those of the stages, as DVC starts them; images/s are those
of train's own loop in this process, in interleaved rounds after a warm-up: the median, with the smallest and the
largest in brackets. Everything, with the device and the versions, is in gpu.json, in $OUT where that is set. Exit code
1: a part failed or reached its limit, or bytes that should be the same are not.

`--device cpu --quick` rehearses all parts on a CPU, at a tiny size, in about two minutes; no figure of it means
anything.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.cifar import environment
from benchmarks.gpu.parts import PARTS
from benchmarks.gpu.runs import CIFAR, FIGURES, Bench, Skipped
from stages.common.files import write_json
from stages.model.dataset import PREPARED

SECONDS = 570
_LOG_CHARACTERS = 4000


def main() -> None:
    started = time.monotonic()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description="What a GPU gives.")
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help=f"which of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: only with --quick")
    parser.add_argument("--quick", action="store_true", help="rehearse: tiny models on patterns")
    parser.add_argument("--data", type=Path, default=CIFAR, help=f"the JPEG copy of CIFAR-10 (default: {CIFAR})")
    parser.add_argument(
        "--json", type=Path, default=Path(os.environ.get("OUT", "."), "gpu.json"), help="default: gpu.json"
    )
    parser.add_argument("--measure", choices=PARTS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.device == "cpu" and not arguments.quick:
        parser.error("--device cpu is a rehearsal: it needs --quick")
    if arguments.device == "cuda" and not torch.cuda.is_available():
        sys.exit("error: PyTorch sees no CUDA GPU here. `--device cpu --quick` rehearses on the CPU.")
    bench = Bench(arguments.device, arguments.data.absolute(), arguments.quick)
    if arguments.measure:
        measure(arguments.measure, bench)
        return
    chosen = [name for name in PARTS if name == "data" or not arguments.parts or name in arguments.parts]
    with tempfile.TemporaryDirectory() as name:
        if not measure_all(chosen, bench, Path(name), arguments.json, started):
            sys.exit(1)


def measure_all(chosen: list[str], bench: Bench, folder: Path, file: Path, started: float) -> bool:
    """Run the parts; print their figures, and write them to `file`, after each. Whether none has failed."""
    report: dict[str, Any] = {"rehearsal": bench.quick, "device": bench.device, "environment": None, "parts": []}
    if bench.quick:
        print("REHEARSAL at a tiny size, on patterns in noise: its figures say nothing of a GPU")
    print(row("part", "figure", "unit", "value"), flush=True)
    for name in chosen:
        left = SECONDS - (time.monotonic() - started)
        if name != "data" and not (folder / "data" / PREPARED).exists():
            result = {"status": "skipped", "reason": "the part data failed, so there are no images"}
        elif left < PARTS[name].limit:
            reason = f"{left:.0f} s of {SECONDS} s are left, and it may take {PARTS[name].limit} s"
            result = {"status": "skipped", "reason": reason}
        else:
            result = run_part(name, bench, folder)
        report["parts"].append({"part": name, **result})
        record = folder / "data" / "environment.json"
        if report["environment"] is None and record.exists():
            report["environment"] = json.loads(record.read_text())
        report["seconds"] = round(time.monotonic() - started, 1)
        write_json(file, report)
        show(name, result)
    failed = [part["part"] for part in report["parts"] if part["status"] == "failed"]
    machine = report["environment"] or {}
    print(
        f"{machine.get('gpu', machine.get('cpu', bench.device))}, driver {machine.get('driver', 'none')}, PyTorch "
        f"{torch.__version__}, {report['seconds']:.0f} s → {file}"
    )
    if failed:
        print(f"error: failed: {', '.join(failed)}", file=sys.stderr)
    return not failed


def run_part(name: str, bench: Bench, folder: Path) -> dict[str, Any]:
    """Measure a part in a process, and a folder, of its own: status, reason, seconds, figures, and the end of its log
    where it failed."""
    place = folder / name
    place.mkdir()
    if name != "data":
        (place / PREPARED).symlink_to(folder / "data" / PREPARED)
    options = ["--device", bench.device, "--data", str(bench.data), *(["--quick"] if bench.quick else [])]
    command = [sys.executable, "-m", "benchmarks.gpu", *options, "--measure", name]
    started = time.monotonic()
    reason = ""
    with (place / "log").open("w") as log:
        # In a group of its own, so that the stages that it has started end with it.
        process = subprocess.Popen(
            command, cwd=place, env=environment(), stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            process.wait(PARTS[name].limit)
        except subprocess.TimeoutExpired:
            reason = f"reached its limit of {PARTS[name].limit} s"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    printed = (place / "log").read_text(errors="replace").strip()
    lines = (place / FIGURES).read_text().splitlines() if (place / FIGURES).exists() else []
    figures = [json.loads(line) for line in lines]
    result: dict[str, Any] = {"seconds": round(time.monotonic() - started, 1)}
    if process.returncode:
        reason = reason or (printed.splitlines() or [f"exited with {process.returncode}"])[-1]
        result |= {"status": "failed", "reason": reason, "log": printed[-_LOG_CHARACTERS:]}
    elif skipped := [line["skipped"] for line in figures if "skipped" in line]:
        result |= {"status": "skipped", "reason": skipped[0]}
    else:
        result["status"] = "measured"
    return result | {"figures": [line for line in figures if "figure" in line]}


def measure(name: str, bench: Bench) -> None:
    """Measure a part in this process and the current folder; its figures go to FIGURES."""
    # Checkpoints belong into the folders of the runs, where they go with them.
    os.environ.pop("CHECKPOINT_DIR", None)
    try:
        PARTS[name].measure(bench)
    except Skipped as reason:
        bench.write({"skipped": str(reason)})


def show(name: str, result: dict[str, Any]) -> None:
    for figure in result.get("figures", []):
        print(row(name, figure["figure"], figure["unit"], text(figure["values"])))
    if result["status"] != "measured":
        print(row(name, f"{result['status'].upper()}: {result['reason']}", "", ""))
    print(end="", flush=True)


def row(part: str, figure: str, unit: str, value: str) -> str:
    return f"{part:<9}  {figure:<42}  {unit:<8}  {value}".rstrip()


def text(values: list[float | str | bool]) -> str:
    """The median with the smallest and the largest of numbers; other values as they are."""
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) == len(values) > 1:
        return f"{rounded(statistics.median(numbers))} [{rounded(min(numbers))}, {rounded(max(numbers))}]"
    return ", ".join(
        {True: "yes", False: "no"}[value]
        if isinstance(value, bool)
        else (value if isinstance(value, str) else rounded(value))
        for value in values
    )


def rounded(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


if __name__ == "__main__":
    main()
