"""One side of the pairing tests, the Python twin of `examples/peer.rs`, which says what it prints.

python peer.py send NAME asyncio|blocking COUNT SEED
python peer.py recv NAME asyncio|blocking
"""

from __future__ import annotations

import asyncio
import sys
import zlib

import ringspan

MASK = (1 << 64) - 1
BLOCK = 1 << 16
LONGEST = 3000


class Messages:
    """The pseudo-random messages of a seed: pieces of a block of noise, 0 to 2999 bytes."""

    def __init__(self, seed: int) -> None:
        self.state = seed * 2 + 1
        self.block = bytes(self.next() & 0xFF for _ in range(BLOCK))

    def next(self) -> int:
        state = self.state
        state ^= (state << 13) & MASK
        state ^= state >> 7
        state ^= (state << 17) & MASK
        self.state = state
        return state

    def message(self) -> bytes:
        random = self.next()
        size = random % LONGEST
        start = (random >> 32) % (BLOCK - LONGEST)
        return self.block[start : start + size]


class Tally:
    """What went through: messages, and the Adler-32 of every length and content."""

    def __init__(self) -> None:
        self.count = 0
        self.sum = 1

    def add(self, message: bytes) -> None:
        self.sum = zlib.adler32(len(message).to_bytes(4, "little"), self.sum)
        self.sum = zlib.adler32(message, self.sum)
        self.count += 1
        if self.count == 1000:
            print("half", flush=True)

    def report(self, how: str) -> None:
        print(f"{how} {self.count} {self.sum}", flush=True)


def expected(count: int, seed: int) -> int:
    """The checksum of the first `count` messages of a seed."""
    messages, tally = Messages(seed), Tally()
    tally.count = 1 << 63  # so that it prints nothing
    for _ in range(count):
        tally.add(messages.message())
    return tally.sum


async def send_async(tx: ringspan.Producer, count: int, messages: Messages, tally: Tally) -> None:
    await tx.attached()
    while not count or tally.count < count:
        message = messages.message()
        await tx.push(message)
        tally.add(message)


def send_blocking(tx: ringspan.Producer, count: int, messages: Messages, tally: Tally) -> None:
    tx.blocking_attached()
    while not count or tally.count < count:
        message = messages.message()
        tx.blocking_push(message)
        tally.add(message)


async def receive_async(rx: ringspan.Consumer, tally: Tally) -> None:
    async for message in rx:
        tally.add(message)


def receive_blocking(rx: ringspan.Consumer, tally: Tally) -> None:
    while True:
        try:
            message = rx.blocking_pop()
        except ringspan.Closed:
            return
        tally.add(message)


def main(verb: str, name: str, mode: str, count: str = "0", seed: str = "0") -> None:
    ring = ringspan.Ring(name, capacity=1 << 16, ephemeral=True)
    tally = Tally()
    try:
        if verb == "send":
            messages = Messages(int(seed))
            with ring.producer() as tx:
                if mode == "asyncio":
                    asyncio.run(send_async(tx, int(count), messages, tally))
                else:
                    send_blocking(tx, int(count), messages, tally)
        else:
            with ring.consumer() as rx:
                if mode == "asyncio":
                    asyncio.run(receive_async(rx, tally))
                else:
                    receive_blocking(rx, tally)
    except ringspan.PeerDied as fault:
        tally.report(f"died {fault.pid}")
    else:
        tally.report("closed")


if __name__ == "__main__":
    main(*sys.argv[1:])
