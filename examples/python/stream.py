"""Streams a directory tree through a ring, into another process that writes it elsewhere.

    python examples/python/stream.py recv /tree copy
    python examples/python/stream.py send /tree src

The same program in Rust is `examples/stream.rs`, which also describes the messages; either side may
be either language. A receiver on a terminal draws a progress bar. With `--hold` it stops half-way
until a line comes on its standard input, so that somebody can kill the sender there.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import ringspan

PIECE = 64 << 10


@dataclass
class Tally:
    """What one side did, as the line that it prints at its end."""

    started: float = field(default_factory=time.perf_counter)
    files: int = 0
    size: int = 0
    messages: int = 0

    def report(self, verb: str, sleeps: int) -> None:
        """Prints the line."""
        seconds = time.perf_counter() - self.started
        print(
            f"{verb} files={self.files} bytes={self.size} messages={self.messages}"
            f" seconds={seconds:.4f} sleeps={sleeps}",
            flush=True,
        )


def walk(tree: Path, skip: list[str]) -> Iterator[tuple[str, int]]:
    """Yields (path, size) of every regular file below `tree`."""
    for folder, folders, names in os.walk(tree):
        folders[:] = [name for name in folders if name not in skip]
        for name in names:
            path = Path(folder, name)
            if name not in skip and path.is_file() and not path.is_symlink():
                yield path.relative_to(tree).as_posix(), path.stat().st_size


async def send(tx: ringspan.Producer, tree: Path, after: str, skip: list[str]) -> None:
    """Streams every file behind `after`, in the order of the paths."""
    files = sorted(file for file in walk(tree, skip) if file[0] > after)
    await tx.attached()
    tally = Tally()
    total = sum(size for _, size in files)
    await tx.push(b"T" + total.to_bytes(8, "little") + len(files).to_bytes(8, "little"))
    for path, _ in files:
        await tx.push(b"F" + path.encode())
        size = 0
        with (tree / path).open("rb") as file:
            while piece := file.read(PIECE):
                await tx.push(b"D" + piece)
                size += len(piece)
                tally.messages += 1
        await tx.push(b"E" + size.to_bytes(8, "little"))
        tally.files += 1
        tally.size += size
        tally.messages += 2
    tally.messages += 1
    tally.report("sent", tx.stat().parks)
    tx.close()


class Receiver:
    """Writes what comes into a folder and keeps count."""

    def __init__(self, folder: Path, hold: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.hold = hold
        self.tally = Tally()
        self.total = 0
        self.came = 0
        self.last = ""
        self.path = ""
        self.file: BinaryIO | None = None
        self.size = 0
        self.shown = -1

    def take(self, message: bytes) -> None:
        """Acts on one message."""
        if not self.tally.messages:
            self.tally = Tally()
        self.tally.messages += 1
        kind, content = message[:1], memoryview(message)[1:]
        if kind == b"T":
            self.total = self.came + int.from_bytes(content[:8], "little")
        elif kind == b"F":
            self.begin(bytes(content).decode())
        elif kind == b"D" and self.file is not None:
            self.file.write(content)
            self.size += len(content)
            self.came += len(content)
            self.progress()
        elif kind == b"E" and self.file is not None:
            self.end(int.from_bytes(content, "little"))
        else:
            raise ValueError(f"unexpected message {kind!r}")

    def begin(self, path: str) -> None:
        """Opens the file that comes next; refuses a path that would leave the folder."""
        parts = PurePosixPath(path)
        if not path or parts.is_absolute() or ".." in parts.parts:
            raise ValueError(f"{path!r} is not a path inside the tree")
        target = self.folder / parts
        target.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.size, self.file = path, 0, target.open("wb")

    def end(self, size: int) -> None:
        """Closes a complete file."""
        if size != self.size:
            raise ValueError(f"{self.path}: {self.size} bytes came, {size} were sent")
        self.drop()
        self.tally.files += 1
        self.tally.size += size
        self.last = self.path

    def drop(self) -> None:
        """Closes the file that is open, complete or not."""
        if self.file is not None:
            self.file.close()
            self.file = None

    def sender_died(self, fault: ringspan.PeerDied) -> None:
        """Says who died and when it became known; the unfinished file comes again."""
        print(f"died at={time.monotonic():.6f} pid={fault.pid} after={self.last}", flush=True)
        print(f"\n{fault}; waiting for another sender", file=sys.stderr)
        if self.file is not None:
            self.came -= self.size
        self.drop()

    def progress(self) -> None:
        """Draws the bar; with --hold stands still once half of the tree is there."""
        percent = 100 * self.came // max(1, self.total)
        if percent != self.shown and sys.stderr.isatty():
            done = percent * 40 // 100
            mega = self.came / 1e6
            bar = f"[{'#' * done}{'.' * (40 - done)}] {percent:3d} % {mega:8.1f} MB"
            print(f"\r  {bar}", end="\n" if percent == 100 else "", file=sys.stderr, flush=True)
        self.shown = percent
        if self.hold and percent >= 50:
            self.hold = False
            print("half", flush=True)
            sys.stdin.readline()


async def receive(rx: ringspan.Consumer, folder: Path, hold: bool) -> None:
    """Writes files until the sender closes; goes on with the next sender when one died."""
    receiver = Receiver(folder, hold)
    while True:
        try:
            async for message in rx:
                receiver.take(message)
            break
        except ringspan.PeerDied as fault:
            receiver.sender_died(fault)
    receiver.tally.report("received", rx.stat().parks)


async def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="Stream a directory tree through a ring.")
    parser.add_argument("verb", choices=["send", "recv"])
    parser.add_argument("name", help="the ring, such as /tree")
    parser.add_argument("path", type=Path, help="the tree to send, or the folder to write to")
    parser.add_argument("--after", default="", help="send only what is behind this path")
    parser.add_argument("--skip", action="append", default=[], help="leave out files named so")
    parser.add_argument("--hold", action="store_true", help="wait for a line half-way")
    options = parser.parse_args()
    ring = ringspan.Ring(options.name, capacity=1 << 20, ephemeral=True)
    if options.verb == "send":
        with ring.producer() as tx:
            await send(tx, options.path, options.after, options.skip)
    else:
        with ring.consumer() as rx:
            await receive(rx, options.path, options.hold)


if __name__ == "__main__":
    asyncio.run(main())
