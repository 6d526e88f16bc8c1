"""What may be set when the service starts, on the command line or in the environment, and within which limits."""

import argparse
import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from stages.onnx.sealed import MODEL

# A version ends up in the log, in metrics and in answers: as Git's tags, without what a shell or a page could mistake.
VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}")
_PREFIX = "SERVE_"


@dataclass(frozen=True)
class Limits:
    """What one request may have, and all of them together: bytes, pictures, pixels, seconds, numbers of requests."""

    body_bytes: int
    held_bytes: int
    pictures: int
    pixels: int
    receive_seconds: float
    decode_seconds: float
    answer_seconds: float
    waiting: int
    connections: int


@dataclass(frozen=True)
class Settings:
    """How the service runs. `version` names the model in answers and in the log: a tag; empty for the beginning of the
    file's SHA-256. `second` is another model, which answers the `share` of the requests, or, with `shadow`, all of them
    unseen. `log` is None for standard output."""

    model: Path
    version: str
    commit: str
    second: Path | None
    second_version: str
    share: float
    shadow: bool
    host: str
    port: int
    threads: int
    decoders: int
    batch: int
    log: Path | None
    keep: Path | None
    drain_seconds: float
    limits: Limits


def read(arguments: list[str] | None = None) -> Settings:
    """Of the command line, else of the environment: SERVE_PORT is --port, and so on. Ends the process with a message
    where a value is none."""
    parser = argparse.ArgumentParser(
        prog="python -m serve",
        description="Answer HTTP requests with the exported model.",
        epilog="Each option may also be given as a variable: SERVE_PORT is --port.",
    )

    def add(name: str, kind: Callable[[str], object], default: object, text: str) -> None:
        variable = _PREFIX + name.upper().replace("-", "_")
        shown = "" if default in ("", None) else f" (default: {default})"
        # argparse passes a default that is a text through `type`, as if it had been typed.
        value = os.environ.get(variable, None if default is None else str(default))
        parser.add_argument(f"--{name}", type=kind, default=value, help=text + shown, metavar="VALUE")

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    add("model", Path, MODEL, "the file that `make export` wrote")
    add("version", _version, "", "what answers and log call the model, such as its tag")
    add("commit", _version, "", "the commit of the model, for /version")
    add("second", Path, None, "a second model, for an A/B test or in the shadow of the first")
    add("second-version", _version, "", "what answers and log call the second model")
    add("share", _number(0, 1), 0.0, "the share of the requests that the second model answers, 0 to 1")
    add("shadow", _switch, "no", "yes: the second model answers every request, too, but for the log alone")
    add("host", str, "127.0.0.1", "the address to listen on; 0.0.0.0 for all of IPv4, :: for all")
    add("port", _integer(0, 65535), 8000, "the port to listen on; 0 for a free one, which is printed")
    add("threads", _integer(1, 1024), cores, "threads that compute")
    add("decoders", _integer(1, 1024), cores, "processes that decode pictures")
    add("batch", _integer(1, 4096), 64, "pictures that are computed together, at most")
    add("log", Path, None, "a file that gets a line of JSON for each picture (default: standard output)")
    add("keep", Path, None, "a folder that gets each picture that was answered; by default none is kept")
    add("drain-seconds", _number(0, 3600), 5.0, "after SIGTERM, how long new requests are still answered")
    add("body-mib", _number(0.001, 1024), 16.0, "MiB in one request")
    add("held-mib", _number(0.001, 65536), 256.0, "MiB in all requests that wait for their answer")
    add("pictures", _integer(1, 4096), 64, "pictures in one request")
    add("megapixels", _number(0.0001, 89.478485), 25.0, "millions of pixels of one picture")
    add("receive-seconds", _number(0.1, 3600), 20.0, "for a request to arrive whole")
    add("decode-seconds", _number(0.1, 3600), 10.0, "for one picture to be decoded")
    add("answer-seconds", _number(0.1, 3600), 30.0, "for a request that has arrived to be answered")
    add("waiting", _integer(1, 100_000), 256, "requests that arrive or wait for their answer at a time")
    add("connections", _integer(1, 100_000), 1024, "connections at a time")
    given = parser.parse_args(arguments)
    if given.second is None and (given.share or given.shadow or given.second_version):
        parser.error("--share, --shadow and --second-version are for a --second model, which is not given")
    if given.second is not None and bool(given.share) == given.shadow:
        parser.error("--second: expected either --share above 0, for an A/B test, or --shadow yes")
    mib = 2**20
    limits = Limits(
        body_bytes=round(given.body_mib * mib),
        held_bytes=round(given.held_mib * mib),
        pixels=round(given.megapixels * 1e6),
        **{
            name: getattr(given, name)
            for name in "pictures receive_seconds decode_seconds answer_seconds waiting connections".split()
        },
    )
    if limits.held_bytes < limits.body_bytes:
        parser.error("--held-mib: expected --body-mib or more, as one request has to fit")
    names = [name for name in Settings.__dataclass_fields__ if name != "limits"]
    return Settings(**{name: getattr(given, name) for name in names}, limits=limits)


def _integer(least: int, most: int) -> Callable[[str], int]:
    def read_integer(text: str) -> int:
        if not re.fullmatch(r"\d{1,9}", text) or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"expected an integer from {least} to {most}, got {text!r}")
        return int(text)

    return read_integer


def _number(least: float, most: float) -> Callable[[str], float]:
    def read_number(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"expected a number from {least:g} to {most:g}, got {text!r}")
        return value

    return read_number


def _switch(text: str) -> bool:
    if text not in ("yes", "no"):
        raise argparse.ArgumentTypeError(f"expected yes or no, got {text!r}")
    return text == "yes"


def _version(text: str) -> str:
    if text and not VERSION.fullmatch(text):
        raise argparse.ArgumentTypeError(f"expected up to 128 letters, digits and ._@+-, got {text!r}")
    return text
