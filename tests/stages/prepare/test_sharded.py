"""prepare as shards: what the arrays would hold, in files of which those are kept that have not changed; the same bytes
whatever an earlier run has left."""

import hashlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.common import corrections, shards
from stages.common.corrections import Correction
from stages.common.errors import UserError
from stages.prepare import __main__ as prepare
from stages.prepare import decode, earlier, picture, processes, sharded
from stages.prepare.facts import Memory
from tests.project import edit_params, write_images
from tests.stages.prepare.test_decode import start
from tests.stages.prepare.test_prepare import manifest

SMALL_SHARDS = "from stages.prepare import sharded\nsharded._MOST_BYTES = 2**15\n"


@pytest.fixture
def images(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """data/ with a class of most images beside ones of ten, params for shards of it, and shards of a few images."""
    write_images(workspace / "data", {"cat": 100, "dog": 10, "owl": 10}, side=16)
    edit_params(workspace, image_size=64, shards_above=1)
    monkeypatch.setattr(sharded, "_MOST_BYTES", 2**15)
    return workspace


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The pictures that were decoded, a number of bytes for each."""
    seen: list[str] = []

    def decode_and_count(raw: bytes, canvas: picture.Canvas) -> picture.Decoded:
        seen.append(f"{len(raw)}")
        return picture.decode(raw, canvas)

    monkeypatch.setattr(decode, "decode", decode_and_count)
    return seen


def contents() -> dict[str, bytes]:
    """All that prepare has written."""
    files = [path for folder in ("prepared", "metrics") for path in Path(folder).rglob("*") if path.is_file()]
    return {path.as_posix(): path.read_bytes() for path in files}


def anew() -> dict[str, bytes]:
    """What prepare writes where there is no earlier run."""
    kept = [Path(name).rename(f"{name}.kept") for name in ("prepared", ".dvc", "metrics") if Path(name).exists()]
    prepare.main()
    found = contents()
    for path in kept:
        shutil.rmtree(path.name.removesuffix(".kept"), ignore_errors=True)
        path.rename(path.name.removesuffix(".kept"))
    return found


def pictures(split: str, channels: int) -> np.ndarray:
    """The pixels of a split, as readers find them."""
    info = json.loads(Path("prepared/dataset.json").read_text())
    files = [Path("prepared", name).read_bytes() for name in shards.names_of(split, info["sha256"])]
    places = shards.read_places(Path(f"prepared/{split}-images.npy"))
    assert [len(file) for file in files] == shards.bytes_of_shards(places)
    return np.array(
        [shards.decode(files[shard][offset : offset + size], channels) for shard, offset, size in places.tolist()]
    )


@pytest.mark.parametrize("quality", [0, 95])
def test_shards_hold_what_the_arrays_would(images: Path, quality: int) -> None:
    """In the order of their SHA-256; with a copy, a file that is no image, and a corrected label among them."""
    shutil.copy("data/cat/0001.png", "data/cat/copy.png")
    Path("data/dog/notes.txt").write_text("not an image")
    edit_params(images, on_corrupt="quarantine", shard_quality=quality, shards_above=0)
    prepare.main()
    rows = manifest(images)
    one = Correction("cat/0002.png", rows["cat/0002.png"]["sha256"], "relabel", "owl", "an owl")
    Path("corrections.csv").write_text(corrections.text([one]))
    prepare.main()
    rows, info = manifest(images), json.loads(Path("prepared/dataset.json").read_text())
    arrays = {
        name: np.load(f"prepared/{name}.npy") for name in ("train-images", "val-images", "train-labels", "val-labels")
    }
    metrics = Path("metrics/prepare.json").read_bytes()
    edit_params(images, shards_above=1)
    prepare.main()
    assert manifest(images) == rows
    assert Path("metrics/prepare.json").read_bytes() == metrics
    sharded_info = json.loads(Path("prepared/dataset.json").read_text())
    digests = sharded_info.pop("sha256")
    assert sharded_info == {key: value for key, value in info.items() if key != "sha256"}
    for name, digest in digests.items():
        assert hashlib.sha256(Path("prepared", name).read_bytes()).hexdigest() == digest
    assert {path.as_posix() for path in Path("prepared/shards").iterdir()} == {
        f"prepared/{name}" for name in digests if name.startswith("shards/")
    }
    for split in ("train", "val"):
        order = np.argsort([row["sha256"] for row in rows.values() if (row["split"], row["status"]) == (split, "kept")])
        assert (np.load(f"prepared/{split}-labels.npy") == arrays[f"{split}-labels"][order]).all()
        error = np.abs(pictures(split, 1).astype(int) - arrays[f"{split}-images"][order])
        assert error.max() == 0 if quality == 0 else 0 < error.mean() < 2
    assert len(shards.names_of("train", digests)) > 2
    assert max(Path("prepared", name).stat().st_size for name in digests) <= max(2**15, 200 * 64 * 64)


def test_only_what_is_new_is_decoded(images: Path, decoded: list[str]) -> None:
    """And a shard without anything new is the earlier file itself; the bytes are those of a run without memory."""
    prepare.main()
    assert len(decoded) == 120
    before = {path.name: path.stat().st_ino for path in Path("prepared/shards").iterdir()}
    Path("data/cat/0003.png").rename("data/cat/renamed.png")
    Path("data/cat/0005.png").unlink()
    write_images(images / "more", {"cat": 2}, side=16, colour=True, seed=5)
    for path in Path("more/cat").iterdir():
        path.rename(f"data/cat/new-{path.name}")
    decoded.clear()
    prepare.main()
    assert len(decoded) == 2
    after = {path.name: path.stat().st_ino for path in Path("prepared/shards").iterdir()}
    assert len(set(before.items()) & set(after.items())) >= len(before) - 3
    assert contents() == anew()
    # Other splits: pictures move between shards.
    edit_params(images, split_seed=1)
    decoded.clear()
    prepare.main()
    assert decoded == []
    assert contents() == anew()
    # Another recipe: nothing of the earlier one is used.
    edit_params(images, shard_quality=90)
    decoded.clear()
    prepare.main()
    assert len(decoded) == 121
    assert contents() == anew()


def shard_files() -> list[Path]:
    return sorted(Path("prepared/shards").iterdir())


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def flip_facts() -> None:
    """Another bit in each row: of the width, say."""
    (file,) = Path(".dvc/tmp/prepare").iterdir()
    with sqlite3.connect(file) as database:
        for key, value in database.execute("select key, value from facts").fetchall():
            database.execute("update facts set value = ? where key = ?", (value[:44] + b"\xff" + value[45:], key))
    database.close()


def overwrite_memory(size: int | None) -> None:
    (file,) = Path(".dvc/tmp/prepare").iterdir()
    content = file.read_bytes()
    start = 0 if size is None else size
    file.write_bytes(content[:start] + b"\xa5" * (len(content) - start))


@pytest.mark.parametrize(
    ("damage", "decodes"),
    [
        (lambda: shard_files()[0].unlink(), "some"),
        (lambda: os.truncate(shard_files()[2], 3000), "some"),
        (lambda: flip(shard_files()[3], 5000), "some"),
        (lambda: shutil.copy(shard_files()[1], shard_files()[4]), "some"),
        (lambda: flip(Path("prepared/train-images.npy"), 200), "all"),
        (lambda: flip(Path("prepared/manifest.csv"), -90), "all"),
        (lambda: flip(Path("prepared/dataset.json"), 40), "all"),
        (lambda: Path("prepared/val-images.npy").unlink(), "all"),
        (lambda: shutil.rmtree("prepared"), "all"),
        (lambda: shutil.rmtree(".dvc"), "all"),
        (lambda: overwrite_memory(None), "all"),
        (lambda: overwrite_memory(4096), "all"),
        (flip_facts, "all"),
    ],
)
def test_nothing_of_an_earlier_run_is_trusted(
    images: Path, decoded: list[str], damage: Callable[[], object], decodes: str
) -> None:
    """Earlier shards and the memory, missing or damaged: the same bytes all the same."""
    prepare.main()
    whole = contents()
    damage()
    decoded.clear()
    prepare.main()
    assert contents() == whole
    assert len(decoded) == 120 if decodes == "all" else 0 < len(decoded) < 60
    decoded.clear()
    prepare.main()
    assert contents() == whole
    assert decoded == []


def test_a_failure_leaves_the_earlier_shards(images: Path, decoded: list[str]) -> None:
    """And what it has decoded is known to the next run, which needs it again where no shard has it."""
    prepare.main()
    whole = contents()
    shutil.copy("data/cat/0007.png", "data/dog/copy.png")
    write_images(images / "data", {"fox": 10}, side=16, seed=9)
    with pytest.raises(UserError, match="in more than one class"):
        prepare.main()
    assert contents() == whole
    assert not Path(".prepared.tmp").exists()
    Path("data/dog/copy.png").unlink()
    decoded.clear()
    prepare.main()
    assert len(decoded) == 10
    assert contents() == anew()


def test_data_that_change_under_way_are_refused(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look at a file and its second reading, for want of an earlier shard."""
    prepare.main()
    shutil.rmtree("prepared")
    find = earlier.find

    def change(table: sqlite3.Connection, folder: Path, memory: Memory) -> earlier.Earlier:
        Image.new("L", (16, 16)).save("data/cat/0007.png")
        return find(table, folder, memory)

    monkeypatch.setattr(earlier, "find", change)
    with pytest.raises(UserError, match=r"cat/0007\.png: other pixels than before"):
        prepare.main()


def test_the_form_changes(images: Path) -> None:
    """From shards to arrays and back; somebody's file among the shards stays."""
    prepare.main()
    whole = contents()
    edit_params(images, shards_above=0)
    prepare.main()
    assert not Path("prepared/shards").exists()
    assert contents() == anew()
    edit_params(images, shards_above=1)
    prepare.main()
    assert contents() == whole
    Path("prepared/shards/thesis.txt").touch()
    with pytest.raises(UserError, match=r"holds what was not made here: 'shards/thesis\.txt'"):
        prepare.main()


@pytest.mark.parametrize("cores", [2, 3])
def test_processes_have_no_say_in_the_shards(images: Path, monkeypatch: pytest.MonkeyPatch, cores: int) -> None:
    alone = anew()
    monkeypatch.setattr(processes, "_CHUNK_IMAGES", 16)
    monkeypatch.setattr(processes, "_ALONE_BELOW_BYTES", 0)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    prepare.main()
    assert contents() == alone


@pytest.mark.slow
@pytest.mark.parametrize("killed", ["decode.shards.encode", "sharded._spooled", "prepare.write_json"])
def test_a_kill_leaves_the_earlier_shards(images: Path, killed: str) -> None:
    """Of a process that decodes or writes shards, or of the first one: the next run makes what it would have made."""
    prepare.main()
    whole = contents()
    write_images(images / "data", {"fox": 10}, side=16, seed=9)
    process = start(images, f"{SMALL_SHARDS}{killed} = lambda *_: os.kill(os.getpid(), signal.SIGKILL)")
    process.communicate(timeout=60)
    assert process.returncode == (-signal.SIGKILL if killed == "prepare.write_json" else 1)
    assert contents() == whole
    prepare.main()
    assert contents() == anew()
    assert not Path(".prepared.tmp").exists()


@pytest.mark.slow
def test_a_full_disk(images: Path) -> None:
    """Of the spool and the shards: a message, and the earlier shards stay. Of the memory: the same result without."""
    prepare.main()
    whole = contents()
    disk = images / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=900k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("no right to mount a small file system")
    try:
        (disk / "params.yaml").write_text(Path("params.yaml").read_text())
        shutil.copytree("data", disk / "data")
        (disk / "prepared").mkdir()
        (disk / "prepared" / "manifest.csv").write_text("of an earlier run")
        process = start(disk, SMALL_SHARDS)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 1
        assert "No space left on device" in errors
        assert "Traceback" not in errors
        assert [path.name for path in (disk / "prepared").iterdir()] == ["manifest.csv"]
        assert not (disk / ".prepared.tmp").exists()
        shutil.rmtree(disk / "data")
        shutil.rmtree(".dvc")
        (disk / "tmp").mkdir(parents=True)
        Path(".dvc").symlink_to(disk)
        with (disk / "filler").open("wb", buffering=0) as filler, pytest.raises(OSError, match="No space"):
            while True:
                filler.write(bytes(4096))
        shutil.rmtree("prepared")
        _, errors = start(images, SMALL_SHARDS).communicate(timeout=60)
        assert "cannot be written (" in errors
        assert contents() == whole
    finally:
        subprocess.run(["umount", disk], check=True)
