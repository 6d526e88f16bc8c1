"""Bicubic resizing with antialiasing, by PyTorch's kernels for uint8, or by NumPy to the same bytes.

What serves a model need not install PyTorch, and has to see the very pixels that prepare makes.

The arithmetic is that of ATen/native/cpu/UpSampleKernel.cpp and UpSampleKernelAVXAntialias.h of PyTorch 2.11. Along an
axis each output is a weighted mean of the inputs near it. The weights are Keys' cubic (a = -0.5; IEEE Transactions on
Acoustics, Speech, and Signal Processing 29, 1981), stretched by the scale where that is above 1, as integers of 16 bits
with a binary point that all weights of an axis share. Rows are resized first, and rounded to 8 bits before columns are.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np

# Pixels, uint8 H×W×C, height and width → uint8 height×width×C.
Kernel = Callable[[np.ndarray, int, int], np.ndarray]
# Of a longer side, as only a picture of few rows or columns has, PyTorch makes gigabytes.
_LONGEST = 65_535
# Outputs of one matrix product: more of them share inputs, and more of their weights are zero.
_TOGETHER = 8
# Weights that are held at a time, however long a side is; and numbers of floating point that a core's cache may hold.
_WEIGHTS = 2**21
_CACHED = 2**18
# Of a matrix product that OpenBLAS does not divide among threads (interface/gemm.c): one picture is too small for
# that, and those who have many give each core its own.
_MULTIPLICATIONS = 4 * 65_536


def by_torch(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 H×W×C → height×width×C, in a fifth of NumPy's time on a CPU with AVX2, and in about the same elsewhere."""
    if max(pixels.shape) > _LONGEST:
        return by_numpy(pixels, height, width)
    import torch

    # PyTorch warns of arrays that it could not write to, such as Pillow's.
    rows = torch.from_numpy(pixels if pixels.flags.writeable else pixels.copy())[None].permute(0, 3, 1, 2)
    resized = torch.nn.functional.interpolate(
        rows, (height, width), mode="bicubic", antialias=True, align_corners=False
    )
    return resized[0].permute(1, 2, 0).contiguous().numpy()


