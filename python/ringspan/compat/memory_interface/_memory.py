"""What a memblk has under "memory": the name of an object, and this process's hold of it.

Who lives how long:

- Whoever creates holds the object until `cleanup`, or until its process ends, even if it drops
  everything it has of it: a memblk that is on its way to another process must find it there.
- Whoever loads holds it until its own `cleanup`, or until it drops it, or ends.
- The object is ephemeral: the last one out removes it, whoever that is. So the end of a loader
  takes nothing from others, nor does the end of the creator. If all are killed, the object goes
  with the next attempt to open it, or with `ringspan.gc()`.

One process has one hold of an object, however many Shared... are made of its memblk. After a fork
the child opens the object anew, at first use.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
import time
import weakref
from collections.abc import Callable
from multiprocessing import util
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, cast

from ringspan._exceptions import AlreadyExists, InvalidOption, NotFound, RingspanError
from ringspan._ringspan import SharedBool, SharedInt, Value, _Block

_N = TypeVar("_N", Value, SharedInt, SharedBool, _Block)

_PREFIX = "memif"


def opened_value(name: str, capacity: int | None = None) -> Value:
    """A value that never pickles: opened, or with a capacity made."""
    if capacity is None:
        return Value(name, create=False, exact=False)
    return Value(name, create=True, ephemeral=True, capacity=capacity, exact=False)


_OPEN: dict[str, Callable[[str], Any]] = {
    "SharedBytes": opened_value,
    "SharedString": opened_value,
    "SharedInt": lambda name: SharedInt(name, create=False),
    "SharedBool": lambda name: SharedBool(name, create=False),
    "MemoryInterface": lambda name: _Block.open(name),
}


class Memory(Generic[_N]):
    """A named object of ringspan. Pickles by name; what comes out holds it from then on.

    kind: the class of `memory_interface` that it belongs to.
    name, size: as the attributes of the standard SharedMemory that used to be here.
    """

    __slots__ = ("__weakref__", "_native", "_pid", "_users", "kind", "name", "size")

    def __init__(self, kind: str, name: str, size: int, native: _N) -> None:
        self.kind, self.name, self.size = kind, name, size
        self._native: _N | None = native
        self._pid = os.getpid()
        self._users: weakref.WeakSet[object] = weakref.WeakSet()

    @property
    def native(self) -> _N:
        """The object, opened in this process.

        Raises NotFound if it has been removed meanwhile.
        """
        native = self._native
        if native is None or self._pid != os.getpid():
            with _lock:
                native = self._reopened()
        return native

    def _reopened(self) -> _N:
        if self._native is None or self._pid != os.getpid():
            if _left and threading.current_thread() is not threading.main_thread():
                # The process ends. So does a daemon thread, here or a moment later.
                raise SystemExit
            self._native = cast("_N", _OPEN[self.kind](self.name))
            self._pid = os.getpid()
        return self._native

    @property
    def is_here(self) -> bool:
        """Whether this very process created it, and has not removed it."""
        return self.name in _made

    def use(self, user: object) -> None:
        """`user` works with it from now on."""
        self._users.add(user)

    def release(self, user: object) -> None:
        """`user` does not need it any more; the last one of a process that only loaded lets go."""
        with _lock:
            self._users.discard(user)
            native = None if self._users or self.is_here else self._taken()
        if native is not None:
            native.close()

    def remove(self, user: object) -> None:
        """As `release`, and nobody can load it any more; who has, goes on."""
        with contextlib.suppress(NotFound):
            self.native.remove()
        _made.pop(self.name, None)
        self.release(user)

    def _taken(self) -> _N | None:
        """What is to be closed; it is opened anew when it is needed again."""
        native, self._native = self._native, None
        return native if self._pid == os.getpid() else None

    def __reduce__(self) -> tuple[Any, ...]:
        return _attached, (self.kind, self.name, self.size)

    def __repr__(self) -> str:
        return f"<{self.kind} memory {self.name!r}, size={self.size}>"


class Holder(Generic[_N]):
    """What works with a memory. `with` cleans up at the end."""

    #: Whether the memory was created by somebody else.
    loaded: bool = False
    _memory: Memory[_N] | None = None
    #: What it created before the present one. Others may be about to load it, so it stays so long.
    _earlier: tuple[Memory[_N], ...] = ()

    def _hold(self, memory: Memory[_N], *, loaded: bool) -> None:
        before, self._memory = self._memory, memory
        memory.use(self)
        if before is not None and before is not memory:
            if self.loaded:
                before.release(self)
            else:
                self._earlier += (before,)
        self.loaded = loaded

    def _let_go(self) -> None:
        """Nobody can load what it created any more."""
        memory, self._memory = self._memory, None
        created, self._earlier = self._earlier, ()
        if memory is not None and self.loaded:
            memory.release(self)
        elif memory is not None:
            created += (memory,)
        self.loaded = False
        for one in created:
            if one.is_here:
                one.remove(self)
            else:  # the creator is the parent of this fork
                one.release(self)

    def cleanup(self) -> None:
        """Gives up what it has."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.cleanup()


