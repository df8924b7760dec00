"""Shared memory that processes can await: named segments and rings."""

from ringspan._exceptions import *  # noqa: F403
from ringspan._exceptions import __all__ as _exceptions
from ringspan._ringspan import (
    Awaitable,
    Consumer,
    EndStat,
    Grant,
    Lent,
    Peer,
    Producer,
    Ring,
    RingStat,
    __version__,
)
