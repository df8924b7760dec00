"""Shared memory that processes can await: named segments, rings and locks.

    # one process                                  # another one
    async with ringspan.Producer("/r") as tx:      rx = ringspan.Consumer("/r")
        await tx.push({"n": 1})                    async for obj in rx:
                                                       print(obj)

A verb that can wait has three forms: bare is awaited, `try_` never waits, `blocking_` parks the
thread and takes a `timeout` in seconds. `ringspan.Ring(name)` has no role: pass it to a child,
which calls `.producer()` or `.consumer()`.
"""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from ringspan._background import Server, serve_in_background
from ringspan._calls import blocking_call, blocking_connect, call, connect
from ringspan._exceptions import (
    AlreadyExists,
    Closed,
    CodecError,
    Damaged,
    Disconnected,
    Empty,
    Forked,
    HandleClosed,
    InvalidName,
    InvalidOption,
    Mismatch,
    NoSpace,
    NotFound,
    NotServed,
    PeerClosed,
    PeerDied,
    PeerUnreachable,
    PermissionDenied,
    Poisoned,
    RemoteError,
    Removed,
    RingspanError,
    RoleTaken,
    SystemFault,
    Timeout,
    TooLarge,
    TooManyAttached,
    TooManyFiles,
    UnknownMethod,
    Unsupported,
    WouldDeadlock,
)
from ringspan._ringspan import (
    Acquire,
    Attached,
    Awaitable,
    BlockingClient,
    BlockingMethod,
    BlockingStream,
    Call,
    CallStream,
    Client,
    Consumer,
    Context,
    EndStat,
    GcReport,
    Grant,
    Guard,
    HandleStat,
    Holder,
    Lent,
    Method,
    Peer,
    Producer,
    Ring,
    RingStat,
    RwLock,
    Segment,
    SegmentInfo,
    SharedBool,
    SharedFloat,
    SharedInt,
    Value,
    View,
    Watch,
    __version__,
    gc,
    remove,
    segments,
)
from ringspan._service import Function, ServerStats, Service, Serving, function, serve

if _TYPE_CHECKING:
    from types import ModuleType as _ModuleType


def __getattr__(name: str) -> "_ModuleType":
    """`ringspan.array`, imported when it is first used, since it needs numpy."""
    if name == "array":
        from importlib import import_module

        return import_module("ringspan.array")
    raise AttributeError(f"module 'ringspan' has no attribute {name!r}")


__all__ = [
    "Acquire",
    "AlreadyExists",
    "Attached",
    "Awaitable",
    "BlockingClient",
    "BlockingMethod",
    "BlockingStream",
    "Call",
    "CallStream",
    "Client",
    "Closed",
    "CodecError",
    "Consumer",
    "Context",
    "Damaged",
    "Disconnected",
    "Empty",
    "EndStat",
    "Forked",
    "Function",
    "GcReport",
    "Grant",
    "Guard",
    "HandleClosed",
    "HandleStat",
    "Holder",
    "InvalidName",
    "InvalidOption",
    "Lent",
    "Method",
    "Mismatch",
    "NoSpace",
    "NotFound",
    "NotServed",
    "Peer",
    "PeerClosed",
    "PeerDied",
    "PeerUnreachable",
    "PermissionDenied",
    "Poisoned",
    "Producer",
    "RemoteError",
    "Removed",
    "Ring",
    "RingStat",
    "RingspanError",
    "RoleTaken",
    "RwLock",
    "Segment",
    "SegmentInfo",
    "Server",
    "ServerStats",
    "Service",
    "Serving",
    "SharedBool",
    "SharedFloat",
    "SharedInt",
    "SystemFault",
    "Timeout",
    "TooLarge",
    "TooManyAttached",
    "TooManyFiles",
    "UnknownMethod",
    "Unsupported",
    "Value",
    "View",
    "Watch",
    "WouldDeadlock",
    "__version__",
    "blocking_call",
    "blocking_connect",
    "call",
    "connect",
    "function",
    "gc",
    "remove",
    "segments",
    "serve",
    "serve_in_background",
]
