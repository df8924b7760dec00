"""SnowWalkerJ's `shared_memory` on ringspan: one import line is all that changes.

::

    import shared_memory as shm                       # before
    from ringspan.compat import shared_memory as shm  # after

    array = shm.create("array", shm.NdArrayLayout("float32", (3, 5)))
    same_array = shm.load("array")
    shm.unlink("array")

What goes wrong is a RuntimeError, as ever, and the fitting builtin and ringspan class too.
"""

from ringspan.compat.shared_memory._create import create, load, unlink
from ringspan.compat.shared_memory._errors import (
    AlreadyExists,
    Damaged,
    Empty,
    InvalidName,
    InvalidOption,
    Mismatch,
    NoSpace,
    NotFound,
    PeerUnreachable,
    PermissionDenied,
    PickleRefused,
    Removed,
    SystemFault,
    TooLarge,
    TooManyAttached,
    TooManyFiles,
)
from ringspan.compat.shared_memory._layouts import Layout, PickleLayout, StructLayout
from ringspan.compat.shared_memory._memory import SharedMemory
from ringspan.compat.shared_memory._queue import MessageQueue, ShmMessageQueue

__all__ = [
    "AlreadyExists",
    "Damaged",
    "Empty",
    "InvalidName",
    "InvalidOption",
    "Layout",
    "MessageQueue",
    "Mismatch",
    "NoSpace",
    "NotFound",
    "PeerUnreachable",
    "PermissionDenied",
    "PickleLayout",
    "PickleRefused",
    "Removed",
    "SharedMemory",
    "ShmMessageQueue",
    "StructLayout",
    "SystemFault",
    "TooLarge",
    "TooManyAttached",
    "TooManyFiles",
    "create",
    "load",
    "unlink",
]

for _public in __all__:
    globals()[_public].__module__ = "ringspan.compat.shared_memory"
del _public
