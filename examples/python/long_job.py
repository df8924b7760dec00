"""A job of some seconds that tells how far it is, and stops when nobody listens any more.

    python examples/python/long_job.py serve /job
    python examples/python/long_job.py run /job 300000     # Ctrl-C stops the job, too

`examples/long_job.rs` does the same; either side may be either language.
"""

import asyncio
import sys
from collections.abc import Iterator

import ringspan

STEPS = 50


def is_prime(n: int) -> bool:
    """Whether n has no divisor; slowly, for this is about jobs that take their time."""
    return n >= 2 and all(n % d for d in range(2, int(n**0.5) + 1))


def count_primes(limit: int) -> Iterator[dict[str, int]]:
    """Counts the primes below `limit`.

    A plain generator runs in a thread of its own. It goes on only as fast as its caller takes the
    items, and is closed when the caller is gone.
    """
    found = 0
    for step in range(STEPS):
        piece = range(limit * step // STEPS, limit * (step + 1) // STEPS)
        found += sum(map(is_prime, piece))
        yield {"done": step + 1, "of": STEPS, "found": found}


async def serve(name: str) -> None:
    """Serves until the name is removed, or Ctrl-C."""
    service = ringspan.Service(name)
    service.method(count_primes)
    async with service:
        print("serving", flush=True)
        await service.serve_forever()


async def run(name: str, limit: int) -> None:
    """Has the job done elsewhere and draws a bar."""
    job = await ringspan.connect(name)
    found = 0
    async for progress in job.count_primes.stream(limit):
        done, of, found = progress["done"], progress["of"], progress["found"]
        if sys.stderr.isatty():
            bar = "#" * (40 * done // of)
            print(f"\r[{bar:.<40}] {found} primes ", end="", file=sys.stderr, flush=True)
    print(f"{found} primes below {limit}")


if __name__ == "__main__":
    verb, function, *rest = sys.argv[1:]
    asyncio.run(serve(function) if verb == "serve" else run(function, int(rest[0])))
