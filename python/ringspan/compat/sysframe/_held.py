"""Memories that this process wrote last, which stay open for the next time.

To open one takes a place in it and a door, some ten times as long as to write. What is kept must
not stand in the way of others. So it is little. Of a memory that somebody else removes meanwhile,
what it grew by is given back at once, and what it was made with when this process opens another one
to write, removes one, or ends.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys

import ringspan

#: Memories that are kept open.
_MOST = 8
#: Bytes of the file of one; together they are the most that a process which idles pins.
_LARGEST = 64 << 10
#: Of its 48 places, how many may be taken at most: the others are for those who come and go.
_CROWD = 8
#: One in so many memories that are too crowded to be kept is asked who of its crowd lives.
_ASK_EVERY = 64

#: By name, the one that was used last at the end. Each use is one step of the interpreter, so that
#: no lock is needed, which a signal handler that writes would wait for in vain.
_held: dict[str, ringspan.Value] = {}
#: Children of multiprocessing end without `atexit`, but by its finalizers.
_ends_here = False
#: Memories that were too crowded to be kept.
_crowds = 0
#: Whose rights they were opened with.
_opened_as = os.geteuid()


def take(native: str) -> ringspan.Value | None:
    """The open memory of that name, for the caller alone; None where there is none."""
    if os.geteuid() != _opened_as:
        _open_as_somebody_else()
    value = _held.pop(native, None)
    if value is None:
        sweep()  # the caller opens it, which takes longer
    elif not value._rouse():
        value.close()
        return None
    return value


def keep(native: str, value: ringspan.Value) -> None:
    """Keeps a memory for the next time, or closes it."""
    # One that the last one out removes would stay for our sake.
    wanted = not value.is_ephemeral and value.file_size <= _LARGEST and _has_room(value)
    # Resting before anybody can take it.
    if not wanted or not value._rest() or _held.setdefault(native, value) is not value:
        value.close()
        return
    _close_at_the_end()
    if len(_held) > _MOST:
        for first in list(_held)[:1]:  # a thread may have emptied it meanwhile
            _close(first)


def _has_room(value: ringspan.Value) -> bool:
    """Whether places are plenty. The dead keep theirs until somebody asks after them."""
    global _crowds
    if value.stat().attached <= _CROWD:
        return True
    _crowds += 1
    if _crowds % _ASK_EVERY != 1:
        return False
    value._bury_dead()
    return value.stat().attached <= _CROWD


def _open_as_somebody_else() -> None:
    """Others may be open to the new user than to the old one."""
    global _opened_as
    let_go()
    _opened_as = os.geteuid()


def sweep() -> None:
    """Closes those that were removed meanwhile."""
    for native, value in list(_held.items()):
        with contextlib.suppress(ringspan.HandleClosed):  # another thread was here
            if value.is_removed:
                _close(native)


def let_go() -> None:
    """Closes all."""
    for native in list(_held):
        _close(native)


def _close(native: str) -> None:
    if value := _held.pop(native, None):
        value.close()


def _close_at_the_end() -> None:
    global _ends_here
    if not _ends_here and (util := sys.modules.get("multiprocessing.util")):
        util.Finalize(None, let_go, exitpriority=0)
        _ends_here = True


def _forget() -> None:
    """In a forked child: they are the parent's."""
    global _ends_here
    _ends_here = False
    _held.clear()


atexit.register(let_go)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
