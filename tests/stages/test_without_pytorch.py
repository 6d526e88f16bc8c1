"""What serves a model reads pictures as prepare does, with the few packages of the group `serve`."""

import sys
import tomllib
from pathlib import Path

import numpy as np
from packaging.requirements import Requirement
from PIL import Image

from stages.prepare.picture import decode, to_square
from stages.prepare.resize import by_torch
from tests.project import ROOT, run

MODULES = {"pillow": "PIL", "pyyaml": "yaml", "scikit-learn": "sklearn"}


def packages_left_out() -> set[str]:
    """Modules of the packages that the pipeline has and the service has not."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    names = {
        group: {Requirement(line).name for line in groups[group]} for group in ("prepare", "train", "workflow", "serve")
    }
    left_out = (names["prepare"] | names["train"] | names["workflow"]) - names["serve"]
    return {MODULES.get(name, name) for name in left_out}


def without(packages: set[str]) -> str:
    """A line of Python after which none of the packages can be imported."""
    return f"import sys; sys.modules.update(dict.fromkeys({sorted(packages)!r})); "


def test_pictures_are_read_without_the_training_packages(tmp_path: Path) -> None:
    """To the bytes of prepare."""
    left_out = packages_left_out()
    assert {"torch", "pydantic", "dvc", "yaml", "pathspec"} <= left_out
    assert {"numpy", "PIL", "simplejpeg"}.isdisjoint(left_out)
    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.jpg")
    code = without(left_out) + (
        "import numpy; from stages.prepare import jpeg, kinds, listing, png, reader; "
        "from stages.prepare.picture import decode, to_square; "
        "picture = decode(open(sys.argv[1], 'rb').read()); numpy.save(sys.argv[2], to_square(picture.rgb, 32, 'crop'))"
    )
    run([sys.executable, "-c", code, tmp_path / "picture.jpg", tmp_path / "square.npy"], ROOT)
    picture = decode((tmp_path / "picture.jpg").read_bytes())
    assert np.array_equal(np.load(tmp_path / "square.npy"), to_square(picture.rgb, 32, "crop", by_torch))
