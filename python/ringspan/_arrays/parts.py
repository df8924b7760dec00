"""Several arrays and values in one payload: laid out by a creator, found again by an opener.

A part that is an array begins at a multiple of 64 and is described by `[offset, meta]`, where meta
is that of a lone array. A part that is a value of the codec is described by `[offset, length]`; an
opener gets a copy of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ringspan._arrays.ndarray import NDArray, measured
from ringspan._exceptions import InvalidOption
from ringspan._ringspan import _array_over, _Block, _decode, _encode

if TYPE_CHECKING:
    from typing_extensions import Buffer

ALIGN = 64
MSGPACK = 1
#: So many columns or labels may be told of where they take no bytes.
_FREE = 1 << 16

# A part, as it stands in the description.
Place = list[Any]


def encoded(what: str, value: Any) -> bytes:
    """A value in the codec, every type kept; never a pickle."""
    try:
        tag, data = _encode([value], exact=True)
    except (TypeError, ValueError, OverflowError) as err:
        raise TypeError(f"{what} cannot be shared: {err}") from err
    assert tag == MSGPACK
    return data


def decoded(data: bytes) -> Any:
    """The value again.

    Raises:
        ValueError: it was not written by `encoded`.

    """
    found = _decode(MSGPACK, data, exact=True)
    if not isinstance(found, list) or len(found) != 1:
        raise ValueError("its description is not one value in a list")
    return found[0]


class Plan:
    """What is to be written, and where."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.size = 0
        self._writes: list[Callable[[memoryview], None]] = []

    def _reserve(self, size: int) -> int:
        offset = -(-self.size // ALIGN) * ALIGN
        self.size = offset + size
        return offset

    def room(
        self, what: str, dtype: np.dtype[Any], shape: tuple[int, ...], fortran: bool = False
    ) -> Place:
        """Room for an array."""
        meta, size = measured(f"array {self.name}: {what}", dtype, shape, fortran)
        return [self._reserve(size), meta]

    def array(self, what: str, source: NDArray) -> Place:
        """A copy of an array, in its own order."""
        fortran = source.flags.f_contiguous and not source.flags.c_contiguous
        place = self.room(what, source.dtype, source.shape, fortran)
        self.copy(place, source)
        return place

    def copy(self, place: Place, source: NDArray, row: int | None = None) -> None:
        """Will copy `source` into an array, or into one row of it."""

        def write(view: memoryview) -> None:
            target = _array_over(place[1], view, place[0])
            np.copyto(target if row is None else target[row], source)

        self._writes.append(write)

    def packed(self, what: str, value: Any) -> Place:
        """A value of the codec."""
        data = encoded(f"array {self.name}: {what}", value)
        offset = self._reserve(len(data))

        def write(view: memoryview) -> None:
            view[offset : offset + len(data)] = data

        self._writes.append(write)
        return [offset, len(data)]

    def write(self, view: memoryview) -> None:
        """Writes everything that was planned."""
        for write in self._writes:
            write(view)

    def make(
        self,
        description: dict[str, Any],
        check: Callable[[Parts, dict[str, Any]], object],
        mode: int,
        ephemeral: bool,
    ) -> _Block:
        """Makes the block; nobody sees it before all is written and `check` has found no fault."""

        def fill(view: memoryview) -> None:
            self.write(view)
            check(Parts(view), decoded(meta))

        meta = encoded(f"array {self.name}: its description", description)
        try:
            return _Block.create(
                self.name, self.size, meta=meta, fill=fill, mode=mode, ephemeral=ephemeral
            )
        except InvalidOption as err:
            if len(meta) > 1 << 20:
                text = f"array {self.name}: names and attributes take {len(meta)} bytes of 1 MiB"
                raise InvalidOption(text) from err
            raise


class Parts:
    """The parts of a block that exists. All that is wrong with them is a ValueError.

    labels: those that were built, by the identity of their description; they never change.
    """

    def __init__(self, memory: Buffer, labels: dict[int, Any] | None = None) -> None:
        self._memory = memory
        self.labels: dict[int, Any] = {} if labels is None else labels

    def array(self, place: Any, *, writes: bool) -> NDArray:
        """The array that lies there."""
        offset, meta = _pair(place)
        if not isinstance(meta, bytes):
            raise ValueError("a part of it has no description")
        if offset % ALIGN:
            raise ValueError(f"a part of it begins at {offset}, which is no multiple of {ALIGN}")
        found: NDArray = _array_over(meta, self._memory, offset)
        found.flags.writeable = writes
        return found

    def check_count(self, count: int, what: str) -> None:
        """Refuses more of something that takes no bytes here than the bytes that there are.

        So what a description says of itself alone makes no opener reserve much for each of them.
        """
        with memoryview(self._memory) as view:
            if count > max(view.nbytes, _FREE):
                raise ValueError(f"it tells of {count} {what}, in {view.nbytes} bytes")

    def packed(self, place: Any) -> Any:
        """A copy of the value that lies there."""
        offset, length = _pair(place)
        with memoryview(self._memory) as view:
            if not isinstance(length, int) or not 0 <= length <= view.nbytes - offset:
                raise ValueError("a part of it lies outside")
            return decoded(bytes(view[offset : offset + length]))


def _pair(place: Any) -> tuple[int, Any]:
    if not isinstance(place, list) or len(place) != 2:
        raise ValueError("a part of it is not told by a pair")
    offset, second = place
    if not isinstance(offset, int) or offset < 0:
        raise ValueError("a part of it begins nowhere")
    return offset, second


def entry(spec: Any, key: str, *types: type) -> Any:
    """`spec[key]`, which must be of one of these types."""
    if not isinstance(spec, dict) or not isinstance(spec.get(key), types):
        raise ValueError(f"its description lacks {key!r}")
    return spec[key]