def by_numpy(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 H×W×C → height×width×C.

    The sums are of integers below 2²⁴ or 2³¹, which float32 or float64 hold exactly: they can be matrix products.
    """
    if len(pixels) == height:
        return _resize_rows(pixels, width)
    resized = np.empty((height, width, pixels.shape[2]), np.uint8)
    rows, done = np.empty((0, *resized.shape[1:]), np.uint8), 0
    for part in _parts(_Axis(len(pixels), height), _WEIGHTS // width):
        shared = rows[len(rows) - max(0, done - part.inputs.start) :]
        rows = _resize_rows(pixels[max(done, part.inputs.start) : part.inputs.stop], width)
        rows, done = np.concatenate([shared, rows]), part.inputs.stop
        flat = rows.reshape(len(rows), -1)
        sums = np.empty((len(part.firsts), flat.shape[1]), part.weights.dtype)
        for outputs, inputs, matrix in _matrices(part):
            _multiply(matrix, flat[inputs].astype(matrix.dtype), sums[outputs])
        resized[part.start : part.start + len(sums)] = _rounded(sums).reshape(-1, *resized.shape[1:])
    return resized


def _resize_rows(pixels: np.ndarray, width: int) -> np.ndarray:
    """uint8 H×W×C → H×width×C."""
    height, before, channels = pixels.shape
    if before == width:
        return pixels
    resized = np.empty((height, width, channels), np.uint8)
    for part in _parts(_Axis(before, width), _WEIGHTS):
        matrices = list(_matrices(part))
        number_of_inputs = part.inputs.stop - part.inputs.start
        length = max(1, min(height, _CACHED // (channels * max(number_of_inputs, len(part.firsts)))))
        # Allocated once: fresh memory takes longer than what is done with it. The axis of the product is in front.
        columns = np.empty((number_of_inputs, channels, length), part.weights.dtype)
        sums = np.empty((len(part.firsts), channels * length), part.weights.dtype)
        for start in range(0, height, length):
            near = pixels[start : start + length, part.inputs]
            columns[:, :, : len(near)] = near.transpose(1, 2, 0)
            for outputs, inputs, matrix in matrices:
                _multiply(matrix, columns[inputs].reshape(-1, channels * length), sums[outputs])
            rounded = _rounded(sums).reshape(-1, channels, length)[:, :, : len(near)]
            resized[start : start + length, part.start : part.start + len(sums)] = rounded.transpose(2, 0, 1)
    return resized


def _multiply(matrix: np.ndarray, columns: np.ndarray, products: np.ndarray) -> None:
    """`products` = `matrix` · `columns`, on this thread alone."""
    length = max(1, _MULTIPLICATIONS // matrix.size)
    for start in range(0, columns.shape[1], length):
        np.matmul(matrix, columns[:, start : start + length], out=products[:, start : start + length])


def _rounded(values: np.ndarray) -> np.ndarray:
    """Floating point → uint8, halves up. Overwrites `values`."""
    values += 0.5
    return np.clip(values, 0, 255, out=values).astype(np.uint8)


class _Axis(NamedTuple):
    """One axis: how many inputs become how many outputs."""

    inputs: int
    outputs: int

    @property
    def scale(self) -> float:
        return self.inputs / self.outputs

    @property
    def support(self) -> float:
        """How far from its centre an output sees inputs."""
        return 2.0 * max(self.scale, 1.0)

    @property
    def taps(self) -> int:
        """The most inputs that an output sees."""
        return int(np.ceil(self.support)) * 2 + 1


class _Part(NamedTuple):
    """Some outputs of an axis next to each other: from `start` on, the first input of each, its weights, outputs×taps,
    and the inputs that they see together."""

    start: int
    firsts: np.ndarray
    weights: np.ndarray
    inputs: slice


def _parts(axis: _Axis, room: int) -> Iterator[_Part]:
    """The outputs, in parts of at most `room` weights, or of one output; weights as the kernel rounds them, in the
    narrowest type that holds all sums exactly."""
    precision = _precision(axis)
    for part in _exact_parts(axis, room):
        scaled = part.weights * 2.0**precision
        integers = np.trunc(scaled + np.copysign(0.5, scaled))
        largest = 255 * np.abs(integers).sum(axis=1).max() + 2.0**precision
        yield part._replace(weights=(integers / 2.0**precision).astype(np.float32 if largest < 2**24 else np.float64))


@lru_cache(maxsize=64)
def _precision(axis: _Axis) -> int:
    """The bits after the binary point with which the largest weight of an axis still fits into 16 bits, at most 22."""
    largest = max(float(part.weights.max()) for part in _exact_parts(axis, _WEIGHTS))
    return next(bits for bits in range(23) if bits == 22 or int(0.5 + largest * 2 ** (bits + 1)) >= 2**15)


def _exact_parts(axis: _Axis, room: int) -> Iterator[_Part]:
    length = max(1, room // axis.taps)
    for start in range(0, axis.outputs, length):
        yield _exact_part(axis, start, min(start + length, axis.outputs))


@lru_cache(maxsize=2)
def _exact_part(axis: _Axis, start: int, stop: int) -> _Part:
    """Weights as they are before they are rounded, each operation in the kernel's order."""
    centres = axis.scale * (np.arange(start, stop) + 0.5)
    firsts = np.maximum((centres - axis.support + 0.5).astype(np.int64), 0)
    stops = np.minimum((centres + axis.support + 0.5).astype(np.int64), axis.inputs)
    sizes = np.minimum(stops - firsts, axis.taps)
    taps = np.arange(sizes.max())
    distances = (firsts[:, None] + taps) - centres[:, None] + 0.5
    if axis.scale >= 1.0:
        distances *= 1.0 / axis.scale
    weights = np.where(taps < sizes[:, None], _cubic(np.abs(distances)), 0.0)
    # One after the other, as np.sum does not add them.
    weights /= np.add.accumulate(weights, axis=1)[:, -1:]
    return _Part(start, firsts, weights, slice(int(firsts[0]), int(stops[-1])))


def _cubic(distances: np.ndarray) -> np.ndarray:
    near = (1.5 * distances - 2.5) * distances * distances + 1.0
    far = ((-0.5 * distances + 2.5) * distances - 4.0) * distances + 2.0
    return np.where(distances < 1.0, near, np.where(distances < 2.0, far, 0.0))


def _matrices(part: _Part) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """Outputs and the inputs that they see, both counted from the part's first one, and weights, outputs×inputs."""
    begins = part.firsts[::_TOGETHER]
    offsets = part.firsts - begins.repeat(_TOGETHER)[: len(part.firsts)]
    taps = part.weights.shape[1]
    matrices = np.zeros((len(offsets), int(offsets.max()) + taps), part.weights.dtype)
    np.put_along_axis(matrices, offsets[:, None] + np.arange(taps), part.weights, axis=1)
    for number, begin in enumerate((begins - part.inputs.start).tolist()):
        outputs = slice(number * _TOGETHER, (number + 1) * _TOGETHER)
        inputs = slice(begin, min(begin + matrices.shape[1], part.inputs.stop - part.inputs.start))
        yield outputs, inputs, matrices[outputs, : inputs.stop - begin]
