"""sysframe on ringspan: values in named memory, and functions that other processes call.

::

    from ringspan.compat.sysframe import membridge   # was: from sysframe import membridge
"""

from ringspan.compat.sysframe import membridge
from ringspan.compat.sysframe.membridge import (
    acall_function,
    achanged,
    acreate_function,
    aread_memory,
    awrite_memory,
    call_function,
    changed,
    create_function,
    create_memory,
    memory,
    read_memory,
    remove_function,
    remove_memory,
    write_memory,
)

__all__ = [
    "acall_function",
    "achanged",
    "acreate_function",
    "aread_memory",
    "awrite_memory",
    "call_function",
    "changed",
    "create_function",
    "create_memory",
    "membridge",
    "memory",
    "read_memory",
    "remove_function",
    "remove_memory",
    "write_memory",
]
