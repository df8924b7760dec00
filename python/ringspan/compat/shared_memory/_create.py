"""`create`, `load` and `unlink`: objects in blocks, by their layouts."""

from __future__ import annotations

from typing import Any

from ringspan._exceptions import InvalidName
from ringspan._ringspan import _Block, remove
from ringspan.compat.shared_memory._errors import runtime_errors
from ringspan.compat.shared_memory._layouts import Layout, asking, load_mem, sign_of
from ringspan.compat.shared_memory._queue import SIGN, MessageQueue


def create(name: str, layout: Layout, *, allow_pickle: bool = False) -> Any:
    """Makes a block with the object that `layout` describes, and returns the object in it.

    Name and content appear together, so who loads sees all or nothing; a creation that fails leaves
    nothing. `allow_pickle` is for layouts of your own that nest PickleLayouts.

    Raises FileExistsError (a RuntimeError too) where the name is taken.
    """
    with runtime_errors():
        block = _Block.create(name, layout.size(), fill=layout.dump)
    try:
        with runtime_errors(f"block {block.name}"), asking(allow_pickle):
            return layout._made(memoryview(block))
    except BaseException:
        block.remove()
        block.close()
        raise


def load(name: str, layout: type[Layout] | None = None, *, allow_pickle: bool = False) -> Any:
    """Returns the object in a block; which layout it has is seen from its first byte.

    A pickle is read only if you ask for it: by `allow_pickle=True`, or by `layout=PickleLayout`.
    Do so where you trust every process that can write to the block.

    Raises FileNotFoundError (a RuntimeError too) without such a name, TypeError where another
    layout than `layout` is there, KeyError where none has the sign, PickleRefused for a pickle.
    """
    with runtime_errors():
        block = _Block.open(name)
    try:
        mem = memoryview(block)
        if layout is None and sign_of(mem) == SIGN:
            return MessageQueue.load(name, allow_pickle=allow_pickle)
        with runtime_errors(f"block {block.name}"), asking(allow_pickle):
            return load_mem(mem, layout)
    except BaseException:
        block.close()
        raise


def unlink(name: str) -> None:
    """Deletes a name; a missing one is no error. Who has the object goes on."""
    with runtime_errors():
        try:
            remove(name, missing_ok=True)
        except InvalidName:
            return  # nothing can have it
