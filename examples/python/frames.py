"""Arrays through a ring: the dtype and the shape travel with them.

    python examples/python/frames.py recv /frames
    python examples/python/frames.py send /frames 100

The receiver looks at every frame where it lies in the ring, without a copy. Needs numpy
(`pip install "ringspan[arrays]"`).
"""

import asyncio
import sys

import numpy as np
import ringspan


async def send(ring: ringspan.Ring, frames: int) -> None:
    """Sends frames of 480 x 640 pixels."""
    async with ring.producer() as tx:
        await tx.attached()
        for n in range(frames):
            frame = np.full((480, 640), n % 256, dtype=np.uint8)
            await tx.push(frame)  # one copy, into the ring


async def receive(ring: ringspan.Ring) -> None:
    """Sums up all pixels."""
    frames, total = 0, 0
    async with ring.consumer() as rx:
        while True:
            try:
                # A read-only array over the ring's own memory. At the end of the block it is given
                # back; what shall live longer must be copied.
                with await rx.lend() as frame:
                    total += int(frame.sum())
                    shape, dtype = frame.shape, frame.dtype
            except ringspan.Closed:
                break
            frames += 1
    print(f"{frames} frames of {shape} {dtype}, sum {total}")


if __name__ == "__main__":
    verb, name, *rest = sys.argv[1:]
    # Large messages move fastest through 4 to 8 MiB.
    wanted = ringspan.Ring(name, capacity=8 << 20, ephemeral=True)
    asyncio.run(send(wanted, int(rest[0]) if rest else 10) if verb == "send" else receive(wanted))
