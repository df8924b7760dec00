"""The block behind a handle. A forked child goes on with the handles of its parent, as ever.

What a fork hands over is mapped, but to wait, to notify and to put takes a place of one's own: the
child opens the block anew when it first uses it.
"""

from __future__ import annotations

import os

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

    def _have(self, block: _Block) -> None:
        self._opened, self._opened_by = block, _pid

    @property
    def _block(self) -> _Block:
        if self._opened_by != _pid:
            self._open_again()
        return self._opened

    def _open_again(self) -> None:
        name = self._opened.name
        with runtime_errors():
            block = _Block.open(name)
        if block.file_id != self._opened.file_id:  # another one has got the name
            block.close()
            raise Removed(f"block {name}: it was removed before this child of a fork used it")
        self._opened, self._opened_by = block, _pid
