"""`make demo [ARGS=path]`: a real directory tree goes from process to process.

Through a ring:

1. A Rust producer streams it to a Python asyncio consumer that writes it elsewhere.
2. The producer is killed with SIGKILL half-way; the consumer learns it at once, another producer
   goes on behind the last complete file.
3. The way back: a Python asyncio producer, a Rust consumer.

By shared functions, 64 calls under way at a time:

4. A Rust process serves the tree, a Python asyncio client reads its files. The server is killed
   half-way with calls under way; each fails at once and says whether it had been delivered. A
   Python server takes the name over, the same client finds it and goes on.
5. The way back: a Python server, a Rust client. A third process stops the server by its name.

After each run every file is compared by its SHA-256. The status is 0 only when nothing differs.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from pathlib import Path

import environments
from environments import ROOT

EXAMPLES = ROOT / "target" / "release" / "examples"
RUST = EXAMPLES / "stream"
INTERPRETER = str(environments.python_in(environments.RELEASE))
PYTHON = [INTERPRETER, str(ROOT / "examples" / "python" / "stream.py")]
RUST_TREE = [str(EXAMPLES / "tree")]
PYTHON_TREE = [INTERPRETER, str(ROOT / "examples" / "python" / "tree.py")]
REMOVE = [INTERPRETER, "-c", "import ringspan, sys; ringspan.remove(sys.argv[1])"]
# What is not the standard library itself, or changes while Python runs.
SKIPPED = ("site-packages", "dist-packages", "__pycache__")
# It ends a hang, it judges nothing.
WATCHDOG_SECONDS = 600.0


class DemoError(RuntimeError):
    """The demo did not go as it must; the text says where."""


def digests(tree: Path, skip: tuple[str, ...]) -> dict[str, str]:
    """Computes the SHA-256 of every regular file of a tree, by relative path."""
    found: dict[str, str] = {}
    for folder, folders, names in os.walk(tree):
        folders[:] = [name for name in folders if name not in skip]
        for name in names:
            path = Path(folder, name)
            if name not in skip and path.is_file() and not path.is_symlink():
                with path.open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                found[path.relative_to(tree).as_posix()] = digest
    return found


def compare(wanted: dict[str, str], copy: Path) -> None:
    """Compares the copy with what it should be; raises with the first paths that differ."""
    got = digests(copy, ())
    wrong = sorted(path for path in wanted.keys() | got.keys() if wanted.get(path) != got.get(path))
    if wrong:
        raise DemoError(f"{len(wrong)} files differ: {', '.join(wrong[:5])}")
    print(f"  SHA-256 of all {len(got)} files agree")


class Side:
    """One running process of a pair, under a watchdog."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.watchdog = threading.Timer(WATCHDOG_SECONDS, self.process.kill)
        self.watchdog.daemon = True
        self.watchdog.start()

    def line(self, first: str) -> dict[str, str]:
        """Waits for a line that begins with `first`; returns its key=value parts."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.split(maxsplit=1)[:1] == [first]:
                # A path may hold blanks: it is the last part.
                head, mark, path = line.rstrip("\n").partition(" after=")
                found = dict(part.split("=", 1) for part in head.split()[1:])
                return {**found, "after": path} if mark else found
        raise DemoError(f"a process ended with {self.process.wait()} before it said `{first}`")

    def say(self) -> None:
        """Sends an empty line."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def done(self) -> None:
        """Waits for a good end."""
        status = self.process.wait()
        self.end()
        if status != 0:
            raise DemoError(f"a process ended with {status}")

    def end(self) -> None:
        """Ends the process, whatever it does."""
        self.watchdog.cancel()
        self.process.kill()
        self.process.wait()


def show(sent: dict[str, str], received: dict[str, str]) -> None:
    """Prints the rates and the sleeps of both sides."""
    size, seconds = int(received["bytes"]), float(received["seconds"])
    messages = int(received["messages"])
    print(
        f"  {received['files']} files, {size / 1e6:.1f} MB in {seconds:.2f} s:"
        f" {size / 1e6 / seconds:.0f} MB/s, {messages / seconds:,.0f} messages/s"
    )
    print(f"  slept: producer {sent['sleeps']} times, consumer {received['sleeps']} times")


