"""Values in named memory, and functions that other processes call: sysframe's `membridge`.

::

    from ringspan.compat.sysframe import membridge

    membridge.write_memory("/config", {"workers": 4})    # any process, and any time later:
    membridge.read_memory("/config")

    membridge.create_function("/add", add)               # serves until it is removed
    membridge.call_function("/add", (2, 3))              # another process

A memory is a `ringspan.Value` and a function a `ringspan.Function`: under the same name both serve
programs that use ringspan, in Python and in Rust. What the old functions could not do has an `a`
before its name and is awaited, or is a keyword: time-outs, keyword arguments, the background.
"""

from __future__ import annotations

from ringspan.compat.sysframe._calls import (
    acall_function,
    acreate_function,
    call_function,
    create_function,
    remove_function,
)
from ringspan.compat.sysframe._memory import (
    achanged,
    aread_memory,
    awrite_memory,
    changed,
    create_memory,
    memory,
    read_memory,
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
    "memory",
    "read_memory",
    "remove_function",
    "remove_memory",
    "write_memory",
]

for _name in __all__:
    globals()[_name].__module__ = __name__
del _name
