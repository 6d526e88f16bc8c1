"""What of data/ DVC tracks: all but what .dvcignore hides. What only this machine has must not decide a result."""

from collections.abc import Callable
from pathlib import Path

from stages.common.errors import UserError

DVCIGNORE = ".dvcignore"


def hidden_from_dvc(root: Path) -> Callable[[str], bool]:
    """Whether .dvcignore, beside the folder `root`, hides a path below `root`; that of a folder ends with a slash.

    Its patterns are those of gitignore (docs: DVC, .dvcignore). A folder that is hidden hides all that is in it, so ask
    for it first. UserError where the file is not UTF-8.
    """
    file = root.parent / DVCIGNORE
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError:
        lines = []
    except UnicodeDecodeError as error:
        raise UserError(
            f"{file}: not UTF-8 ({error}). `git checkout {DVCIGNORE}` restores the committed one."
        ) from None
    lines = [line for line in lines if line and not line.startswith("#") and not _is_elsewhere(line, root.name)]
    # Most are plain names, for which a set is quicker than an expression, as long as no pattern takes one back.
    plain = set() if any(line.startswith("!") for line in lines) else {line for line in lines if _is_plain(line)}
    names = {line.removeprefix("\\") for line in plain}
    patterns = [line for line in lines if line not in plain]
    # Imported here: what looks at pictures alone, such as the service, has no pathspec.
    import pathspec

    match = pathspec.GitIgnoreSpec.from_lines(patterns).match_file

    def is_hidden(path: str) -> bool:
        name = path.rstrip("/").rpartition("/")[2]
        return name in names or (bool(patterns) and match(f"{root.name}/{path}"))

    return is_hidden


def _is_plain(pattern: str) -> bool:
    """Whether it stands for the files and folders of one name, wherever they are."""
    return not set(pattern.removeprefix("\\#")) & set("/*?[\\")


def _is_elsewhere(pattern: str, folder: str) -> bool:
    """Whether a pattern with a slash in it, which stands for one place, cannot stand for one below `folder`."""
    pattern = pattern.removeprefix("!").rstrip("/")
    first = pattern.removeprefix("/").partition("/")[0]
    return "/" in pattern and first != folder and not set(first) & set("*?[\\")