def mega(report: dict[str, str]) -> str:
    """The bytes of a report, for people."""
    return f"{int(report['bytes']) / 1e6:.1f} MB"


def tell(fetched: dict[str, str], seconds: float) -> None:
    """Prints what a client of the tree has fetched, its start included."""
    calls = int(fetched["files"])
    print(
        f"  {calls} files by {calls} calls, {mega(fetched)} in {seconds:.2f} s,"
        " the start of the client included"
    )


class Demo:
    """The runs over one tree."""

    def __init__(self, tree: Path, skip: tuple[str, ...], work: Path) -> None:
        self.tree, self.skip, self.work = tree, skip, work
        self.wanted = digests(tree, skip)
        self.sides: list[Side] = []
        self.runs = 0
        self.names: list[str] = []
        if not self.wanted:
            raise DemoError(f"{tree} holds no regular file")

    def start(self, program: list[str], verb: str, name: str, path: Path, *more: str) -> Side:
        """Starts one side of a pair."""
        skip = [word for name in self.skip for word in ("--skip", name)] if verb == "send" else []
        side = Side([*program, verb, name, str(path), *skip, *more])
        self.sides.append(side)
        return side

    def ring(self) -> tuple[str, Path]:
        """Returns a name nobody has and a folder to write to."""
        self.runs += 1
        self.names.append(f"/ringspan-demo-{os.getpid()}-{self.runs}")
        return self.names[-1], self.work / f"copy-{self.runs}"

    def look(self) -> None:
        """Checks that the ephemeral rings went with their last user."""
        left = [name for name in self.names if Path(f"/dev/shm{name}").exists()]
        if left:
            raise DemoError(f"{', '.join(left)} is still there after its last user left")

    def stream(self, sender: list[str], receiver: list[str]) -> None:
        """Streams the tree from one process to the other and compares."""
        name, copy = self.ring()
        consumer = self.start(receiver, "recv", name, copy)
        producer = self.start(sender, "send", name, self.tree)
        sent, received = producer.line("sent"), consumer.line("received")
        producer.done()
        consumer.done()
        show(sent, received)
        compare(self.wanted, copy)

    def kill(self) -> None:
        """Kills the producer half-way; another one finishes."""
        name, copy = self.ring()
        consumer = self.start(PYTHON, "recv", name, copy, "--hold")
        first = self.start([str(RUST)], "send", name, self.tree)
        consumer.line("half")
        consumer.say()
        first.process.send_signal(signal.SIGKILL)
        killed = time.monotonic()
        if first.process.wait() != -signal.SIGKILL:
            raise DemoError("the producer had ended before it could be killed: take a larger tree")
        news = consumer.line("died")
        if int(news["pid"]) != first.process.pid:
            raise DemoError(f"the consumer names process {news['pid']}, not {first.process.pid}")
        late = (float(news["at"]) - killed) * 1000
        print(f"  killed process {news['pid']} with SIGKILL; the consumer had drained the ring and")
        print(f"  knew it {late:.1f} ms later; the last complete file was {news['after']}")
        second = self.start([str(RUST)], "send", name, self.tree, "--after", news["after"])
        sent, received = second.line("sent"), consumer.line("received")
        second.done()
        consumer.done()
        print(f"  process {second.process.pid} sent the remaining {sent['files']} files")
        if int(sent["files"]) == len(self.wanted):
            raise DemoError("the second producer sent everything: nothing was resumed")
        show(sent, received)
        compare(self.wanted, copy)

    def serve(self, program: list[str], name: str) -> Side:
        """Starts a server of the tree; returns when it can be called."""
        server = Side([*program, "serve", name, str(self.tree), *self.skip])
        self.sides.append(server)
        server.line("serving")
        return server

    def fetch(self, program: list[str], name: str, copy: Path, *more: str) -> Side:
        """Starts a client that copies the tree."""
        self.sides.append(Side([*program, "fetch", name, str(copy), *more]))
        return self.sides[-1]

    def stop(self, server: Side, name: str) -> None:
        """Stops a server from a third process, by its name; says what it has done."""
        subprocess.run([*REMOVE, name], check=True)
        served = server.line("served")
        server.done()
        print(f"  removed {name}: the server ended, with {served['calls']} calls answered")

    def call(self, program: list[str], caller: list[str]) -> None:
        """Copies the tree by calls."""
        name, copy = self.ring()
        server = self.serve(program, name)
        began = time.monotonic()
        client = self.fetch(caller, name, copy)
        fetched = client.line("fetched")
        client.done()
        tell(fetched, time.monotonic() - began)
        self.stop(server, name)
        compare(self.wanted, copy)

    def call_killed(self) -> None:
        """The same; the server is killed half-way with calls under way, another takes the name."""
        name, copy = self.ring()
        first = self.serve(RUST_TREE, name)
        client = self.fetch(PYTHON_TREE, name, copy, "--hold")
        client.line("half")
        # Stopped first, so that what is asked from now on is under way when it dies.
        first.process.send_signal(signal.SIGSTOP)
        client.say()
        client.line("asked")
        first.process.send_signal(signal.SIGKILL)
        killed = time.monotonic()
        first.process.wait()
        print(f"  stopped and killed process {first.process.pid}, the server")
        second = self.serve(PYTHON_TREE, name)
        print(f"  process {second.process.pid} took the name over")
        fetched, broken = client.line("fetched"), client.line("broken")
        client.done()
        late = (float(broken.pop("at")) - killed) * 1000
        words = ", ".join(f"delivered: {word} ({count})" for word, count in broken.items())
        print(f"  {fetched['again']} calls under way failed {late:.1f} ms after the kill, {words};")
        print(f"  they were called again; {fetched['files']} files, {mega(fetched)} in all")
        if int(fetched["again"]) == 0:
            raise DemoError("no call was under way when the server was killed: take a larger tree")
        self.stop(second, name)
        compare(self.wanted, copy)

    def end(self) -> None:
        """Leaves no process and no ring behind."""
        for side in self.sides:
            side.end()
        for name in self.names:
            Path(f"/dev/shm{name}").unlink(missing_ok=True)


