"""A configuration that any number of processes watch.

    python examples/python/config.py watch /config      # in three terminals
    python examples/python/config.py set /config 8 debug
    python examples/python/config.py set /config 0 bye   # no workers: the watchers end

Whoever comes late gets the latest; what was replaced meanwhile is not kept. The Rust example of the
same name understands it.
"""

import asyncio
import sys

import ringspan


async def watch(name: str) -> None:
    """Prints every configuration that it sees."""
    with ringspan.Value(name) as value:
        async for config in value:  # sleeps in the kernel until there is another one
            print(f"{config['workers']} workers, log {config['log']}", flush=True)
            if config["workers"] == 0:
                return


async def main(verb: str, name: str, *rest: str) -> None:
    """Does what the command line asks for."""
    if verb == "watch":
        await watch(name)
    else:
        with ringspan.Value(name) as value:
            await value.set({"workers": int(rest[0]), "log": rest[1]})


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
