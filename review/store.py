"""Contents that DVC keeps, by their MD5: from this clone's cache, or from its default remote.

Which remote, and with whose keys, the working tree alone says. A revision that is looked at says which content, and
nothing else: its .dvc/config is not read, and neither is the `remote:` of an output in its dvc.yaml.
"""

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from io import BufferedRandom, BufferedReader
from pathlib import Path
from typing import Any, NamedTuple

from stages.common.errors import UserError

# A manifest of 25 million images has so many.
_MOST_BYTES = 4 << 30
_MOST_IN_MEMORY = 1 << 30
_PART_BYTES = 1 << 20

# A content as a file, or a copy of it that a remote has sent.
Stream = BufferedReader | BufferedRandom


class NotHere(Exception):  # noqa: N818  # it is no mistake
    """Why a content cannot be had."""


@cache
def repository() -> Any:
    """This project as DVC's API sees it. UserError outside of a DVC project, or where its .dvc/config sets what a
    commit may not."""
    from dvc.exceptions import NotDvcRepoError
    from dvc.repo import Repo

    from storage.config import require_safe

    require_safe(Path())
    try:
        return Repo()
    except NotDvcRepoError:
        raise UserError("not a DVC project; run this in the project's clone.") from None


def cached(digest: str) -> Path:
    """Where this clone's cache has a content, if it does."""
    return Path(repository().cache.local.oid_to_path(digest))


def read(digest: str, *, ask_remote: bool) -> bytes:
    """The content with this MD5. Raises NotHere where it is nowhere, or is another content."""
    with opened(digest, ask_remote=ask_remote, most=_MOST_IN_MEMORY) as stream:
        return stream.read()


@contextmanager
def opened(digest: str, *, ask_remote: bool, most: int = _MOST_BYTES) -> Iterator[Stream]:
    """The content with this MD5 as a file, for what need not be in memory at once. Raises NotHere where it is nowhere,
    is another content, or has more than `most` bytes."""
    path = cached(digest)
    if path.is_file():
        with path.open("rb") as stream:
            if os.fstat(stream.fileno()).st_size > most:
                raise NotHere(f"more than {most:,} bytes")
            if _is(digest, stream):
                yield stream
                return
    if not ask_remote:
        raise NotHere("not in DVC's cache, and no remote is asked")
    with tempfile.TemporaryFile() as stream:
        _fetch(digest, stream, most)
        if not _is(digest, stream):
            raise NotHere("not in DVC's cache, and the remote has another content under its MD5")
        yield stream


def _fetch(digest: str, target: BufferedRandom, most: int) -> None:
    try:
        remote = default_remote()
        place = remote.place(digest)
        if remote.files.size(place) > most:
            raise NotHere(f"more than {most:,} bytes")
        with remote.files.open(place, "rb") as stream:
            left = most + 1
            while left and (part := bytes(stream.read(min(left, _PART_BYTES)))):
                target.write(part)
                left -= len(part)
    except FileNotFoundError:
        raise NotHere("neither in DVC's cache nor in the remote") from None
    except NotHere:
        raise
    except Exception as error:  # each storage's library raises its own
        raise NotHere(f"not in DVC's cache, and the remote cannot be read ({type(error).__name__}: {error})") from None


def not_in_remote(digests: Iterable[str]) -> set[str]:
    """Those that the default remote does not have. Raises NotHere where it cannot be asked."""
    try:
        remote = default_remote()
        places = {digest: remote.place(digest) for digest in digests}
        return {digest for digest, place in places.items() if not remote.files.isfile(place)}
    except Exception as error:  # each storage's library raises its own
        raise NotHere(f"{type(error).__name__}: {error}") from None


class _Remote(NamedTuple):
    files: Any
    path: str

    def place(self, digest: str) -> str:
        """As dvc_data.hashfile.db lays contents out."""
        joined: str = self.files.join(self.path, "files", "md5", digest[:2], digest[2:])
        return joined


@cache
def default_remote() -> _Remote:
    """The default remote, opened without DVC's index of it."""
    from dvc.fs import get_cloud_fs

    config = repository().config
    kind, settings, path = get_cloud_fs(config, name=config["core"].get("remote"))
    return _Remote(kind(**settings), path)


def _is(digest: str, stream: Stream) -> bool:
    """Whether a file has this MD5; it is at its beginning then."""
    stream.seek(0)
    found = hashlib.file_digest(stream, "md5").hexdigest()
    stream.seek(0)
    return found == digest.removesuffix(".dir")


def own_folder() -> str:
    """The default remote's folder, where it lies in this clone; else an empty text."""
    config = repository().config
    url = config["remote"].get(config["core"].get("remote", ""), {}).get("url", "")
    inside = Path(url).is_absolute() and Path(url).is_relative_to(Path.cwd())
    return f"{Path(url).relative_to(Path.cwd())}/" if inside else ""
