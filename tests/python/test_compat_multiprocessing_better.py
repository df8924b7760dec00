"""What `SharedMemory` of `ringspan.compat.multiprocessing` does better than the standard class.

With RINGSPAN_COMPAT_ORIGINAL=1 the tests run against the standard class. What it gets wrong is
marked `wrong_there`, what only ours can do `only_here`.
"""

from __future__ import annotations

import errno
import pickle
from collections.abc import Callable
from typing import Any

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


@pytest.mark.parametrize("size", [1.5, 2**63, 2**70, 2**62])
@wrong_there("the name stays behind, or the error is another one")
def test_a_size_that_cannot_be_leaves_nothing(plain: str, size: Any) -> None:
    if size == 2**62 and ORIGINAL:
        pytest.xfail("this one it cleans up")
    with pytest.raises((TypeError, OverflowError, OSError)):
        SharedMemory(plain, create=True, size=size)
    assert not exists(plain)


@wrong_there("the tracker speaks ASCII")
def test_a_name_beyond_ascii(plain: str) -> None:
    made = SharedMemory(f"{plain}-é", create=True, size=8)
    made.close()
    made.unlink()


@wrong_there("reading the array then is a crash")
def test_an_array_over_the_buffer_outlives_close(plain: str, run_python: Start) -> None:
    pytest.importorskip("numpy")
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
