"""Tensors in safetensors files that are written piece by piece, so that no file is ever whole in memory.

safetensors' own save() has the file in memory, twice, and its save_file() writes another file and renames it, so that
a process that is killed leaves one behind that nobody knows, and takes several times the CPU's time.
"""

import functools
import hashlib
import json
from collections.abc import Iterator, Mapping
from io import FileIO
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save

_NO_DIGEST = "0" * 64
_PIECE = 2**20


class Snapshot:
    """A copy of tensors in the CPU's memory: what is done to them afterwards, in place, does not change it.

    A GPU copies on its own, in the order of its operations, into memory that cannot be paged out. `wait` until it has.
    """

    def __init__(self, tensors: Mapping[str, torch.Tensor]) -> None:
        self.tensors = {name: _copied(tensor.detach()) for name, tensor in tensors.items()}
        self._copied: torch.cuda.Event | None = None
        if any(tensor.is_cuda for tensor in tensors.values()):
            self._copied = torch.cuda.Event()
            self._copied.record()

    @property
    def on_gpu(self) -> bool:
        """Whether a GPU copies."""
        return self._copied is not None

    def wait(self) -> None:
        """Until the copy is whole."""
        if self._copied:
            self._copied.synchronize()


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], mark: str, document: Mapping[str, Any]) -> str:
    """Write over `path`, with `mark` and `document`, which is JSON, in its header; the SHA-256 of document and tensors.

    Raises OSError, which names the file.
    """
    names = _in_order(tensors)
    metadata = {"format": mark, "document": json.dumps(document), "sha256": _NO_DIGEST}
    header = _header({name: tensors[name] for name in names}, metadata)
    digest = _begun_digest(document)
    try:
        with path.open("wb", buffering=0) as stream:
            write_piece(stream, header)
            for name in names:
                tensor = tensors[name].detach().cpu().contiguous()
                digest.update(_description(name, tensor))
                for piece in _pieces(tensor):
                    digest.update(piece)
                    write_piece(stream, piece)
            stream.seek(header.index(_NO_DIGEST.encode()))
            write_piece(stream, digest.hexdigest().encode())
    except OSError as error:
        # A write does not say of which file.
        error.filename = error.filename or str(path)
        raise
    return digest.hexdigest()


def read_tensors(path: Path) -> tuple[dict[str, torch.Tensor], Any, str]:
    """The tensors of a file, its document and the SHA-256 of both.

    Raises ValueError, KeyError, TypeError or SafetensorError where it is not what `write_tensors` wrote.
    """
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    document = json.loads(metadata["document"])
    digest = _begun_digest(document)
    for name in _in_order(tensors):
        digest.update(_description(name, tensors[name]))
        for piece in _pieces(tensors[name]):
            digest.update(piece)
    if digest.hexdigest() != metadata["sha256"]:
        raise ValueError("its content is not what was saved")
    return tensors, document, digest.hexdigest()


def read_document(path: Path) -> Any:
    """The document of a file alone, unchecked; raises as `read_tensors` does."""
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["document"])


def _copied(tensor: torch.Tensor) -> torch.Tensor:
    copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
    return copy.copy_(tensor, non_blocking=True)


def _in_order(tensors: Mapping[str, torch.Tensor]) -> list[str]:
    """The names, those of the widest elements first: each tensor then begins at a multiple of its elements' size."""
    return sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))


def _header(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> bytes:
    """What a file begins with (https://github.com/huggingface/safetensors#format)."""
    entries: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.numel() * tensor.element_size()
        entries[name] = {"dtype": _dtype(tensor.dtype), "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


@functools.cache
def _dtype(dtype: torch.dtype) -> str:
    """The name of a dtype in a header."""
    name: str = json.loads(save({"x": torch.empty(0, dtype=dtype)})[8:])["x"]["dtype"]
    return name


def _begun_digest(document: Any) -> "hashlib._Hash":
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode())


def _description(name: str, tensor: torch.Tensor) -> bytes:
    return f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode()


def _pieces(tensor: torch.Tensor) -> Iterator[memoryview]:
    content: memoryview = tensor.view(-1).view(torch.uint8).numpy().data
    return (content[start : start + _PIECE] for start in range(0, len(content), _PIECE))


def write_piece(stream: FileIO, content: bytes | memoryview) -> None:
    """All of it: an unbuffered stream may take less at once."""
    rest = memoryview(content)
    while rest:
        rest = rest[stream.write(rest) :]
