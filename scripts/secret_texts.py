"""The texts that a file's bytes hold, whatever their encoding: its own, or a notebook's cells, outputs and metadata."""

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

# The longer marks first: that of UTF-32 begins with that of UTF-16.
_MARKS = [
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
]
# A picture, base64 of its bytes, holds no text.
_PICTURES = ("image/", "video/", "audio/", "application/pdf")


class Text(NamedTuple):
    """A text and where it stands: empty for a file's own lines, else a notebook's part."""

    place: str
    content: str


def texts(content: bytes, path: str) -> list[Text] | None:
    """The texts of a file; None where it is no text. A notebook that does not parse is read as the text that it is."""
    text = decoded(content)
    if text is None:
        return None
    if path.endswith(".ipynb"):
        try:
            return list(_notebook(json.loads(text)))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            pass
    return [Text("", text.replace("\r\n", "\n").replace("\r", "\n"))]


def decoded(content: bytes) -> str | None:
    """By the byte-order mark, else UTF-8, else UTF-16 where every other byte is zero, else Latin-1.

    ASCII characters are the same bytes in Latin-1 and in the other encodings with one byte for a letter, and secrets
    are made of these. None where the bytes are no text.
    """
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return content.decode(encoding, errors="replace")
    start = content[:65536]
    if b"\0" in start:
        for zero, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
            # Of a Latin letter, the other byte is its code.
            letters = bytes(
                other for null, other in zip(start[zero::2], start[1 - zero :: 2], strict=False) if not null
            )
            if len(letters) > max(len(start) / 20, len(re.findall(rb"[^\t\n\r -~\xa0-\xff]", letters)) * 20):
                return content.decode(encoding, errors="replace")
        return None
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        # What controls something other than lines, pages and colours is rare in a text.
        return (
            content.decode("latin-1") if len(re.findall(rb"[^\t\n\f\r\x1b -\xff]", start)) < len(start) / 100 else None
        )


def _notebook(content: dict[str, Any]) -> Iterator[Text]:
    """Their texts are escaped in the file, and one statement may be split there."""
    for number, cell in enumerate(content["cells"], start=1):
        yield Text(f"cell {number}, source", _joined(cell.get("source", "")))
        for output in cell.get("outputs", []):
            for part in ("text", "traceback"):
                yield Text(f"cell {number}, output", _joined(output.get(part, "")))
            for data in _without_pictures(output.get("data", {})):
                yield Text(f"cell {number}, output", data)
            rest = {key: value for key, value in output.items() if key not in ("text", "traceback", "data")}
            yield Text(f"cell {number}, output", _joined(rest))
        rest = {key: value for key, value in cell.items() if key not in ("source", "outputs", "attachments", "id")}
        yield Text(f"cell {number}, metadata", _joined(rest))
        for attached in cell.get("attachments", {}).values():
            for data in _without_pictures(attached):
                yield Text(f"cell {number}, attachment", data)
    yield Text("metadata", _joined({key: value for key, value in content.items() if key != "cells"}))


def _without_pictures(data: dict[str, Any]) -> list[str]:
    kinds = [kind for kind in data if not kind.startswith(_PICTURES) or kind == "image/svg+xml"]
    return [_joined(data[kind]) for kind in kinds]


def _joined(content: Any) -> str:
    """Notebooks write a text as it is, or as the list of its lines; of anything else, each text is a line."""
    if isinstance(content, list) and all(isinstance(line, str) for line in content):
        return "".join(content)
    return content if isinstance(content, str) else "\n".join(_leaves(content))


def _leaves(content: Any, name: str = "") -> Iterator[str]:
    """Every text in a JSON value as a line `"name": "text"`, which says what it is the value of."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield from _leaves(value, key)
    elif isinstance(content, list):
        for value in content:
            yield from _leaves(value, name)
    elif isinstance(content, str) and content:
        yield f'"{name}": {json.dumps(content, ensure_ascii=False)}' if name else content
