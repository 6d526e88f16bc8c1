"""A process that sees one folder, the system's programs and this Python: no home, no keys, no network.

Linux namespaces (man 7 namespaces), put together as bubblewrap does (https://github.com/containers/bubblewrap): what a
machine with Python, Git and make has not installed. Needs no rights, but a kernel and a container that let users make
namespaces. This file is itself the program that makes them. It imports the standard library alone, since it starts in
a folder that is somebody else's.
"""

import ctypes
import fcntl
import json
import os
import platform
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NoReturn

# An empty folder of the sandbox.
HOME = Path("/tmp/home")
# Exit code of this program where the kernel refuses.
_REFUSED = 125
# What is there besides the folder, and only to be read; of those that the machine has.
_SYSTEM = """
    /usr /bin /sbin /lib /lib32 /lib64 /nix/store /sys /etc/alternatives /etc/fonts /etc/group /etc/hosts
    /etc/ld.so.cache /etc/ld.so.conf /etc/ld.so.conf.d /etc/localtime /etc/nsswitch.conf /etc/passwd
""".split()
# Device files that are neither a disk nor a terminal; those of GPUs come besides.
_DEVICES = ["null", "zero", "full", "random", "urandom"]
# Files in /proc by which root, even root without capabilities, changes the machine.
_KERNEL = ["sys", "sysrq-trigger", "irq", "bus", "fs", "acpi", "scsi"]

# From <linux/sched.h>, <sys/mount.h>, <linux/mount.h>, <linux/prctl.h>, <linux/capability.h>, <linux/sockios.h>.
_CLONE_NEWNS, _CLONE_NEWIPC, _CLONE_NEWUSER, _CLONE_NEWPID, _CLONE_NEWNET = 2**17, 2**27, 2**28, 2**29, 2**30
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_BIND, _MS_REC, _MS_PRIVATE = 2, 4, 8, 2**12, 2**14, 2**18
_MOUNT_ATTR_RDONLY, _MOUNT_ATTR_NOSUID, _MOUNT_ATTR_NODEV = 1, 2, 4
_AT_RECURSIVE, _AT_FDCWD, _MNT_DETACH = 0x8000, -100, 2
_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 1, 24, 38
_CAPABILITY_VERSION_3, _KEYCTL_JOIN_SESSION_KEYRING = 0x20080522, 1
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
# Of system calls that have no function in every libc.
_NUMBERS = {
    "x86_64": {"pivot_root": 155, "keyctl": 250, "mount_setattr": 442},
    "aarch64": {"pivot_root": 41, "keyctl": 219, "mount_setattr": 442},
}


def command(place: Path, *arguments: str) -> list[str]:
    """What runs `arguments` in a sandbox: it starts in `place`, the one folder that it may write to besides an empty
    home and /tmp, with the environment that it is given and a `localhost` of its own."""
    # Without the folder that it starts in, nor PYTHONPATH, to import from.
    python = str(Path(sys.prefix, "bin/python"))
    return [python, "-I", str(Path(__file__).resolve()), json.dumps([str(place.resolve()), *arguments])]


@cache
def why_unavailable() -> str:
    """Why there can be no sandbox on this machine; empty where there can."""
    if platform.system() != "Linux" or platform.machine() not in _NUMBERS:
        return f"there is none for {platform.system()} on {platform.machine()}"
    done = subprocess.run(command(Path.cwd(), "true"), capture_output=True, encoding="utf-8", errors="replace")
    return (done.stderr.strip() or f"its program ended with {done.returncode}") if done.returncode else ""


