"""Credentials where everybody would read them: in .dvc/config, in any file that Git has or would take, in notebooks.

The patterns for keys, tokens, passwords and random strings are those of detect-secrets
(https://github.com/Yelp/detect-secrets), and some that it lacks. A secret itself is never printed. A line with
`pragma: allowlist secret` in a comment, or under a comment `pragma: allowlist nextline secret`, is ignored.
"""

import argparse
import json
import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from detect_secrets.core.scan import scan_file
from detect_secrets.settings import default_settings

from stages.common.errors import UserError, listed, run_main

# Options of `dvc remote modify` whose value opens a storage (dvc/config_schema.py), and belongs into .dvc/config.local.
_DVC_CREDENTIALS = """
    access_key_id account_key client_secret connection_string custom_auth_header gdrive_client_secret oss_key_id
    oss_key_secret passphrase password sas_token secret_access_key session_token sse_customer_key token
""".split()
# Tokens of services that these teams use, which detect-secrets does not know or knows only between quotes.
_TOKENS = {
    "GitHub fine-grained token": r"\bgithub_pat_\w{22,}",
    "Hugging Face token": r"\bhf_[A-Za-z0-9]{30,}",
    "Google API key": r"\bAIza[\w-]{35}",
    "Weights & Biases key": r"(?i)wandb\b.{0,40}\b[0-9a-f]{40}\b",
    "Kaggle key": r'(?i)"username".{1,80}"key"\s*:\s*"[0-9a-f]{32}"',
    "token in an address": r"[?&](?:token|access_token|api_key|sig)=[\w%+/-]{20,}",
    "registry log-in": r'"auth"\s*:\s*"[A-Za-z0-9+/]{16,}=*"',
    "AWS secret": r"(?i)aws\w{0,20}(?:key|secret)\w*[\"']?\s*[=:]\s*[\"']?[A-Za-z0-9/+]{40}\b",
    "value of a password, key or token": r"(?i)(?:passw(?:or)?d|secret|token|api_?key)\w*\s*[=:]\s*"
    r"(?=\S*\d)(?=\S*[A-Za-z])[\w+/.-]{20,}(?![\w+/.(\[-])",
    "password in an address": r"\w://[^\s:/@$<{]+:[^\s:/@$<{]+@\w",
}
# Files that hold credentials by their nature.
_PRIVATE_FILES = (".env", ".dvc/config.local", ".netrc", ".pypirc", ".aws/credentials", ".docker/config.json")
_ALLOWED = "pragma: allowlist"


class Finding(NamedTuple):
    """Where a secret stands (`place`: a line, or a notebook's cell) and what kind it is."""

    path: str
    place: str
    kind: str


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.find_secrets",
        description="Fail where a file that Git has, or would take, holds a secret.",
    )
    parser.add_argument("files", nargs="*", help="these alone (default: all that Git does not ignore)")
    files = parser.parse_args().files or files_of_git()
    if missing := [path for path in files if not Path(path).is_file()]:
        raise UserError(f"secrets: no such file: {', '.join(missing)}")
    findings = find_secrets(files)
    if findings:
        lines = [f"{path}:{place}: {kind}" for path, place, kind in findings]
        raise UserError(
            f"secrets: {len(findings)} in files that Git would share\n{listed(lines)}\n"
            "Take them out: credentials of a remote by `dvc remote modify --local`, others into .env (.env.example). "
            "What was pushed is known: revoke it where it was issued. A false alarm: `pragma: allowlist secret` "
            "in a comment on its line."
        )
    print(f"secrets: none in {len(files)} files")


def files_of_git() -> list[str]:
    """What Git tracks, and what `git add .` would add."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate"]
    listing = subprocess.run(command, capture_output=True, text=True)
    if listing.returncode:
        raise UserError(f"secrets: git cannot list the files here: {listing.stderr.strip()}")
    return [path for path in listing.stdout.split("\0") if path and Path(path).is_file()]


def find_secrets(paths: Iterable[str]) -> list[Finding]:
    """The secrets in these files, in order of their places. A file that is not text has none. Raises OSError."""
    with default_settings():
        return [finding for path in paths for finding in sorted(_in_one(path), key=_place)]


def _place(finding: Finding) -> tuple[int, str, str]:
    return len(finding.place), finding.place, finding.kind


def _in_one(path: str) -> set[Finding]:
    found = set()
    posix = Path(path).as_posix()
    if posix.endswith(_PRIVATE_FILES):
        found.add(Finding(path, "1", "a file for credentials, which Git must not track"))
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return found
    cells = _cells(path, text)
    places = _in_file(Path(path), text) if cells is None else _in_notebook(cells)
    found |= {Finding(path, place, kind) for place, kind in places}
    for number, line in enumerate(text.splitlines(), start=1):
        if _ALLOWED in line:
            continue
        found |= {Finding(path, str(number), kind) for kind in _kinds_of_token(line)}
        option = re.match(r"\s*(\w+)\s*=\s*\S", line)
        if option and option[1] in _DVC_CREDENTIALS and posix.endswith(".dvc/config"):
            found.add(Finding(path, str(number), f"{option[1]}, a credential of a remote"))
    return found


def _kinds_of_token(line: str) -> list[str]:
    return [kind for kind, pattern in _TOKENS.items() if re.search(pattern, line)]


def _in_file(path: Path, text: str) -> Iterator[tuple[str, str]]:
    """Place and kind of what detect-secrets finds in a text file, whose content is `text`."""
    lines = text.splitlines()
    for secret in scan_file(str(path)):
        # The digest of a package, an image or an action says what is used; it opens nothing.
        if not re.search(
            rf"(?:sha256:|uses: \S+@){re.escape(secret.secret_value or '')}\b", lines[secret.line_number - 1]
        ):
            yield str(secret.line_number), secret.type


def _cells(path: str, text: str) -> list[Any] | None:
    """The cells of a notebook, whose texts are escaped in the file; None where the file is no notebook."""
    try:
        return list(json.loads(text)["cells"]) if path.endswith(".ipynb") else None
    except (ValueError, KeyError, TypeError):
        return None


def _in_notebook(cells: list[Any]) -> Iterator[tuple[str, str]]:
    """Place and kind of the secrets in the cells' sources and outputs. A picture, base64 of its bytes, holds none."""
    for number, cell in enumerate(cells, start=1):
        parts = [("source", cell.get("source", []))]
        for output in cell.get("outputs", []):
            parts += [("output", output.get("text", [])), ("output", output.get("traceback", []))]
            data = output.get("data", {}).items()
            parts += [("output", content) for kind, content in data if kind.startswith("text/")]
        for part, content in parts:
            text = content if isinstance(content, str) else "".join(content)
            with TemporaryDirectory() as folder:
                (Path(folder) / "cell.txt").write_text(text)
                kinds = {kind for _, kind in _in_file(Path(folder) / "cell.txt", text)}
            for line in text.splitlines():
                kinds |= {kind for kind in _kinds_of_token(line) if _ALLOWED not in line}
            yield from ((f"cell {number}, {part}", kind) for kind in kinds)


if __name__ == "__main__":
    run_main(main)
