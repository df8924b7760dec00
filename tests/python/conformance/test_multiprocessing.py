"""What `multiprocessing.shared_memory` promises, sentence by sentence, seen by real processes.

With RINGSPAN_COMPAT_ORIGINAL=1 it runs against the standard classes. What those get wrong, and what
is new, is in ../test_compat_multiprocessing_*.py.
"""

from __future__ import annotations

import errno
import inspect
import pickle
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from compat_tools import ORIGINAL, exists

STANDARD = "from multiprocessing.shared_memory import SharedMemory"
IMPORT = STANDARD if ORIGINAL else "from ringspan.compat.multiprocessing import SharedMemory"
if ORIGINAL:
    from multiprocessing.shared_memory import ShareableList, SharedMemory
else:
    from ringspan.compat.multiprocessing import ShareableList, SharedMemory

Start = Callable[..., Any]
OLDER = Path(__file__).parents[1] / "older"


# ---- names and signatures ------------------------------------------------------------------------


def test_signatures() -> None:
    def shown(of: Any) -> str:
        parameters = inspect.signature(of).parameters.values()
        return " ".join(
            one.name if one.default is one.empty else f"{one.name}={one.default}"
            for one in parameters
            if one.name != "track"  # of 3.13
        )

    assert shown(SharedMemory) == "name=None create=False size=0"
    assert shown(ShareableList) == "sequence=None name=None"
    assert shown(SharedMemory.close) == shown(SharedMemory.unlink) == "self"
    assert shown(ShareableList.count) == shown(ShareableList.index) == "self value"
    assert ShareableList[int].__origin__ is ShareableList


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
    "frombuffer": lambda buf: pytest.importorskip("numpy").frombuffer(buf),
    "asarray": lambda buf: pytest.importorskip("numpy").asarray(buf),
    "slice of frombuffer": lambda buf: pytest.importorskip("numpy").frombuffer(buf, "u1")[3:5],
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


# ---- processes -----------------------------------------------------------------------------------


def test_pickles_by_name(plain: str) -> None:
    made = SharedMemory(plain, create=True, size=8)
    there = pickle.loads(pickle.dumps(made))
    assert type(there) is SharedMemory
    there.buf[0] = 7
    assert (made.buf[0], there.name, there.size) == (7, plain, 8)
    there.close()
    made.close()
    made.unlink()
    with pytest.raises(FileNotFoundError):
        pickle.loads(pickle.dumps(made))


PROGRAM = f"""
import multiprocessing, sys
{IMPORT}

def work(block, place, value):
    block.buf[place] = value
    block.close()

if __name__ == "__main__":
    name = sys.argv[1]
    made = SharedMemory(name, create=True, size=16)
    for place, method in enumerate(("fork", "spawn", "forkserver")):
        context = multiprocessing.get_context(method)
        process = context.Process(target=work, args=(made, place, place + 1))
        process.start()
        process.join()
        assert process.exitcode == 0
        SharedMemory(name).close()
    print(list(made.buf[:3]))
    made.close()
    made.unlink()
"""


def test_goes_to_children_of_every_kind(plain: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, program, plain], capture_output=True, text=True, timeout=25, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "[1, 2, 3]\n", "")


def test_a_forked_child_uses_what_it_inherits(plain: str, child: Start) -> None:
    parent = child(
        f"""
        import os
        {IMPORT}
        made = SharedMemory({plain!r}, create=True, size=8)
        if os.fork() == 0:
            made.buf[0] = 9
            made.close()
            raise SystemExit
        os.wait()
        print(made.buf[0], os.path.exists("/dev/shm/{plain}"))
        made.close()
        made.unlink()
        """
    )
    parent.expect("9 True")
    assert parent.wait() == 0


def await_gone(name: str) -> bool:
    for _ in range(250 if ORIGINAL else 1):
        if not exists(name):
            return True
        time.sleep(0.02)
    return False


def test_what_a_process_made_goes_when_it_ends_in_order(plain: str, run_python: Start) -> None:
    run_python(f"{IMPORT}\nmade = SharedMemory({plain!r}, True, 8)")
    assert await_gone(plain)


# ---- lists ---------------------------------------------------------------------------------------


