"""An image that one process draws and others look at, under a lock.

    python examples/python/image.py look /image 50     # in two terminals
    python examples/python/image.py draw /image 50

Nobody sees half of a frame, and a painter that is killed in the middle of one tells on it. The Rust
example of the same name understands it.
"""

import asyncio
import sys

import numpy as np
import ringspan

SHAPE = (480, 640)
HEADER = 8  # the number of the frame, before the pixels


async def draw(image: ringspan.RwLock, drawn: ringspan.SharedInt, count: int) -> None:
    """Draws frame after frame."""
    for frame in range(1, count + 1):
        async with image.write(allow_poisoned=True) as buf:
            # Had somebody been killed while it drew: the whole frame is drawn anew, which mends it.
            image.clear_poison()
            ringspan.View(buf).write(frame)
            pixels = np.frombuffer(buf, np.uint8, offset=HEADER).reshape(SHAPE)
            pixels[:] = frame % 256
            del pixels  # or the lock would be kept until it dies
        drawn.store(frame)


async def look(image: ringspan.RwLock, drawn: ringspan.SharedInt, count: int) -> None:
    """Looks at frames until the last one."""
    seen = torn = 0
    while seen < count:
        await drawn.wait_for(seen.__lt__)  # until there is a later one
        async with image.read() as buf:
            seen = ringspan.View(buf).read(int)
            torn += int((np.frombuffer(buf, np.uint8, offset=HEADER) != seen % 256).any())
    print(f"last frame {seen}, {torn} torn")


async def main(verb: str, name: str, count: str) -> None:
    """Does what the command line asks for."""
    with (
        ringspan.RwLock(name, size=HEADER + SHAPE[0] * SHAPE[1]) as image,
        ringspan.SharedInt(f"{name}-drawn") as drawn,  # says when to look again
    ):
        await (draw if verb == "draw" else look)(image, drawn, int(count))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
