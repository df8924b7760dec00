"""How objects lie in a block: the base class of layouts, and those for any object and for dicts.

A layout begins with its `sign`, one byte, by which `load` knows it. Any process may write there, so
lengths and places are checked against the memory they are in before they are used, and pickles are
read for nobody who did not ask.
"""

from __future__ import annotations

import abc
import pickle
import struct
from contextvars import ContextVar
from typing import Any, ClassVar

from ringspan._ringspan import _decode, _encode
from ringspan.compat.shared_memory._errors import Damaged, Mismatch, PickleRefused

#: Tag of a pickle, as in docs/format.md.
PICKLE = 4
#: Whether `load` was told to read pickles, for what is nested in what it loads.
_asked: ContextVar[bool] = ContextVar("_asked", default=False)
#: How deep the layout is nested that is loaded now.
_depth: ContextVar[int] = ContextVar("_depth", default=0)
#: Deeper ones are refused.
_DEEPEST = 100


class Layout(abc.ABC):
    """How an object lies in a block. A subclass with a `sign` of its own is found by `load`.

    Raises ValueError where the sign is no single byte or another class's.
    """

    sign: ClassVar[bytes]
    _classes: ClassVar[dict[bytes, type[Layout]]] = {}

    @abc.abstractmethod
    def size(self) -> int:
        """Bytes that `dump` writes."""

    @abc.abstractmethod
    def dump(self, mem: memoryview) -> None:
        """Writes the object to the start of `mem`, which has `size()` bytes or more."""

    @classmethod
    @abc.abstractmethod
    def load(cls, mem: memoryview) -> Any:
        """Returns the object that lies at the start of `mem`."""

    @classmethod
    def get_layout_cls(cls, key: bytes) -> type[Layout]:
        """The layout of that sign; KeyError if there is none."""
        return Layout._classes[key]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "load" in cls.__dict__ and "_made" not in cls.__dict__:
            cls._made = Layout._made  # type: ignore[method-assign]
        sign = cls.__dict__.get("sign")
        if sign is None:
            return
        if not isinstance(sign, bytes) or len(sign) != 1:
            raise ValueError(f"{cls.__qualname__}.sign is {sign!r}; a sign is one byte")
        taken = Layout._classes.get(sign)
        # A module that is loaded again may bring its layouts again.
        if taken is not None and _path(taken) != _path(cls):
            raise ValueError(f"the sign {sign!r} is that of {'.'.join(_path(taken))}")
        Layout._classes[sign] = cls

    def _made(self, mem: memoryview) -> Any:
        """The object that `create` returns: as `load`, of a layout that we have just dumped."""
        return self.load(mem)


def _path(cls: type) -> tuple[str, str]:
    return cls.__module__, cls.__qualname__


def sign_of(mem: memoryview) -> bytes:
    """The first byte."""
    return bytes(mem[:1])


def check_sign(mem: memoryview, cls: type[Layout]) -> None:
    """Raises Mismatch (a TypeError) where something else lies there."""
    found = sign_of(mem)
    if found != cls.sign:
        known = Layout._classes.get(found)
        what = f"a {known.__name__}" if known else f"the unknown sign {found!r}"
        raise Mismatch(f"unknown data type: there is {what}, and no {cls.__name__}")


def load_mem(mem: memoryview, layout: type[Layout] | None = None) -> Any:
    """Returns the object at the start of `mem`, by its sign where no layout is given.

    Raises KeyError for a sign that no layout has, TypeError where another layout lies there, and
    `PickleRefused` for a pickle that is found by its sign when nobody asked for pickles.
    """
    if layout is not None:
        return layout.load(mem)
    found = Layout.get_layout_cls(sign_of(mem))
    if issubclass(found, PickleLayout) and not _asked.get():
        return found._load(mem, False)
    return found.load(mem)


class asking:  # noqa: N801 - reads like a function
    """`with asking(allow_pickle)`: whether pickles inside are read by their sign."""

    def __init__(self, allow_pickle: bool) -> None:
        self._allow = allow_pickle

    def __enter__(self) -> None:
        self._token = _asked.set(self._allow)

    def __exit__(self, *_: object) -> None:
        _asked.reset(self._token)


# ---- any object ----------------------------------------------------------------------------------

_HEAD = struct.Struct("<cB6xQ")


def encode(obj: Any) -> tuple[int, bytes]:
    """Tag and bytes: by ringspan's codec where every type comes back, else a pickle."""
    try:
        return _encode(obj, True, True)
    except ValueError:  # too deep, holds itself, surrogates
        return PICKLE, pickle.dumps(obj)


def decode(tag: int, data: bytes, allow_pickle: bool, what: str) -> Any:
    """The object again. Pickles only where the program asked for them."""
    if tag == PICKLE and not allow_pickle:
        raise PickleRefused(
            f"{what}: it is a pickle, which runs whatever its writer put in; if you trust every "
            "process that can write here, say allow_pickle=True"
        )
    try:
        return _decode(tag, data, True, allow_pickle)
    except ValueError as err:
        raise Damaged(f"{what}: {err}") from err


