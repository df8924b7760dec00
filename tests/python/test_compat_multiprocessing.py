"""`ringspan.compat.multiprocessing.SharedMemory` does what the standard class does, and better.

With RINGSPAN_COMPAT_ORIGINAL=1 the tests run against the standard class. What it gets wrong is
marked `wrong_there`, what only ours can do `only_here`.
"""

from __future__ import annotations

import errno
import pickle
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ringspan
from compat_tools import ORIGINAL, exists, only_here, wrong_there

STANDARD = "from multiprocessing.shared_memory import SharedMemory"
IMPORT = STANDARD if ORIGINAL else "from ringspan.compat.multiprocessing import SharedMemory"
if ORIGINAL:
    from multiprocessing.shared_memory import SharedMemory
else:
    from ringspan.compat.multiprocessing import SharedMemory

Start = Callable[..., Any]


# ---- making, attaching, names --------------------------------------------------------------------


def test_two_handles_share_the_bytes(plain: str) -> None:
    made = SharedMemory(name=plain, create=True, size=1000)
    there = SharedMemory(plain)
    assert (made.name, made.size, there.size) == (plain, 1000, 1000)
    assert isinstance(made.buf, memoryview)
    assert (made.buf.format, made.buf.readonly, made.buf.nbytes) == ("B", False, 1000)
    assert not any(made.buf)
    made.buf[0:5] = b"hello"
    assert bytes(there.buf[:5]) == b"hello"
    assert repr(made) == f"SharedMemory({plain!r}, size=1000)"
    assert stat.S_IMODE(Path("/dev/shm", plain).stat().st_mode) == 0o600
    there.close()
    made.close()
    made.unlink()


def test_a_name_is_made_up() -> None:
    made = [SharedMemory(create=True, size=1) for _ in range(3)]
    assert all(one.name.startswith("psm_") and exists(one.name) for one in made)
    assert len({one.name for one in made}) == 3
    for one in made:
        one.close()
        one.unlink()
        assert not exists(one.name)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({}, ValueError),
        ({"size": 5}, ValueError),
        ({"name": "x", "create": True}, ValueError),
        ({"name": "x", "create": True, "size": 0}, ValueError),
        ({"name": "x", "create": True, "size": -1}, ValueError),
        ({"name": "x", "size": -1}, ValueError),
        ({"name": "x", "create": True, "size": None}, TypeError),
        ({"name": "x", "create": True, "size": "5"}, TypeError),
        ({"name": b"x"}, TypeError),
        ({"name": 5, "create": True, "size": 5}, TypeError),
    ],
)
def test_arguments_that_cannot_be(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        SharedMemory(**options)
    assert type(caught.value) is error


@pytest.mark.parametrize("size", [1.5, 2**63, 2**70, 2**62])
@wrong_there("the name stays behind, or the error is another one")
def test_a_size_that_cannot_be_leaves_nothing(plain: str, size: Any) -> None:
    if size == 2**62 and ORIGINAL:
        pytest.xfail("this one it cleans up")
    with pytest.raises((TypeError, OverflowError, OSError)):
        SharedMemory(plain, create=True, size=size)
    assert not exists(plain)


def test_taken_and_missing_names(plain: str) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        SharedMemory(plain)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOENT, f"/{plain}")
    made = SharedMemory(plain, create=True, size=10)
    made.buf[:] = b"0123456789"
    with pytest.raises(FileExistsError) as taken:
        SharedMemory(plain, create=True, size=20)
    assert (taken.value.errno, taken.value.filename) == (errno.EEXIST, f"/{plain}")
    assert bytes(made.buf) == b"0123456789"
    made.close()
    made.unlink()
    for _ in range(2):
        with pytest.raises(FileNotFoundError):
            made.unlink()


@pytest.mark.parametrize(
    ("bad", "number"),
    [
        ("", errno.EINVAL),
        ("/", errno.EINVAL),
        ("a/b", errno.EINVAL),
        ("a/", errno.EINVAL),
        ("x" * 256, errno.ENAMETOOLONG),
    ],
)
def test_names_that_cannot_be(bad: str, number: int) -> None:
    for options in ({}, {"create": True, "size": 8}):
        with pytest.raises(OSError) as caught:
            SharedMemory(bad, **options)
        assert (caught.value.errno, caught.value.filename) == (number, f"/{bad}")


@pytest.mark.parametrize("form", ["/{}", "//{}", ".{}", "sem.{}", "{} with spaces"])
def test_names_that_can_be(plain: str, form: str) -> None:
    asked = form.format(plain)
    made = SharedMemory(asked, create=True, size=8)
    try:
        assert made.name == asked
        assert exists(asked.lstrip("/"))
        there = SharedMemory(asked)
        there.buf[0] = 7
        assert made.buf[0] == 7
        there.close()
        made.close()
    finally:
        made.unlink()


