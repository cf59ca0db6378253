"""Plain values and arrays from a pickle, without running what it says.

A pickle is a program, and Python's reader calls whatever function it names. This reader knows the instructions that
build numbers, texts, lists, dictionaries and numpy arrays, and computes those itself; it imports and calls nothing, and
refuses everything else. CIFAR's Python files are such pickles. Python 2 wrote them, whose texts are read as latin-1.
"""

import pickletools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from alloop.errors import DataError

_ARRAY: Final = frozenset({"numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct"})
_BUFFER: Final = frozenset({"numpy.core.numeric _frombuffer", "numpy._core.numeric _frombuffer"})  # of protocol 5
_DTYPE: Final = "numpy dtype"
_NDARRAY: Final = "numpy ndarray"
_ENCODE: Final = "_codecs encode"  # how protocols up to 2 write the bytes of Python 3
_BYTES: Final = "__builtin__ bytes"  # and how they write none
_NAMES = frozenset({*_ARRAY, *_BUFFER, _DTYPE, _NDARRAY, _ENCODE, _BYTES})
_KINDS = "biuf"  # of dtypes: no objects, no fields


class _Mark:
    """Where the items of a list, tuple or dictionary begin on the stack."""


@dataclass
class _Made:
    """An array or a dtype that is being made: the function that would make it, its arguments, and its state."""

    function: str
    arguments: tuple[Any, ...]
    state: Any = field(default=None)


def load_plain(data: bytes, name: str) -> Any:
    """Return the value of a pickle made of None, bools, numbers, texts, bytes, lists, tuples, dicts and arrays.

    Args:
        data: the pickle.
        name: what it is called in messages.

    Raises:
        DataError: it is damaged, or holds anything else.
    """
    try:
        return _Values().plain(_Machine().run(pickletools.genops(data)))
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, UnicodeDecodeError, RecursionError) as error:
        msg = f"{name}: expected plain values and arrays in a pickle, but it cannot be read as such ({error})"
        raise DataError(msg) from error


