"""A function that any process of this user can call.

    python examples/python/add.py serve
    python examples/python/add.py call 2 3     # in another terminal
    python examples/python/add.py stop

`examples/add_server.rs` and `examples/add_client.rs` are the same in Rust; either side may be
either language.
"""

import asyncio
import sys

import ringspan


@ringspan.function("/add")
async def add(a: int, b: int) -> int:
    """The function; here in this process it is called as ever."""
    return a + b


async def main(verb: str, *numbers: str) -> None:
    """Does what the command line asks for."""
    if verb == "serve":
        async with ringspan.serve(add) as server:
            await server.serve_forever()
    elif verb == "call":
        print(await ringspan.call("/add", *map(int, numbers)))
    elif verb == "stop":
        ringspan.remove("/add")  # from any process: calls under way are still answered


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
