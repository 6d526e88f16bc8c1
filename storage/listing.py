"""The listing of a folder's files, which DVC keeps as an object of its own: `[{"md5": …, "relpath": …}, …]`.

DVC writes to whatever path a listing names, and fetches into its cache under whatever digest it names.
"""

import json
import re
from pathlib import Path

from stages.common.errors import UserError, listed
from stages.common.names import why_not_within

# About 2.5 million files; reading it takes some gigabytes of memory.
_LARGEST_BYTES = 256 * 2**20


def read_listing(file: Path, folder: str) -> dict[str, str]:
    """The MD5 of each file of `folder` by its path in it, from the object `file`. UserError where an entry is not the
    path of a file in the folder, or not a digest."""
    remedy = (
        f"Nothing was written. DVC makes no such listing: ask whoever committed this version of {folder} for another."
    )
    if (size := file.stat().st_size) > _LARGEST_BYTES:
        raise UserError(
            f"{folder}: its listing has {size / 2**20:.0f} MiB; expected {_LARGEST_BYTES // 2**20} MiB at most. Pack "
            "its files into archives (python -m scripts.pack)."
        )
    try:
        entries = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{folder}: its listing is not JSON ({error}). {remedy}") from None
    if not isinstance(entries, list):
        raise UserError(f"{folder}: its listing is a {type(entries).__name__}; expected a list. {remedy}")
    files: dict[str, str] = {}
    problems = []
    for entry in entries:
        if problem := _why_refused(entry):
            problems.append(problem)
        elif entry["relpath"] in files:
            problems.append(f"{entry['relpath']!r}: named twice")
        else:
            files[entry["relpath"]] = entry["md5"]
    folders = {path[: match.start()] for path in files for match in re.finditer("/", path)}
    problems += [f"{path!r}: a file and a folder" for path in sorted(folders & files.keys())]
    if problems:
        shown = problems[:20] + ([f"and {len(problems) - 20} more"] if len(problems) > 20 else [])
        raise UserError(f"{folder}: its listing names what may not be in it:\n{listed(shown)}\n{remedy}")
    return files


def _why_refused(entry: object) -> str:
    if not (isinstance(entry, dict) and entry.keys() == {"md5", "relpath"} and isinstance(entry["relpath"], str)):
        return f"{str(entry)[:100]!r}: expected md5 and relpath"
    if not (isinstance(entry["md5"], str) and re.fullmatch("[0-9a-f]{32}", entry["md5"])):
        return f"{entry['relpath']!r}: md5: expected 32 hexadecimal digits, got {str(entry['md5'])[:100]!r}"
    reason = why_not_within(entry["relpath"])
    return f"{entry['relpath'][:300]!r}: {reason}" if reason else ""
