"""Bring data/ to the version that data.dvc names, and the pretrained weights that params.yaml names: `make data`.

From the cache or the remote when one of them has it; else the embedded sample, if and only if data.dvc names the
sample. A data/ that holds something else is left as it is: those are somebody's images.
"""

import subprocess
import sys
from pathlib import Path

from scripts.sample import DVC_MD5, write_sample
from stages.common.errors import UserError, run_main
from stages.common.params import PARAMS_FILE, read_params
from stages.common.versions import DATA, POINTER, data_version, import_source
from stages.common.weight_names import why_no_weights
from stages.prepare.layouts import refuse_link
from storage.config import require_safe
from storage.pull import AbsentError, opened, pull


def main() -> None:
    root = Path()
    require_safe(root)
    get_data(root)
    if name := read_params(PARAMS_FILE).get("weights"):
        get_weights(root, name)


def get_weights(root: Path, name: object) -> None:
    """What train starts from. Where it is nowhere, that is said: a result that was pushed needs none."""
    if not isinstance(name, str) or why_no_weights(name):
        return  # `python -m stages.params` says what is wrong
    path = f"weights/{name}.safetensors"
    if (root / path).exists():
        return
    try:
        pull(root, [path])
        print(f"data: {path} is there, from the cache or the remote")
    except AbsentError as absent:
        print(f"data: {absent} Training needs it.")


def get_data(root: Path) -> None:
    data = root / DATA
    refuse_link(data)
    version = data_version(root)
    if data.is_dir() and any(data.iterdir()):
        remark = why_not_current()
        if remark:
            print(f"data: {remark}")
        return
    try:
        pull(root, [DATA])
        print("data: data/ is there, from the cache or the remote")
        return
    except AbsentError as absent:
        refusal = absent.refusal
    if version.name != DVC_MD5 and (source := import_source(root)):
        raise UserError(
            f"data.dvc imports version {version.name} from {source}, and neither the cache nor the remote has it."
            f"{f' The remote cannot be read: {refusal}' if refusal else ''}\n`dvc pull {POINTER}` gets it from there, "
            "with your keys; `dvc push` then sends what was imported from a URL to the remote."
        )
    if version.name != DVC_MD5:
        raise UserError(
            f"data.dvc names version {version.name}, which neither the cache nor the remote could give, and which "
            f"is not the embedded sample.{f' The remote cannot be read: {refusal}' if refusal else ''}\n"
            "Ask whoever made that version to run `dvc push`, check `dvc remote list` and your credentials, or "
            "put images into data/ and run `dvc add data`."
        )
    write_sample(data)
    commit = subprocess.run(
        ["dvc", "commit", "--quiet", str(POINTER)], capture_output=True, encoding="utf-8", errors="replace"
    )
    if commit.returncode:
        raise UserError(
            f"data/ is written, but not in DVC's cache, where `dvc push` looks for it. DVC says:\n"
            f"{commit.stderr.strip()}\nMend that, then run `dvc commit {POINTER}`."
        )
    if refusal:
        print(f"data: the remote cannot be read ({refusal})")
    print("data: wrote the embedded sample, which data.dvc names, into data/")


def why_not_current() -> str:
    """What is to say of a data/ that is there; an empty text where it is the version that data.dvc names."""
    with opened(Path()) as repo:
        # `dvc status` says "not in cache" in both cases.
        (output,) = repo.stage.load_one(str(POINTER)).outs
        if output.changed_checksum():
            return (
                "data/ is not the version that data.dvc names; left as it is. `dvc repro` takes it as the new version"
            )
        if output.changed_cache():
            return f"data/ is as data.dvc says, but DVC's cache has lost it; `dvc commit {POINTER}` keeps it"
    return ""


if __name__ == "__main__":
    if not Path("dvc.yaml").exists():
        sys.exit("error: run this in the project's folder.")
    run_main(main)
