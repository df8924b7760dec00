"""A number that many processes add to, and one waits for.

    python examples/python/counter.py wait /jobs 3000
    python examples/python/counter.py add /jobs 1000      # three times, at once or later

The Rust example of the same name understands it.
"""

import asyncio
import sys

import ringspan


async def main(verb: str, name: str, count: int) -> None:
    """Does what the command line asks for."""
    with ringspan.SharedInt(name) as jobs:
        if verb == "add":
            for _ in range(count):
                jobs.add(1)
        else:
            print(await jobs.wait_for(lambda done: done >= count))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