def slept(native: Any, since: int | None, timeout: float | None) -> int:
    """`native.blocking_changed`; a daemon thread that sleeps when its process ends says nothing."""
    try:
        version: int = native.blocking_changed(since, timeout)
    except RingspanError:
        if _left and threading.current_thread() is not threading.main_thread():
            raise SystemExit from None
        raise
    return version


#: What this process holds, by name.
_held: weakref.WeakValueDictionary[str, Memory[Any]] = weakref.WeakValueDictionary()
#: What it created and has not removed.
_made: dict[str, Memory[Any]] = {}
_lock = threading.RLock()
_left = False
#: How long the end of a process waits for daemon threads that may be using an object, in seconds.
_A_MOMENT = 0.1


def made(kind: str, size: int, make: Callable[[str], _N]) -> Memory[_N]:
    """A new object under a new name; `make` makes it."""
    while True:
        name = f"/{_PREFIX}-{os.getpid()}-{secrets.token_hex(6)}"
        try:
            memory = Memory(kind, name, size, make(name))
        except AlreadyExists:
            continue
        with _lock:
            _made[name] = _held[name] = memory
        return memory


def _attached(kind: str, name: str, size: int) -> Memory[Any]:
    """What a pickle of a Memory becomes."""
    if kind not in _OPEN:
        raise InvalidOption(f"a memblk made by {kind!r}, which is unknown here")
    with _lock:
        memory = _held.get(name)
        if memory is None or memory.kind != kind:
            memory = _held[name] = Memory(kind, name, size, _OPEN[kind](name))
        return memory


def memory_of(memblk: Any, kind: str) -> Memory[Any]:
    """The memory that a memblk carries, which a `kind` must have made."""
    try:
        memory = memblk["memory"]
    except (TypeError, KeyError, IndexError):
        memory = None
    if not isinstance(memory, Memory):
        raise InvalidOption(f"{kind}: {memblk!r:.80} is not what create returned")
    if memory.kind != kind:
        raise InvalidOption(f"{kind}: this memblk was made by a {memory.kind}")
    return memory


# ---- the end of the process ----------------------------------------------------------------------


def _leave() -> None:
    """The process ends in order: its holds are given back, so that nothing is left to `gc`."""
    global _left
    others = [one for one in threading.enumerate() if one is not threading.current_thread()]
    if not all(one.daemon or one is threading.main_thread() for one in others):
        return  # a child of multiprocessing whose threads go on
    with _lock:
        _left = True
        all_ = [memory._taken() for memory in list(_held.values())]
        _made.clear()
    taken = [native for native in all_ if native is not None]
    until = time.monotonic() + _A_MOMENT
    for one in others if taken else ():
        # What it is doing it does to the end; then it finds the objects gone, and ends.
        with contextlib.suppress(RuntimeError, AssertionError):  # a thread that is not Python's
            one.join(max(0.0, until - time.monotonic()))
    stuck = any(one.is_alive() for one in others)
    for native in taken:
        with contextlib.suppress(RingspanError):
            if stuck and native.stat().attached <= 1:
                native.remove()  # a thread that sleeps in it keeps us attached, and nobody else is
            native.close()


def _at_the_end(_: object = None) -> None:
    # Later than all finalizers of multiprocessing itself, which wait for children that may just
    # begin to load. (`atexit` would come before them, and never in a forked child.)
    util.Finalize(None, _leave, exitpriority=-1000)


def _forget() -> None:
    """In a forked child: the parent's holds are the parent's."""
    global _lock, _left
    _lock = threading.RLock()
    _left = False
    _made.clear()
    _at_the_end()


_at_the_end()
os.register_at_fork(after_in_child=_forget)
# multiprocessing forgets all finalizers when a child begins, spawned ones too.
util.register_after_fork(_at_the_end, _at_the_end)
