"""The objects of DVC's cache, each named by the MD5 of its content; what the cache lacks comes from the remote.

DVC takes that name at its word, whoever may write to the remote or the cache; here the content is compared with it.
"""

import os
import stat
import sys
from pathlib import Path
from typing import Any

from stages.common.errors import UserError, listed
from stages.common.versions import md5_of


class Objects:
    """The cache of an opened DVC project, and its default remote."""

    def __init__(self, repo: Any) -> None:
        self.cache = repo.cache.local
        self._repo = repo
        # Why the remote could not be read; an empty text where it was not needed, or only lacks what was asked for.
        self.refusal = ""

    def bring(self, names: dict[str, str]) -> None:
        """Bring into the cache what it lacks and the remote has. `names` gives, for messages, the path that each object
        is for. UserError where what came is not what its name says; then it does not stay in the cache."""
        lacking = {}
        for name, path in names.items():
            if self.has(name):
                false = self._false(name, path)
                if not false:
                    continue
                print(f"cache: {false}; removed from DVC's cache", file=sys.stderr)
            lacking[name] = path
        self._fetch(sorted(lacking))
        false_ones = [self._false(name, path) for name, path in lacking.items() if self.has(name)]
        false_ones = [false for false in false_ones if false]
        if false_ones:
            shown = false_ones[:20] + ([f"and {len(false_ones) - 20} more"] if len(false_ones) > 20 else [])
            raise UserError(
                f"the remote delivers something else than what was committed:\n{listed(shown)}\nNothing was written, "
                "and none of it was kept. Somebody or something has changed the remote: ask whoever has the right "
                "files to remove those there and to run `dvc push`."
            )

    def has(self, name: str) -> bool:
        """Whether it is in the cache."""
        return os.path.lexists(self.path(name))

    def path(self, name: str) -> Path:
        """Where the cache has, or would have, an object: 32 hexadecimal digits, for a listing with `.dir`."""
        return Path(self.cache.oid_to_path(name))

    def _false(self, name: str, path: str) -> str:
        """What is wrong with the content of an object, which is then removed; an empty text where it is right."""
        file, expected = self.path(name), name.removesuffix(".dir")
        if not stat.S_ISREG(file.lstat().st_mode):
            raise UserError(f"{file}: expected a file in DVC's cache, got something else. Remove it, then run again.")
        digest = md5_of(file)
        if digest == expected:
            return ""
        file.unlink()
        return f"{path!r}: expected MD5 {expected}, got {digest}"

    def _fetch(self, names: list[str]) -> None:
        if not names or self.refusal:
            return
        from dvc.exceptions import DvcException
        from dvc.fs.callbacks import TqdmCallback

        try:
            remote = self._repo.cloud.get_remote_odb(command="pull")
        except (DvcException, ImportError) as error:  # the latter for a storage whose package is not installed
            self.refusal = str(error)
            return
        try:
            # A wrong address or key is said once, not for each object.
            remote.fs.exists(remote.path)
        except Exception as error:  # each kind of storage has a library, and exceptions, of its own
            self.refusal = f"failed to connect to {remote.fs.protocol} ({remote.path}) - {error}"
            return

        def note(_: str, error: BaseException) -> None:
            if not isinstance(error, FileNotFoundError):
                self.refusal = self.refusal or f"{type(error).__name__}: {error}"

        with TqdmCallback(desc=f"Fetching from {remote.fs.unstrip_protocol(remote.path)}", unit="file") as callback:
            self.cache.add(
                [remote.oid_to_path(name) for name in names],
                remote.fs,
                names,
                check_exists=False,
                on_error=note,
                callback=callback,
                batch_size=remote.fs.jobs,
                verify=False,  # by `bring`, whatever the remote's setting
            )