class PickleLayout(Layout):
    """Any object. What ringspan's codec knows is no pickle and is loaded by anybody; the rest is.

    Loading gives a copy each time. Naming this class in `load` asks for pickles to be read.
    """

    sign = b"p"

    def __init__(self, item: Any) -> None:
        self._tag, self.data = encode(item)

    def size(self) -> int:
        """Bytes that `dump` writes."""
        return align(8, _HEAD.size + len(self.data))

    def dump(self, mem: memoryview) -> None:
        """Writes the object to the start of `mem`."""
        _HEAD.pack_into(mem, 0, self.sign, self._tag, len(self.data))
        mem[_HEAD.size : _HEAD.size + len(self.data)] = self.data

    @classmethod
    def load(cls, mem: memoryview) -> Any:
        """Returns a copy of the object; reads pickles."""
        return cls._load(mem, True)

    @classmethod
    def _load(cls, mem: memoryview, allow_pickle: bool) -> Any:
        check_sign(mem, cls)
        if len(mem) < _HEAD.size:
            raise Damaged(f"{len(mem)} bytes hold no PickleLayout")
        _, tag, length = _HEAD.unpack_from(mem, 0)
        if length > len(mem) - _HEAD.size:
            raise Damaged(f"a PickleLayout says that it has {length} bytes, in {len(mem)}")
        data = bytes(mem[_HEAD.size : _HEAD.size + length])
        return decode(tag, data, allow_pickle, "PickleLayout")

    def _made(self, mem: memoryview) -> Any:  # noqa: ARG002
        # Of our own bytes, which nobody else could have changed.
        return decode(self._tag, self.data, True, "PickleLayout")


# ---- dicts ---------------------------------------------------------------------------------------

_ENTRY = struct.Struct("<QQ")
#: Nested layouts begin at multiples of this, for arrays.
APART = 64


def align(alignment: int, size: int) -> int:
    """The next multiple of `alignment`."""
    return -(-size // alignment) * alignment


class StructLayout(Layout):
    """A dict of layouts: loading gives a dict of what they load."""

    sign = b"s"

    def __init__(self, layout: dict[str, Layout]) -> None:
        self.layout = layout

    def _places(self) -> list[tuple[bytes, int, Layout]]:
        keys = [key.encode() for key in self.layout]
        at = _HEAD.size + sum(_ENTRY.size + align(8, len(key)) for key in keys)
        places = []
        for key, layout in zip(keys, self.layout.values(), strict=True):
            at = align(APART, at)
            places.append((key, at, layout))
            at += layout.size()
        return places

    def size(self) -> int:
        """Bytes that `dump` writes."""
        places = self._places()
        return align(8, places[-1][1] + places[-1][2].size()) if places else _HEAD.size

    def dump(self, mem: memoryview) -> None:
        """Writes all the objects."""
        places = self._places()
        _HEAD.pack_into(mem, 0, self.sign, 0, len(places))
        entry = _HEAD.size
        for key, at, layout in places:
            _ENTRY.pack_into(mem, entry, len(key), at)
            entry += _ENTRY.size
            mem[entry : entry + len(key)] = key
            entry += align(8, len(key))
            layout.dump(mem[at : at + layout.size()])

    @classmethod
    def load(cls, mem: memoryview) -> Any:
        """Returns a dict of what the layouts load.

        Raises Damaged for a table that cannot be, and for one below 100 others.
        """
        depth = _depth.get()
        if depth == _DEEPEST:
            raise Damaged(f"a {cls.__name__} lies below {_DEEPEST} others")
        token = _depth.set(depth + 1)
        try:
            return {key: load_mem(part) for key, part in cls._parts(mem)}
        finally:
            _depth.reset(token)

    @classmethod
    def _parts(cls, mem: memoryview) -> list[tuple[str, memoryview]]:
        """Keys and memory, disjoint and in order: a table that says otherwise is refused."""
        check_sign(mem, cls)
        room = len(mem)
        count = _HEAD.unpack_from(mem, 0)[2] if room >= _HEAD.size else -1
        if not 0 <= count <= (room - _HEAD.size) // _ENTRY.size:
            raise Damaged(f"a {cls.__name__} says that it has {count} entries, in {room} bytes")
        keys, places, entry = [], [], _HEAD.size
        for _ in range(count):
            length, at = (
                _ENTRY.unpack_from(mem, entry) if entry <= room - _ENTRY.size else (room, 0)
            )
            entry += _ENTRY.size
            if length > room - entry:
                raise Damaged(f"the table of a {cls.__name__} does not fit in {room} bytes")
            try:
                keys.append(bytes(mem[entry : entry + length]).decode())
            except UnicodeDecodeError as err:
                raise Damaged(f"a key of a {cls.__name__} is no UTF-8") from err
            places.append(at)
            entry += align(8, length)
        ends = [*places, room][1:]
        if any(not entry <= at < end for at, end in zip(places, ends, strict=True)):
            raise Damaged(f"the entries of a {cls.__name__} do not lie in order behind its table")
        return [(k, mem[at:end]) for k, at, end in zip(keys, places, ends, strict=True)]

    def _made(self, mem: memoryview) -> Any:
        return {
            key.decode(): layout._made(mem[at : at + layout.size()])
            for key, at, layout in self._places()
        }
