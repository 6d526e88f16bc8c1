"""The service under hostile clients, and told to end under load: `.venv/bin/python -m benchmarks.hostile`.

Requests of many kinds that should not be, some clients at a time: mutated and cut-off pictures, pictures that say they
are huge, or are, bodies of other types, forms of all shapes, malformed HTTP, path tricks, endless headers and bodies,
clients that stall, go away or read nothing. After every hundredth a request that is right has to be answered. What must
not happen:

crash     the service ends, or says a traceback
hang      a client waits longer than the service's own limits allow
wrong     something that is no picture is answered, or what is right is not
memory    all its processes together hold more than their limits add up to

Then rounds in which clients send what is right, one request after the other, and the service is told to end by SIGTERM.
As behind a load balancer, a client that is told `Connection: close` goes elsewhere. No request may be lost.
"""

import argparse
import collections
import http.client
import io
import json
import random
import signal
import socket
import statistics
import struct
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.served import Served, served, write_network

RECEIVE, DECODE, ANSWER = 3, 5, 10
OPTIONS = (
    f"--receive-seconds {RECEIVE} --decode-seconds {DECODE} --answer-seconds {ANSWER} --body-mib 16 --held-mib 64 "
    "--drain-seconds 0.5"
).split()
# Longer than any request may take: to arrive, to be answered, and to be read to its end after that; and the machine's.
PATIENCE = RECEIVE + ANSWER + RECEIVE + 10
# Two processes at 25 megapixels of 32 bytes and their spare (serve/worker.py), bodies, and what all have at the start.
MEGABYTES = 2 * (25 * 32 + 270) + 64 * 1.05 + 600


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hostile", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--requests", type=int, default=10_000, help="hostile requests (default: 10000)")
    parser.add_argument("--clients", type=int, default=16, help="at a time (default: 16)")
    parser.add_argument("--rounds", type=int, default=20, help="rounds of SIGTERM under load (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="of the requests (default: 0)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = write_network(folder / "model.onnx", "resnet9", 32)
        faults = hostile(model, folder, arguments.requests, arguments.clients, arguments.seed)
        faults += ended(model, folder, arguments.rounds, arguments.seed)
    sys.exit(bool(faults))


# --- hostile requests ------------------------------------------------------------------------------------------------


def hostile(model: Path, folder: Path, count: int, clients: int, seed: int) -> int:
    """Send them all, and print what came of it; the number of faults."""
    faults: list[str] = []
    outcomes: Counter[str] = Counter()
    by_kind: dict[str, Counter[str]] = collections.defaultdict(Counter)
    seconds: list[float] = []
    with served(model, folder, "--decoders", "2", *OPTIONS) as service:
        at_start = most = service.megabytes()
        started = time.perf_counter()

        def one(number: int) -> None:
            nonlocal most
            chance = random.Random(f"{seed} {number}")
            kind = chance.choices(list(KINDS), [weight for weight, _ in KINDS.values()])[0]
            before = time.perf_counter()
            outcome = send(service.port, KINDS[kind][1](chance))
            passed = time.perf_counter() - before
            seconds.append(passed)
            outcomes[outcome] += 1
            by_kind[kind][outcome] += 1
            if passed > PATIENCE or outcome == "hang":
                faults.append(f"hang: {kind}, number {number}: {passed:.1f} s")
            if outcome.startswith("5") and outcome != "503":
                faults.append(f"wrong: {kind}, number {number}: {outcome}")
            if outcome == "200" and kind in NO_PICTURES:
                faults.append(f"wrong: {kind}, number {number}: answered")
            most = max(most, service.megabytes())
            if number % 100 == 0 and (said := right(service.port)):
                faults.append(f"wrong: after number {number}, what is right: {said}")

        with ThreadPoolExecutor(clients) as pool:
            list(pool.map(one, range(count)))
        wall = time.perf_counter() - started
        at_end = service.megabytes()
        is_alive = service.process.poll() is None
        restarts = metric(service, "classifier_decoder_restarts") if is_alive else -1
        messages = service.messages.read_text()
    if not is_alive:
        faults.append("crash: the service has ended")
    if "Traceback" in messages:
        faults.append(f"crash: a traceback\n{messages}")
    if most > MEGABYTES:
        faults.append(f"memory: {most:.0f} MB; at most {MEGABYTES:.0f}")
    print(*faults, sep="\n", file=sys.stderr)
    for kind, found in sorted(by_kind.items()):
        print(f"  {kind:16} {sum(found.values()):6}  {', '.join(f'{name}: {n}' for name, n in sorted(found.items()))}")
    print(
        f"{count} hostile requests of {clients} clients, seed {seed}, in {wall:.0f} s: {len(faults)} faults; "
        f"median {statistics.median(seconds) * 1000:.0f} ms, slowest {max(seconds):.1f} s; memory of all processes "
        f"{at_start:.0f} MB at the start, {most:.0f} MB at most, {at_end:.0f} MB at the end; decoders started again: "
        f"{restarts:.0f}"
    )
    return len(faults)


def send(port: int, blocks: list[bytes | float]) -> str:
    """Send blocks, wait where a number stands between them, and read: the status, or how else it ended."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
            try:
                for block in blocks:
                    if isinstance(block, bytes):
                        connection.sendall(block)
                    elif block < 0:
                        return "gone"
                    else:
                        time.sleep(block)
            except (BrokenPipeError, ConnectionResetError):
                pass  # refused before it was sent; the answer may be there
            beginning = connection.recv(4096)
    except (BrokenPipeError, ConnectionResetError):
        return "reset"
    except TimeoutError:
        return "hang"
    if not beginning:
        return "closed"
    return beginning[9:12].decode(errors="replace") if beginning.startswith(b"HTTP/1.1 ") else "garbled"


def right(port: int) -> str:
    """What is wrong with the answer to a request that is right; empty where it is answered, or told to come again."""
    for _ in range(50):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        try:
            connection.request("POST", "/predict", PICTURES["png"], {"Content-Type": "image/png"})
            response = connection.getresponse()
            content = json.loads(response.read())
        finally:
            connection.close()
        if response.status == 200:
            return "" if len(content["predictions"]) == 1 else str(content)
        if response.status != 503:
            break
        time.sleep(0.1)
    return f"{response.status} {content}"


def metric(service: Served, name: str) -> float:
    """A number of /metrics."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=PATIENCE)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    return float(next(line for line in lines if line.startswith(f"{name} ")).split()[1])


def encoded(kind: str, **options: object) -> bytes:
    """A picture of noise."""
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


PICTURES = {
    "png": encoded("PNG"),
    "jpeg": encoded("JPEG"),
    "progressive": encoded("JPEG", progressive=True),
    "webp": encoded("WEBP"),
    "gif": encoded("GIF"),
    "tiff": encoded("TIFF", compression="tiff_lzw"),
    "avif": encoded("AVIF"),
    "bmp": encoded("BMP"),
}


def post(body: bytes, kind: str = "application/octet-stream", more: str = "") -> bytes:
    """A request for /predict."""
    head = f"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    return head.encode() + body


def mutated(chance: random.Random) -> list[bytes | float]:
    """A picture of which some bytes are other ones."""
    data = bytearray(chance.choice(list(PICTURES.values())))
    for _ in range(chance.choice((1, 2, 5, 50))):
        data[chance.randrange(len(data))] = chance.randrange(256)
    return [post(bytes(data))]


def cut_off(chance: random.Random) -> list[bytes | float]:
    """The first half of a picture, or less."""
    data = chance.choice(list(PICTURES.values()))
    return [post(data[: chance.randrange(len(data) // 2)])]


def png(width: int, height: int, rows: bytes) -> bytes:
    """A PNG of 8-bit grey that says its size, with these compressed rows."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


ZEROS = zlib.compress(bytes(5000 * 5001), 9)


def bomb(chance: random.Random) -> list[bytes | float]:
    """A few bytes that say they are, or are, a huge picture."""
    side = chance.choice((6000, 40_000, 2**31 - 1))
    gif = bytearray(PICTURES["gif"])
    gif[6:10] = struct.pack("<HH", 65_535, 65_535)
    return [post(chance.choice([png(side, side, ZEROS), bytes(gif), png(5000, 5000, ZEROS[: len(ZEROS) // 2])]))]


def largest(chance: random.Random) -> list[bytes | float]:
    """A picture as large as may be, in 25 kilobytes."""
    return [post(png(5000, 5000, ZEROS))]


def other_types(chance: random.Random) -> list[bytes | float]:
    """What is no picture, by its bytes or by its type."""
    kinds = [
        "text/html",
        "application/json",
        "image/svg+xml",
        "image/png",
        "",
        "a" * 5000,
        "multipart/mixed; boundary=b",
    ]
    bodies = [b"<svg/>", b"{}", b"%PDF-1.7", b"PK\x03\x04", b"\x7fELF", b"", bytes(1000), b"GIF89a", b"\xff\xd8\xff"]
    return [post(chance.choice(bodies), chance.choice(kinds))]


def forms(chance: random.Random) -> list[bytes | float]:
    """Forms with parts without end, without names, with names that are paths, or without files."""
    disposition = chance.choice(
        [
            'name="a"; filename="../../etc/motd"',
            'name="a"',
            'filename="\x00"',
            f'name="{"a" * 5000}"; filename="a"',
            "",
        ]
    )
    part = f"--b\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode() + b"no picture\r\n"
    body = part * chance.choice((0, 1, 3, 100)) + chance.choice((b"--b--\r\n", b"--b", b"", b"\r\n" * 1000))
    boundary = chance.choice(("b", "", "b" * 100, '"b', "c"))
    return [post(body, f"multipart/form-data; boundary={boundary}")]


def malformed(chance: random.Random) -> list[bytes | float]:
    """What is no HTTP, or two kinds of it at once."""
    return [
        chance.choice(
            [
                b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
                b"GET / HTTP/9.9\r\n\r\n",
                b"POST /predict HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
                b"POST /predict HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /",
                b"POST /predict HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
                b"POST /predict HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                b"GET /health HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
                bytes(chance.randrange(256) for _ in range(200)) + b"\r\n\r\n",
            ]
        )
    ]


def paths(chance: random.Random) -> list[bytes | float]:
    """Paths that lead elsewhere, and queries that are none."""
    path = chance.choice(
        "/../../etc/motd /%2e%2e/%2e%2e/etc/motd //predict /predict/../version /%00 /static/x.py /predict?top=1e9 "
        f"/predict?top=%00 /predict;a=b http://other/predict /{'a' * 30_000}".split()
    )
    return [f"{chance.choice(('GET', 'POST', 'PUT', 'TRACE'))} {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode()]


def endless_head(chance: random.Random) -> list[bytes | float]:
    """Headers without end, in one line or in many."""
    line = b"X-A: " + b"a" * 200_000 if chance.random() < 0.5 else b"X-A: a\r\n" * 20_000
    return [b"GET /health HTTP/1.1\r\n" + line]


def large_body(chance: random.Random) -> list[bytes | float]:
    """100 MB, by their stated length or in chunks."""
    block: bytes = bytes(2**20)
    if chance.random() < 0.5:
        return [post(b"", more="")[:-2].replace(b"Length: 0", b"Length: 104857600") + b"\r\n", *[block] * 100]
    head = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n"
    return [head, *[b"100000\r\n" + block + b"\r\n"] * 100]


def slow_body(chance: random.Random) -> list[bytes | float]:
    """A request that stalls in its headers or in its body."""
    data = post(PICTURES["png"])
    return [data[: chance.randrange(len(data))], RECEIVE + 1.0]


def gone(chance: random.Random) -> list[bytes | float]:
    """A client that goes before its request is sent, or its answer read."""
    data = post(PICTURES["jpeg"])
    return [data[: chance.randrange(len(data) + 1)], -1.0]


def unread(chance: random.Random) -> list[bytes | float]:
    """Many requests at once on one connection, of whose answers one is read."""
    return [b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n" * 300]


# How many of a thousand, about, and what makes one.
KINDS: dict[str, tuple[float, Callable[[random.Random], list[bytes | float]]]] = {
    "mutated": (300, mutated),
    "cut off": (150, cut_off),
    "bomb": (60, bomb),
    "largest": (5, largest),
    "other types": (120, other_types),
    "form": (120, forms),
    "malformed": (100, malformed),
    "path": (70, paths),
    "endless head": (20, endless_head),
    "large body": (5, large_body),
    "slow body": (15, slow_body),
    "gone": (30, gone),
    "unread": (5, unread),
}
NO_PICTURES = ("bomb", "other types", "form", "large body", "slow body", "endless head")


# --- SIGTERM under load ----------------------------------------------------------------------------------------------


def ended(model: Path, folder: Path, rounds: int, seed: int) -> int:
    """Rounds of it, and what came of them; the number of requests that were lost, and of exit codes other than 0."""
    chance = random.Random(seed)
    folder = folder / "rounds"
    folder.mkdir()
    answered, lost, codes = 0, 0, Counter[int]()
    for _ in range(rounds):
        with served(model, folder, *OPTIONS) as service:
            outcomes: list[str] = []
            clients = [threading.Thread(target=keep_asking, args=(service.port, outcomes)) for _ in range(8)]
            for client in clients:
                client.start()
            time.sleep(0.2 + chance.random() * 0.5)
            service.process.send_signal(signal.SIGTERM)
            for client in clients:
                client.join()
            codes[service.process.wait(PATIENCE)] += 1
        answered += outcomes.count("200")
        lost += len(outcomes) - outcomes.count("200")
    lines = sum(1 for _ in (folder / "log.jsonl").open())
    print(
        f"{rounds} times SIGTERM under load of 8 clients: {answered} requests answered, {lost} lost, "
        f"{answered - lines} of the answers not in the log; {codes[0]} times exit code 0"
    )
    return lost + abs(answered - lines) + rounds - codes[0]


def keep_asking(port: int, outcomes: list[str]) -> None:
    """Send requests on one connection until the service says that it closes."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    while True:
        try:
            connection.request("POST", "/predict", PICTURES["jpeg"], {"Content-Type": "image/jpeg"})
            response = connection.getresponse()
            response.read()
        except OSError as error:
            outcomes.append(type(error).__name__)
            return
        outcomes.append(str(response.status))
        if response.getheader("connection") == "close":
            return


if __name__ == "__main__":
    main()
