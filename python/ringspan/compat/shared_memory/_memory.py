"""Named memory without a layout."""

from __future__ import annotations

from typing import Any, Self

from ringspan._ringspan import _Block, _Exported
from ringspan.compat.shared_memory._errors import InvalidOption, runtime_errors
from ringspan.compat.shared_memory._handle import Handle


class SharedMemory(Handle, _Exported):
    """Named memory that stays until `unlink`: `memoryview(shared_memory)` are its bytes.

    It has no constructor: `create` and `open` return one. Views keep the memory, whatever becomes
    of this object. `notify` wakes who waits for `changed`. Pickles by name.
    """

    _read_only: bool

    def __new__(cls, *_: Any, **__: Any) -> Self:
        """Raises TypeError."""
        raise TypeError("SharedMemory has no constructor; use SharedMemory.create or .open")

    @classmethod
    def create(cls, name: str, size: int) -> Self:
        """Makes memory of `size` zero bytes.

        Raises FileExistsError where the name is taken; like everything that goes wrong here it is a
        RuntimeError too.
        """
        if not 1 <= size < 1 << 62:
            raise InvalidOption(
                f"memory {name}: Invalid argument: {size} bytes; ask for 1 or more, as memory has"
            )
        with runtime_errors():
            return cls._of(_Block.create(name, size), False)

    @classmethod
    def open(cls, name: str, read_only: bool = False) -> Self:
        """Opens memory that exists; with `read_only` its views cannot be written through."""
        with runtime_errors():
            return cls._of(_Block.open(name), read_only)

    @classmethod
    def _of(cls, block: _Block, read_only: bool) -> Self:
        self = _Exported.__new__(cls, block, read_only)
        self._have(block)
        self._read_only = read_only
        return self

    def size(self) -> int:
        """Bytes in it."""
        return self._block.size

    @property
    def name(self) -> str:
        """The name, with its slash."""
        return self._block.name

    @property
    def version(self) -> int:
        """How often `notify` was called, by anybody."""
        return self._block.version

    def notify(self) -> int:
        """Tells everybody who waits that something changed; the new version."""
        with runtime_errors():
            return self._block.notify()

    async def changed(self, since: int | None = None) -> int:
        """Waits until the version is not `since` (None: not what it is now), and returns it."""
        with runtime_errors():
            return await self._block.changed(since)

    def blocking_changed(self, since: int | None = None, timeout: float | None = None) -> int:
        """As `changed`, parking the thread; Timeout (a TimeoutError) after `timeout` seconds."""
        with runtime_errors():
            return self._block.blocking_changed(since, timeout)

    def close(self) -> None:
        """Gives this handle up. Views that are out keep the memory."""
        self._block.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).open, (self._block.name, self._read_only)

    def __repr__(self) -> str:
        return f"<SharedMemory {self._block.name!r} of {self.size()} bytes>"
