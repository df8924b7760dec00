"""`consumer.py` on uvloop: nothing changes but the loop.

    python examples/python/on_uvloop.py
    python examples/python/producer.py

Needs uvloop (`pip install uvloop`).
"""

import asyncio

import ringspan
import uvloop


async def main() -> None:
    """Prints until the end of the stream, and which loop it ran on."""
    async with ringspan.Consumer("/hello") as rx:
        async for message in rx:
            print(message["n"], message["text"])
    print(type(asyncio.get_running_loop()).__module__)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
