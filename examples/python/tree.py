"""A directory tree as a service: other processes list it and read its files, many at a time.

    python examples/python/tree.py serve /files src
    python examples/python/tree.py fetch /files copy

`examples/tree.rs` is the same; either side may be either language. A file that was asked for when
the server was killed is asked for again: reading twice does no harm, so every
`Disconnected.delivered` will do. The client finds the next server by itself. With `--hold` it stops
half-way until a line comes on its standard input, and says when it has asked for the next files, so
that somebody can stop and kill the server there.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path, PurePosixPath

import ringspan

AT_ONCE = 64


def walk(tree: Path, skip: list[str]) -> Iterator[str]:
    """Yields the relative path of every regular file."""
    for folder, folders, names in os.walk(tree):
        folders[:] = [name for name in folders if name not in skip]
        for name in names:
            path = Path(folder, name)
            if name not in skip and path.is_file() and not path.is_symlink():
                yield path.relative_to(tree).as_posix()


async def serve(name: str, tree: Path, skip: list[str]) -> None:
    """Serves until the name is removed, or Ctrl-C."""
    files = sorted(walk(tree, skip))
    known = set(files)
    service = ringspan.Service(name)

    @service.method(name="list")
    async def list_files() -> AsyncIterator[str]:
        for path in files:
            yield path

    @service.method(inline=True)
    def read(path: str) -> bytes:
        if path not in known:
            raise FileNotFoundError(path)
        return (tree / path).read_bytes()

    async with service:
        print(f"serving pid={os.getpid()}", flush=True)
        await service.serve_forever()
    stats = service.stats()
    print(f"served calls={stats.calls} errors={stats.errors}", flush=True)


class Fetch:
    """Copies a tree from a service."""

    def __init__(self, client: ringspan.Client, folder: Path, hold: bool) -> None:
        self.client = client
        self.folder = folder
        self.hold = hold
        self.wanted = 0
        self.asked = 0
        self.files = 0
        self.size = 0
        self.again = 0
        #: Of the calls under way when the server died: whether they had been delivered.
        self.broken: Counter[str] = Counter()
        self.learnt = 0.0
        self.turn = asyncio.Semaphore(AT_ONCE)
        # With --hold: half of the files are there; go on; the next ones are asked for.
        self.half, self.go, self.more = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def all(self) -> None:
        """Asks for every file of the list."""
        paths = [path async for path in self.client.method("list").stream()]
        self.wanted = len(paths)
        if not self.hold:
            self.go.set()
        async with asyncio.TaskGroup() as group:
            for path in paths:
                group.create_task(self.one(path))
            if self.hold:
                group.create_task(self.pause())

    async def pause(self) -> None:
        """Half of the tree goes at once; the rest when a line comes."""
        await self.half.wait()
        print("half", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        self.go.set()
        await self.more.wait()
        print("asked", flush=True)

    async def one(self, path: str) -> None:
        """Asks for a file until it is there."""
        parts = PurePosixPath(path)
        if not path or parts.is_absolute() or ".." in parts.parts:
            raise ValueError(f"{path!r} is not a path inside the tree")
        async with self.turn:
            if self.asked >= self.wanted // 2:
                await self.go.wait()
            self.asked += 1
            if self.asked == min(self.wanted // 2 + AT_ONCE, self.wanted):
                self.more.set()
            content = await self.read(path)
        target = self.folder / parts
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        self.files += 1
        self.size += len(content)
        if self.files == self.wanted // 2:
            self.half.set()

    async def read(self, path: str) -> bytes:
        """Calls until it is answered; for half a minute where nobody serves."""
        again = 0
        while True:
            try:
                content: bytes = await self.client.method("read")(path)
            except ringspan.Disconnected as fault:
                self.broken[fault.delivered] += 1
                self.learnt = self.learnt or time.monotonic()
            except (ringspan.NotServed, ringspan.NotFound):
                if again == 1500:
                    raise
            else:
                self.again += again > 0
                return content
            again += 1
            await asyncio.sleep(0.02)


async def fetch(name: str, folder: Path, hold: bool) -> None:
    """Copies the tree and says what came."""
    work = Fetch(await ringspan.connect(name), folder, hold)
    await work.all()
    told = "".join(f" {word}={count}" for word, count in sorted(work.broken.items()))
    print(f"fetched files={work.files} bytes={work.size} again={work.again}", flush=True)
    if told:
        print(f"broken at={work.learnt:.6f}{told}", flush=True)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="A directory tree as a service.")
    parser.add_argument("verb", choices=["serve", "fetch"])
    parser.add_argument("name", help="the service, such as /files")
    parser.add_argument("path", type=Path, help="the tree to serve, or the folder to write to")
    parser.add_argument("skip", nargs="*", help="leave out files and folders named so")
    parser.add_argument("--hold", action="store_true", help="say when half of it is there")
    options = parser.parse_args()
    if options.verb == "serve":
        asyncio.run(serve(options.name, options.path, options.skip))
    else:
        asyncio.run(fetch(options.name, options.path, options.hold))


if __name__ == "__main__":
    main()
