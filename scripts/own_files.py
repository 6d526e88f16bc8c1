"""What in this repository is the project's own, not the scaffold's.

`make new` begins it anew, `make upgrade` keeps it, and the tests put the sample in its place: code that came from the
scaffold must not depend on it.
"""

import re
from pathlib import Path, PurePosixPath

# The title of README.md; a project has its own there.
SCAFFOLD = "dvc-pytorch-scaffold"
# What `dvc repro` writes and Git keeps.
RESULT = (
    "claim/confusion.csv",
    "claim/dvc.lock",
    "claim/per_class.csv",
    "claim/test.json",
    "dvc.lock",
    "export/dvc.lock",
    "export/dvc.yaml",
    "metrics",
    "models",
    "plots",
)
# Files, and all that is below folders.
OWN = (
    ".dvc/config",
    "LICENSE",
    "README.md",
    "README.zh-CN.md",
    "corrections.csv",
    "data.dvc",
    "params.yaml",
    "weights",
    *RESULT,
)
README = Path("README.md")
# Its table [project] is the project's own, the rest the scaffold's.
PYPROJECT = "pyproject.toml"
# The scaffold's own front page in a project.
FRONT_PAGE = PurePosixPath("docs/scaffold.md")


def is_own(path: str) -> bool:
    """Whether a path in Git is one of the project's own."""
    return any(path == own or path.startswith(f"{own}/") for own in OWN)


def is_scaffold(root: Path = Path()) -> bool:
    """Whether README.md is still the scaffold's own front page: then this is no project yet."""
    readme = root / README
    return readme.is_file() and readme.read_text(encoding="utf-8", errors="replace").startswith(f"# {SCAFFOLD}\n")


def front_page(readme: str) -> str:
    """The scaffold's README.md as FRONT_PAGE: its links lead to the same files."""
    text = re.sub(r"^\[[^]\n]+\]\(README\.[\w-]+\.md\)\n\n?", "", readme, flags=re.M)
    text = re.sub(r"\]\((?!\w+:|#)", "](../", text)
    return text.replace("](../docs/", "](")
