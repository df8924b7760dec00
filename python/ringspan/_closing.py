"""What a handle that is closed at the end of a `with` block has besides its `close`."""

from __future__ import annotations

from types import TracebackType
from typing import Self


class Closing:
    """`with handle:` closes it at the end."""

    __slots__ = ()

    def close(self) -> None:
        """Gives the handle up."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc: BaseException | None = None,
        traceback: TracebackType | None = None,
        /,
    ) -> None:
        self.close()
