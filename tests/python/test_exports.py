"""What the package shows is what it says it shows."""

from __future__ import annotations

import inspect
import pickle

import pytest
import ringspan
from ringspan import _background, _calls, _exceptions, _ringspan, _service
from ringspan.compat import membridge

FUNCTIONS = {name: module for module in (_background, _calls, _service) for name in module.__all__}


def visible(module: object) -> set[str]:
    """What a user finds in it; parts that somebody has imported do not count."""
    shown = {name: thing for name, thing in vars(module).items() if not inspect.ismodule(thing)}
    return {name for name in shown if not name.startswith("_")}


def test_all_is_what_is_visible() -> None:
    assert set(ringspan.__all__) == visible(ringspan) | {"__version__"}
    assert len(set(ringspan.__all__)) == len(ringspan.__all__)


def test_the_compiled_half_says_the_same() -> None:
    assert set(_ringspan.__all__) == visible(_ringspan) | {"__version__"}
    of_compat = {
        name: getattr(_ringspan, name) for name in membridge.__all__ if name in _ringspan.__all__
    }
    assert {shown.__module__ for shown in of_compat.values()} == {"ringspan.compat.membridge"}
    assert all(getattr(membridge, name) is shown for name, shown in of_compat.items())
    halves = [set(_exceptions.__all__), set(_ringspan.__all__) - set(of_compat), set(FUNCTIONS)]
    assert set.union(*halves) == set(ringspan.__all__)
    assert sum(map(len, halves)) == len(ringspan.__all__), "each name is of one module"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_show_their_public_path(name: str) -> None:
    shown = getattr(ringspan, name)
    assert shown is getattr(FUNCTIONS[name], name)
    assert (shown.__module__, shown.__qualname__) == ("ringspan", name)
    assert inspect.getdoc(shown)


@pytest.mark.parametrize("name", [n for n in ringspan.__all__ if n[0].isupper()])
def test_classes_show_their_public_path(name: str) -> None:
    shown = getattr(ringspan, name)
    assert inspect.isclass(shown)
    assert (shown.__module__, shown.__qualname__) == ("ringspan", name)
    assert inspect.getdoc(shown)


@pytest.mark.parametrize("name", _exceptions.__all__)
def test_exceptions_have_one_root_and_pickle_with_all_they_say(name: str) -> None:
    made = getattr(ringspan, name)("ring /r: cause", 32)
    assert isinstance(made, ringspan.RingspanError)
    assert (str(made), made.errno) == ("ring /r: cause", 32)
    for attribute, value in (("pid", 7), ("size", 8), ("limit", 9)):
        if hasattr(made, attribute):
            setattr(made, attribute, value)
    made.extra = "kept"
    again = pickle.loads(pickle.dumps(made))
    assert type(again) is type(made)
    assert (str(again), again.args, again.errno) == (str(made), made.args, 32)
    for attribute in ("pid", "size", "limit", "extra"):
        assert getattr(again, attribute, None) == getattr(made, attribute, None)


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("Closed", EOFError),
        ("PeerDied", BrokenPipeError),
        ("PeerClosed", BrokenPipeError),
        ("Timeout", TimeoutError),
        ("TooLarge", ValueError),
        ("CodecError", ValueError),
        ("HandleClosed", ValueError),
        ("InvalidName", ValueError),
        ("NotFound", FileNotFoundError),
        ("AlreadyExists", FileExistsError),
        ("RoleTaken", FileExistsError),
        ("PermissionDenied", PermissionError),
        ("PeerUnreachable", ConnectionError),
        ("Damaged", OSError),
        ("Poisoned", OSError),
        ("WouldDeadlock", RuntimeError),
        ("Forked", RuntimeError),
        ("Disconnected", ConnectionError),
        ("NotServed", ConnectionRefusedError),
        ("UnknownMethod", AttributeError),
    ],
)
def test_the_builtin_that_users_catch(name: str, base: type[Exception]) -> None:
    assert issubclass(getattr(ringspan, name), base)


def test_version_is_that_of_the_distribution() -> None:
    from importlib.metadata import version

    assert ringspan.__version__ == version("ringspan")
