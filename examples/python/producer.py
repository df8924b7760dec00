"""Sends three values; `consumer.py` (or `examples/consumer.rs`) prints them.

Start the two in any order, in two terminals:

    python examples/python/consumer.py
    python examples/python/producer.py
"""

import asyncio

import ringspan


async def main() -> None:
    """Pushes and closes."""
    # Opens the ring, or makes it when the consumer has not yet.
    async with ringspan.Producer("/hello") as tx:
        for n in range(3):
            # Waits (asleep) only while the ring is full.
            await tx.push({"n": n, "text": "hello"})
    # Leaving the block closes the end: the consumer sees the end of the stream.


if __name__ == "__main__":
    asyncio.run(main())
