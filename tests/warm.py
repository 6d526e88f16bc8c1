"""A .venv whose Python starts warm: what it runs is forked from a process that has imported torch, or DVC and such.

Importing them is most of what a short run costs, and most of the rest is to compile the project's modules, so what is
compiled is kept for the clones that have the same source. Nothing of the project is imported beforehand, and code,
arguments, folder, environment, streams, signals and exit code are as they would be. As a program, this file is such a
process; there are two.
"""

import atexit
import contextlib
import functools
import gc
import hashlib
import importlib
import marshal
import os
import runpy
import selectors
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import NamedTuple

# By the programs that start warm, the module that each is.
PROGRAMS = {"python": "", "python3": "", "dvc": "dvc", "torchrun": "torch.distributed.run"}
_BOTH = """
    tomllib numpy yaml pydantic.main pydantic.functional_validators pydantic.root_model
    PIL.Image PIL.JpegImagePlugin simplejpeg tqdm scipy.stats pygit2 ruamel.yaml sqlite3
""".split()
# What review, scripts and DVC import. Each process is a copy, which costs the more, the more there is to copy.
_LIGHT = """
    graphlib rich.console rich.styled rich.table statistics
    dvc._debug dvc.api dvc.cachemgr dvc.cli.parser dvc.data_cloud dvc.dirs dvc.repo.artifacts dvc.repo.brancher
    dvc.repo.datasets dvc.repo.graph dvc.repo.index dvc.repo.open_repo dvc.repo.plots dvc.repo.stage
    dvc.repo.experiments.executor.local dvc.repo.experiments.queue.celery dvc.repo.experiments.queue.tempdir
    dvc.repo.experiments.run dvc.utils.hydra dvc.utils.plots dvc.utils.strictyaml dvc_data.fs dvc_data.index.checkout
    dvc_data.hashfile.status dvc_data.hashfile.db.local dvc_render
    dvc_studio_client.config dvc_task.app celery.app.amqp celery.app.control celery.backends.filesystem
    celery.fixups.django celery.loaders.app configobj
    antlr4.LL1Analyzer dulwich.gc dulwich.porcelain dulwich.worktree flatten_dict fsspec.implementations.memory hydra
    networkx platformdirs requests tomlkit
""".split()
# What stages import.
_HEAVY = """
    safetensors.torch torch torch._dynamo torch.optim torchvision.models
    torch.distributed.elastic.agent.server.api torch.distributed.launcher.api
    pandas pandas.io.formats.csvs sklearn.metrics matplotlib.figure matplotlib.backends.backend_agg pathspec
""".split()
_PACKAGES = {"light": [*_BOTH, *_LIGHT], "heavy": [*_BOTH, *_HEAVY]}
# Packages of the project that need the first, and their modules that do not as the others of their package do.
_LIGHT_ONES = ("dvc", "review", "scripts")
_OTHERWISE = ("scripts.get_weights", "scripts.propose", "stages.params", "stages.train.launch")
_REQUEST_BYTES = 200_000
# Starts the real Python for anything but the project's modules, DVC and files of code.
_CLIENT = """#!{python} -IS
import os, signal, socket, sys
module, arguments = {module!r}, sys.argv[1:]
if not module:
    rest = arguments[1:] if arguments[:1] == ["-u"] else arguments
    if rest[:1] == ["-m"] and rest[1].split(".")[0] in ("stages", "review", "scripts", "benchmarks", "dvc"):
        module, arguments = rest[1], rest[2:]
    elif rest and rest[0].endswith(".py"):
        module, arguments = rest[0], rest[1:]
    else:
        os.execv({python!r}, [sys.argv[0], *arguments])
environment = [f"{{name}}={{value}}" for name, value in os.environ.items()]
request = [os.getcwd(), module, str(len(arguments)), *arguments, *environment]
server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
light = (module.split(".")[0] in {light_ones!r}) != (module in {otherwise!r})
server.connect({address!r} + ("light" if light else "heavy"))
socket.send_fds(server, ["\\0".join(request).encode("utf-8", "surrogateescape")], [0, 1, 2])
process = int(server.recv(99))
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
    signal.signal(number, lambda number, _: os.kill(process, number))
code = int(server.recv(99))
if code < 0:
    if -code != signal.SIGKILL:
        signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
os._exit(code)
"""


