"""Whether a model is the one that dvc.lock records. DVC does not tell: what a remote delivers under the name of a
digest, it takes for the content with that digest."""

from pathlib import Path

from stages.common.errors import UserError
from stages.common.versions import LOCK, locked_versions, md5_of


def require_recorded(files: list[Path]) -> bool:
    """Compare files of one folder with the dvc.lock beside that folder; whether it names all of them. UserError where
    the content of one is another than it names."""
    root = files[0].resolve().parent.parent
    if not (root / LOCK).exists():
        return False
    versions = locked_versions(root)
    named = 0
    for file in files:
        version = versions.get(file.resolve().relative_to(root).as_posix())
        if version is None or version.is_folder:
            continue
        named += 1
        digest = md5_of(file)
        if digest != version.md5:
            raise UserError(
                f"{file}: not the file that {LOCK} records: expected MD5 {version.md5}, got {digest}. If you trained "
                "it without DVC, `dvc commit train` records it. If not, somebody changed it, here or in the remote: "
                f"remove it, and `make results` gets what {LOCK} names, or `dvc repro` makes it."
            )
    return named == len(files)
