"""What `memory_interface` raises.

Each is the type that its README promises, the one that its code had, and the one of ringspan.
"""

from __future__ import annotations

import pickle

from ringspan._exceptions import Empty, HandleClosed, InvalidOption, TooLarge


class NothingLoadedError(HandleClosed, AttributeError, KeyError):
    """An object that was neither created nor loaded, or is cleaned up."""

    __str__ = Exception.__str__


class TooLargeError(TooLarge, OverflowError):
    """What does not fit. The old value stands."""


class WrongTypeError(InvalidOption, TypeError, AttributeError):
    """A value that cannot be written, None for one."""


class NothingToReadError(Empty, pickle.UnpicklingError):
    """A read where `can_read` is False."""


def nothing_loaded(what: str) -> NothingLoadedError:
    """An operation on an object without memory."""
    return NothingLoadedError(
        f"Error: no object loaded; this {what} was not created or loaded, or it is cleaned up"
    )


def wrong_type(what: str, wanted: str, given: object) -> WrongTypeError:
    """A value of another type than the object holds."""
    return WrongTypeError(f"{what}: {wanted} is wanted, not {type(given).__name__}")


#: No memory has that many bytes.
_BEYOND = 1 << 61


def check_size(what: str, size: int) -> None:
    """Refuses a size that no system has, before anything counts with it."""
    if size >= _BEYOND:
        told = f"{what}: too large: {size} bytes are more than there can be"
        raise TooLargeError(told, None, size, _BEYOND - 1)


def too_large(what: str, size: int, limit: int) -> TooLargeError:
    """More bytes than there is room for."""
    return TooLargeError(f"{what}: too large: {size} but only {limit}", None, size, limit)
