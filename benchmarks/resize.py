"""Resizing by NumPy beside PyTorch's kernels: `.venv/bin/python -m benchmarks.resize [equal] [speed] [--seconds 60]`.

equal  pictures of random sizes, noise or extremes, for so many seconds; then each width up to 1,000 to each of SIDES:
       how many are not equal byte for byte
speed  time by NumPy ÷ time by PyTorch, on one core: of resizing alone, and of decoding a JPEG and resizing it

Seconds are those of the processor. Rounds are interleaved; medians, with the smallest and the largest in brackets.
"""

import argparse
import io
import itertools
import os
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image

from benchmarks.startup import spread
from stages.common.arithmetic import use_portable_torch
from stages.model.runtime import cpu_name
from stages.prepare.picture import decode, to_square
from stages.prepare.resize import Kernel, by_numpy, by_torch

SIDES = (28, 32, 64, 96, 128, 160, 224, 256, 299, 384, 512)
_ROWS = 64


def main() -> None:
    parts = {"equal": equal, "speed": speed}
    parser = argparse.ArgumentParser(prog="python -m benchmarks.resize", description="NumPy beside PyTorch's kernel.")
    parser.add_argument("parts", nargs="*", choices=[[], *parts], help=f"which of {', '.join(parts)} (default: both)")
    parser.add_argument("--seconds", type=float, default=60, help="of random sizes (default: 60)")
    parser.add_argument("--rounds", type=int, default=15, help="interleaved rounds (default: 15)")
    parser.add_argument("--seed", type=int, default=0, help="of the random sizes (default: 0)")
    arguments = parser.parse_args()
    use_portable_torch()
    torch.set_num_threads(1)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    capability = torch.backends.cpu.get_cpu_capability()
    print(f"{cpu_name()}, one core, PyTorch with {capability}, {arguments.rounds} rounds")
    for name in arguments.parts or parts:
        parts[name](arguments)


def equal(arguments: argparse.Namespace) -> None:
    generator = np.random.default_rng(arguments.seed)

    def length(most: int) -> int:
        """Of each power of two as many."""
        return int(np.exp(generator.uniform(0, np.log(most))))

    pictures = wrong = 0
    end = time.perf_counter() + arguments.seconds
    while time.perf_counter() < end:
        most = 3000 if generator.random() < 0.1 else 400
        rows, columns, height, width = length(most), length(most), length(600), length(600)
        levels = int(generator.choice([2, 256]))
        pixels = (generator.integers(0, levels, (rows, columns, 3)) * (255 // (levels - 1))).astype(np.uint8)
        pictures += 1
        if not np.array_equal(by_numpy(pixels, height, width), by_torch(pixels, height, width)):
            wrong += 1
            print(f"  {rows}×{columns} → {height}×{width}, {levels} levels: different", flush=True)
    print(f"equal: {pictures} pictures of random sizes, seed {arguments.seed}: {wrong} differ", flush=True)
    noise = generator.integers(0, 256, (_ROWS, 1000, 3), dtype=np.uint8)
    pairs = list(itertools.product(range(1, noise.shape[1] + 1), SIDES))
    wrong = 0
    for columns, width in pairs:
        pixels = np.ascontiguousarray(noise[:, :columns])
        if not np.array_equal(by_numpy(pixels, _ROWS, width), by_torch(pixels, _ROWS, width)):
            wrong += 1
            print(f"  a width of {columns} → {width}: different", flush=True)
    print(f"equal: {len(pairs)} pairs of widths, {_ROWS} rows: {wrong} differ", flush=True)


def speed(arguments: argparse.Namespace) -> None:
    generator = np.random.default_rng(arguments.seed)
    for (rows, columns), side in (((100, 80), 32), ((375, 500), 224), ((1080, 1920), 256), ((3000, 4000), 256)):
        coarse = Image.fromarray(generator.integers(0, 256, (rows // 16, columns // 16, 3), dtype=np.uint8))
        buffer = io.BytesIO()
        coarse.resize((columns, rows), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
        data = buffer.getvalue()
        pixels = decode(data).rgb
        alone: list[float] = []
        whole: list[float] = []
        times: list[float] = []
        for _ in range(arguments.rounds + 1):
            by = {kernel: seconds(to_square, pixels, side, "crop", kernel) for kernel in (by_numpy, by_torch)}
            alone.append(by[by_numpy] / by[by_torch])
            times.append(by[by_numpy])
            whole.append(seconds(decoded, data, side, by_numpy) / seconds(decoded, data, side, by_torch))
        print(
            f"speed: {columns}×{rows} → {side}: by NumPy ÷ by PyTorch {spread(alone[1:])}, with decoding "
            f"{spread(whole[1:])}; by NumPy {1000 * statistics.median(times[1:]):.2f} ms",
            flush=True,
        )


def decoded(data: bytes, side: int, kernel: Kernel) -> None:
    to_square(decode(data).rgb, side, "crop", kernel)


def seconds(function: Callable[..., object], *arguments: object) -> float:
    started = time.process_time()
    function(*arguments)
    return time.process_time() - started


if __name__ == "__main__":
    main()
