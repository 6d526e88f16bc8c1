"""The server of HTTP: uvicorn, with limits that it does not have, and with an end by SIGTERM that loses no request."""

import asyncio
import json
import math
import signal
import socket
import sys
import time
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from serve.service import Service
from serve.settings import Settings
from stages.common.errors import UserError

# Of the first line and the headers together.
_HEAD_BYTES = 65_536
_KEEP_ALIVE_SECONDS = 10.0
_GRACE_SECONDS = 5.0


class Server(uvicorn.Server):
    """Ends when it is told to: after SIGTERM it still answers for `drain_seconds`, while /ready says that it stops, so
    that load balancers notice; then, or at a second signal, or at Ctrl-C, it answers what has arrived and ends."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service
        self._stop_at = math.inf

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        names = ", ".join(version.name for version in self._service.versions)
        for listener in sockets or []:
            host, port = listener.getsockname()[:2]
            print(
                f"serve: {names} on http://{f'[{host}]' if ':' in host else host}:{port}/", file=sys.stderr, flush=True
            )

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            self.force_exit = True
        elif self._service.stopping or sig == signal.SIGINT:
            self._stop_at = 0.0
        else:
            self._stop_at = time.monotonic() + self._service.settings.drain_seconds
        self._service.stopping = True

    async def on_tick(self, counter: int) -> bool:
        if time.monotonic() >= self._stop_at:
            self.should_exit = True
        return await super().on_tick(counter)


class Protocol(HttpToolsProtocol):
    """A connection that may not be kept open by a client that sends no request, half of one or an endless one, or that
    reads no answer. The body of a request has the limits of uploads.py, but for what comes after its answer."""

    limit: int
    seconds: float

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._deadline: asyncio.TimerHandle | None = None
        self._reading: asyncio.TimerHandle | None = None
        # Whether a request has begun whose headers are not complete; their bytes so far, but for the first block; and
        # whether the body is.
        self._in_head = False
        self._head_bytes = 0
        self._is_whole = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        super().connection_made(transport)
        self._expect(self.seconds)
        if len(self.connections) > self.limit:
            self._refuse(503, f"{self.limit} connections are open, as many as may.")

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect(None)
        if self._reading:
            self._reading.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > _HEAD_BYTES and not self.transport.is_closing():
            self._refuse(431, f"More than {_HEAD_BYTES:,} bytes of headers.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._is_whole, self._head_bytes = True, False, 0
        if self.cycle is None or self.cycle.response_complete:
            self._expect(self.seconds)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._in_head = False
        self._expect(None)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._is_whole = True
        if self.cycle.response_complete:
            self._expect(_KEEP_ALIVE_SECONDS)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._unset_keepalive_if_required()  # it would begin anew with each byte
        if not self.cycle.response_complete:
            self._expect(None)  # the next request is there already
        else:
            self._expect(_KEEP_ALIVE_SECONDS if self._is_whole else self.seconds)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._reading = self.loop.call_later(self.seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._reading:
            self._reading.cancel()

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, "Not a request of HTTP/1.1.")

    def _expect(self, seconds: float | None) -> None:
        """End the connection after so many seconds, unless this is called again before; None for no end."""
        if self._deadline:
            self._deadline.cancel()
            self._deadline = None
        if seconds is not None and not self.transport.is_closing():
            self._deadline = self.loop.call_later(seconds, self._too_late)

    def _too_late(self) -> None:
        if self.transport.is_closing():
            return
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        elif self._in_head:
            self._refuse(408, f"The request's headers did not arrive within {self.seconds:g} s.")
        else:
            self.transport.close()

    def _refuse(self, status: int, text: str) -> None:
        body = json.dumps({"error": text}).encode()
        retry = b"retry-after: 1\r\n" if status == 503 else b""
        self.transport.write(
            b"%scontent-type: application/json\r\ncontent-length: %d\r\n%sconnection: close\r\n\r\n%s"
            % (STATUS_LINE[status], len(body), retry, body)
        )
        self.transport.close()


def listen(settings: Settings) -> socket.socket:
    """A socket with the address and the port. UserError where they cannot be had."""
    what = f"--host {settings.host} --port {settings.port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # `::` is all addresses of this machine, those of IPv4, too.
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(address)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{what}: {reason}. Name an address of this machine and a port that no program has.") from None
    return listener


def make_server(app: Any, service: Service) -> Server:
    """uvicorn with this project's settings."""
    limits = service.settings.limits

    class Limited(Protocol):
        limit = limits.connections
        seconds = limits.receive_seconds

    config = uvicorn.Config(
        app,
        http=Limited,
        loop="uvloop",
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=math.ceil(limits.receive_seconds + limits.answer_seconds + _GRACE_SECONDS),
    )
    return Server(config, service)
