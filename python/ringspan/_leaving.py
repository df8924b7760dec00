"""The end of the program: daemon threads that sleep in a blocking verb are not left asleep.

A thread that is frozen in its sleep keeps what its frames hold, so its handle would stay attached
until the process is gone, and leave its door (a socket file) and its place to whoever sweeps next.
Deleting the file from here would not do: a place whose door cannot be found proves nothing to
whoever has to wake its owner. So the threads are woken instead, and end as by `sys.exit`, which
says nothing and runs what stands in their `finally`; their handles close as they always do.

Not woken are threads that run an event loop, or sleep in something else.
"""

from __future__ import annotations

import atexit
import threading
import time

from ringspan._ringspan import _leave

#: How long the end of the program waits for them, in seconds.
_A_MOMENT = 0.2


def _wake_all() -> None:
    asleep = set(_leave())
    until = time.monotonic() + _A_MOMENT
    for thread in threading.enumerate() if asleep else ():
        if thread.native_id in asleep:
            thread.join(max(0.0, until - time.monotonic()))


# After `threading` has joined the other threads, before daemon ones are frozen. Other handlers may
# run later: the main thread goes on as ever.
atexit.register(_wake_all)
