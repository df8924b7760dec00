"""Clients that are closed, and clients that several threads share."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading

import pytest
import ringspan


def _name(what: str) -> str:
    return f"/rpc-closing-{what}-{os.getpid()}"


async def _never(x: int) -> int:
    await asyncio.sleep(60)
    return x


def test_close_fails_the_calls_under_way() -> None:
    async def main(name: str) -> None:
        f = await ringspan.connect(name)
        call = f(1)
        f.close()
        with pytest.raises(ringspan.Disconnected):
            await asyncio.wait_for(call, 5)

    name = _name("here")
    with ringspan.serve_in_background(ringspan.function(name)(_never)) as server:
        asyncio.run(main(name))
        server.stop(0)


def test_close_by_another_thread_does_too() -> None:
    async def main(name: str) -> None:
        f = await ringspan.connect(name)
        stream, call = f.stream(1), f(1)
        del stream
        thread = threading.Thread(target=f.close)
        thread.start()
        thread.join()
        with pytest.raises(ringspan.Disconnected):
            await asyncio.wait_for(call, 5)

    name = _name("there")
    with ringspan.serve_in_background(ringspan.function(name)(_never)) as server:
        asyncio.run(main(name))
        server.stop(0)


SHARED = """
import asyncio, sys, threading, time
import ringspan

class Slow(asyncio.SelectorEventLoop):
    def is_closed(self):
        time.sleep(0.002)  # lets the other threads run
        return super().is_closed()

client = ringspan.Client(sys.argv[1])

async def main():
    for n in range(20):
        try:
            assert await client(n) == n
        except ConnectionError:
            pass
        client.close()

def work():
    loop = Slow()
    loop.run_until_complete(main())
    loop.close()

threads = [threading.Thread(target=work, daemon=True) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("done", flush=True)
"""


def test_threads_that_connect_at_once_do_not_lock_each_other_out() -> None:
    async def same(x: int) -> int:
        return x

    name = _name("threads")
    with ringspan.serve_in_background(ringspan.function(name)(same)):
        command = [sys.executable, "-c", SHARED, name]
        done = subprocess.run(command, capture_output=True, text=True, timeout=40, check=False)
    assert done.stdout == "done\n", done.stderr
