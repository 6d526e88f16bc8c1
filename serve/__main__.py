"""Start the service: bind, load, answer until SIGTERM or Ctrl-C, and end with exit code 0."""

import asyncio
import socket

import uvloop

from serve import settings
from serve.app import make_app
from serve.server import listen, make_server
from serve.service import Service
from stages.common.errors import UserError, run_main


def main() -> None:
    given = settings.read()
    listener = listen(given)
    service = Service(given)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(service, listener))


async def serve(service: Service, listener: socket.socket) -> None:
    """Answer until a signal comes. UserError where no process starts to decode."""
    try:
        await service.start()
    except (OSError, RuntimeError) as error:
        raise UserError(f"serve: cannot start: {error}. Free memory or processes of this machine.") from None
    try:
        await make_server(make_app(service), service).serve(sockets=[listener])
    finally:
        await service.stop()


if __name__ == "__main__":
    run_main(main)
