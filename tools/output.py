"""Follows what a command prints, without waiting for those that it leaves behind."""

from __future__ import annotations

import codecs
import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable

# As much as may be in a pipe when its writer has ended, and to spare.
IN_THE_PIPE = 1 << 20


def follow(
    process: subprocess.Popen[bytes], tell: Callable[[str], object], limit: float, grace: float
) -> bool:
    """Tells all that a command prints until it has ended; True when its output is closed then.

    False: somebody whom it started holds the output open, `grace` seconds after the end. A command
    that takes longer than `limit` seconds is killed. It is not reaped here.
    """
    assert process.stdout is not None
    output, end = process.stdout.fileno(), os.pidfd_open(process.pid)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    running, after = True, 0
    until = time.monotonic() + limit
    with contextlib.closing(selectors.DefaultSelector()) as selector:
        selector.register(output, selectors.EVENT_READ)
        selector.register(end, selectors.EVENT_READ)
        try:
            while selector.get_map():
                ready = {key.fd for key, _ in selector.select(max(0.0, until - time.monotonic()))}
                if output in ready:
                    part = os.read(output, 1 << 16)
                    tell(decoder.decode(part, final=not part))
                    if not part:
                        selector.unregister(output)
                    after += 0 if running else len(part)
                if end in ready:
                    selector.unregister(end)
                    running, until = False, time.monotonic() + grace
                if running and time.monotonic() >= until:
                    kill_group(process.pid)
                    until = time.monotonic() + grace
                elif not running and (not ready or after > IN_THE_PIPE):
                    return not selector.get_map()
        finally:
            os.close(end)
    return True


def kill_group(group: int) -> None:
    """Ends a process group whose leader has not been reaped: nobody else has its number."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
