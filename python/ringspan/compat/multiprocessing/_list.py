"""Lists of fixed length in a named block, as `multiprocessing.shared_memory.ShareableList`.

The bytes are the standard library's, so that both attach to each other's lists, in native order:

    offset 0            i64    number of items, N
           8            i64    N + 1 offsets into the data, the last one its length
           8 * (N + 2)         data; the room of an item is a multiple of 8
           then         8s     N formats of `struct`
           then         i8     N codes: 0 number, 1 str, 2 bytes, 3 None

Any process can write there: every number is checked against what the block has before it is used.
"""

from __future__ import annotations

import operator
import struct
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import pairwise
from typing import Any, Generic, SupportsIndex, TypeVar

from ringspan._exceptions import Damaged, TooLarge
from ringspan.compat.multiprocessing._memory import SharedMemory, filled

_T = TypeVar("_T", int, float, bool, str, bytes, None)

_WORD = struct.Struct("q")
_EIGHT = struct.Struct("8s")
_FORMATS: dict[type, str] = {int: "q", float: "d", bool: "xxxxxxx?", type(None): "xxxxxx?x"}
#: What reads items of the formats seen so far, as these stand in memory; at first those of 8 bytes.
_READERS = {form.encode().ljust(8, b"\0"): struct.Struct(form) for form in _FORMATS.values()}


def _reader(raw: bytes) -> struct.Struct | None:
    """What reads items of a format that was not seen yet; None for one that we do not know."""
    form = raw.rstrip(b"\0")
    if form[-1:] != b"s" or not form[:-1].isdigit():
        return None
    made = struct.Struct(f"{int(form[:-1])}s")
    if len(_READERS) < 512:  # others write the formats
        _READERS[raw] = made
    return made


class _DamagedListError(Damaged, ValueError):
    """Bytes that are no list."""


class _LongItemError(TooLarge, AssertionError):
    """An item whose room cannot be written down; the standard class asserts."""


