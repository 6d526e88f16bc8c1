"""DVC's configuration as a commit may set it for everybody: `python -m storage.config` checks it, and `make lint` does.

.dvc/config comes with the branch that is checked out, and some of DVC's options run a command, read a file, lead to
another place or carry a secret. So a commit may set those alone that are listed here. All others, of DVC's
dvc/config_schema.py, a person or a machine may set in .dvc/config.local.
"""

import argparse
import os
import re
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from stages.common.errors import UserError, listed, run_main

CONFIG = Path(".dvc/config")
LOCAL = Path(".dvc/config.local")
_ALLOWED = {
    "core": {"remote", "analytics", "autostage", "check_update", "checksum_jobs"},
    "cache": {"type", "slow_link_warning"},
}
# Of a remote: its address, how to talk to it, and who one is there; nothing that proves it. Not `profile`: it would
# choose among the keys of whoever checks out the branch.
_ADDRESS = {"url", "endpointurl", "oss_endpoint", "account_name", "port"}
_ALLOWED_OF_REMOTE = {
    *_ADDRESS,
    *"allow_agent allow_anonymous_login auth cache_regions checksum_jobs connect_timeout connection_timeout".split(),
    *"jobs kerberos kerberos_principal max_sessions method projectname read_timeout region replication sse".split(),
    *"sse_kms_key_id timeout use_https user verify".split(),
}
_SCHEMES = {"", "azure", "gdrive", "gs", "hdfs", "http", "https", "oss", "s3", "ssh", "webdav", "webdavs", "webhdfs"}
# DVC's storages of Hadoop have no such option.
_WITHOUT_VERIFY = {"hdfs", "webhdfs"}
# Of .dvc/, what Git may track: not config.local, nor what DVC keeps in tmp/ and cache/ and reads as its own.
_TRACKED = re.compile(r"\.dvc/(config|\.gitignore|plots/.+\.json)")
_LARGEST_BYTES = 100_000


def main() -> None:
    argparse.ArgumentParser(
        prog="python -m storage.config", description="Check what .dvc/config sets for everybody."
    ).parse_args()
    root = Path()
    require_safe(root)
    keep_private(root)
    unverified = [
        f"remote {name!r}"
        for name, options in _read(root / CONFIG).get("remote", {}).items()
        if options.get("verify", "").lower() != "true" and _scheme(options.get("url", "")) not in _WITHOUT_VERIFY
    ]
    if unverified:
        raise UserError(
            f"{CONFIG}: DVC would take from these whatever they deliver, without comparing it with its MD5:\n"
            f"{listed(unverified)}\n`dvc remote modify NAME verify true` for each."
        )


def require_safe(root: Path) -> None:
    """UserError that names everything that .dvc/config under `root` sets and a commit may not, and other files that
    Git tracks in .dvc/ and that DVC would take for its own."""
    for path in (CONFIG.parent, CONFIG):
        if (root / path).is_symlink():
            raise UserError(f"{path}: a symbolic link; DVC's configuration is a file of this project. Remove the link.")
    refused = [*_refused(_read(root / CONFIG)), *_tracked(root)]
    if not refused:
        refused = list(_moved(root))
    if refused:
        raise UserError(
            f"{CONFIG}: a commit may not set this for everybody who checks it out:\n{listed(refused)}\n"
            "`git log -p .dvc` tells who did. If it is yours, move it to .dvc/config.local, which Git ignores: "
            "`dvc config --local …`, `dvc remote modify --local NAME OPTION VALUE`."
        )


def keep_private(root: Path) -> None:
    """Take others' rights from .dvc/config.local, in which DVC keeps keys and passwords, and say so. DVC writes it
    with the rights of any file."""
    path = root / LOCAL
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and status.st_mode & 0o077:
        path.chmod(0o600)
        print(f"{LOCAL}: others could read it; it may hold keys, so now only you can (chmod 600)", file=sys.stderr)


