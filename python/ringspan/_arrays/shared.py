"""What every shared array can do: its name, its waits, its lock."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Generic, TypeVar

from ringspan._arrays.held import Acquire, Held, Loan
from ringspan._closing import Closing
from ringspan._exceptions import Damaged, HandleClosed, Mismatch
from ringspan._ringspan import Guard, Holder, RwLock, _Block

_T = TypeVar("_T")


class Shared(Closing, Generic[_T]):
    """A named array that processes share. `value` is the array itself, without the lock.

    Whoever writes tells the others by `notify`; they wait by `changed`. The lock is there for those
    who take it, and only for them: `read` and `write` and their other forms hand the array out
    under it. Plain use takes no place in the segment; a handle is attached when it first locks,
    notifies or waits, and 48 can be.

    `with` closes the handle at the end. Arrays made of it keep the memory.
    """

    __module__ = "ringspan.array"

    # None in what numpy makes of a shared array: copies, and arrays of the same class.
    _block: _Block | None = None
    _lock: _Block | RwLock | None = None

    def _named(self) -> _Block:
        if self._block is None:
            text = (
                "this array is a view or a copy of a shared one and has no name of its own; use "
                "what create() or open() returned"
            )
            raise HandleClosed(text)
        return self._block

    def _locked(self) -> _Block | RwLock:
        return self._named() if self._lock is None else self._lock

    def _is_readonly(self) -> bool:
        raise NotImplementedError

    def _for_writing(self) -> _Block | RwLock:
        if self._is_readonly():
            text = f"array {self._named().name}: read-only through this handle; open it anew"
            raise ValueError(text)
        return self._locked()

    def _loan(self, guard: Guard, writes: bool) -> Loan[_T]:
        raise NotImplementedError

    @property
    def value(self) -> _T:
        """The array itself. Reading and writing it takes no part in the lock."""
        raise NotImplementedError

    @property
    def is_ephemeral(self) -> bool:
        """Whether the last one out removes it."""
        return self._named().is_ephemeral

    @property
    def version(self) -> int:
        """How often `notify` was called, by anybody. Take it before you read."""
        return self._named().version

    def notify(self) -> int:
        """Says that the array has changed: wakes everybody who waits for that, in every process.

        Returns the new version. Whoever is woken sees what was written before.

        Raises:
            Removed, TooManyAttached, HandleClosed, Forked: nobody can be told.

        Example:
            arr[0] = 1
            arr.notify()

        """
        return self._named().notify()

    def changed(self, since: int | None = None) -> Coroutine[Any, Any, int]:
        """Waits until the version differs from `since` (None: from what it is now); returns it.

        Raises:
            Removed: the name is gone, and nobody else is attached.
            PeerUnreachable, TooManyAttached, HandleClosed, Forked: it cannot be waited for.

        Example:
            seen = arr.version
            seen = await arr.changed(seen)

        """
        return self._named().changed(since)

    def blocking_changed(self, since: int | None = None, timeout: float | None = None) -> int:
        """As `changed`, parking the thread.

        Raises:
            Timeout: the time is over.

        Example:
            seen = arr.blocking_changed(seen, timeout=1)

        """
        return self._named().blocking_changed(since, timeout)

    def read(self, *, allow_poisoned: bool = False) -> Acquire[_T]:
        """Waits until nobody writes (or waits to write), and hands the array out read-only.

        allow_poisoned: enters also where a writer died.

        Raises:
            Poisoned: a writer died; the lock was given back.
            WouldDeadlock: this task holds the lock and would wait for itself.

        Example:
            async with arr.read() as a:
                total = a.sum()

        """
        acquire = self._locked().read(allow_poisoned=allow_poisoned)
        return Acquire(acquire, lambda held: self._loan(held, False))

    def write(self, *, allow_poisoned: bool = False) -> Acquire[_T]:
        """Waits until nobody reads or writes, and hands the array out. As `read`.

        Raises:
            ValueError: the handle is read-only.

        Example:
            async with arr.write() as a:
                a += 1

        """
        acquire = self._for_writing().write(allow_poisoned=allow_poisoned)
        return Acquire(acquire, lambda held: self._loan(held, True))

    def try_read(self, *, allow_poisoned: bool = False) -> Held[_T] | None:
        """As `read`, if nobody writes or waits to write; else None.

        Example:
            if (guard := arr.try_read()) is not None:
                with guard as a: ...

        """
        guard = self._locked().try_read(allow_poisoned=allow_poisoned)
        return None if guard is None else Held(guard, lambda held: self._loan(held, False))

    def try_write(self, *, allow_poisoned: bool = False) -> Held[_T] | None:
        """As `write`, if nobody reads or writes; else None.

        Example:
            if (guard := arr.try_write()) is not None:
                with guard as a: ...

        """
        guard = self._for_writing().try_write(allow_poisoned=allow_poisoned)
        return None if guard is None else Held(guard, lambda held: self._loan(held, True))

    def blocking_read(
        self, timeout: float | None = None, *, allow_poisoned: bool = False
    ) -> Held[_T]:
        """As `read`, parking the thread; the lock is taken by the call.

        Raises:
            Timeout: the time is over; says who holds the lock.

        Example:
            with arr.blocking_read(timeout=1) as a: ...

        """
        guard = self._locked().blocking_read(timeout, allow_poisoned=allow_poisoned)
        return Held(guard, lambda held: self._loan(held, False))

    def blocking_write(
        self, timeout: float | None = None, *, allow_poisoned: bool = False
    ) -> Held[_T]:
        """As `write`, parking the thread; the lock is taken by the call.

        Raises:
            Timeout: the time is over; says who holds the lock.

        Example:
            with arr.blocking_write(timeout=1) as a: ...

        """
        guard = self._for_writing().blocking_write(timeout, allow_poisoned=allow_poisoned)
        return Held(guard, lambda held: self._loan(held, True))

    @property
    def is_poisoned(self) -> bool:
        """Whether a writer died under the lock and nobody cleared that since."""
        return self._locked().is_poisoned

    def clear_poison(self) -> None:
        """Says that the array is in order again; call it while you write.

        Example:
            with arr.blocking_write(allow_poisoned=True) as a:
                a[...] = 0
                arr.clear_poison()

        """
        self._locked().clear_poison()

    def holders(self) -> list[Holder]:
        """Returns who holds the lock now; it may be over when it is read.

        Example:
            [holder.pid for holder in arr.holders()]

        """
        return self._locked().holders()

    def remove(self) -> None:
        """Deletes the name; who has it open goes on.

        Raises:
            NotFound: it is gone already.

        Example:
            arr.remove()

        """
        self._named().remove()

    def close(self) -> None:
        """Gives the handle up. The array, and all that was made of it, keeps the memory.

        Example:
            arr.close()

        """
        self._named().close()


def checked_lock(name: str, lock: object) -> None:
    """Refuses what is no lock."""
    if lock is not None and not isinstance(lock, RwLock):
        raise TypeError(f"array {name}: lock is a ringspan.RwLock, not {type(lock).__name__}")


def damaged(name: str, cause: object) -> Damaged:
    """The error for a description that does not fit the bytes."""
    return Damaged(f"array {name}: {cause}; remove it and make it anew")


def mismatch(name: str, cause: object) -> Mismatch:
    """The error for a healthy object that is another one than was asked for."""
    return Mismatch(f"array {name}: {cause}")
