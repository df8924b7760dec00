"""Time-outs of verbs that wait more than once: the one time of their end."""

from __future__ import annotations

import time

from ringspan._ringspan import _seconds


def deadline_after(timeout: float | None) -> float | None:
    """When `timeout` is over; None for never.

    Raises ValueError for a negative one or NaN, as every verb does that takes one.
    """
    seconds = _seconds(timeout)
    return None if seconds is None else time.monotonic() + seconds


def left_until(deadline: float | None) -> float | None:
    """Seconds until then, 0 if it is over."""
    return None if deadline is None else max(0.0, deadline - time.monotonic())
