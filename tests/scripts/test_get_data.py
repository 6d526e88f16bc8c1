"""`make data`: the remote first, the sample only where data.dvc names it, nobody's images touched."""

import hashlib
import json
import re
import shutil
from pathlib import Path

import yaml

from scripts.sample import DVC_MD5
from tests.project import BIN, refusal, run, write_images


def test_data_dvc_of_this_project_or_its_users_is_found(clone: Path) -> None:
    """The committed data.dvc names the sample, and `make data` leaves DVC content with data/."""
    assert yaml.safe_load((clone / "data.dvc").read_text())["outs"][0]["md5"] == DVC_MD5
    assert "wrote the embedded sample" in run("make data", clone).stdout
    assert len(list((clone / "data").rglob("*.png"))) == 1797
    assert run([BIN / "dvc", "status", "data.dvc"], clone).stdout.strip() == "Data and pipelines are up to date."


def test_the_remote_comes_first(clone: Path) -> None:
    """Another version than the sample, pushed and then lost here, comes back from the remote."""
    write_images(clone / "data", {"cat": 2, "dog": 2})
    run(f"{BIN}/dvc add --quiet data && {BIN}/dvc push --quiet && rm -r data .dvc/cache", clone)
    assert "from the cache or the remote" in run("make data", clone).stdout
    assert len(list((clone / "data").rglob("*.png"))) == 4


def test_a_version_that_nobody_has(clone: Path) -> None:
    """The message names the version, gives DVC's reason and the remedy; the sample is not put in its place."""
    write_images(clone / "data", {"cat": 2, "dog": 2})
    run(f"{BIN}/dvc add --quiet data && rm -r data .dvc/cache", clone)
    text = refusal(run("make repro", clone, expect=2))
    assert "neither the cache nor the remote could give" in text
    assert "dvc push" in text
    assert not (clone / "data").exists()


def test_a_branch_that_leads_data_or_dvc_elsewhere(clone: Path) -> None:
    """A listing that names files outside of data/, and an option that runs a command: refused, whatever asks DVC."""
    write_images(clone / "data", {"cat": 1})
    run(f"{BIN}/dvc add --quiet data && {BIN}/dvc push --quiet", clone)
    store = clone / "dvc-storage/files/md5"
    (listing,) = store.rglob("*.dir")
    entries = json.loads(listing.read_text())
    planted = json.dumps([*entries, {"md5": entries[0]["md5"], "relpath": "../yaml.py"}]).encode()
    name = hashlib.md5(planted).hexdigest()
    (store / name[:2]).mkdir(exist_ok=True)
    (store / name[:2] / f"{name[2:]}.dir").write_bytes(planted)
    pointer = clone / "data.dvc"
    pointer.write_text(re.sub(r"md5: \w+\.dir", f"md5: {name}.dir", pointer.read_text()))
    shutil.rmtree(clone / "data")
    text = refusal(run("make repro", clone, expect=2))
    assert "data: its listing names what may not be in it:\n  '../yaml.py'" in text
    assert not (clone / "yaml.py").exists()
    assert not (clone / "data").exists()
    with (clone / ".dvc/config").open("a") as stream:
        stream.write("['remote \"fast\"']\n    url = s3://bucket/a\n    configpath = ../mirror.conf\n")
    for command in ("make data", f"{BIN}/python -m scripts.repro", f"{BIN}/python -m storage.config"):
        assert "remote 'fast': 'configpath'" in refusal(run(command, clone, expect=None))


def test_data_that_dvcs_cache_has_lost(clone: Path) -> None:
    write_images(clone / "data", {"cat": 1})
    run(f"{BIN}/dvc add --quiet data && rm -r .dvc/cache", clone)
    assert "is as data.dvc says, but DVC's cache has lost it" in run("make data", clone).stdout
    run(f"{BIN}/dvc commit --quiet data.dvc", clone)
    assert run("make data", clone).stdout == ""


def test_somebodys_images_are_left_alone(clone: Path) -> None:
    write_images(clone / "data", {"cat": 1})
    done = run("make data", clone)
    assert "left as it is" in done.stdout
    assert [path.name for path in (clone / "data").rglob("*.png")] == ["0000.png"]
    (clone / "data").rename(clone.parent / "disk")
    (clone / "data").symlink_to(clone.parent / "disk")
    assert "data: a link" in refusal(run("make data", clone, expect=2))


def test_an_empty_folder_is_filled(clone: Path) -> None:
    (clone / "data").mkdir()
    assert "wrote the embedded sample" in run("make data", clone).stdout


def test_data_dvc_missing_or_broken(clone: Path) -> None:
    (clone / "data.dvc").write_text("outs: []\n")
    assert "data.dvc: not a file that `dvc add data` wrote" in refusal(run("make data", clone, expect=2))
    (clone / "data.dvc").unlink()
    assert "data.dvc: no such file" in refusal(run("make data", clone, expect=2))
