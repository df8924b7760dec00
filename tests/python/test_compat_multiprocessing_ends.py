"""How blocks of `ringspan.compat.multiprocessing` begin and end: whole, and in every case.

With RINGSPAN_COMPAT_ORIGINAL=1 the tests run against the standard classes. What they get wrong is
marked `wrong_there`, what only ours can do `only_here`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ringspan
from compat_tools import ORIGINAL, SHM, bug, exists, only_here

MODULE = "multiprocessing.shared_memory" if ORIGINAL else "ringspan.compat.multiprocessing"
IMPORT = f"from {MODULE} import ShareableList, SharedMemory"
if ORIGINAL:
    from multiprocessing.shared_memory import ShareableList, SharedMemory
else:
    from ringspan.compat.multiprocessing import ShareableList, SharedMemory

Start = Callable[..., Any]
#: As many ints as make a list of whole pages.
WHOLE_PAGES = 3440


# ---- a new list is there whole, or not at all ----------------------------------------------------


@bug("shows lists before they are filled")
@pytest.mark.parametrize("items", [WHOLE_PAGES, 5])
def test_nobody_sees_a_list_before_it_is_filled(plain: str, child: Start, items: int) -> None:
    maker = child(
        f"""
        {IMPORT}
        items = list(range(1, {items} + 1))
        while True:
            made = ShareableList(items, name={plain!r})
            made.shm.close()
            made.shm.unlink()
        """
    )
    seen = 0
    while seen < 300:
        try:
            there = ShareableList(name=plain)
        except FileNotFoundError:
            continue
        assert list(there) == list(range(1, items + 1))
        there.shm.close()
        seen += 1
    maker.kill()
    ringspan.remove(plain, missing_ok=True)


@bug("leaves lists that are not filled")
def test_a_killed_maker_leaves_a_whole_list_or_none(plain: str, child: Start) -> None:
    left = 0
    for turn in range(12):
        maker = child(
            f"""
            {IMPORT}
            print("ready")
            while True:
                made = ShareableList(["text" * 50, 1, None], name={plain!r})
                made.shm.close()
                made.shm.unlink()
            """
        )
        maker.expect("ready")
        time.sleep(0.001 * turn)
        maker.kill()
        if exists(plain):
            there = ShareableList(name=plain)
            assert list(there) == ["text" * 50, 1, None]
            there.shm.close()
            ringspan.remove(plain)
            left += 1
    print(f"{left} of 12 left a list")


@only_here
def test_a_list_that_the_standard_class_has_not_filled_yet(plain: str) -> None:
    made = SharedMemory(plain, create=True, size=8192)
    with pytest.raises(ringspan.Damaged, match="not filled"):
        ShareableList(name=plain)
    made.close()
    made.unlink()


@only_here
def test_a_room_that_no_item_can_have(plain: str) -> None:
    made = SharedMemory(plain, create=True, size=20_000_000)
    made.buf.cast("q")[:3] = memoryview(
        b"".join(n.to_bytes(8, "little") for n in (1, 0, 16 << 20))
    ).cast("q")
    there = ShareableList(name=plain)
    for use in (lambda: there[0], lambda: there.__setitem__(0, "x")):
        with pytest.raises(ringspan.Damaged, match="item 0"):
            use()
    there.shm.close()
    made.close()
    made.unlink()


# ---- a creation that fails -----------------------------------------------------------------------

LIMITED = f"""
import resource, sys
{IMPORT}
limit = getattr(resource, sys.argv[2])
resource.setrlimit(limit, (int(sys.argv[3]), resource.getrlimit(limit)[1]))
try:
    SharedMemory(sys.argv[1], create=True, size=int(sys.argv[4]))
except OSError as error:
    print(error.errno, "no room" in str(error))
