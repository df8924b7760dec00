"""Opening, attaching and removing lock the inode; whoever has it may have been stopped."""

from __future__ import annotations

import fcntl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ringspan
from ringspan._ringspan import _Block

VERBS = {
    "array.notify": "opened.notify()",
    "array.blocking_write": "opened.blocking_write().release()",
    "array.blocking_read": "opened.blocking_read(timeout=20).release()",
    "array.try_read": "opened.try_read().release()",
    "array.blocking_changed": "shortly(opened.blocking_changed)",
    "array.changed": "asyncio.run(soon(opened.changed))",
    "array.remove": "opened.remove()",
    "segment.notify": "opened.notify()",
    "segment.blocking_changed": "shortly(opened.blocking_changed)",
    "segment.changed": "asyncio.run(soon(opened.changed))",
    "segment.remove": "ringspan.remove(name)",
    "value.Value": "ringspan.Value(name).close()",
    "int.SharedInt": "ringspan.SharedInt(name).close()",
    "lock.RwLock": "ringspan.RwLock(name).close()",
}


@pytest.mark.parametrize("verb", VERBS)
def test_who_waits_for_the_inode_holds_up_no_other_thread(
    name: str, verb: str, child: Callable[..., Any]
) -> None:
    code = """
        import asyncio, sys, threading
        import ringspan
        from ringspan._ringspan import _Block
        name, kind, verb = sys.argv[1:4]

        def shortly(changed):
            try:
                changed(timeout=0.01)
            except ringspan.Timeout:
                pass

        async def soon(changed):
            waits = asyncio.ensure_future(changed())
            await asyncio.sleep(0.01)
            waits.cancel()

        if kind in ("array", "segment"):
            opened = {"array": _Block, "segment": ringspan.Segment}[kind].open(name)
        print("ready", flush=True)
        input()
        done = threading.Event()

        def run():
            exec(verb)
            done.set()

        threading.Thread(target=run).start()
        done.wait(0.2)
        print("free", done.is_set(), flush=True)
        input()
        done.wait()
        print("done", flush=True)
    """
    kind = verb.split(".")[0]
    make: dict[str, Callable[[], Any]] = {
        "array": lambda: _Block.create(name, 8),
        "segment": lambda: ringspan.Segment.create(name, 8),
        "value": lambda: ringspan.Value(name, ephemeral=True),
        "int": lambda: ringspan.SharedInt(name, ephemeral=True),
        "lock": lambda: ringspan.RwLock(name, size=8, ephemeral=True),
    }
    with make[kind]():
        opener = child(code, name, kind, VERBS[verb])
        opener.expect("ready")
        with Path(f"/dev/shm{name}").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            opener.say()
            # It says so although the other thread waits.
            opener.expect("free False")
        opener.say()
        opener.expect("done")
        opener.finish()
