"""Prints what `producer.py` (or `examples/producer.rs`) sends, until it closes the stream.

Start the two in any order, in two terminals:

    python examples/python/consumer.py
    python examples/python/producer.py
"""

import asyncio

import ringspan


async def main() -> None:
    """Prints until the end of the stream."""
    async with ringspan.Consumer("/hello") as rx:
        # Sleeps in the kernel while the ring is empty; other tasks of the loop run meanwhile.
        async for message in rx:
            print(message["n"], message["text"])


if __name__ == "__main__":
    asyncio.run(main())
