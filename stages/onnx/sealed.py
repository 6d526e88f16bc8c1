"""models/model.onnx as a file: ONNX whose last metadata entry is the SHA-256 of all the bytes before it.

A file of protobuf messages may end in further fields, so the entry is simply appended, and compared without a reader of
protobuf. It shows that graph, weights or labels were edited, or that the file is damaged; it is no signature.
"""

import hashlib
from pathlib import Path

from stages.common.errors import UserError

MODEL = Path("models/model.onnx")
_KEY = b"sha256 of all before"
_DIGITS = 64
# Field 14 of ModelProto, metadata_props, is a StringStringEntryProto: field 1 is the key, field 2 the value.
_ENTRY = b"\x0a" + bytes([len(_KEY)]) + _KEY + b"\x12" + bytes([_DIGITS])
_SEAL = b"\x72" + bytes([len(_ENTRY) + _DIGITS]) + _ENTRY
_REMEDY = "`make export` writes it of the model in models/; `make results` gets it, where it was pushed."


def seal(content: bytes) -> bytes:
    """An ONNX model with the digest of its bytes at the end."""
    return content + _SEAL + hashlib.sha256(content).hexdigest().encode()


def read_sealed(path: Path) -> bytes:
    """The bytes of a file that `seal` made. UserError where it is missing, another one, or not as it was written."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file. {_REMEDY}") from None
    except IsADirectoryError:
        raise UserError(f"{path}: expected an ONNX file, got a folder. {_REMEDY}") from None
    length = len(content) - len(_SEAL) - _DIGITS
    if length < 0 or content[length:-_DIGITS] != _SEAL:
        raise UserError(
            f"{path}: expected a whole ONNX file that `make export` wrote, which ends in a digest of itself; got "
            f"{len(content):,} bytes that do not. {_REMEDY}"
        )
    expected, digest = content[-_DIGITS:], hashlib.sha256(memoryview(content)[:length]).hexdigest()
    if expected != digest.encode():
        raise UserError(
            f"{path}: not as `make export` wrote it: labels, graph or weights were edited, or it is damaged. It "
            f"names SHA-256 {expected[:16].decode(errors='replace')}…, its content has {digest[:16]}…. {_REMEDY}"
        )
    return content
