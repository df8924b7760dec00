"""Leaving: a grant that is out, another thread, Ctrl-C in a batch, the end of the interpreter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import ringspan

BOOM = KeyboardInterrupt


def boom() -> None:
    """What `Boom` is unpickled by."""
    raise BOOM


class Boom:
    """Raises when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[()]]:
        return boom, ()


def test_a_producer_closed_under_a_grant_closes_at_the_commit(name: str) -> None:
    ring = ringspan.Ring(name)
    tx, rx = ring.producer(), ring.consumer()
    grant = tx.try_reserve(3)
    assert grant is not None
    with pytest.raises(BufferError, match="grant"):
        tx.close()
    grant.buf[:] = b"end"
    grant.commit()
    with pytest.raises(ringspan.HandleClosed):
        tx.try_push(1)
    assert rx.try_pop() == b"end"
    with pytest.raises(ringspan.Closed):
        rx.try_pop()
    rx.close()


def test_an_interrupt_in_a_batch_takes_nothing_and_is_raised(name: str) -> None:
    ring = ringspan.Ring(name, pickle=True)
    tx, rx = ring.producer(), ring.consumer()
    tx.try_push("before")
    tx.try_push(Boom())
    with pytest.raises(KeyboardInterrupt):
        rx.try_pop_many(2)
    assert rx.try_pop() == "before"
    with pytest.raises(KeyboardInterrupt):
        rx.try_pop()
    tx.close()
    rx.close()


def test_a_segment_closed_in_another_thread_wakes_its_loop(
    name: str, child: Callable[..., Any]
) -> None:
    # In a child, since it would hang; debug mode refuses futures that are set from elsewhere.
    code = """
        import asyncio, sys, threading, ringspan
        async def main():
            segment = ringspan.Segment.create(sys.argv[1], 64)
            waits = asyncio.create_task(segment.changed())
            await asyncio.sleep(0.05)
            closer = threading.Thread(target=segment.close)
            closer.start()
            try:
                await waits
            except ringspan.HandleClosed:
                print("closed", flush=True)
            closer.join()
        for _ in range(20):
            asyncio.run(main(), debug=True)
            ringspan.remove(sys.argv[1])
    """
    waiting = child(code, name)
    for _ in range(20):
        waiting.expect("closed")
    waiting.finish()


@pytest.mark.parametrize("how", ["never awaited", "__del__"])
def test_a_handle_is_closed_in_good_order_at_interpreter_exit(
    name: str, how: str, child: Callable[..., Any]
) -> None:
    code = """
        import asyncio, builtins, sys, ringspan
        tx = ringspan.Producer(sys.argv[1])
        async def main():
            await tx.push("early")
        asyncio.run(main())
        class Late:
            def __init__(self): self.tx, self.me, self.out = tx, self, sys.stdout
            def __del__(self):
                try:
                    self.tx.push("late").send(None)
                except StopIteration:
                    print("pushed", file=self.out, flush=True)
        if sys.argv[2] == "__del__":
            builtins.late = Late()
        else:
            pushing = tx.push(bytearray(10))
    """
    ring = ringspan.Ring(name)
    rx = ring.consumer()
    leaving = child(code, name, how)
    assert rx.blocking_pop(timeout=20) == "early"
    if how == "__del__":
        leaving.expect("pushed")
        assert rx.blocking_pop(timeout=20) == "late"
    with pytest.raises(ringspan.Closed):
        rx.blocking_pop(timeout=20)
    leaving.finish()
    assert "panicked" not in leaving.stderr()
    rx.close()
