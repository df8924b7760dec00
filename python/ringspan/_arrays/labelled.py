"""What shared arrays with labels have in common.

Their value is built over the memory once, and each guard builds one of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np

from ringspan._arrays.held import lent
from ringspan._arrays.ndarray import NDArray
from ringspan._arrays.parts import Parts, decoded, encoded, entry
from ringspan._arrays.shared import Shared, damaged, mismatch
from ringspan._exceptions import RingspanError, Unsupported
from ringspan._ringspan import Guard, RwLock, _Block

_T = TypeVar("_T")

VERSION = 1


def told(attrs: Any) -> bytes | None:
    """Attributes or names in the codec, to see whether they change; None where they cannot be."""
    try:
        return encoded("", attrs)
    except TypeError:
        return None


class Bound(Generic[_T]):
    """A value over shared memory, and how to see whether all of it still lies there.

    `pandas` replaces memory where it cannot write in place (`df["a"] = ...`, copy-on-write).
    """

    def __init__(self, value: _T, writes: bool) -> None:
        self.value = value
        self._writes = writes

    def changes(self) -> str | None:
        """What makes it impossible to write the value back: other labels, another shape."""
        raise NotImplementedError

    def pieces(self) -> list[tuple[Any, NDArray | None, NDArray]]:
        """For each array: its label, what the value has there now, and its place.

        None: something that does not fit into the place.
        """
        raise NotImplementedError

    def detached(self) -> list[Any]:
        """The labels whose data lies elsewhere by now."""
        return [
            label for label, now, place in self.pieces() if now is None or not _in_place(now, place)
        ]

    def freeze(self) -> None:
        """Makes what the value has in the shared memory read-only."""
        raise NotImplementedError

    def end(self, release: Callable[[], None], failed: bool) -> str | None:  # noqa: ARG002
        """Writes back what lies elsewhere, and gives the lock back."""
        try:
            fault = self._settle() if self._writes else None
            self.freeze()
            return fault
        finally:
            release()

    def _settle(self) -> str | None:
        fault = self.changes()
        if fault is not None:
            return fault
        pieces = self.pieces()
        unfit = [label for label, now, _ in pieces if now is None]
        if unfit:
            return f"what stands at {unfit!r} is of another type now and cannot be shared"
        moved = [(now, place) for _, now, place in pieces if now is not None]
        moved = [(now, place) for now, place in moved if not _in_place(now, place)]
        low, high = _extent([place for _, _, place in pieces])
        # What comes from another place has to be read before that is written.
        news = [now.copy() if _touches(now, low, high) else now for now, _ in moved]
        for new, (_, place) in zip(news, moved, strict=True):
            np.copyto(place, new)
        return None


def _in_place(now: NDArray, place: NDArray) -> bool:
    """Whether this is the very array of the place, element for element."""
    if now.shape != place.shape or now.dtype != place.dtype:
        return False
    if not place.size:
        return True
    steps = zip(now.shape, now.strides, place.strides, strict=True)
    same = all(size == 1 or one == other for size, one, other in steps)
    return same and _address(now) == _address(place)


def _address(array: NDArray) -> int:
    """Of the first element."""
    found: int = array.__array_interface__["data"][0]
    return found


def _extent(places: list[NDArray]) -> tuple[int, int]:
    """Addresses of the first byte of arrays in one piece each, and of the one behind the last."""
    ends = [(_address(place), place.nbytes) for place in places]
    if not ends:
        return 0, 0
    return min(start for start, _ in ends), max(start + size for start, size in ends)


def _touches(array: NDArray, low: int, high: int) -> bool:
    """Whether elements of it may lie between these addresses."""
    steps = [(size - 1) * step for size, step in zip(array.shape, array.strides, strict=True)]
    first = _address(array)
    start = first + sum(step for step in steps if step < 0)
    end = first + sum(step for step in steps if step > 0) + array.itemsize
    return bool(start < high and low < end)


def checked(bound: Bound[_T], library: Any) -> Bound[_T]:
    """Makes sure that the library took the memory and not a copy of it.

    Raises:
        ValueError: it cannot hold what is described.

    """
    elsewhere = bound.detached()
    if not elsewhere:
        return bound
    for label, now, place in bound.pieces():
        if now is None or now.dtype != place.dtype:
            raise ValueError(f"{library.__name__} has no data of dtype {place.dtype}, at {label!r}")
    text = f"this {library.__name__} ({library.__version__}) copies what it should take"
    raise Unsupported(f"{text}: {elsewhere}")


class Labelled(Shared[_T]):
    """A shared array with labels. `value` is the object itself, over the shared memory.

    It pickles by name.
    """

    __module__ = "ringspan.array"
    _of: ClassVar[str]

    def __init__(
        self, block: _Block, lock: RwLock | None, readonly: bool, description: dict[str, Any]
    ) -> None:
        """Lays the object over a block; use `ringspan.array.open`."""
        self._block, self._lock = block, lock
        self._readonly = readonly
        self._description = description
        self._parts = Parts(block)
        # At once, so that whoever opens what is damaged is told.
        self._bound = self._build(self._parts, not readonly)

    @classmethod
    def bind(cls, parts: Parts, spec: dict[str, Any], writes: bool) -> Bound[_T]:
        """Builds the object over parts that lie as the description says.

        All that is wrong with these is a ValueError or the like.
        """
        raise NotImplementedError

    def _build(self, parts: Parts, writes: bool) -> Bound[_T]:
        try:
            return self.bind(parts, self._description, writes)
        except (RingspanError, ImportError, MemoryError):
            raise
        except Exception as err:  # whatever the libraries say of a description that lies
            raise damaged(self.name, err) from err

    def _is_readonly(self) -> bool:
        return self._readonly

    def _loan(self, guard: Guard, writes: bool) -> Bound[_T]:
        memory = lent(self._named(), guard, writes)
        return self._build(Parts(memory, self._parts.labels), writes)

    @property
    def value(self) -> _T:
        """The object itself. Reading and writing it takes no part in the lock."""
        return self._bound.value

    @property
    def name(self) -> str:
        """The name, with its slash."""
        return self._named().name

    def detached(self) -> list[Any]:
        """Returns the labels of what `value` no longer has in the shared memory.

        There pandas could not write in place and made memory of its own: nobody else sees it. What
        a guard for writing hands out is written back at the end of its block.

        Example:
            frame.value["a"] = 0  # replaces the column
            frame.detached()  # ["a"]

        """
        return self._bound.detached()

    def __reduce__(self) -> Any:
        return _again, (type(self), self.name, self._lock, self._readonly)

    def __repr__(self) -> str:
        return f"<ringspan.array.{type(self).__name__} {self.name!r}>"


def description_of(block: _Block) -> dict[str, Any]:
    """What a block says of itself.

    Raises:
        Mismatch: it is no array with labels.

    """
    try:
        found = decoded(block.meta)
        version = entry(found, "version", int)
        entry(found, "of", str)
    except (ValueError, TypeError) as err:
        text = "its meta is not that of an array; somebody else made it for other ends"
        raise mismatch(block.name, text) from err
    if version != VERSION:
        text = f"its description is of version {version}, this ringspan reads {VERSION}"
        raise mismatch(block.name, text)
    made: dict[str, Any] = found
    return made


def _again(kind: type[Labelled[_T]], name: str, lock: RwLock | None, readonly: bool) -> Any:
    """What pickles call."""
    block = _Block.open(name)
    description = description_of(block)
    if description["of"] != kind._of:
        raise mismatch(name, f"it is a {description['of']} by now, not a {kind._of}")
    return kind(block, lock, readonly, description)