"""


@pytest.mark.parametrize(
    ("limit", "most", "size", "told"),
    [("RLIMIT_AS", 6 << 30, 8 << 30, errno.ENOMEM), ("RLIMIT_FSIZE", 1000, 5000, errno.EFBIG)],
)
def test_limits_of_the_process_leave_nothing(
    plain: str, run_python: Start, limit: str, most: int, size: int, told: int
) -> None:
    if ORIGINAL and limit == "RLIMIT_FSIZE":
        pytest.xfail("the standard class leaves the name")
    try:
        done = run_python(LIMITED, plain, limit, most, size)
        assert done.stdout == f"{told} False\n"
        assert not exists(plain)
    finally:
        ringspan.remove(plain, missing_ok=True)


# ---- the end of the process ----------------------------------------------------------------------


@pytest.mark.parametrize("forks", [1, 2])
def test_what_a_forked_child_made_goes_with_it(plain: str, run_python: Start, forks: int) -> None:
    run_python(
        f"""
        {IMPORT}
        import os, sys
        kept = SharedMemory("{plain}-parent", create=True, size=8)
        for _ in range({forks}):
            child = os.fork()
            if child:
                assert os.waitpid(child, 0)[1] == 0
                SharedMemory("{plain}-parent").close()  # a child's end takes nothing else
                os._exit(0) if _ else sys.exit()
        made = SharedMemory({plain!r}, create=True, size=8)
        sys.exit()
        """
    )
    for _ in range(250 if ORIGINAL else 1):
        if not exists(plain):
            break
        time.sleep(0.02)
    assert not exists(plain)
    assert not exists(f"{plain}-parent")


@pytest.mark.parametrize(
    "how",
    [
        "import atexit\natexit.register(bye)\n{made}",
        "{made}\nimport atexit\natexit.register(bye)",
        "{made}\nimport weakref\nweakref.finalize(made, lambda shm: bye(), None)",
        "{made}\nclass Owner:\n    def __del__(self):\n        bye()\nowner = Owner()",
    ],
    ids=["atexit before", "atexit after", "weakref", "__del__"],
)
def test_unlinking_while_the_process_ends_is_no_noise(
    plain: str, run_python: Start, how: str
) -> None:
    made = f"{IMPORT}\nmade = SharedMemory({plain!r}, create=True, size=8)"
    done = run_python(
        "def bye():\n    made.close()\n    made.unlink()\n    print('unlinked')\n"
        + how.format(made=made)
    )
    assert (done.stdout, done.stderr) == ("unlinked\n", "")
    assert not exists(plain)


def test_unlinking_twice_is_an_error(plain: str, run_python: Start) -> None:
    done = run_python(
        f"""
        import atexit
        @atexit.register
        def bye():
            made.close()
            made.unlink()
            try:
                made.unlink()
            except FileNotFoundError:
                print("once")
        {IMPORT}
        made = SharedMemory({plain!r}, create=True, size=8)
        """
    )
    assert (done.stdout, done.stderr) == ("once\n", "")


# ---- unlink, whatever stands in its way ----------------------------------------------------------


@pytest.mark.parametrize(
    "end",
    ["pass", "made.unlink()", "SharedMemory(sys.argv[1]).unlink()", "ringspan.remove(sys.argv[1])"],
)
def test_a_foreign_lock_holds_nobody_up(plain: str, child: Start, end: str) -> None:
    maker = child(
        f"""
        {IMPORT}
        import ringspan, sys
        made = SharedMemory(sys.argv[1], create=True, size=8)
        print("made")
        input()
        {end}
        made.close()
        """,
        plain,
    )
    maker.expect("made")
    with Path(SHM, plain).open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        maker.say()
        maker.wait()  # the watchdog bites where it hangs
    for _ in range(250 if ORIGINAL else 1):
        if not exists(plain):
            break
        time.sleep(0.02)
    assert not exists(plain)


def test_removers_that_meet_remove_what_was_there_once(plain: str, child: Start) -> None:
    if ORIGINAL:
        pytest.skip("counts what is lost")
    code = f"""
        {IMPORT}
        made = unlinked = 0
        print("ready")
        input()
        while made < 3000:
            try:
                SharedMemory({plain!r}, create=True, size=8, track=False).close()
                made += 1
            except FileExistsError:
                pass
            try:
                SharedMemory({plain!r}).unlink()
                unlinked += 1
            except FileNotFoundError:
                pass
        print(made, unlinked)
        """
    racers = [child(code) for _ in range(2)]
    for racer in racers:
        racer.expect("ready")
    for racer in racers:
        racer.say()
    counts = [tuple(map(int, racer.line().split())) for racer in racers]
    assert sum(made for made, _ in counts) == sum(gone for _, gone in counts) + exists(plain)
    ringspan.remove(plain, missing_ok=True)


def test_links_and_pipes_are_no_blocks(plain: str) -> None:
    file = Path(SHM, plain)
    made = SharedMemory(plain, create=True, size=8)
    file.unlink()
    for make, told in (
        (lambda: file.symlink_to("/etc/passwd"), errno.ELOOP),
        (lambda: os.mkfifo(file), errno.EINVAL),
    ):
        make()
        with pytest.raises(OSError) as caught:
            SharedMemory(plain)
        assert (caught.value.errno, isinstance(caught.value, ValueError)) == (told, False)
        made.unlink()
        assert not file.is_symlink()
        assert not file.exists()
        if ORIGINAL:
            return  # its tracker would complain of the second
    with pytest.raises(FileNotFoundError):
        made.unlink()
    made.close()


UNREADABLE = f"""
import encodings.idna, os, sys, traceback
{IMPORT}
import ringspan
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
for mode in (0o400, 0):
    made = SharedMemory(sys.argv[1], create=True, size=8)
    os.chmod("/dev/shm/" + sys.argv[1], mode)
    made.close()
    if mode:
        made.unlink()
    else:
        ringspan.remove(sys.argv[1])
print("unlinked")
"""


@only_here
def test_a_block_that_one_may_not_open_oneself(plain: str, run_python: Start) -> None:
    assert run_python(UNREADABLE, plain).stdout == "unlinked\n"
    assert not exists(plain)


@only_here
def test_without_descriptors_one_can_still_unlink(plain: str, run_python: Start) -> None:
    done = run_python(
        f"""
        {IMPORT}
        import os, resource
        made = SharedMemory({plain!r}, create=True, size=8)
        made.close()
        used = len(os.listdir("/proc/self/fd")) - 1
        resource.setrlimit(resource.RLIMIT_NOFILE, (used, used))
        made.unlink()
        """
    )
    assert done.stderr == ""
    assert not exists(plain)
