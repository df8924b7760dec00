"""SnowWalkerJ's `shared_memory` on ringspan: one import line is all that changes.

::

    import shared_memory as shm                       # before
    from ringspan.compat import shared_memory as shm  # after

    array = shm.create("array", shm.NdArrayLayout("float32", (3, 5)))
    same_array = shm.load("array")
    shm.unlink("array")

What goes wrong is a RuntimeError, as ever, and the fitting builtin and ringspan class too.
"""

from ringspan.compat.shared_memory._arrays import NdArrayLayout
from ringspan.compat.shared_memory._create import create, load, unlink
from ringspan.compat.shared_memory._errors import (
    AlreadyExists,
    Damaged,
    Empty,
    HandleClosed,
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
    Unsupported,
)
from ringspan.compat.shared_memory._frames import (
    DataArrayLayout,
    DataFrameLayout,
    SeriesLayout,
)
from ringspan.compat.shared_memory._layouts import Layout, PickleLayout, StructLayout
from ringspan.compat.shared_memory._memory import SharedMemory
from ringspan.compat.shared_memory._queue import MessageQueue, ShmMessageQueue

__all__ = [
    "AlreadyExists",
    "Damaged",
    "DataArrayLayout",
    "DataFrameLayout",
    "Empty",
    "HandleClosed",
    "InvalidName",
    "InvalidOption",
    "Layout",
    "MessageQueue",
    "Mismatch",
    "NdArrayLayout",
    "NoSpace",
    "NotFound",
    "PeerUnreachable",
    "PermissionDenied",
    "PickleLayout",
    "PickleRefused",
    "Removed",
    "SeriesLayout",
    "SharedMemory",
    "ShmMessageQueue",
    "StructLayout",
    "SystemFault",
    "TooLarge",
    "TooManyAttached",
    "TooManyFiles",
    "Unsupported",
    "create",
    "load",
    "unlink",
]

for _public in __all__:
    globals()[_public].__module__ = "ringspan.compat.shared_memory"
del _public