class Request(NamedTuple):
    """What to run: a module, or a file of code, by its path."""

    cwd: str
    module: str
    arguments: list[str]
    environment: dict[str, str]


@contextlib.contextmanager
def warm_venv(cold: Path, venv: Path) -> Iterator[None]:
    """Make `venv`, which is used like the .venv `cold`, until this is left."""
    folder = venv.parent
    address = str(folder / "server")
    (venv / "bin").mkdir(parents=True)
    for path in cold.iterdir():
        if path.name not in ("bin", "installed"):
            (venv / path.name).symlink_to(path)
    for path in (cold / "bin").iterdir():
        if path.name in PROGRAMS:
            program = venv / "bin" / path.name
            program.write_text(
                _CLIENT.format(
                    python=str(cold / "bin/python"),
                    module=PROGRAMS[path.name],
                    address=address,
                    light_ones=_LIGHT_ONES,
                    otherwise=_OTHERWISE,
                )
            )
            program.chmod(program.stat().st_mode | stat.S_IXUSR)
        elif path.name == "activate":
            (venv / "bin/activate").write_text(path.read_text().replace(str(cold), str(venv)))
        else:
            (venv / "bin" / path.name).symlink_to(path)
    if (cold / "installed").exists():
        (venv / "installed").write_text((cold / "installed").read_text().replace(str(cold.resolve()), str(venv)))
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        for kind in _PACKAGES:
            process = stack.enter_context(
                subprocess.Popen([cold / "bin/python", __file__, address + kind, kind], stdin=subprocess.PIPE)
            )
            assert process.stdin is not None
            stack.callback(process.stdin.close)
            while not Path(address + kind).exists():
                assert process.poll() is None
        yield


class _Child(NamedTuple):
    """A process, a descriptor that can be read when it has ended (pidfd_open), and the client that waits for it."""

    process: int
    ended: int
    client: socket.socket


def _serve(address: str, kind: str) -> Request:
    """Return in each process that is to run something. Its client is told its number, and at the end its exit code;
    where the client is gone, it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener, selectors.DefaultSelector() as selector:
        listener.bind(address)
        listener.listen(64)
        selector.register(listener, selectors.EVENT_READ)
        selector.register(sys.stdin, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                child: _Child | None = key.data
                if key.fileobj is sys.stdin:
                    os._exit(0)
                if child is None:
                    _import_packages(kind)
                    client, _ = listener.accept()
                    content, streams, _, _ = socket.recv_fds(client, _REQUEST_BYTES, 3)
                    process = os.fork()
                    if process == 0:
                        return _take_over(content, streams)
                    for stream in streams:
                        os.close(stream)
                    _tell(client, process)
                    child = _Child(process, os.pidfd_open(process), client)
                    for source in (child.ended, client):
                        selector.register(source, selectors.EVENT_READ, child)
                elif key.fileobj is not child.client:
                    _bury(child, selector)
                # Closed where both were to be read at once, and _bury came first.
                elif child.client.fileno() >= 0:
                    selector.unregister(child.client)
                    os.kill(child.process, signal.SIGKILL)


def _bury(child: _Child, selector: selectors.BaseSelector) -> None:
    """Tell the exit code, and forget the process."""
    code = os.waitstatus_to_exitcode(os.waitpid(child.process, 0)[1])
    selector.unregister(child.ended)
    os.close(child.ended)
    if child.client in selector.get_map():
        selector.unregister(child.client)
    with child.client:
        _tell(child.client, code)


def _tell(client: socket.socket, number: int) -> None:
    with contextlib.suppress(BrokenPipeError):
        client.send(str(number).encode())


@functools.cache
def _import_packages(kind: str) -> None:
    """Once, and not before something is to run: many tests run nothing."""
    # What a stage sets before it imports the rest.
    importlib.import_module("stages")
    for package in _PACKAGES[kind]:
        with contextlib.suppress(ImportError):
            importlib.import_module(package)
    if kind == "heavy":
        _draw()
    for name in [name for name in sys.modules if name.split(".")[0] == "stages"]:
        del sys.modules[name]
    # What is here is no garbage: no process looks through it again, or copies its pages for that.
    gc.collect()
    gc.freeze()


def _draw() -> None:
    """Let matplotlib find its fonts and fill its caches."""
    with contextlib.suppress(ImportError):
        figure = importlib.import_module("matplotlib.figure").Figure(layout="constrained")
        figure.subplots().plot([0, 1], label="x")
        figure.legend()
        figure.savefig(os.devnull, format="png")


def _take_over(content: bytes, streams: list[int]) -> Request:
    """Take the streams of the one who asks."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    cwd, module, count, *rest = content.decode("utf-8", "surrogateescape").split("\0")
    arguments, environment = rest[: int(count)], rest[int(count) :]
    return Request(cwd, module, arguments, dict(entry.split("=", 1) for entry in environment))


