"""Both ways of resizing give the same bytes, whatever the sizes."""

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.common.arithmetic import why_not_portable
from stages.prepare import resize
from stages.prepare.resize import by_numpy, by_torch
from tests.project import ROOT, run

# Of each power of two as many.
SIDES = st.integers(0, 8).flatmap(lambda power: st.integers(2**power, 2 ** (power + 1) - 1))


def noise(height: int, width: int, channels: int = 3, *, levels: int = 256) -> np.ndarray:
    """Of any levels, or of the extremes alone, which overshoot most."""
    generator = np.random.default_rng(height * width)
    return (generator.integers(0, levels, (height, width, channels)) * (255 // (levels - 1))).astype(np.uint8)


@settings(max_examples=100, deadline=None)
@given(SIDES, SIDES, SIDES, SIDES, st.sampled_from([2, 256]))
def test_numpy_gives_the_bytes_of_pytorch(before: int, rows: int, height: int, width: int, levels: int) -> None:
    pixels = noise(rows, before, levels=levels)
    assert np.array_equal(by_numpy(pixels, height, width), by_torch(pixels, height, width))


@pytest.mark.parametrize(
    ("shape", "height", "width"),
    [
        ((375, 500), 224, 224),
        ((33, 33), 33, 32),
        ((33, 33), 32, 33),
        ((1, 1), 64, 64),
        ((2, 3), 1, 1),
        ((1, 20_000), 32, 32),
        ((20_000, 1), 32, 32),
        ((1, 4000), 1, 3),
    ],
)
@pytest.mark.parametrize("levels", [2, 256])
def test_sizes_far_apart(shape: tuple[int, int], height: int, width: int, levels: int) -> None:
    pixels = noise(*shape, levels=levels)
    assert np.array_equal(by_numpy(pixels, height, width), by_torch(pixels, height, width))


def test_what_is_done_in_parts_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the sides that PyTorch is not given, and pictures of more pixels than a cache holds."""
    for pixels, height, width in ((noise(60, 50), 20, 30), (noise(9, 50), 40, 30), (noise(70, 9), 20, 30)):
        expected = by_torch(pixels, height, width)
        for weights, cached in ((1, 1), (500, 1000), (5000, 2**19)):
            monkeypatch.setattr(resize, "_WEIGHTS", weights)
            monkeypatch.setattr(resize, "_CACHED", cached)
            assert np.array_equal(by_numpy(pixels, height, width), expected)


def test_parts_of_pictures_and_other_numbers_of_channels() -> None:
    pixels = noise(90, 80, 4)
    for view in (pixels[10:70, 5:66], pixels[::-1, ::2], pixels[..., :1], pixels.transpose(1, 0, 2)):
        assert np.array_equal(by_numpy(view, 32, 40), by_torch(np.ascontiguousarray(view), 32, 40))


def test_a_side_that_pytorch_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.nn.functional.interpolate", None)
    for shape in ((70_000, 1, 3), (1, 70_000, 3)):
        assert np.array_equal(by_torch(np.full(shape, 7, np.uint8), 32, 32), np.full((32, 32, 3), 7))


@pytest.mark.slow
@pytest.mark.skipif(bool(why_not_portable()), reason="this CPU has one of the kernels alone")
def test_pytorch_gives_the_same_bytes_without_avx2(tmp_path: Path) -> None:
    """Its portable kernel stands for processors of other kinds."""
    pixels = noise(375, 500)
    np.save(tmp_path / "picture.npy", pixels)
    code = (
        "import numpy, sys, torch; from stages.prepare.resize import by_torch; pixels = numpy.load(sys.argv[1]); "
        "numpy.savez(sys.argv[2], *[by_torch(pixels, side, side) for side in (32, 224)]); "
        "print(torch.backends.cpu.get_cpu_capability())"
    )
    for capability in ("default", "avx2"):
        target = tmp_path / f"{capability}.npz"
        done = run([sys.executable, "-c", code, tmp_path / "picture.npy", target], ROOT, ATEN_CPU_CAPABILITY=capability)
        assert done.stdout.strip() == capability.upper()
        small, large = np.load(target).values()
        assert np.array_equal(small, by_numpy(pixels, 32, 32))
        assert np.array_equal(large, by_numpy(pixels, 224, 224))
