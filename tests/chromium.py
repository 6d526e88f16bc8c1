"""Chromium, where the machine has one, driven over a pipe by the Chrome DevTools Protocol."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import Any

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# Without GPU and sandbox, which containers lack, and with nothing that asks the network.
_FLAGS = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
--disable-component-update --disable-sync --remote-debugging-pipe --window-size=1200,900""".split()

_SECONDS = 60


class Browser:
    """A page in a browser. `errors` are the exceptions of its scripts."""

    def __init__(self, reading: int, writing: int) -> None:
        self._reading = os.fdopen(reading, "rb")
        self._writing = os.fdopen(writing, "wb")
        self._session: dict[str, str] = {}
        self._number = 0
        self._events: list[dict[str, Any]] = []
        self.errors: list[str] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = {"sessionId": self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}
        self.send("Runtime.enable")
        self.send("Page.enable")

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command, and wait for its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params, **self._session}
        self._events.clear()
        self._writing.write(json.dumps(message).encode() + b"\0")
        self._writing.flush()
        while (answer := self._receive()).get("id") != self._number:
            self._events.append(answer)
        assert "error" not in answer, answer
        return dict(answer["result"])

    def open(self, file: Path) -> None:
        """Open a file, and wait until it is loaded."""
        self.send("Page.navigate", url=file.as_uri())
        self._wait("Page.loadEventFired")

    def reload(self) -> None:
        """Load the page again, in the same process, and wait until it is loaded."""
        self.send("Page.reload")
        self._wait("Page.loadEventFired")

    def press(self, key: str) -> None:
        """Press a key: a character, or a name such as Enter."""
        text = {"text": key} if len(key) == 1 else {"text": "\r"} if key == "Enter" else {}
        self.send("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
        self.send("Input.dispatchKeyEvent", type="keyUp", key=key)

    def evaluate(self, expression: str) -> Any:
        """The value of an expression in the page."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def download(self, expression: str, folder: Path) -> bytes:
        """The one file that evaluating an expression in the page saves to a folder."""
        folder.mkdir()
        self.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder), eventsEnabled=True)
        self.evaluate(expression)
        while self._wait("Browser.downloadProgress")["state"] != "completed":
            pass
        (file,) = folder.iterdir()
        return file.read_bytes()

    def _wait(self, method: str) -> dict[str, Any]:
        """The next event of this name since the last command was sent."""
        while (event := self._events.pop(0) if self._events else self._receive()).get("method") != method:
            pass
        return dict(event["params"])

    def _receive(self) -> dict[str, Any]:
        content = bytearray()
        while (byte := self._reading.read(1)) != b"\0":
            assert byte, "the browser has ended"
            content += byte
        message = dict(json.loads(content))
        if message.get("method") == "Runtime.exceptionThrown":
            self.errors.append(str(message["params"]["exceptionDetails"]))
        return message


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """A browser with a new profile in this folder."""
    assert PROGRAM
    # Chromium reads commands from descriptor 3, and writes answers to 4.
    (to_read, writing), (reading, to_write) = os.pipe(), os.pipe()
    shell = f'exec "$0" "$@" 3<&{to_read} 4>&{to_write}'
    process = subprocess.Popen(
        ["bash", "-c", shell, PROGRAM, *_FLAGS, f"--user-data-dir={profile}"],
        pass_fds=(to_read, to_write),
        stderr=subprocess.DEVNULL,
    )
    os.close(to_read)
    os.close(to_write)
    # A browser that hangs ends, and the test with it.
    limit = Timer(_SECONDS, process.kill)
    limit.start()
    try:
        yield Browser(reading, writing)
    finally:
        process.terminate()
        process.wait()
        limit.cancel()
