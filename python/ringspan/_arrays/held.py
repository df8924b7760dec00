"""The guards of shared arrays: what is handed out under the lock, and how it is taken back."""

from __future__ import annotations

from collections.abc import Callable, Generator
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar, final

from ringspan._ringspan import Acquire as _Acquire
from ringspan._ringspan import Guard as _Guard

_T = TypeVar("_T")
_T_co = TypeVar("_T_co", covariant=True)


class Loan(Protocol[_T_co]):
    """What a guard hands out."""

    @property
    def value(self) -> _T_co:
        """The array, or whatever it is."""

    def end(self, release: Callable[[], None]) -> str | None:
        """Takes it back, and gives the lock back by `release`, now or with the last view of it.

        Returns what is wrong, if anything.
        """


@final
class Held(Generic[_T]):
    """A lock that is held, with the array under it. From `read`, `write` and their other forms.

    `with guard as a:` gives the lock back at the end; so does `guard.release()`, and the guard's
    own end.
    """

    __module__ = "ringspan.array"

    def __init__(self, guard: _Guard, lend: Callable[[], Loan[_T]]) -> None:
        self._guard = guard
        self._lend = lend
        self._loan: Loan[_T] | None = None
        self._over = False

    @property
    def value(self) -> _T:
        """The array; made when it is first asked for. Read-only under a lock for reading."""
        if self._loan is None:
            _ = self._guard.view  # raises where the guard was released already
            self._loan = self._lend()
        return self._loan.value

    @property
    def mode(self) -> str:
        """The word "read" or "write"."""
        return self._guard.mode

    def __enter__(self) -> _T:
        self._guard.__enter__()
        try:
            return self.value
        except BaseException:
            self._over = True
            self._guard.release()
            raise

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc: BaseException | None = None,
        traceback: TracebackType | None = None,
        /,
    ) -> None:
        if self._over:
            return
        self._over = True
        loan, self._loan = self._loan, None
        if loan is None:
            self._guard.release()
            return
        fault = loan.end(self._guard.release)
        if fault is not None and exc_type is None:
            raise BufferError(fault)

    def release(self) -> None:
        """Gives the lock back, as leaving the block does.

        Raises:
            BufferError: views of the array live on; the lock is given back with the last one.

        """
        self.__exit__()

    def __repr__(self) -> str:
        return f"<ringspan.array.Held: {self._guard!r}>"


@final
class Acquire(Generic[_T]):
    """What `read()` and `write()` return: `async with` gives the array, `await` a guard."""

    __module__ = "ringspan.array"

    def __init__(self, acquire: _Acquire, lend: Callable[[], Loan[_T]]) -> None:
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