class _Kernel:
    """System calls, which raise OSError."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._numbers = _NUMBERS[platform.machine()]

    def unshare(self, flags: int) -> None:
        self._check("unshare", self._libc.unshare(flags))

    def mount(self, source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
        texts = [None if text is None else os.fsencode(text) for text in (source, target, kind, data)]
        done = self._libc.mount(texts[0], texts[1], texts[2], ctypes.c_ulong(flags), texts[3])
        self._check(f"mount {target}", done)

    def limit(self, target: str, attributes: int) -> None:
        """Set attributes of a mount and all below it."""
        wanted = struct.pack("QQQQ", attributes, 0, 0, 0)
        self._call("mount_setattr", _AT_FDCWD, os.fsencode(target), _AT_RECURSIVE, wanted, len(wanted))

    def change_root(self, new: str, old: str) -> None:
        self._call("pivot_root", os.fsencode(new), os.fsencode(old))
        os.chdir("/")

    def unmount(self, target: str) -> None:
        self._check(f"umount {target}", self._libc.umount2(os.fsencode(target), _MNT_DETACH))

    def leave_keyring(self) -> None:
        self._call("keyctl", _KEYCTL_JOIN_SESSION_KEYRING, None)

    def control(self, option: int, value: int) -> None:
        self._check(f"prctl {option}", self._libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0))

    def drop_capabilities(self) -> None:
        """Have none, and let no program that is started get any."""
        last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
        for capability in range(last + 1):
            self.control(_PR_CAPBSET_DROP, capability)
        self.control(_PR_SET_NO_NEW_PRIVS, 1)
        header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
        self._check("capset", self._libc.capset(header, bytes(24)))

    def _call(self, name: str, *arguments: object) -> None:
        self._check(name, self._libc.syscall(ctypes.c_long(self._numbers[name]), *arguments))

    @staticmethod
    def _check(what: str, code: int) -> None:
        if code == -1:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), what)


def _enter(place: str, readable: Sequence[str]) -> None:
    """Move this process into namespaces of its own. It must then fork: its child is their first process."""
    kernel = _Kernel()
    user, group = os.getuid(), os.getgid()
    kernel.unshare(_CLONE_NEWUSER | _CLONE_NEWNS | _CLONE_NEWPID | _CLONE_NEWNET | _CLONE_NEWIPC)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    _raise_loopback()
    child = os.fork()
    if child:
        os._exit(_wait_for(child))
    kernel.control(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _build_root(kernel, place, readable)
    kernel.leave_keyring()
    kernel.drop_capabilities()


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh22x", b"lo", 0)
        (flags,) = struct.unpack_from("h", fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request), 16)
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", flags | _IFF_UP))


def _build_root(kernel: _Kernel, place: str, readable: Sequence[str]) -> None:
    """Make a new root of what may be seen, and detach the old one, which cannot be reached any more."""
    kernel.mount("none", "/", None, _MS_REC | _MS_PRIVATE)
    # What is to be seen may itself lie in /tmp, so the old root moves out of the way before the new one is made.
    kernel.mount("tmpfs", "/tmp", "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=0755")
    for name in ("old", "new"):
        Path("/tmp", name).mkdir()
    kernel.change_root("/tmp", "/tmp/old")
    kernel.mount("tmpfs", "/new", "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=0755")
    new = Path("/new")
    for path in [*_SYSTEM, *readable]:
        old = Path(f"/old{path}")
        if old.is_symlink():
            (new / path[1:]).parent.mkdir(parents=True, exist_ok=True)
            (new / path[1:]).symlink_to(old.readlink())
        elif old.exists():
            _bind(kernel, path, _MOUNT_ATTR_RDONLY | _MOUNT_ATTR_NOSUID | _MOUNT_ATTR_NODEV)
    _bind(kernel, place, _MOUNT_ATTR_NOSUID | _MOUNT_ATTR_NODEV)
    gpus = [path.name for path in Path("/old/dev").iterdir() if path.name.startswith(("nvidia", "dri", "kfd"))]
    for name in [*_DEVICES, *gpus]:
        if Path("/old/dev", name).exists():
            _bind(kernel, f"/dev/{name}", _MOUNT_ATTR_NOSUID)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        (new / "dev" / name).symlink_to(f"/proc/self/fd/{number}")
    (new / "dev/fd").symlink_to("/proc/self/fd")
    for name in ("dev/shm", "tmp"):
        # Not mounts of their own: the folder, or Python, may lie in /tmp.
        (new / name).mkdir(exist_ok=True)
        (new / name).chmod(0o1777)
    (new / "proc").mkdir()
    kernel.mount("proc", "/new/proc", "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    for name in _KERNEL:
        path = f"/new/proc/{name}"
        if Path(path).exists():
            kernel.mount(path, path, None, _MS_BIND | _MS_REC)
            kernel.limit(path, _MOUNT_ATTR_RDONLY)
    (new / HOME.relative_to("/")).mkdir()
    (new / "old").mkdir()
    kernel.change_root("/new", "/new/old")
    kernel.unmount("/old")
    Path("/old").rmdir()


def _bind(kernel: _Kernel, path: str, attributes: int) -> None:
    """Show a file or folder of the old root at the same place of the new one."""
    old, new = Path(f"/old{path}"), Path(f"/new{path}")
    if old.is_dir():
        new.mkdir(parents=True, exist_ok=True)
    else:
        new.parent.mkdir(parents=True, exist_ok=True)
        new.touch()
    kernel.mount(str(old), str(new), None, _MS_BIND | _MS_REC)
    kernel.limit(str(new), attributes)


def _wait_for(child: int) -> int:
    """Reap processes until `child` ends; its exit code, or 128 and the number of the signal that ended it."""
    while True:
        process, status = os.wait()
        if process == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _main() -> NoReturn:
    place, *arguments = json.loads(sys.argv[1])
    # A path and what it leads to, where a link is on the way.
    pythons = {folder for prefix in (sys.prefix, sys.base_prefix) for folder in (prefix, os.path.realpath(prefix))}
    try:
        _enter(place, sorted(pythons, key=len))
    except OSError as error:
        print(f"{error.filename or 'namespaces'}: {error.strerror}", file=sys.stderr)
        os._exit(_REFUSED)
    os.chdir(place)
    # The first process of a namespace is deaf to signals, so the program is its child; when that ends, all others do.
    child = os.fork()
    if child:
        os._exit(_wait_for(child))
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.execvp(arguments[0], arguments)


if __name__ == "__main__":
    _main()