class _Machine:
    """The stack and the memo of a pickle, with one method or table entry per instruction."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, instructions: Iterator[tuple[Any, Any, int | None]]) -> Any:
        """Return what lies on the stack at the end."""
        for opcode, argument, _ in instructions:
            name = opcode.name
            if name == "STOP":
                return self.stack.pop()
            if name in _VALUES:
                self.stack.append(argument)
            elif name in _CONSTANTS:
                self.stack.append(_CONSTANTS[name]())
            elif name in _STEPS:
                _STEPS[name](self, argument)
            elif name not in _IGNORED:
                msg = f"the instruction {name} is not one of plain values"
                raise ValueError(msg)
        msg = "it ends too early"
        raise ValueError(msg)

    def items(self) -> list[Any]:
        """Take what lies above the last mark, and the mark."""
        row = max(row for row, value in enumerate(self.stack) if isinstance(value, _Mark))
        taken = self.stack[row + 1 :]
        del self.stack[row:]
        return taken

    def put(self, key: int | None) -> None:
        """Remember the top of the stack under a number, by default the next one."""
        self.memo[len(self.memo) if key is None else key] = self.stack[-1]

    def tuple_of(self, count: int) -> None:
        """Replace the topmost values by a tuple of them."""
        taken = tuple(self.stack[len(self.stack) - count :])
        del self.stack[len(self.stack) - count :]
        self.stack.append(taken)

    def set_items(self, items: list[Any]) -> None:
        """Add keys and values, which take turns, to the dictionary on the stack."""
        self.stack[-1].update(_pairs(items))

    def name(self, text: str) -> None:
        """Put the name of a function or class on the stack, if it is one of those that arrays are made with."""
        if text not in _NAMES:
            msg = f"it names {text!r}, which is no part of plain values"
            raise ValueError(msg)
        self.stack.append(text)

    def call(self) -> None:
        """Replace a name and its arguments by what is being made of them."""
        arguments, function = self.stack.pop(), self.stack.pop()
        if function == _ENCODE:
            self.stack.append(arguments[0].encode("latin1"))
        elif function == _BYTES:
            self.stack.append(b"")
        else:
            self.stack.append(_Made(function, arguments))

    def build(self) -> None:
        """Give what is being made its state."""
        state = self.stack.pop()
        made = self.stack[-1]
        if not isinstance(made, _Made):
            msg = "only arrays have a state"
            raise ValueError(msg)  # noqa: TRY004  every fault of a pickle is one of its values
        made.state = state


class _Values:
    """Makes arrays. What occurs several times is made once, so that a small pickle cannot grow without end."""

    def __init__(self) -> None:
        self._made: dict[int, Any] = {}

    def plain(self, value: Any) -> Any:
        """Return a value with its arrays made."""
        if isinstance(value, _Made | dict | list | tuple):
            if id(value) not in self._made:
                self._made[id(value)] = self._of(value)
            return self._made[id(value)]
        return value

    def _of(self, value: Any) -> Any:
        if isinstance(value, _Made):
            return _dtype(value) if value.function == _DTYPE else _array(value)
        if isinstance(value, dict):
            return {key: self.plain(item) for key, item in value.items()}
        return type(value)(map(self.plain, value))


def _array(made: _Made) -> np.ndarray:
    """Return an array.

    It is described by (version, shape, dtype, whether columns come first, bytes), or by (bytes, dtype, shape, order).
    """
    if made.function in _BUFFER:
        data, dtype, shape, order = made.arguments
    else:
        _, shape, dtype, columns_first, data = made.state
        order = "F" if columns_first else "C"
    flat = np.frombuffer(data.encode("latin1") if isinstance(data, str) else data, dtype=_dtype(dtype))
    return flat.reshape(shape, order=order)


def _dtype(made: _Made) -> np.dtype[Any]:
    """Return a dtype: its argument is the kind and size, and the second item of its state the byte order."""
    code = _text(made.arguments[0])
    dtype = np.dtype(code)
    if dtype.kind not in _KINDS:
        msg = f"arrays of {code!r} are no numbers"
        raise ValueError(msg)
    order: Any = "=" if made.state is None else _text(made.state[1])
    return dtype.newbyteorder(order)


def _text(value: Any) -> str:
    return value.decode("ascii") if isinstance(value, bytes) else str(value)


_CONSTANTS: Mapping[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "MARK": _Mark,
}
_VALUES = frozenset(
    {
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    }
)
_IGNORED = frozenset({"PROTO", "FRAME"})
_STEPS: Mapping[str, Callable[[_Machine, Any], None]] = {
    "BINPUT": _Machine.put,
    "LONG_BINPUT": _Machine.put,
    "PUT": _Machine.put,
    "MEMOIZE": _Machine.put,
    "GET": lambda machine, key: machine.stack.append(machine.memo[key]),
    "BINGET": lambda machine, key: machine.stack.append(machine.memo[key]),
    "LONG_BINGET": lambda machine, key: machine.stack.append(machine.memo[key]),
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.items())),
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "LIST": lambda machine, _: machine.stack.append(machine.items()),
    "DICT": lambda machine, _: machine.stack.append(_pairs(machine.items())),
    "APPEND": lambda machine, _: machine.stack[-2].append(machine.stack.pop()),
    "APPENDS": lambda machine, _: _extend(machine),
    "SETITEM": lambda machine, _: machine.set_items([machine.stack.pop(-2), machine.stack.pop()]),
    "SETITEMS": lambda machine, _: machine.set_items(machine.items()),
    "GLOBAL": lambda machine, text: machine.name(text),
    "STACK_GLOBAL": lambda machine, _: machine.name(f"{machine.stack.pop(-2)} {machine.stack.pop()}"),
    "REDUCE": lambda machine, _: machine.call(),
    "BUILD": lambda machine, _: machine.build(),
}


def _pairs(items: list[Any]) -> dict[Any, Any]:
    if strange := [key for key in items[::2] if not isinstance(key, str | bytes | int | float)]:
        msg = f"a key of a dictionary is a {type(strange[0]).__name__}"
        raise ValueError(msg)
    return dict(zip(items[::2], items[1::2], strict=True))


def _extend(machine: _Machine) -> None:
    items = machine.items()
    machine.stack[-1].extend(items)
