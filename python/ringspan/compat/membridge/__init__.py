"""membridge 1.0 on ringspan: one import line is all that changes.

A segment is either mapped (typed reads and writes under a reader-writer lock) or a ring of messages
from one producer to one consumer, as the first `map()` or `spsc()` says, in whichever process.

::

    import membridge                       # before
    from ringspan.compat import membridge  # after

    mem = membridge.SharedMemory.create("/demo", 4096)    mem = membridge.SharedMemory.open("/demo")
    view = mem.map()                                      view = mem.map()
    view.write("hello")                                   view.read("str")

Beyond the original: forms to await (`awrite`, `aread`, `achanged`, `apush`, `apop`), `timeout=`,
`with`, pickling by name.
"""

from ringspan.compat.membridge._memory import SharedMemory
from ringspan.compat.membridge._ring import SpscRingBuffer
from ringspan.compat.membridge._view import MappedView

__all__ = ["MappedView", "SharedMemory", "SpscRingBuffer"]

SharedMemory.__module__ = "ringspan.compat.membridge"
