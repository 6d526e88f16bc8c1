"""The sample: the very bytes that data.dvc names, made without a compressor."""

import io
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from scripts.sample import DVC_MD5, uncompressed_png, write_sample
from stages.common.errors import UserError
from tests.project import BIN, run


def test_png_is_read_back() -> None:
    """An independent decoder, which checks every checksum, reads the pixels that went in."""
    pixels = np.arange(200, dtype=np.uint8).reshape(10, 20)
    with Image.open(io.BytesIO(uncompressed_png(pixels.tobytes(), 20, 10))) as picture:
        assert np.array_equal(np.asarray(picture), pixels)


@pytest.mark.slow
def test_sample_is_what_dvc_computes(tmp_path: Path) -> None:
    """DVC, asked to add the sample, gives the hash by which the sample is known."""
    run([BIN / "dvc", "init", "--no-scm", "--quiet"], tmp_path)
    write_sample(tmp_path / "data")
    run([BIN / "dvc", "add", "--quiet", "data"], tmp_path)
    assert yaml.safe_load((tmp_path / "data.dvc").read_text())["outs"][0]["md5"] == DVC_MD5


def test_sample_is_all_the_digits(tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    write_sample(tmp_path)
    paths = sorted(tmp_path.rglob("*.png"), key=lambda path: path.name)
    digits = load_digits()
    assert [int(path.parent.name) for path in paths] == digits.target.tolist()
    grey_levels = np.stack([np.asarray(Image.open(path), np.float64) for path in paths])
    assert np.array_equal(np.round(grey_levels * 16 / 255), digits.images)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine.png").write_bytes(b"mine")
    with pytest.raises(UserError, match="not empty"):
        write_sample(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.png"]
