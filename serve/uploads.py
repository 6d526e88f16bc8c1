"""The body of a request → the pictures in it, still encoded. What is too much is refused before it is held."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from serve.refused import Refused
from serve.settings import Limits
from stages.common import escape

_ACCEPTED = "image/jpeg, image/png, image/webp or another image/…, application/octet-stream, or multipart/form-data"
_NAME_CHARACTERS = 255
_HEADER_BYTES = 8192
# RFC 2046, 5.1.1.
_BOUNDARY = re.compile(rb"[0-9A-Za-z'()+_,./:=? -]{1,70}")


class Upload(NamedTuple):
    """A picture as it came: the name of its file, empty for a body that is the picture, and its bytes."""

    name: str
    data: bytes


class Held:
    """The bytes of all requests together that wait for their answer."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._bytes = 0

    @contextmanager
    def share(self) -> Iterator["Share"]:
        """A request's own part, given back at the end."""
        share = Share(self)
        try:
            yield share
        finally:
            self._bytes -= share.taken

    def take(self, count: int) -> None:
        """Refused where all requests together would hold too much."""
        if self._bytes + count > self._most:
            raise Refused(503, "memory", "The requests that wait for their answer hold as much memory as they may.")
        self._bytes += count


class Share:
    """What one request holds."""

    def __init__(self, held: Held) -> None:
        self._held = held
        self.taken = 0

    def take(self, count: int) -> None:
        """So many bytes more. Raises Refused."""
        self._held.take(count)
        self.taken += count


async def read(request: Request, limits: Limits, share: Share) -> list[Upload]:
    """All pictures of a request. Refused where there is none, or more than the limits allow; ClientDisconnect of
    Starlette where the client goes."""
    if encoding := request.headers.get("content-encoding"):
        raise Refused(415, "type", f"Content-Encoding: expected none, got {_shown(encoding)}.")
    # Compared as it is: parse_options_header takes a header of any length apart.
    header = request.headers.get("content-type", "")[:_HEADER_BYTES]
    kind, parameters = parse_options_header(header)
    stated = request.headers.get("content-length", "")
    # The server's parser has refused what is no number.
    if stated and int(stated) > limits.body_bytes:
        raise Refused(413, "body", f"{int(stated):,} bytes; at most {limits.body_bytes:,} are read of one request.")
    parts: _Raw | _Multipart
    if kind == b"multipart/form-data":
        parts = _Multipart(parameters.get(b"boundary", b""), limits)
    elif kind.startswith(b"image/") or kind == b"application/octet-stream":
        parts = _Raw()
    else:
        raise Refused(415, "type", f"Content-Type: expected {_ACCEPTED}, got {_shown(header) or 'none'}.")
    try:
        async with asyncio.timeout(limits.receive_seconds):
            async for chunk in request.stream():
                if share.taken + len(chunk) > limits.body_bytes:
                    text = f"More than {limits.body_bytes:,} bytes, which are the most that are read of one request."
                    raise Refused(413, "body", text)
                share.take(len(chunk))
                parts.add(chunk)
    except TimeoutError:
        text = f"The request did not arrive whole within {limits.receive_seconds:g} s."
        raise Refused(408, "slow", text) from None
    return parts.all()


class _Raw:
    """A body that is one picture."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []

    def add(self, chunk: bytes) -> None:
        self._chunks.append(chunk)

    def all(self) -> list[Upload]:
        data = b"".join(self._chunks)
        if not data:
            raise Refused(422, "empty", "The body is empty; expected a picture.")
        return [Upload("", data)]


class _Multipart:
    """A form whose parts are files (RFC 7578); kept in memory, as the service may have no disk."""

    def __init__(self, boundary: bytes, limits: Limits) -> None:
        if not _BOUNDARY.fullmatch(boundary):
            raise Refused(422, "form", "Content-Type: multipart/form-data without a boundary of 1 to 70 characters.")
        self._most = limits.pictures
        self._uploads: list[Upload] = []
        self._name: bytes | bytearray = b""
        self._value: bytes | bytearray = b""
        self._disposition = b""
        self._header_bytes = 0
        self._data = bytearray()
        self._ended = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._header_name,
                "on_header_value": self._header_value,
                "on_header_end": self._header_end,
                "on_part_data": self._part_data,
                "on_part_end": self._part_end,
                "on_end": self._end,
            },
        )

    def add(self, chunk: bytes) -> None:
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise Refused(422, "form", f"The form cannot be read: {escape.terminal(str(error))}.") from None

    def all(self) -> list[Upload]:
        if not self._ended:
            raise Refused(422, "form", "The form ends before its last boundary.")
        if not self._uploads:
            raise Refused(422, "empty", "The form is empty; expected one file or more.")
        return self._uploads

    def _begin(self) -> None:
        if len(self._uploads) == self._most:
            raise Refused(413, "pictures", f"More than {self._most} pictures, which are the most in one request.")
        self._disposition, self._header_bytes = b"", 0
        self._name, self._value, self._data = bytearray(), bytearray(), bytearray()

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += self._counted(data, start, end)

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += self._counted(data, start, end)

    def _counted(self, data: bytes, start: int, end: int) -> bytes:
        self._header_bytes += end - start
        if self._header_bytes > _HEADER_BYTES:
            raise Refused(422, "form", f"The form has a part with more than {_HEADER_BYTES:,} bytes of headers.")
        return data[start:end]

    def _header_end(self) -> None:
        if bytes(self._name).lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._name, self._value = bytearray(), bytearray()

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        self._data += memoryview(data)[start:end]

    def _part_end(self) -> None:
        _, options = parse_options_header(self._disposition)
        field = options.get(b"name", b"").decode(errors="replace")
        if b"filename" not in options:
            raise Refused(422, "form", f"The form's field {_shown(field)!r} is no file; expected files alone.")
        name = options[b"filename"].decode(errors="replace")
        if len(name) > _NAME_CHARACTERS:
            raise Refused(422, "form", f"A file's name has {len(name):,} characters; at most {_NAME_CHARACTERS}.")
        self._uploads.append(Upload(name or field, bytes(self._data)))
        self._data = bytearray()

    def _end(self) -> None:
        self._ended = True


def _shown(text: str) -> str:
    return escape.terminal(text if len(text) <= 80 else f"{text[:80]}…")