def main() -> int:
    """Builds both sides, copies a tree five times; returns the exit status."""
    chosen = [Path(argument) for argument in sys.argv[1:]]
    tree = chosen[0] if chosen else Path(sysconfig.get_path("stdlib"))
    skip = () if chosen else SKIPPED
    build = ["cargo", "build", "--release", "--example", "stream", "--example", "tree"]
    demo: Demo | None = None
    try:
        if not tree.is_dir():
            raise DemoError(f"{tree} is not a directory")
        print("building the Rust examples and the wheel (the first time takes some minutes)")
        if subprocess.run(build, cwd=ROOT, check=False).returncode != 0:
            raise DemoError(f"`{' '.join(build)}` failed")
        environments.release_env()
        with tempfile.TemporaryDirectory(prefix="ringspan-demo-") as work:
            demo = Demo(tree, skip, Path(work))
            rust = [str(RUST)]
            print(f"\n1. {tree}: Rust producer -> Python asyncio consumer")
            demo.stream(rust, PYTHON)
            print("\n2. the same, but the producer is killed half-way")
            demo.kill()
            print("\n3. the way back: Python asyncio producer -> Rust consumer")
            demo.stream(PYTHON, rust)
            print(
                "\n4. by calls: Rust server -> Python asyncio client; the server is killed half-way"
            )
            demo.call_killed()
            print("\n5. the way back: Python server -> Rust client")
            demo.call(PYTHON_TREE, RUST_TREE)
            demo.look()
    except (DemoError, environments.SetupError) as fault:
        print(f"\ndemo failed: {fault}", file=sys.stderr)
        return 1
    finally:
        if demo is not None:
            demo.end()
    print("\nall runs agree")
    return 0


if __name__ == "__main__":
    sys.exit(main())
