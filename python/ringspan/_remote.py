"""What a handler raised, on its way to the caller: text there, an exception here.

Nothing is pickled. A builtin exception is caught by its own type as well as by `RemoteError`.
"""

from __future__ import annotations

import builtins
import traceback
from typing import Any

from ringspan._exceptions import RemoteError


def describe(error: BaseException) -> tuple[str, str, str]:
    """Type, message and traceback of an exception, as they go over the wire."""
    lines = traceback.format_exception(error)
    return type(error).__qualname__, _cut(_text(error)), _cut("".join(lines))


#: Of a longer text only both ends are sent.
_LONGEST = 1 << 16


def _cut(text: str) -> str:
    text = text.encode("utf-8", "backslashreplace").decode()  # lone surrogates do not travel
    if len(text) <= _LONGEST:
        return text
    half = _LONGEST // 2
    return f"{text[:half]}\n[... {len(text) - 2 * half} characters ...]\n{text[-half:]}"


def _text(error: BaseException) -> str:
    if isinstance(error, KeyError) and len(error.args) == 1:
        return str(error.args[0])  # str() would put it into quotes, once more on each hop
    try:
        return str(error)
    except Exception:  # an exception's own __str__ may raise
        return "<no text>"


class RemoteTraceback(Exception):  # noqa: N818 - it is the cause that tells where, as in concurrent.futures
    """The traceback of the other process; shown as the cause of a `RemoteError`."""

    def __init__(self, text: str = "") -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text.rstrip()}\n"""'


#: These end loops, or say nothing.
_NEVER = {Exception, StopIteration, StopAsyncIteration}


def _class_of(name: str) -> type[RemoteError]:
    """A class that is a `RemoteError` and the builtin exception of that name."""
    base = getattr(builtins, name, None)
    if not (isinstance(base, type) and issubclass(base, Exception)) or base in _NEVER:
        return RemoteError
    if name not in _known:
        _known[name] = _made(name)
    return _known[name]


#: The classes made so far; there are no more than builtin exceptions.
_known: dict[str, type[RemoteError]] = {}


def _made(name: str) -> type[RemoteError]:
    base: type[Exception] = getattr(builtins, name)
    if issubclass(base, UnicodeError):
        base = UnicodeError  # those below it want arguments of their own
    made: Any
    try:
        made = type(name, (RemoteError, base), {"__module__": "ringspan", "__doc__": base.__doc__})
        made("probe")
    except TypeError:  # a layout that does not go with ours, an exception group
        return RemoteError
    made.__reduce__ = _reduce
    made.__str__ = RemoteError.__str__
    kind: type[RemoteError] = made
    return kind


def _rebuilt(name: str, args: tuple[Any, ...], state: dict[str, Any]) -> RemoteError:
    error = _class_of(name)(*args)
    error.__dict__.update(state)
    return error


def _reduce(self: RemoteError) -> tuple[Any, ...]:
    return _rebuilt, (self.type_name, self.args, {**self.__dict__, "errno": self.errno})


def remote_error(name: str, type_name: str, message: str, text: str) -> RemoteError:
    """The exception for what a handler of the function `name` raised."""
    kind = _class_of(type_name)
    # Of its own type the message alone says what happened, as it did there.
    told = message if kind is not RemoteError else f"{name}: {type_name}: {message}"
    error = kind(told)
    error.type_name = type_name
    error.remote_message = message
    error.traceback = text
    if text:
        error.__cause__ = RemoteTraceback(text)
    return error
