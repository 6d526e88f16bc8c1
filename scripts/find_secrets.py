"""Credentials where everybody would read them: in any file that Git has or would take, or had in the branch's commits.

secret_patterns says what a secret looks like. A secret itself is never printed. A line with `pragma: allowlist secret`
in a comment, or under a comment `pragma: allowlist nextline secret`, is ignored, also in the commits before.
"""

import argparse
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from scripts.git_contents import LARGEST, Content, in_work_tree, of_repository
from scripts.secret_formats import secrets_in_bytes
from scripts.secret_patterns import allowed_lines, secrets_in
from scripts.secret_texts import texts
from stages.common.errors import UserError, listed, run_main

# Options of `dvc remote modify` whose value opens a storage (dvc/config_schema.py), and belongs into .dvc/config.local.
_DVC_CREDENTIALS = """
    access_key_id account_key client_secret connection_string custom_auth_header gdrive_client_secret oss_key_id
    oss_key_secret passphrase password sas_token secret_access_key session_token sse_customer_key token
""".split()
# Files that hold credentials by their nature, where no suffix says that they only show which settings there are.
_PRIVATE = re.compile(
    r"(?:^|/)(?!.*\.(?:example|sample|template|dist|defaults?)$)"
    r"(?:\.env(?:\..+)?|[._]netrc|\.pypirc|\.pgpass|\.htpasswd|\.my\.cnf|\.git-credentials|\.vault-token|\.s3cfg|\.boto|"
    r"\.dvc/config\.local|\.aws/credentials|\.docker/config\.json|\.dockercfg|\.kube/config|kubeconfig(?:\.ya?ml)?|"
    r"rclone\.conf|kaggle\.json|application_default_credentials\.json|id_(?:rsa|dsa|ecdsa|ed25519)(?:_sk)?|"
    r".+\.(?:ppk|p12|pfx|jks|keystore|kdbx)|.+\.tfstate(?:\.backup)?)$"
)
# In a larger file, only formats of issuers are searched: the other patterns take seconds for each of these.
_LARGEST_TEXT = 5 * 2**20


class Finding(NamedTuple):
    """Where a secret stands (`place`: a line, or a notebook's part) and what kind it is."""

    path: str
    place: str
    kind: str


class Search:
    """The secrets found in contents, one after the other, and which of these could not be read as text, or at all."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.count = 0
        self.not_text: list[str] = []
        self.not_read: list[str] = []
        self._allowed: set[str] = set()

    def add(self, content: Content) -> None:
        name = content.path + content.version
        if content.data is None:
            self.not_read.append(name)
            return
        self.count += 1
        readable = texts(content.data, content.path) if len(content.data) <= _LARGEST_TEXT else None
        if readable is None:
            self.not_text.append(name)
            self._found(content, "whole", secrets_in_bytes(content.data))
        for place, text in readable or []:
            path = "" if place else content.path
            for line, kind in sorted(secrets_in(text, path, self._allowed if content.version else ())):
                self._found(content, place or str(line), [kind])
            self._allowed |= allowed_lines(text)
        if _PRIVATE.search(Path(content.path).as_posix()):
            self._found(content, "1", ["a file for credentials, which Git must not track"])
        if Path(content.path).as_posix().endswith(".dvc/config"):
            for number, setting in enumerate(content.data.decode(errors="replace").splitlines(), start=1):
                option = re.match(r"\s*(\w+)\s*=\s*\S", setting)
                if option and option[1] in _DVC_CREDENTIALS:
                    self._found(content, str(number), [f"{option[1]}, a credential of a remote"])

    def _found(self, content: Content, place: str, kinds: Iterable[str]) -> None:
        for kind in kinds:
            known = {Finding(content.path, place, kind), Finding(content.path + content.version, place, kind)}
            if not known & set(self.findings):
                self.findings.append(Finding(content.path + content.version, place, kind))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.find_secrets",
        description="Fail where a file that Git has, or would take, or a commit of the branch holds a secret.",
    )
    parser.add_argument("files", nargs="*", help="these alone (default: all that Git does not ignore, and commits)")
    parser.add_argument(
        "--since", metavar="REVISION", help="read the commits after it (default: those that the main branch lacks)"
    )
    arguments = parser.parse_args()
    search, commits = Search(), ""
    if arguments.files:
        if missing := [path for path in arguments.files if not os.path.lexists(path)]:
            raise UserError(f"secrets: no such file: {', '.join(map(_shown, missing))}")
        for path in arguments.files:
            search.add(in_work_tree(path))
    else:
        contents = of_repository(arguments.since)
        # The current ones first: they say which lines of the earlier are false alarms.
        for content in contents.current:
            search.add(content)
        files = search.count
        for content in contents.earlier:
            search.add(content)
        commits = contents.said
    if search.not_read:
        print(f"secrets: not read, no file or over {LARGEST >> 20} MB: {', '.join(map(_shown, search.not_read))}")
    if search.not_text:
        suffixes = sorted({_shown(Path(path.partition(" (")[0]).suffix or "none") for path in search.not_text})
        print(
            f"secrets: {len(search.not_text)} files are no text, or over {_LARGEST_TEXT >> 20} MB: searched for "
            f"issuers' formats alone (suffixes: {', '.join(suffixes)})"
        )
    if search.findings:
        lines = [f"{_shown(path)}:{place}: {kind}" for path, place, kind in search.findings]
        raise UserError(
            f"secrets: {len(lines)} in files that Git would share\n{listed(lines)}\n"
            "Take them out: credentials of a remote by `dvc remote modify --local`, others into .env (.env.example). "
            "Out of a commit that is not pushed: `git rebase --interactive`. What was pushed is known: revoke it where "
            "it was issued. A false alarm: `pragma: allowlist secret` in a comment on its line."
        )
    print(f"secrets: none in {files if commits else search.count} files{commits}")


def find_secrets(paths: Iterable[str]) -> list[Finding]:
    """The secrets in these files of the working tree. Raises OSError."""
    search = Search()
    for path in paths:
        search.add(in_work_tree(path))
    return search.findings


def _shown(path: str) -> str:
    """A name of a stranger's file may hold what a terminal takes for a command."""
    return path if path.isprintable() else ascii(path)


if __name__ == "__main__":
    run_main(main)
