"""`memory_interface` on ringspan: shared values, and a circular memory of objects.

::

    from memory_interface import SharedString                   # before
    from ringspan.compat.memory_interface import SharedString   # after

    text = SharedString()
    memblk = text.create_sharedobject(200)
    Process(target=work, args=[memblk]).start()                 # there: SharedString(memblk)

A `SharedBytes` or `SharedString` is a `ringspan.Value`, a `SharedInt` or `SharedBool` a number of
ringspan, a `MemoryInterface` one block with a lock, however many slots it has.
"""

from ringspan.compat.memory_interface._interface import MemoryInterface
from ringspan.compat.memory_interface._shared import (
    SharedBool,
    SharedBytes,
    SharedInt,
    SharedString,
)

__all__ = ["MemoryInterface", "SharedBool", "SharedBytes", "SharedInt", "SharedString"]

for _class in (MemoryInterface, SharedBool, SharedBytes, SharedInt, SharedString):
    _class.__module__ = "ringspan.compat.memory_interface"
del _class
