"""Clients of the service, for benchmarks/serve.py, in a process that imports little.

`python -m benchmarks.load PORT FOLDER CLIENTS SECONDS MOST` has so many clients send the pictures in a folder, one
after the other, each on a connection of its own, for so many seconds or requests, and prints the seconds that each
answer took, as JSON.
"""

import asyncio
import json
import sys
import time
from pathlib import Path

import uvloop


def main() -> None:
    port, folder, clients, seconds, most = sys.argv[1:]
    data = [path.read_bytes() for path in sorted(Path(folder).iterdir())]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(load(int(port), data, int(clients), float(seconds), int(most)))))


async def load(port: int, data: list[bytes], clients: int, seconds: float, most: int) -> list[float]:
    """The seconds that each answer took."""
    head = "POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/octet-stream\r\nContent-Length: {}\r\n\r\n"
    requests = [head.format(len(one)).encode() + one for one in data]
    taken: list[float] = []
    end = time.perf_counter() + seconds

    async def client(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.perf_counter() < end and len(taken) < most:
            before = time.perf_counter()
            writer.write(requests[number % len(requests)])
            answer = await reader.readuntil(b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 200"), answer
            length = int(answer.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
            await reader.readexactly(length)
            taken.append(time.perf_counter() - before)
            number += 1
        writer.close()

    await asyncio.gather(*(client(number) for number in range(clients)))
    return taken


if __name__ == "__main__":
    main()