def _read(path: Path) -> dict[str, Any]:
    """As DVC reads it; empty where there is none."""
    from configobj import ConfigObjError
    from dvc.config import Config, ConfigError

    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise UserError(f"{path}: more than {_LARGEST_BYTES // 1000} kB. `git checkout {path}` restores it.")
        content: dict[str, Any] = Config.load_file(str(path))
    except FileNotFoundError:
        return {}
    except (ConfigError, ConfigObjError, RecursionError) as error:
        raise UserError(f"{path}: not DVC's configuration ({error}). `git checkout {path}` restores it.") from None
    return content


def _refused(config: dict[str, Any]) -> Iterator[str]:
    for section, options in config.items():
        if section == "remote" and isinstance(options, dict):
            for name, of_remote in options.items():
                yield from _refused_of_remote(name, of_remote)
        elif not isinstance(options, dict):
            yield f"{section!r}: an option outside of a section"
        else:
            allowed = _ALLOWED.get(section, set())
            yield from (f"[{section!r}] {option!r}" for option in options if option not in allowed)


def _refused_of_remote(name: str, options: Any) -> Iterator[str]:
    if not isinstance(options, dict):
        yield f"remote {name!r}: expected options"
        return
    yield from (f"remote {name!r}: {option!r}" for option in options if option not in _ALLOWED_OF_REMOTE)
    for option, value in options.items():
        reason = "expected one value"
        if isinstance(value, str):
            reason = _why_refused_url(value) if option in ("url", "endpointurl") else ""
        if reason:
            yield f"remote {name!r}: {option!r}: {reason}"


def _why_refused_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        scheme = _scheme(url)
    except ValueError as error:
        return str(error)
    if scheme not in _SCHEMES:
        return f"{scheme}:// is none of {', '.join(sorted(_SCHEMES - {''}))}"
    if scheme and parts.password is not None:
        return "a password in the address"
    if scheme and not re.fullmatch(r"([\w.+~@-]+@)?(\w[\w.-]*|\[[0-9a-fA-F:.]+\])(:\d+)?", parts.netloc):
        return "no name of a host"
    return ""


def _scheme(url: str) -> str:
    """As DVC sees it: empty for a path."""
    parts = urlsplit(url)
    return parts.scheme if parts.netloc else ""


def _tracked(root: Path) -> Iterator[str]:
    listing = _git(root, "ls-files", "--stage", "-z", "--", ":(icase).dvc")
    if listing is None:
        if (root / ".git").exists():
            raise UserError(f"{root.absolute()}: `git ls-files` fails here; it has to tell what Git tracks in .dvc/.")
        return
    for entry in filter(None, listing.split("\0")):
        mode, path = entry.split(" ")[0], entry.partition("\t")[2]
        if not _TRACKED.fullmatch(path) or not mode.startswith("100"):
            yield f"{path!r}: a file that Git may not track"


def _moved(root: Path) -> Iterator[str]:
    """Remotes with credentials in .dvc/config.local whose address is another than on the main branch: DVC would send
    them there. An address in .dvc/config.local is one's own, and goes before."""
    local = _read(root / LOCAL).get("remote", {})
    if not local:
        return
    main_branch = _git(root, "show", f"refs/remotes/origin/HEAD:{CONFIG}")
    if not main_branch:
        return
    with tempfile.NamedTemporaryFile("w", encoding="utf-8") as copy:
        copy.write(main_branch)
        copy.flush()
        there = _read(Path(copy.name)).get("remote", {})
    here = _read(root / CONFIG).get("remote", {})
    for name in sorted(local.keys() & here.keys() & there.keys()):
        for option in sorted(_ADDRESS - local[name].keys()):
            if here[name].get(option) != there[name].get(option):
                yield (
                    f"remote {name!r}: {option!r}: another than on the main branch, and .dvc/config.local has settings "
                    "for this remote, which would be used there"
                )


def _git(root: Path, *arguments: str) -> str | None:
    """What a command of Git prints; None where it fails: no repository, or no such revision."""
    done = subprocess.run(
        ["git", *arguments], cwd=root, capture_output=True, encoding="utf-8", errors="surrogateescape"
    )
    return done.stdout if done.returncode == 0 else None


if __name__ == "__main__":
    run_main(main)