class ShareableList(Generic[_T]):
    """A list of fixed length in a named block: int (64 bits), float, bool, str, bytes and None.

    sequence: what a new list holds. An item keeps the room that it has then.
    name: of the new list (None: made up), or without a `sequence` of the one to attach to.

    The block is `shm`, to be closed and unlinked. Trailing NULs of str and bytes are lost, as in
    the standard class. Setting an item is not atomic: keep a reader out while you write.
    Pickles by name.

    Raises what `SharedMemory` raises, KeyError for an item of another type, struct.error for an int
    beyond 64 bits, and ringspan.Damaged where the bytes of the block are no list.
    """

    shm: SharedMemory
    _list_len: int
    _offsets: tuple[int, ...]

    def __init__(self, sequence: Iterable[_T] | None = None, *, name: str | None = None) -> None:
        if name is None or sequence is not None:
            self.shm = filled(name, _content(list(sequence or ())))
        else:
            self.shm = SharedMemory(name)
        try:
            self._read_layout()
        except Damaged:
            self.shm.close()
            raise

    def _read_layout(self) -> None:
        memory = self.shm.buf
        room = len(memory)
        if room < 16:
            raise self._damaged(f"{room} bytes hold no list")
        (count,) = _WORD.unpack_from(memory, 0)
        if not 0 <= count <= (room - 16) // 17:
            raise self._damaged(f"{count} items are not in {room} bytes")
        if count == 0 and room > 16:
            raise self._damaged("its creator has not filled it in yet")
        offsets = struct.unpack_from(f"{count + 1}q", memory, 8)
        most = room - 16 - 17 * count
        if offsets[0] != 0 or offsets[-1] > most or any(a > b for a, b in pairwise(offsets)):
            raise self._damaged(f"the offsets of its items do not rise from 0 to {most} at most")
        self._list_len, self._offsets = count, offsets
        self._data_at = 8 * (count + 2)
        self._formats_at = self._data_at + offsets[-1]
        self._codes_at = self._formats_at + 8 * count

    def _damaged(self, cause: str) -> Damaged:
        return _DamagedListError(f"list in shared memory {self.shm.name!r}: {cause}")

    def _index(self, position: SupportsIndex, told: str) -> int:
        index = operator.index(position)
        if index < 0:
            index += self._list_len
        if not 0 <= index < self._list_len:
            raise IndexError(told)
        return index

    def _room(self, index: int) -> int:
        return self._offsets[index + 1] - self._offsets[index]

    def _reads(self, memory: memoryview, index: int) -> struct.Struct:
        """What reads an item: of a format that we know, and within the item's room."""
        # Copied once, then looked at.
        (raw,) = _EIGHT.unpack_from(memory, self._formats_at + 8 * index)
        found = _READERS.get(raw) or _reader(raw)
        if found is None:
            raise self._damaged(f"item {index} has the unknown format {raw!r}")
        if found.size > self._offsets[index + 1] - self._offsets[index]:
            cause = f"item {index} of {found.size} bytes is in a room of {self._room(index)}"
            raise self._damaged(cause)
        return found

    def __getitem__(self, position: SupportsIndex) -> _T:
        item: _T = self._item(self.shm.buf, self._index(position, "index out of range"))
        return item

    def _item(self, memory: memoryview, index: int) -> Any:
        reads = self._reads(memory, index)
        (value,) = reads.unpack_from(memory, self._data_at + self._offsets[index])
        code = memory[self._codes_at + index]
        if code == 0:
            return value
        if code == 3:
            return None
        if code not in (1, 2) or not isinstance(value, bytes):
            raise self._damaged(f"item {index} is {value!r:.40} and has the code {code}")
        if code == 2:
            return value.rstrip(b"\0")
        try:
            return value.rstrip(b"\0").decode()
        except UnicodeDecodeError:
            raise self._damaged(f"item {index} is no UTF-8") from None

    def __setitem__(self, position: SupportsIndex, value: _T) -> None:
        index = self._index(position, "assignment index out of range")
        memory = self.shm.buf
        room = self._room(index)
        encoded = _encoded(value)
        if encoded is not None:
            if len(encoded) > room:
                raise ValueError("bytes/str item exceeds available storage")
            if room > 9_999_999:
                raise self._damaged(f"item {index} has a room of {room} bytes, which none can have")
            form = _text_format(room)
            # Not the bytes of the item before, behind these.
            encoded = encoded.ljust(room, b"\0")
        else:
            form = _FORMATS[type(value)]
            encoded = struct.pack(form, value)
            if len(encoded) > room:
                raise self._damaged(f"item {index} has a room of {room} bytes only")
        # All that can fail has been done: the old item stays whole until here.
        at = self._data_at + self._offsets[index]
        memory[at : at + len(encoded)] = encoded
        struct.pack_into("8s", memory, self._formats_at + 8 * index, form.encode())
        memory[self._codes_at + index] = _code(value)

    def __iter__(self) -> Iterator[_T]:
        return (self._item(self.shm.buf, index) for index in range(self._list_len))

    def __len__(self) -> int:
        # As the standard class: a closed list has no length.
        _WORD.unpack_from(self.shm.buf, 0)
        return self._list_len

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(self.__class__, name=self.shm.name), ()

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}({list(self)}, name={self.shm.name!r})"

    @property
    def format(self) -> str:
        """The formats of all items, in a row."""
        memory = self.shm.buf
        return "".join(self._reads(memory, index).format for index in range(self._list_len))

    def count(self, value: _T) -> int:
        """How many items equal `value`."""
        return sum(value == item for item in self)

    def index(self, value: _T) -> int:
        """The place of the first item that equals `value`; ValueError if none does."""
        for position, item in enumerate(self):
            if value == item:
                return position
        raise ValueError(f"{value!r} not in this container")


def _encoded(value: object) -> bytes | None:
    """The bytes of a str or bytes; None for anything else."""
    if isinstance(value, str):
        return value.encode()
    return value if isinstance(value, bytes) else None


def _code(value: object) -> int:
    if isinstance(value, str):
        return 1
    return 2 if isinstance(value, bytes) else 3 if value is None else 0


def _text_format(room: int) -> str:
    form = f"{room}s"
    if len(form) > 8:
        raise _LongItemError(
            f"an item of {room} bytes; one has at most 9,999,999", None, room, 9999999
        )
    return form


def _content(items: list[Any]) -> bytes:
    """The bytes of a whole list, so that nothing is made when an item cannot be written."""
    formats, data, offsets = [], [], [0]
    for item in items:
        encoded = _encoded(item)
        if encoded is not None:
            # By bytes: the standard class counts characters, and cuts what is not ASCII.
            form = _text_format(8 * (len(encoded) // 8 + 1))
        else:
            form = _FORMATS[type(item)]
        data.append(struct.pack(form, item if encoded is None else encoded))
        formats.append(form.encode().ljust(8, b"\0"))
        offsets.append(offsets[-1] + len(data[-1]))
    head = struct.pack(f"{len(offsets) + 1}q", len(items), *offsets)
    return b"".join([head, *data, *formats, bytes(map(_code, items))])
