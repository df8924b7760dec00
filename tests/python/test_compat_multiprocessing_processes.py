"""`ringspan.compat.multiprocessing.SharedMemory` between processes.

With RINGSPAN_COMPAT_ORIGINAL=1 the tests run against the standard class. What it gets wrong is
marked `wrong_there`, what only ours can do `only_here`.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from compat_tools import ORIGINAL, exists, only_here, wrong_there

STANDARD = "from multiprocessing.shared_memory import SharedMemory"
IMPORT = STANDARD if ORIGINAL else "from ringspan.compat.multiprocessing import SharedMemory"
if ORIGINAL:
    from multiprocessing.shared_memory import SharedMemory
else:
    from ringspan.compat.multiprocessing import SharedMemory

Start = Callable[..., Any]


LATE = f"""
import multiprocessing, sys, time
{IMPORT}

def work(name):
    time.sleep(0.3)
    block = SharedMemory(name)
    print(block.buf[0], flush=True)
    block.close()

if __name__ == "__main__":
    made = SharedMemory(sys.argv[1], create=True, size=16)
    made.buf[0] = 5
    multiprocessing.get_context(sys.argv[2]).Process(target=work, args=sys.argv[1:2]).start()
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_block_stays_until_the_last_child_has_ended(
    plain: str, tmp_path: Path, method: str
) -> None:
    program = tmp_path / "program.py"
    program.write_text(LATE)
    done = subprocess.run(
        [sys.executable, program, plain, method],
        capture_output=True,
        text=True,
        timeout=25,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "5\n"), done.stderr
    assert await_gone(plain)


@pytest.mark.parametrize("end", ["exit", "kill"])
@wrong_there("its tracker destroys what the process had attached to")
def test_who_attached_destroys_nothing_when_it_ends(plain: str, child: Start, end: str) -> None:
    made = child(f"{IMPORT}\nmade = SharedMemory({plain!r}, True, 8)\nprint(1)\ninput()")
    made.expect("1")
    there = child(
        f"""
        {IMPORT}
        there = SharedMemory({plain!r})
        part = there.buf[1:2]
        print("attached")
        input()
        """
    )
    there.expect("attached")
    if end == "kill":
        there.kill()
    else:
        there.say()
        assert there.wait() == 0
    # A tracker needs a moment after its process has gone; there is none of ours to wait for.
    time.sleep(1 if ORIGINAL else 0)
    assert exists(plain)
    assert there.stderr() == ""


def await_gone(name: str) -> bool:
    for _ in range(250 if ORIGINAL else 1):
        if not exists(name):
            return True
        time.sleep(0.02)
    return False


@pytest.mark.skipif(ORIGINAL and sys.version_info < (3, 13), reason="`track` is of 3.13")
def test_what_it_does_not_track_stays(plain: str, run_python: Start) -> None:
    run_python(f"{IMPORT}\nmade = SharedMemory({plain!r}, True, 8, track=False)\nmade.buf[0] = 6")
    there = SharedMemory(plain)
    assert there.buf[0] == 6
    there.close()
    there.unlink()


@only_here
def test_a_block_that_got_the_name_since_is_another(plain: str, child: Start) -> None:
    first = child(f"{IMPORT}\nmade = SharedMemory({plain!r}, True, 8)\nprint(1)\ninput()")
    first.expect("1")
    SharedMemory(plain).unlink()
    second = SharedMemory(plain, create=True, size=4)
    first.say()
    assert first.wait() == 0
    assert exists(plain)
    second.unlink()


@wrong_there("it speaks of exported pointers and leaks")
def test_no_noise_at_exit(plain: str, run_python: Start) -> None:
    pytest.importorskip("numpy")
    done = run_python(
        f"""
        {IMPORT}
        import numpy as np
        made = SharedMemory({plain!r}, create=True, size=80)
        there = SharedMemory({plain!r})
        part, array = made.buf[1:5], np.frombuffer(there.buf)
        """
    )
    assert done.stderr == ""


@only_here
def test_ours_and_the_standard_class_attach_to_each_other(plain: str, child: Start) -> None:
    # Up to 3.12 the standard class destroys what it attached to, so that is unregistered there.
    standard = f"""
        {STANDARD}
        from multiprocessing.resource_tracker import unregister
        """
    made = SharedMemory(plain, create=True, size=100)
    made.buf[:4] = b"ours"
    there = child(
        f"""{standard}
        there = SharedMemory({plain!r})
        unregister("/{plain}", "shared_memory")
        print(bytes(there.buf[:4]), there.size)
        there.buf[4:8] = b"them"
        there.close()
        """
    )
    there.expect("b'ours' 100")
    assert there.wait() == 0
    assert bytes(made.buf[:8]) == b"oursthem"
    made.close()
    made.unlink()

    theirs = child(
        f"""{standard}
        made = SharedMemory({plain!r}, create=True, size=50)
        made.buf[:6] = b"theirs"
        print("made")
        input()
        print(bytes(made.buf[:6]))
        made.close()
        made.unlink()
        """
    )
    theirs.expect("made")
    with SharedMemory(plain) as there:
        assert (there.size, bytes(there.buf[:6])) == (50, b"theirs")
        there.buf[:6] = b"answer"
    with pytest.raises(FileExistsError):
        SharedMemory(plain, create=True, size=5)
    theirs.say()
    theirs.expect("b'answer'")
    assert theirs.wait() == 0
    with pytest.raises(FileNotFoundError):
        SharedMemory(plain)
