"""What .venv's Python does each time that it starts: `make install` copies this file there. Standard library only.

It puts .venv/bin first on the PATH, so that `.venv/bin/dvc repro` finds the `python` and `torchrun` of dvc.yaml's
commands without an activated environment, and gives DVC a site cache of one's own.

DVC keeps pickles in its site cache, and unpickles them. By default that is /var/tmp/dvc, where every user of the
machine may put other ones in their place.
"""

import os
import stat
import sys


def main() -> None:
    use_programs_of(sys.prefix)
    use_private_site_cache()


def use_programs_of(environment: str) -> None:
    """Put its bin/ first on the PATH, once."""
    programs, path = os.path.join(environment, "bin"), os.environ.get("PATH", os.defpath)
    if path.split(os.pathsep)[0] != programs:
        os.environ["PATH"] = programs + os.pathsep + path


def use_private_site_cache() -> None:
    """Set DVC_SITE_CACHE_DIR, unless it is set: below $XDG_CACHE_HOME or ~/.cache, else in the folder for temporary
    files. Where neither can hold a folder of this user alone, DVC gets one that cannot be, and says so."""
    if os.environ.get("DVC_SITE_CACHE_DIR"):
        return
    # Relative ones are to be ignored (XDG Base Directory Specification), as is a ~ that stands for nothing.
    caches = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(caches):
        caches = os.path.join(os.path.expanduser("~"), ".cache")
    places = [os.path.join(caches, "dvc-site")] if os.path.isabs(caches) else []
    # `tempfile` would take as long to import as all the rest of Python's start.
    places.append(os.path.join(os.environ.get("TMPDIR") or "/tmp", "dvc-site-%d" % os.geteuid()))
    for place in places:
        if _make_private(place):
            os.environ["DVC_SITE_CACHE_DIR"] = place
            return
    sys.stderr.write(
        "warning: no folder for DVC's site cache that only you can write: tried %s. Until there is one, or "
        "DVC_SITE_CACHE_DIR names one, DVC does not run.\n" % " and ".join(places)
    )
    os.environ["DVC_SITE_CACHE_DIR"] = os.path.join(os.devnull, "dvc-site")


def _make_private(folder: str) -> bool:
    """Whether it is, or could be made, a real folder of this user's that nobody else can write."""
    try:
        os.makedirs(os.path.dirname(folder), mode=0o700, exist_ok=True)
        try:
            os.mkdir(folder, mode=0o700)
        except FileExistsError:
            pass
        status = os.lstat(folder)
        return (
            stat.S_ISDIR(status.st_mode)
            and status.st_uid == os.geteuid()
            and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
            and os.access(folder, os.W_OK)
        )
    except OSError:
        return False
