"""The pages of the documentation, and their commands, typed as a reader would."""

import re
import subprocess
from pathlib import Path

from scripts.own_files import is_own, is_scaffold
from tests.project import BIN, ROOT, run

# A project's README.md is its own.
PAGES = sorted(
    page
    for page in (path.relative_to(ROOT).as_posix() for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
    if is_scaffold(ROOT) or not is_own(page)
)
TEXTS = {page: (ROOT / page).read_text() for page in PAGES}


def fenced(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXTS[page], re.M | re.S)


def type_commands(page: str, folder: Path, edits: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    """Each ```sh block of a page, in order, in one shell that stops at the first failure, with the environment active.

    `edits` puts in what a reader has of their own; each must be there. No .venv is made anew.
    """
    script = "\n".join(fenced(page, "sh"))
    for old, new in edits.items():
        assert old in script, f"{page} has no {old!r}"
        script = script.replace(old, new)
    file = folder.with_name(f"{folder.name}.sh")
    file.write_text(f"set -euo pipefail\nsource {BIN}/activate\nset -x\n{script}")
    return run(["bash", file], folder, timeout=400)
