"""What a run leaves behind: files in /dev/shm, doors, and processes that it started."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

SHM = Path("/dev/shm")
MARK = "RINGSPAN_TEST_RUN"


def doors() -> Path:
    """Returns the door directory, as the library chooses it."""
    chosen = os.environ.get("RINGSPAN_DIR")
    return Path(chosen) if chosen else SHM / f".ringspan-{os.getuid()}"


def snapshot() -> frozenset[Path]:
    """Returns every file of ours in /dev/shm and every door."""
    found: set[Path] = set()
    for folder in (SHM, doors()):
        try:
            entries = list(os.scandir(folder))
        except FileNotFoundError:
            continue
        for entry in entries:
            try:
                mode = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            if mode.st_uid == os.getuid() and not stat.S_ISDIR(mode.st_mode):
                found.add(Path(entry.path))
    return frozenset(found)


def processes(run: str, patience: float = 10.0) -> list[str]:
    """Returns the processes of this run, other than this one, that do not end by themselves.

    A helper of `multiprocessing` ends when it notices that its parent has: give it the moment.
    """
    until = time.monotonic() + patience
    while (found := living(run)) and time.monotonic() < until:
        time.sleep(0.1)
    return list(found.values())


def living(run: str) -> dict[int, str]:
    """Returns the living processes that carry the mark of this run, other than this one."""
    wanted = f"{MARK}={run}".encode()
    found: dict[int, str] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        if folder.name == str(os.getpid()):
            continue
        try:
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                words = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
                command = words.decode(errors="replace")
                found[int(folder.name)] = f"process {folder.name} still runs: {command[:100]}"
        except OSError:
            continue
    return found


def compare(before: frozenset[Path]) -> list[str]:
    """Returns what is there now, was not `before`, and is in use by nobody.

    A file that a living process holds belongs to another program on this machine: processes of
    the run itself are looked for by `processes`.
    """
    new = snapshot() - before
    if not new:
        return []
    held = _held()
    return [f"left behind: {path}" for path in sorted(new - held) if path.exists()]


def _held() -> set[Path]:
    found: set[Path] = set()
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        parts = line.split(maxsplit=7)
        if len(parts) == 8:
            path = Path(parts[7])
            # A door is bound under another name and renamed when it listens.
            found.update((path, path.with_name(path.name.removeprefix(".new-"))))
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            for line in (folder / "maps").read_text().splitlines():
                if "/dev/shm/" in line:
                    found.add(Path(line.split(maxsplit=5)[5]))
            for link in (folder / "fd").iterdir():
                found.add(link.readlink())
        except OSError:
            continue
    return found
