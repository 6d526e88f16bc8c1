"""Bring data/ to the version that data.dvc names: `make data`.

From the cache or the remote when one of them has it; else the embedded sample, if and only if data.dvc names the
sample. A data/ that holds something else is left as it is: those are somebody's images.
"""

import subprocess
import sys
from pathlib import Path

import yaml

from scripts.sample import DVC_MD5, write_sample
from stages.common.errors import UserError, run_main

DATA = Path("data")
POINTER = Path("data.dvc")


def main() -> None:
    version = named_version()
    if DATA.is_dir() and any(DATA.iterdir()):
        if subprocess.run(["dvc", "status", "--quiet", str(POINTER)]).returncode:
            print(
                "data: data/ is not the version that data.dvc names; left as it is. "
                "`dvc repro` takes it as the new version"
            )
        return
    pull = subprocess.run(["dvc", "pull", str(POINTER)], capture_output=True, text=True)
    if pull.returncode == 0:
        print("data: data/ is there, from the cache or the remote")
        return
    if version != DVC_MD5:
        raise UserError(
            f"data.dvc names version {version}, which neither the cache nor the remote could give, and which "
            f"is not the embedded sample. DVC says:\n{pull.stderr.strip() or pull.stdout.strip()}\n"
            "Ask whoever made that version to run `dvc push`, check `dvc remote list` and your credentials, or "
            "put images into data/ and run `dvc add data`."
        )
    write_sample(DATA)
    commit = subprocess.run(["dvc", "commit", "--quiet", str(POINTER)], capture_output=True, text=True)
    if commit.returncode:
        raise UserError(
            f"data/ is written, but not in DVC's cache, where `dvc push` looks for it. DVC says:\n"
            f"{commit.stderr.strip()}\nMend that, then run `dvc commit {POINTER}`."
        )
    refused = why_remote_fails(pull.stderr)
    if refused:
        print(f"data: the remote cannot be read ({refused})")
    print("data: wrote the embedded sample, which data.dvc names, into data/")


def why_remote_fails(stderr: str) -> str:
    """Why `dvc pull` could not read the remote, by what it printed; an empty text where the remote only lacks what was
    asked for."""
    errors = [line.removeprefix("ERROR: ") for line in stderr.splitlines() if line.startswith("ERROR: ")]
    if "Missing cache files:" in stderr:
        # What follows from a file that nobody pushed.
        errors = [error for error in errors if "Checkout failed for following targets" not in error]
        return errors[0] if errors else ""
    return errors[0] if errors else "dvc pull failed"


def named_version() -> str:
    """The hash in data.dvc. UserError where the file is missing or not DVC's."""
    try:
        return str(yaml.safe_load(POINTER.read_text())["outs"][0]["md5"])
    except FileNotFoundError:
        raise UserError(f"{POINTER}: no such file. Put images into data/ and run `dvc add data`.") from None
    except (yaml.YAMLError, KeyError, IndexError, TypeError) as error:
        raise UserError(
            f"{POINTER}: not a file that `dvc add data` wrote ({error!r}). `git checkout {POINTER}` restores it."
        ) from None


if __name__ == "__main__":
    if not Path("dvc.yaml").exists():
        sys.exit("error: run this in the project's folder.")
    run_main(main)