def test_the_example_of_the_python_documentation() -> None:
    a = ShareableList(["howdy", b"HoWdY", -273.154, 100, None, True, 42])
    assert [type(entry) for entry in a] == [str, bytes, float, int, type(None), bool, int]
    assert a[2] == -273.154
    a[2] = -78.5
    a[2] = "dry ice"
    assert a[2] == "dry ice"
    a[2] = "larger than previously allocated"[:8]
    with pytest.raises(ValueError, match="exceeds available storage"):
        a[2] = "larger than previously allocated storage space"
    assert a[2] == "larger t"
    assert (len(a), a.index(42)) == (7, 6)
    with pytest.raises(ValueError):
        a.index("none such")
    b = ShareableList(name=a.shm.name)
    b[-1] = 999
    assert (a[6], a.count(True), a.count(5)) == (999, 1, 0)
    b.shm.close()
    a.shm.close()
    a.shm.unlink()


@pytest.mark.parametrize("sequence", [None, [], ()])
def test_an_empty_list(sequence: Any) -> None:
    made = ShareableList(sequence)
    there = ShareableList(name=made.shm.name)
    assert (len(there), list(there), there.format) == (0, [], "")
    with pytest.raises(IndexError):
        there[0]
    there.shm.close()
    made.shm.close()
    made.shm.unlink()


def test_a_list_goes_to_another_process(plain: str, child: Start) -> None:
    items = [-(2**63), 2.5, True, None, "text", b"by\0tes"]
    made = ShareableList(items, name=plain)
    assert repr(made) == f"ShareableList({items!r}, name={plain!r})"
    assert made.format == "qdxxxxxxx?xxxxxx?x8s8s"
    lists = IMPORT.replace("SharedMemory", "ShareableList")
    there = child(f"""
        {lists}
        there = ShareableList(name={plain!r})
        print(list(there), there.format, len(there), there.count(True), there.index("text"))
        there[0], there[4] = "other", "x" * 8
        print("written")
        input()
        """)
    there.expect(f"{items!r} {made.format} 6 1 4")
    there.expect("written")
    assert list(made) == ["other", 2.5, True, None, "x" * 8, b"by\0tes"]
    again = pickle.loads(pickle.dumps(made))
    assert list(again) == list(made)
    again.shm.close()
    made.shm.close()
    made.shm.unlink()


def test_what_a_list_refuses(plain: str) -> None:
    made = ShareableList([1, "text"], name=plain)
    for place in (2, 99):
        with pytest.raises(IndexError, match="index out of range"):
            made[place]
        with pytest.raises(IndexError, match="assignment index out of range"):
            made[place] = 1
    for item, error in (([1], KeyError), (1j, KeyError), ("x" * 9, ValueError)):
        with pytest.raises(error):
            made[1] = item
    assert list(made) == [1, "text"]
    with pytest.raises(FileExistsError):
        ShareableList([2], name=plain)
    made.shm.close()
    made.shm.unlink()
    with pytest.raises(KeyError):
        ShareableList([1, [2]], name=plain)
    assert not exists(plain)


# ---- the document --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "alone", "together"),
    [("uint8", "1 0 0 0", "1 2 3 4"), ("float64", "1.5 0.0 0.0 0.0", "1.5 2.5 3.5 4.5")],
)
def test_the_example_scripts(
    plain: str, child: Start, kind: str, alone: str, together: str
) -> None:
    def script(number: int) -> str:
        text = (OLDER / f"process{number}_{kind}.py").read_text()
        assert text.count(STANDARD) == 1
        # The name too, for the sake of other programs on this machine.
        return text.replace(STANDARD, IMPORT).replace("MyMemory", plain)

    def shown(process: Any, wanted: str) -> None:
        last: list[str] = []
        while last[-4:] != wanted.split():
            last = [*last[-3:], process.line()]

    one = child(script(1))
    shown(one, alone)
    two = child(script(2))
    shown(two, together)
    shown(one, together)
    two.kill(signal.SIGINT)
    two.process.stdout.read()
    two.wait()
    if not ORIGINAL:
        # Whoever attached took nothing with it.
        shown(one, together)
        assert exists(plain)
    one.kill(signal.SIGINT)
    one.process.stdout.read()
    # The loop goes on behind the handler and raises: a bug of the scripts.
    assert one.wait() == 1
    assert await_gone(plain)


def test_the_snippets_of_the_document(plain: str) -> None:
    shared_mem = SharedMemory(name=plain, size=1024, create=True)
    attached = SharedMemory(name=plain, create=False)
    shared_mem.buf[0] = 1
    assert attached.buf[0] == 1
    attached.close()
    shared_mem.close()
    shared_mem.unlink()
