"""The words of sysframe for names, arguments, values and errors, in those of ringspan.

A bad argument is a `ValueError` there, and what goes wrong with a memory or a function is a
`MemoryError`. Here each of them is an error of ringspan as well, with its text and attributes.
"""

from __future__ import annotations

import functools
import inspect
from collections import ChainMap, deque
from collections.abc import Callable
from typing import Any, TypeVar, cast

import ringspan
from ringspan._ringspan import _encode
from ringspan.compat import _posix_names

_F = TypeVar("_F", bound=Callable[..., Any])

# ---- errors --------------------------------------------------------------------------------------


class ArgumentError(ringspan.RingspanError, ValueError, TypeError):
    """An argument of the wrong type, or out of bounds, or too many or too few of them."""


def _of_memory(kind: type[ringspan.RingspanError]) -> type[ringspan.RingspanError]:
    """The same kind of error, which is a `MemoryError` too."""

    def reduce(self: ringspan.RingspanError) -> tuple[Any, ...]:
        return _rebuilt, (kind, self.args), {**self.__dict__, "errno": self.errno}

    shown = {"__module__": "ringspan", "__doc__": kind.__doc__, "__reduce__": reduce}
    return type(kind.__name__, (kind, MemoryError), shown)


def _rebuilt(kind: type[ringspan.RingspanError], args: tuple[Any, ...]) -> ringspan.RingspanError:
    """What a pickle of such an error calls."""
    return _MEMORY_ERRORS[kind](*args)


_MEMORY_ERRORS: dict[type[Exception], type[ringspan.RingspanError]] = {
    kind: _of_memory(kind)
    for kind in (
        ringspan.AlreadyExists,
        ringspan.Damaged,
        ringspan.Disconnected,
        ringspan.InvalidName,
        ringspan.Mismatch,
        ringspan.NoSpace,
        ringspan.NotFound,
        ringspan.NotServed,
        ringspan.PeerUnreachable,
        ringspan.PermissionDenied,
        ringspan.Removed,
        ringspan.RoleTaken,
        ringspan.SystemFault,
        ringspan.TooManyAttached,
        ringspan.TooManyFiles,
        ringspan.Unsupported,
    )
}


def _told(error: Exception, signature: inspect.Signature, args: Any, kwargs: Any) -> Exception:
    """What the caller of an old function gets in place of `error`."""
    kind = _MEMORY_ERRORS.get(type(error))
    if kind is not None and isinstance(error, ringspan.RingspanError):
        told = kind(str(error), error.errno)
        told.__dict__.update(vars(error))
        return told.with_traceback(error.__traceback__)
    if isinstance(error, TypeError):
        try:
            signature.bind(*args, **kwargs)
        except TypeError as wrong:
            return ArgumentError(str(wrong))
    return error


def old_errors(function: _F) -> _F:
    """The function, raising what sysframe raised; also one that is awaited.

    Not to be used as a decorator: stubtest loses positional-only names by those.
    """
    signature = inspect.signature(function)
    errors = (TypeError, ringspan.RingspanError)

    @functools.wraps(function)
    def speaking(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except errors as error:
            if (told := _told(error, signature, args, kwargs)) is error:
                raise
            raise told from None

    @functools.wraps(function)
    async def speaking_awaited(*args: Any, **kwargs: Any) -> Any:
        try:
            return await function(*args, **kwargs)
        except errors as error:
            if (told := _told(error, signature, args, kwargs)) is error:
                raise
            raise told from None

    return cast("_F", speaking_awaited if inspect.iscoroutinefunction(function) else speaking)


# ---- names ---------------------------------------------------------------------------------------


def native_name(name: str) -> str:
    """The name of a memory or function in ringspan, and in /dev/shm.

    Raises `InvalidName` for what `shm_open` does not take.
    """
    if not isinstance(name, str):
        raise ArgumentError(f"a name is a str, not {type(name).__name__}")
    try:
        return _posix_names.native_name(name)
    except UnicodeEncodeError as error:
        raise ArgumentError(f"name {name!r}: {error}") from None
    except ringspan.InvalidName:
        raise
    except ValueError as error:
        raise ArgumentError(str(error)) from None


# ---- arguments and values ------------------------------------------------------------------------

#: Levels of containers in a value, as in sysframe. The codec's own limit is higher.
NEST_LIMIT = 100
_CODEC_LIMIT = 128
_CONTAINERS = (list, tuple, dict, set, frozenset, deque, ChainMap)


def flag(value: bool, what: str) -> bool:
    """A bool, as sysframe wants it."""
    if not isinstance(value, bool):
        raise ArgumentError(f"{what} is a bool, not {type(value).__name__}")
    return value


def check_value(value: Any) -> None:
    """Raises ArgumentError for a value that cannot be written, before anything is opened for it."""
    if type(value) is bytes:
        return
    within = value
    if isinstance(value, _CONTAINERS):
        for _ in range(_CODEC_LIMIT - NEST_LIMIT):  # so that the codec's limit is ours
            within = [within]
    try:
        _encode(within, exact=True)
        return
    except TypeError as error:
        raise unsupported(error) from None
    except ValueError as error:
        if "nested deeper" not in str(error):
            raise
    raise ArgumentError(
        f"Exceeded the maximum value nest depth. A value has at most {NEST_LIMIT} levels of "
        "containers, and does not hold itself."
    )


def unsupported(error: TypeError) -> ArgumentError:
    """What sysframe says of a type that cannot be shared."""
    return ArgumentError(f"Received an unsupported datatype. {error}")