def _become(request: Request, bin_folder: str) -> None:
    """Run what is asked for as Python would, and end as Python would, but for the tidying of its memory."""
    os.chdir(request.cwd)
    os.environ.clear()
    os.environ.update(request.environment)
    # As scripts/startup.py does when .venv's Python starts; the site cache goes with this .venv.
    path = request.environment.get("PATH", os.defpath)
    os.environ["PATH"] = path if path.split(os.pathsep)[0] == bin_folder else f"{bin_folder}{os.pathsep}{path}"
    os.environ.setdefault("DVC_SITE_CACHE_DIR", str(Path(bin_folder).parent.parent / "dvc-site"))
    sys.executable = f"{bin_folder}/python"
    is_file = request.module.endswith(".py")
    sys.path[0] = str(Path(request.module).resolve().parent) if is_file else request.cwd
    sys.path[1:1] = [place for place in request.environment.get("PYTHONPATH", "").split(os.pathsep) if place]
    sys.argv = [request.module, *request.arguments]
    sys.stdin, sys.stdout = os.fdopen(0, closefd=False), os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    _keep_compiled(Path(bin_folder).parent.parent / "compiled")
    code = 0
    try:
        if is_file:
            runpy.run_path(request.module, run_name="__main__")
        else:
            runpy.run_module(request.module, run_name="__main__", alter_sys=True)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
    os._exit(code)


def _keep_compiled(folder: Path) -> None:
    """Keep what modules are compiled to, by the MD5 of their source, as __pycache__ does by their path."""
    compile_source = SourceFileLoader.source_to_code

    def source_to_code(loader: SourceFileLoader, source: bytes, path: str, **options: int) -> CodeType:
        file = folder / hashlib.md5(source, usedforsecurity=False).hexdigest()
        try:
            code: CodeType = marshal.loads(file.read_bytes())
        except FileNotFoundError:
            code = compile_source(loader, source, path, **options)
            folder.mkdir(exist_ok=True)
            part = file.with_suffix(f".{os.getpid()}")
            part.write_bytes(marshal.dumps(code))
            part.replace(file)
        return _renamed(code, path)

    SourceFileLoader.source_to_code = source_to_code  # type: ignore[method-assign,assignment]


def _renamed(code: CodeType, path: str) -> CodeType:
    """As of a file at `path`, which tracebacks name, and all that is defined in it."""
    inner = (_renamed(one, path) if isinstance(one, CodeType) else one for one in code.co_consts)
    return code.replace(co_filename=path, co_consts=tuple(inner))


if __name__ == "__main__":
    place, kind = sys.argv[1:]
    _become(_serve(place, kind), str(Path(place).parent / ".venv/bin"))
