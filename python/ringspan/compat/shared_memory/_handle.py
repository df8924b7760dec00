"""The block behind a handle. A forked child goes on with the handles of its parent, as ever.

What a fork hands over is mapped, but to wait, to notify and to put takes a place of one's own: the
child opens the block anew when it first uses it.
"""

from __future__ import annotations

import os
from pathlib import Path

from ringspan._closing import Closing
from ringspan._ringspan import _Block
from ringspan.compat.shared_memory._errors import Removed, runtime_errors

_pid = os.getpid()


def _look() -> None:
    global _pid
    _pid = os.getpid()


os.register_at_fork(after_in_child=_look)


class Handle(Closing):
    """Has a block, of this process."""

    _opened: _Block
    _opened_by: int
    #: Device and inode, since another object may have got the name; None if it is gone already.
    _file: tuple[int, int] | None

    def _have(self, block: _Block) -> None:
        self._opened, self._opened_by, self._file = block, _pid, _file(block.name)

    @property
    def _block(self) -> _Block:
        if self._opened_by != _pid:
            self._open_again()
        return self._opened

    def _open_again(self) -> None:
        name = self._opened.name
        with runtime_errors():
            block = _Block.open(name)
        if self._file is None or _file(name) != self._file:
            block.close()
            raise Removed(f"block {name}: it was removed before this child of a fork used it")
        self._opened, self._opened_by = block, _pid


def _file(name: str) -> tuple[int, int] | None:
    try:
        found = Path("/dev/shm", name[1:]).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
