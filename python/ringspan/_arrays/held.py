"""The guards of shared arrays: what is handed out under the lock, and how it is taken back."""

from __future__ import annotations

from collections.abc import Callable, Generator
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar, final

from ringspan._exceptions import HandleClosed
from ringspan._ringspan import Acquire as _Acquire
from ringspan._ringspan import Guard as _Guard
from ringspan._ringspan import _Block, _Exported

_T = TypeVar("_T")
_T_co = TypeVar("_T_co", covariant=True)


class Loan(Protocol[_T_co]):
    """What a guard hands out."""

    @property
    def value(self) -> _T_co:
        """The array, or whatever it is."""

    def end(self, release: Callable[[], None], failed: bool) -> str | None:
        """Takes it back, and gives the lock back by `release`, unless views of it live on.

        failed: by an exception, whose traceback may hold more than the program does.

        Returns what is wrong, if anything.
        """


class Lender(_Exported):
    """The bytes of a block, and the lock, which is held as long as anything lies over these."""

    guard: _Guard


def lent(block: _Block, guard: _Guard, writes: bool) -> Lender:
    """Lends the bytes under the guard."""
    try:
        memoryview(block).release()
    except BufferError as err:
        raise HandleClosed(str(err)) from err
    made = Lender(block, not writes)
    made.guard = guard
    return made


@final
class Held(Generic[_T]):
    """A lock that is held, with the array under it. From `read`, `write` and their other forms.

    `with guard as a:` gives the lock back at the end; so does `guard.release()`. Without either it
    is given back when the guard and what it handed out are gone.
    """

    __module__ = "ringspan.array"

    def __init__(self, guard: _Guard, lend: Callable[[_Guard], Loan[_T]]) -> None:
        self._guard: _Guard | None = guard  # until it is over
        self._mode = guard.mode
        self._told = repr(guard)
        self._lend = lend
        self._loan: Loan[_T] | None = None

    @property
    def value(self) -> _T:
        """The array; made when it is first asked for. Read-only under a lock for reading."""
        if self._guard is None:
            raise HandleClosed(f"{self._told}: this guard is over; take the lock again")
        if self._loan is None:
            self._loan = self._lend(self._guard)
        return self._loan.value

    @property
    def mode(self) -> str:
        """The word "read" or "write"."""
        return self._mode

    def __enter__(self) -> _T:
        if self._guard is not None:
            self._guard.__enter__()
        try:
            return self.value
        except BaseException:
            self._end(True)
            raise

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc: BaseException | None = None,
        traceback: TracebackType | None = None,
        /,
    ) -> None:
        fault = self._end(exc_type is not None)
        if fault is not None and exc_type is None:
            raise BufferError(fault)

    def _end(self, failed: bool) -> str | None:
        loan, self._loan = self._loan, None
        guard, self._guard = self._guard, None
        if guard is None:
            return None
        try:
            if loan is not None:
                return loan.end(guard.release, failed)
            guard.release()
            return None
        finally:
            self._told = repr(guard)

    def release(self) -> None:
        """Gives the lock back, as leaving the block does.

        Raises:
            BufferError: views of the array live on; the lock is given back with the last one.

        """
        self.__exit__()

    def __repr__(self) -> str:
        return f"<ringspan.array.Held: {self._guard or self._told!s}>"


@final
class Acquire(Generic[_T]):
    """What `read()` and `write()` return: `async with` gives the array, `await` a guard."""

    __module__ = "ringspan.array"

    def __init__(self, acquire: _Acquire, lend: Callable[[_Guard], Loan[_T]]) -> None:
        self._acquire = acquire
        self._lend = lend
        self._held: Held[_T] | None = None

    def __await__(self) -> Generator[Any, Any, Held[_T]]:
        return self._take().__await__()

    async def _take(self) -> Held[_T]:
        return Held(await self._acquire, self._lend)

    async def __aenter__(self) -> _T:
        self._held = await self._take()
        return self._held.__enter__()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc: BaseException | None = None,
        traceback: TracebackType | None = None,
        /,
    ) -> None:
        held, self._held = self._held, None
        if held is not None:
            held.__exit__(exc_type, exc, traceback)

    def __repr__(self) -> str:
        return f"<ringspan.array.Acquire: {self._acquire!r}>"
