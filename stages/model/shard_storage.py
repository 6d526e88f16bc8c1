"""A storage of DVC that has the shards of prepared/, as `dvc push` puts them there: each under the MD5 of its content.

Address and credentials are those of this checkout, .dvc/config and .dvc/config.local, and what else DVC takes them
from. DVC's own file systems talk to it, so whatever `dvc pull` can read is read here.
"""

import errno
import hashlib
import json
import os
import re
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from stages.common import escape
from stages.common.errors import UserError
from stages.common.versions import LOCK, locked_versions

_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 15.0
_PREPARED = "prepared"


# Set where the process is to stop, and so to wait for no storage.
GIVE_UP = threading.Event()


class StorageLostError(UserError):
    """The storage has not answered for as long as it was to be waited for."""


class Storage:
    """What a remote of DVC has of the version of prepared/ in dvc.lock."""

    def __init__(self, name: str, patience: float) -> None:
        """`name`: of a remote, or the address of one. `patience`: for how many seconds to ask again a storage that does
        not answer. UserError where there is none of the name, or it has no such version of prepared/."""
        self.name = shown(name)
        self._patience = patience
        self._lock = threading.Lock()
        self._down_since: float | None = None
        self._files, self._path = _opened(name)
        self._md5 = self._listing()

    def get(self, path: str, target: Path) -> None:
        """Write the file `path` of prepared/ to `target`, unchecked. UserError where it is missing or refused, OSError
        where `target` cannot be written, StorageLostError where nothing answers."""
        if path not in self._md5:
            raise UserError(
                f"prepared/{path}: not in the version of prepared/ that {LOCK} names, though prepared/dataset.json "
                f"does. `dvc pull prepared/dataset.json` brings the one that belongs to {LOCK}; where prepare has just "
                "run here, `dvc push`."
            )
        self._get(self._md5[path], target, f"prepared/{path}")

    def _listing(self) -> dict[str, str]:
        """The MD5 of each file of prepared/. UserError where dvc.lock names no folder, or its listing is another."""
        version = locked_versions().get(_PREPARED)
        if version is None or not version.is_folder:
            raise UserError(f"{LOCK}: names no version of prepared/. `dvc repro prepare` writes it; commit it.")
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder, "listing")
            self._get(version.name, target, "the listing of prepared/")
            content = target.read_bytes()
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != version.md5:
            raise UserError(
                f"{self.name}: its listing of prepared/ is not the one that {LOCK} names. Somebody or something has "
                "changed the storage: remove it there, and have whoever ran prepare `dvc push`."
            )
        entries = json.loads(content)
        return {entry["relpath"]: entry["md5"] for entry in entries if re.fullmatch("[0-9a-f]{32}", entry["md5"])}

    def _get(self, md5: str, target: Path, what: str) -> None:
        place = self._files.join(self._path, "files", "md5", md5[:2], md5[2:])
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                self._files.get_file(place, str(target))
            except FileNotFoundError:
                raise UserError(
                    f"{what}: not in {self.name}. Have whoever ran prepare `dvc push`; `dvc remote list` and "
                    "SHARDS_FROM say which storage this is."
                ) from None
            except Exception as error:  # each kind of storage has a library, and exceptions, of its own
                if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
                    raise
                if _is_refusal(error):
                    raise UserError(
                        f"{what}: refused by {self.name} ({_line(error)}). Check the credentials that DVC uses for it "
                        "(docs/remote-storage.md)."
                    ) from None
                self._wait(error, pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            else:
                self._recovered()
                return

    def _wait(self, error: Exception, pause: float) -> None:
        """Wait for a storage that has just failed. StorageLostError where it has for too long."""
        with self._lock:
            now = time.monotonic()
            first = self._down_since is None
            self._down_since = now if self._down_since is None else self._down_since
            left = self._down_since + self._patience - now
        if left <= 0 or GIVE_UP.is_set():
            raise StorageLostError(
                f"{self.name}: no answer for {now - self._down_since:.0f} s ({_line(error)}). Once it answers, the "
                "same command goes on from the last checkpoint; SHARDS_WAIT_SECONDS says how long to wait."
            )
        if first:
            _say(f"{self.name} fails ({_line(error)}); asked again for up to {self._patience:.0f} s")
        GIVE_UP.wait(min(pause, left))

    def _recovered(self) -> None:
        with self._lock:
            since, self._down_since = self._down_since, None
        if since is not None:
            _say(f"{self.name} answers again, after {time.monotonic() - since:.0f} s")


def shown(name: str) -> str:
    """A remote's name, or its address without what may be in it of a user."""
    if "://" not in name:
        return escape.terminal(name)
    parts = urlsplit(name)
    return escape.terminal(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}")


def _opened(name: str) -> tuple[Any, str]:
    """The file system of a remote, and the path in it. DVC's own, whatever it talks to."""
    from dvc.config import Config, ConfigError
    from dvc.fs import get_cloud_fs

    # DVC's main checkout, in workspaces of experiments, too.
    folder = Path(os.environ.get("DVC_ROOT", "."), ".dvc")
    try:
        kind, settings, path = get_cloud_fs(Config(str(folder)), **{"url" if "/" in name else "name": name})
        return kind(**settings), path
    except (ConfigError, ImportError) as error:
        raise UserError(
            f"SHARDS_FROM={shown(name)}: {_line(error)}. Expected the name of a remote (`dvc remote list`), or the "
            "address of one."
        ) from None


def _is_refusal(error: BaseException) -> bool:
    """Whether asking again is of no use: no rights, or no credentials."""
    chain = [error, *filter(None, (error.__cause__, error.__context__))]
    return any(
        isinstance(one, PermissionError) or type(one).__name__ in ("NoCredentialsError", "PartialCredentialsError")
        for one in chain
    )


def _line(error: BaseException) -> str:
    return escape.terminal(str(error).strip().split("\n")[0] or type(error).__name__)


def _say(text: str) -> None:
    print(f"  shards: {text}", file=sys.stderr, flush=True)