@wrong_there("the tracker speaks ASCII")
def test_a_name_beyond_ascii(plain: str) -> None:
    made = SharedMemory(f"{plain}-é", create=True, size=8)
    made.close()
    made.unlink()


def test_attaching_looks_at_no_size(plain: str) -> None:
    made = SharedMemory(plain, create=True, size=10)
    there = SharedMemory(plain, False, 99)
    assert there.size == 10
    there.close()
    made.close()
    made.unlink()


def test_a_file_without_bytes_is_no_block(plain: str) -> None:
    Path("/dev/shm", plain).touch()
    with pytest.raises(ValueError):
        SharedMemory(plain)
    assert exists(plain)


# ---- close and unlink ----------------------------------------------------------------------------


def test_close_twice_and_what_remains(plain: str) -> None:
    made = SharedMemory(plain, create=True, size=10)
    view = made.buf
    made.close()
    made.close()
    assert made.buf is None
    assert (made.name, made.size, repr(made)) == (plain, 10, f"SharedMemory({plain!r}, size=10)")
    with pytest.raises(ValueError, match="released"):
        view[0]
    made.unlink()


EXPORTS: dict[str, Callable[[memoryview], Any]] = {
    "slice": lambda buf: buf[2:4],
    "cast": lambda buf: buf.cast("d"),
    "view of the view": memoryview,
    "frombuffer": np.frombuffer,
    "asarray": np.asarray,
    "slice of frombuffer": lambda buf: np.frombuffer(buf, "u1")[3:5],
}


@pytest.mark.parametrize("kind", EXPORTS)
def test_close_is_refused_while_a_view_is_out(plain: str, kind: str) -> None:
    made = SharedMemory(plain, create=True, size=16)
    view = EXPORTS[kind](made.buf)
    for _ in range(3):
        with pytest.raises(BufferError, match="exported pointers exist"):
            made.close()
    assert not any(bytes(view))  # still mapped
    del view
    made.close()
    assert made.buf is None
    made.unlink()


def test_close_after_the_view_was_released(plain: str) -> None:
    made = SharedMemory(plain, create=True, size=16)
    made.buf.release()
    made.close()
    made.unlink()


@wrong_there("reading the array then is a crash")
def test_an_array_over_the_buffer_outlives_close(plain: str, run_python: Start) -> None:
    done = run_python(
        f"""
        {IMPORT}
        import numpy as np
        made = SharedMemory({plain!r}, create=True, size=80)
        array = np.ndarray((10,), "f8", buffer=made.buf)
        array[:] = 1.5
        made.close()
        made.unlink()
        assert array.sum() == 15, array
        """,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@wrong_there("the view dies with the object")
def test_views_outlive_the_object(plain: str) -> None:
    view = SharedMemory(plain, create=True, size=8).buf
    view[0] = 5
    assert SharedMemory(plain).buf[0] == 5
    SharedMemory(plain).unlink()
    assert view[0] == 5


def test_the_bytes_live_as_long_as_somebody_has_them(plain: str) -> None:
    made = SharedMemory(plain, create=True, size=8)
    there = SharedMemory(plain)
    made.unlink()
    assert not exists(plain)
    made.buf[0] = 3
    assert there.buf[0] == 3
    again = SharedMemory(plain, create=True, size=8)
    assert again.buf[0] == 0
    for one in (made, there, again):
        one.close()
    again.unlink()


@only_here
def test_with_closes_and_does_not_unlink(plain: str) -> None:
    with SharedMemory(plain, create=True, size=8) as made:
        made.buf[0] = 1
    assert made.buf is None
    with pytest.raises(BufferError), SharedMemory(plain) as there:
        part = there.buf[:1]
    del part
    with pytest.raises(ZeroDivisionError), SharedMemory(plain) as there:
        part = there.buf[:1]
        _ = 1 / 0
    del part
    made.unlink()


@only_here
def test_errors_are_those_of_ringspan_too(plain: str) -> None:
    with pytest.raises(ringspan.NotFound, match=plain) as caught:
        SharedMemory(plain)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (type(again), again.errno) == (ringspan.NotFound, errno.ENOENT)
    with pytest.raises(ringspan.InvalidName) as refused:
        SharedMemory("a/b")
    assert isinstance(pickle.loads(pickle.dumps(refused.value)), OSError)
    with pytest.raises(ringspan.NoSpace, match="no room"):
        SharedMemory(plain, create=True, size=1 << 50)
