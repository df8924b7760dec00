"""`multiprocessing.shared_memory` on raw segments: one import line is all that changes.

::

    from multiprocessing.shared_memory import SharedMemory      # before
    from ringspan.compat.multiprocessing import SharedMemory    # after

    block = SharedMemory("frame", create=True, size=1024)
    block.buf[0] = 1
    block.close()
    block.unlink()

The blocks are the same files with the same bytes, so the standard classes and these attach to each
other's. There is no resource tracker: a process that attached and ends destroys nothing.

The submodule `shared_memory` stands for `from multiprocessing import shared_memory`.
"""

from ringspan.compat.multiprocessing import shared_memory
from ringspan.compat.multiprocessing._list import ShareableList
from ringspan.compat.multiprocessing._memory import SharedMemory

__all__ = ["ShareableList", "SharedMemory", "shared_memory"]

for _class in (SharedMemory, ShareableList):
    _class.__module__ = "ringspan.compat.multiprocessing"
del _class
