"""Files and JSON by HTTP, checked: what arrives is whole, and what was asked for."""

import hashlib
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import Any

from stages.common.documents import DocumentError, parse_json
from stages.common.errors import UserError

# Without an answer for so long, a server counts as down; seconds.
_TIMEOUT = 60
_LARGEST_ANSWER = 10_000_000
_BLOCK = 2**20
_BROKEN = (OSError, HTTPException)


def ask(url: str) -> dict[str, Any]:
    """What a server answers in JSON. UserError where it does not."""
    with _opened(url) as answer:
        try:
            content = answer.read(_LARGEST_ANSWER)
        except _BROKEN as error:
            raise UserError(f"{url}: the connection broke ({error}). Try again.") from None
    try:
        facts = parse_json(content)
    except DocumentError as error:
        raise UserError(f"{url}: answered something else than JSON ({error}). Is it the hub?") from None
    if not isinstance(facts, dict):
        raise UserError(f"{url}: answered JSON that is no object.")
    return facts


def download(url: str, path: Path, sha256: str) -> str:
    """Write what `url` has to `path`; return its SHA-256, which begins with `sha256`. UserError where it does not."""
    digest = hashlib.sha256()
    with _opened(url) as answer, path.open("wb") as stream:
        expected = answer.headers.get("Content-Length")
        try:
            while block := answer.read(_BLOCK):
                digest.update(block)
                stream.write(block)
        except _BROKEN as error:
            raise UserError(f"{url}: the connection broke ({error}). Try again.") from None
        if expected is not None and stream.tell() != int(expected):
            raise UserError(f"{url}: got {stream.tell()} of {expected} bytes. Try again.")
    if not digest.hexdigest().startswith(sha256):
        raise UserError(
            f"{url}: expected SHA-256 {sha256}, got {digest.hexdigest()[: len(sha256)]}: not the published "
            "file. Something between here and there changes it; nothing was kept."
        )
    return digest.hexdigest()


def _opened(url: str) -> Any:
    try:
        return urllib.request.urlopen(url, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        raise UserError(f"{url}: {error.code} {error.reason}. Check the name and the revision.") from None
    except (*_BROKEN, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise UserError(
            f"{url}: no answer ({reason}). Without network, bring the file, and add `--from FILE`."
        ) from None
