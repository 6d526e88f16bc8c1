"""CIFAR's files, which are pickles, read without running one: a pickle is a program, and its language calls functions.

NumPy's own unpickling is not memory-safe either: its `__setstate__` believes what a file says about pointers. So an
interpreter of the few instructions in CIFAR's files, of dictionaries of lists, numbers, text and an array of bytes,
builds the array itself. The standard library's pickletools takes the instructions apart and says what each means.
Protocols 2 to 4, as Python 2 published the files and as NumPy 1 and 2 write them again.
"""

import enum
import pickletools
from typing import Any

import numpy as np

# CIFAR-100's train file has a quarter of a million: a few for each image.
_MAX_INSTRUCTIONS = 2_000_000


class NotCifar(Exception):  # noqa: N818  # it says what is wrong
    """Bytes that are no such pickle; the text says why."""


class _Name(enum.Enum):
    """What such a pickle may name; none of it is imported for that."""

    ENCODE = "_codecs encode"
    DTYPE = "numpy dtype"
    NDARRAY = "numpy ndarray"
    # NumPy 2 moved its core; old files name the old place, files written today the new one.
    RECONSTRUCT = "numpy.core.multiarray _reconstruct"
    RECONSTRUCT_2 = "numpy._core.multiarray _reconstruct"


class _Uint8:
    """Stands for `numpy.dtype("uint8")`."""


class _Array:
    """Stands for an array, until it is filled and afterwards."""

    def __init__(self) -> None:
        self.pixels: np.ndarray | None = None


_MARK = object()


def load(data: bytes) -> dict[str | bytes, Any]:
    """The dictionary that such a file holds: arrays of uint8, and text of Python 2 decoded as Latin-1. Raises NotCifar.

    Memory and time are those of the file's length: nothing in it can ask for more.
    """
    try:
        content = _Interpreter(data).run()
    # An instruction that lacks what it needs, is cut off or is none.
    except (ValueError, TypeError, KeyError, IndexError, OverflowError) as error:
        raise NotCifar(str(error) or type(error).__name__) from None
    return {key: value.pixels if type(value) is _Array else value for key, value in _of_type(content, dict).items()}


class _Interpreter:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._encoded = 0

    def run(self) -> Any:
        stack, memo = self._stack, self._memo
        argument: Any
        for count, (instruction, argument, _) in enumerate(pickletools.genops(self._data)):
            if count == _MAX_INSTRUCTIONS:
                raise NotCifar(f"more than {_MAX_INSTRUCTIONS:,} instructions")
            match instruction.name:
                case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINSTRING" | "SHORT_BINSTRING" | "BINBYTES":
                    stack.append(argument)
                case "SHORT_BINBYTES" | "BINBYTES8" | "BINUNICODE" | "SHORT_BINUNICODE" | "BINUNICODE8":
                    stack.append(argument)
                case "BINPUT" | "LONG_BINPUT":
                    memo[argument] = stack[-1]
                case "MEMOIZE":
                    memo[len(memo)] = stack[-1]
                case "BINGET" | "LONG_BINGET":
                    stack.append(memo[argument])
                case "MARK":
                    stack.append(_MARK)
                case "NONE":
                    stack.append(None)
                case "NEWTRUE" | "NEWFALSE" as name:
                    stack.append(name == "NEWTRUE")
                case "EMPTY_LIST":
                    stack.append([])
                case "EMPTY_DICT":
                    stack.append({})
                case "EMPTY_TUPLE":
                    stack.append(())
                case "TUPLE1" | "TUPLE2" | "TUPLE3" as name:
                    stack.append(tuple(self._pop(int(name[-1]))))
                case "TUPLE":
                    stack.append(tuple(self._pop_to_mark()))
                case "APPEND" | "APPENDS" as name:
                    items = self._pop(1) if name == "APPEND" else self._pop_to_mark()
                    _of_type(stack[-1], list).extend(items)
                case "SETITEM" | "SETITEMS" as name:
                    items = self._pop(2) if name == "SETITEM" else self._pop_to_mark()
                    _set_items(_of_type(stack[-1], dict), items)
                case "GLOBAL":
                    stack.append(_named(argument))
                case "STACK_GLOBAL":
                    stack.append(_named(" ".join(self._pop(2))))
                case "REDUCE":
                    function, arguments = self._pop(2)
                    stack.append(self._call(function, _of_type(arguments, tuple)))
                case "BUILD":
                    (state,) = self._pop(1)
                    self._set_state(stack[-1], _of_type(state, tuple))
                case "PROTO" | "FRAME":
                    pass
                case "STOP":
                    return stack.pop()
                case name:
                    raise NotCifar(f"has the instruction {name}, which no CIFAR file has")
        raise NotCifar("ends early")

    def _pop(self, number: int) -> list[Any]:
        if len(self._stack) < number:
            raise NotCifar("an instruction lacks what it needs")
        items = self._stack[-number:]
        del self._stack[-number:]
        return items

    def _pop_to_mark(self) -> list[Any]:
        start = len(self._stack) - 1
        while start >= 0 and self._stack[start] is not _MARK:
            start -= 1
        if start < 0:
            raise NotCifar("a mark is missing")
        items = self._stack[start + 1 :]
        del self._stack[start:]
        return items

    def _call(self, function: Any, arguments: tuple[Any, ...]) -> Any:
        """What the few functions give for the arguments that a CIFAR file has."""
        match function, arguments:
            case _Name.ENCODE, (str() as text, "latin1"):
                return self._latin1(text)
            case _Name.DTYPE, ("u1" | "|u1", *_):
                return _Uint8()
            case ((_Name.RECONSTRUCT | _Name.RECONSTRUCT_2), (_Name.NDARRAY, *_)):
                return _Array()
        raise NotCifar("calls a function as no CIFAR file does, such as for an array of another kind than bytes")

    def _set_state(self, target: Any, state: tuple[Any, ...]) -> None:
        """What `__setstate__` of NumPy's dtype and ndarray does, for arrays of bytes."""
        if type(target) is _Uint8 and state[1:] == ("|", None, None, None, -1, -1, 0):
            return
        if type(target) is not _Array:
            raise NotCifar("an array of another kind than bytes")
        _, shape, dtype, by_columns, pixels = state
        if type(pixels) is str:
            pixels = self._latin1(pixels)
        if type(dtype) is not _Uint8 or type(pixels) is not bytes:
            raise NotCifar("an array of another kind than bytes")
        if type(shape) is not tuple or not all(type(length) is int and length >= 0 for length in shape):
            raise NotCifar("an array without a shape")
        target.pixels = np.frombuffer(pixels, np.uint8).reshape(shape, order="F" if by_columns is True else "C")

    def _latin1(self, text: str) -> bytes:
        """Each piece of the file once: one text may be named any number of times."""
        self._encoded += len(text)
        if self._encoded > len(self._data):
            raise NotCifar("holds more than its length")
        return text.encode("latin1")


def _named(name: str) -> _Name:
    try:
        return _Name(name)
    except ValueError:
        raise NotCifar(f"refers to {name[:100]!r}, which no CIFAR file does") from None


def _set_items(target: dict[str | bytes, Any], items: list[Any]) -> None:
    # The hash of other keys may take for ever, such as that of (a, a), where a is (b, b), where b is ….
    if not all(type(key) in (str, bytes) for key in items[::2]):
        raise NotCifar("a dictionary with keys other than text")
    target.update(zip(items[::2], items[1::2], strict=True))


def _of_type(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise NotCifar(f"a {type(value).__name__} in the place of a {kind.__name__}")
    return value
