"""What is no number of seconds is refused by every verb that takes one, before it does anything."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest
import ringspan
from ringspan._ringspan import _Block
from ringspan.compat import membridge, memory_interface
from ringspan.compat import shared_memory as shm
from ringspan.compat.sysframe import membridge as sysframe

VERBS: dict[str, Callable[..., Any]] = {}


def verb(call: Callable[..., Any]) -> Callable[..., Any]:
    """`call(timeout, there)` is one of those that are tried."""
    VERBS[call.__name__] = call
    return call


@pytest.fixture
def there(name: str) -> Iterator[dict[str, Any]]:
    """One of each."""
    with ExitStack() as stack:
        made: dict[str, Any] = {
            "name": name,
            "segment": ringspan.Segment.create(f"{name}-segment", 8),
            "block": _Block.create(f"{name}-block", 8),
            "lock": ringspan.RwLock(f"{name}-lock", size=8),
            "value": ringspan.Value(f"{name}-value"),
            "number": ringspan.SharedInt(f"{name}-number"),
            "tx": ringspan.Producer(f"{name}-ring"),
            "queue": shm.ShmMessageQueue.create(f"{name}-queue", 8, 4),
        }
        made["rx"] = stack.enter_context(closing(ringspan.Consumer(f"{name}-ring")))
        for kind in ("block", "lock", "value", "number", "tx", "queue"):
            stack.enter_context(closing(made[kind]))
        stack.enter_context(made["segment"])
        made["view"] = stack.enter_context(membridge.SharedMemory.create(f"{name}-view", 64)).map()
        whole = memory_interface.SharedInt()
        whole.create_sharedobject()
        slots = memory_interface.MemoryInterface()
        slots.create_memorybuf()
        made |= {"shared": stack.enter_context(whole), "slots": stack.enter_context(slots)}
        sysframe.create_memory(f"{name}-memory")
        yield made


def _of(kind: str, method: str, *args: Any) -> None:
    def call(timeout: Any, there: dict[str, Any]) -> Any:
        return getattr(there[kind], method)(*args, timeout=timeout)

    call.__name__ = f"{kind}.{method}"
    verb(call)


for _kind in ("segment", "block", "value", "number"):
    _of(_kind, "blocking_changed")
for _kind in ("block", "lock"):
    _of(_kind, "blocking_read")
    _of(_kind, "blocking_write")
_of("value", "blocking_set", 1)
_of("value", "blocking_wait_for", bool)
_of("number", "blocking_wait_for", bool)
_of("tx", "blocking_push", 1)
_of("rx", "blocking_pop")
_of("queue", "put", 1)
_of("queue", "get")
_of("view", "changed")
_of("shared", "blocking_changed")
_of("shared", "blocking_wait_for", bool)
_of("slots", "blocking_read")
_of("slots", "blocking_write", 1)


@verb
def view_writing(timeout: Any, there: dict[str, Any]) -> None:
    with there["view"].writing(timeout):
        pass


@verb
def sysframe_changed(timeout: Any, there: dict[str, Any]) -> None:
    sysframe.changed(f"{there['name']}-memory", timeout=timeout)


@verb
def sysframe_achanged(timeout: Any, there: dict[str, Any]) -> None:
    asyncio.run(sysframe.achanged(f"{there['name']}-memory", timeout=timeout))


@verb
def sysframe_awrite_memory(timeout: Any, there: dict[str, Any]) -> None:
    asyncio.run(sysframe.awrite_memory(f"{there['name']}-memory-2", 1, timeout=timeout))


@verb
def sysframe_call_function(timeout: Any, there: dict[str, Any]) -> None:
    sysframe.call_function(f"{there['name']}-nobody", (), timeout=timeout)


@verb
def sysframe_acall_function(timeout: Any, there: dict[str, Any]) -> None:
    asyncio.run(sysframe.acall_function(f"{there['name']}-nobody", (), timeout=timeout))


@verb
def connect(timeout: Any, there: dict[str, Any]) -> None:
    asyncio.run(ringspan.connect(f"{there['name']}-nobody", timeout=timeout))


@verb
def blocking_connect(timeout: Any, there: dict[str, Any]) -> None:
    ringspan.blocking_connect(f"{there['name']}-nobody", timeout=timeout)


@verb
def server_stop(timeout: Any, there: dict[str, Any]) -> None:
    with ringspan.serve_in_background(ringspan.function(f"{there['name']}-f")(abs)) as server:
        server.stop(grace=timeout)


@pytest.mark.parametrize("timeout", [math.nan, -1, -math.inf, -1e-9], ids=str)
@pytest.mark.parametrize("call", VERBS.values(), ids=VERBS)
def test_what_is_no_time_is_a_value_error(
    there: dict[str, Any], call: Callable[..., Any], timeout: float
) -> None:
    with pytest.raises(ValueError, match="must be a number of seconds from 0 on or None, not"):
        call(timeout, there)
    assert there["queue"].empty()


@pytest.mark.parametrize("timeout", [True, "1", object()], ids=["bool", "str", "object"])
@pytest.mark.parametrize("call", VERBS.values(), ids=VERBS)
def test_what_is_no_number_is_a_type_error(
    there: dict[str, Any], call: Callable[..., Any], timeout: Any
) -> None:
    with pytest.raises(TypeError, match="must be a number of seconds or None, not"):
        call(timeout, there)


def test_infinity_is_for_ever_also_where_a_verb_waits_more_than_once(
    name: str, child: Callable[..., Any]
) -> None:
    code = """
        import math, sys, threading
        from ringspan.compat import shared_memory as shm
        queue = shm.ShmMessageQueue.create(sys.argv[1], 8, 4)
        threading.Timer(0.1, queue.put, (7,)).start()
        print(queue.get(timeout=math.inf), flush=True)
    """
    waiting = child(code, name)
    waiting.expect("7")
    waiting.finish()
