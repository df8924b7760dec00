"""Who owns what memory_interface makes, how it goes, and what is not believed of it."""

from __future__ import annotations

import gc
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ringspan
from compat_tools import memories
from ringspan.compat import memory_interface as library

pytestmark = pytest.mark.usefixtures("nothing_left")


def sweep(*all_: Any) -> None:
    """Cleans up, also the doors of who was killed."""
    for one in all_:
        one.cleanup()
    ringspan.gc()


# ---- order, and one segment ----------------------------------------------------------------------


def test_what_is_full_keeps_the_order(new: Callable[..., Any]) -> None:
    interface = new("MemoryInterface", [0] * 9, 3)
    for number in range(5):
        interface.write([number])
    assert interface.get_fullness() == 100
    assert [interface.read() for _ in range(3)] == [[2], [3], [4]]
    assert not interface.can_read()


def test_an_interface_is_one_segment(new: Callable[..., Any]) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = descriptors()
    interface = new("MemoryInterface", [0] * 50, 1000)
    there = [library.MemoryInterface(interface.state) for _ in range(20)]
    assert len(memories(os.getpid())) == 1
    assert descriptors() - before < 10
    while interface.can_write():
        interface.write([1])
    assert there[-1].get_fullness() == 100
    state = pickle.loads(pickle.dumps(interface.state))
    assert library.MemoryInterface(state).read() == [1]


# ---- life ----------------------------------------------------------------------------------------


def test_with_cleans_up() -> None:
    for name, args in (("SharedBytes", (3,)), ("SharedInt", ()), ("SharedString", (9,))):
        with getattr(library, name)() as shared:
            state = shared.create_sharedobject(*args)
            with getattr(library, name)(state) as loaded:
                loaded.read()
            assert shared.read() is not None
        assert not memories(os.getpid())
    with library.MemoryInterface() as interface:
        interface.create_memorybuf()
    assert not memories(os.getpid())


def test_what_is_dropped_stays_for_whom_it_was_made(other: Callable[..., Any]) -> None:
    # The creator drops all that it has while the state is on its way.
    creator = other(
        """
        say(pickle.dumps([SharedInt().create_sharedobject(),
                          MemoryInterface().create_memorybuf([0], 2)]).hex())
        say(input())
        """
    )
    number, memory = pickle.loads(bytes.fromhex(creator.line()))
    with library.SharedInt(number) as shared, library.MemoryInterface(memory) as interface:
        creator.say("still here")
        creator.expect("still here")
        creator.finish()
        # Nor does its end, in order, take anything from who has it.
        shared.write(3)
        interface.write([1])
        assert (shared.read(), interface.read()) == (3, [1])
    del number, memory
    gc.collect()
    assert not memories(creator.pid)


def test_the_end_of_a_loader_takes_nothing(
    new: Callable[..., Any], other: Callable[..., Any]
) -> None:
    number, interface = new("SharedInt"), new("MemoryInterface", [0], 2)
    code = """
        one, two = state()
        number, interface = SharedInt(one), MemoryInterface(two)
        number.write(4)
        interface.write([4])
        {end}
    """
    for end in ("number.cleanup(); interface.cleanup()", "pass", "os._exit(0)"):
        other(code.format(end=end), [number.state, interface.state]).finish()
        assert (number.read(), interface.read()) == (4, [4])
    killed = other(code.format(end="say(1); input()"), [number.state, interface.state])
    killed.expect("1")
    killed.kill()
    assert (number.read(), interface.read()) == (4, [4])
    assert len(memories(os.getpid())) == 2
    sweep(number, interface)


def test_a_killed_creator_takes_nothing_and_leaves_nothing(other: Callable[..., Any]) -> None:
    creator = other(
        """
        one, two, three = SharedInt(), MemoryInterface(), SharedString()
        say(pickle.dumps([one.create_sharedobject(), two.create_memorybuf([0], 2)]).hex())
        three.create_sharedobject(10)
        say("made")
        input()
        """
    )
    number, memory = pickle.loads(bytes.fromhex(creator.line()))
    creator.expect("made")
    shared, interface = library.SharedInt(number), library.MemoryInterface(memory)
    creator.kill()
    shared.write(3)
    interface.write([1])
    later = other("say(SharedInt(state()).read())", number)  # it can still be loaded
    later.expect("3")
    later.finish()
    assert len(memories(creator.pid)) == 3
    removed = ringspan.gc().removed
    left = memories(creator.pid)
    assert len(left) == 2  # those that somebody has
    assert [name for name in removed if f"memif-{creator.pid}-" in name]
    assert interface.read() == [1]
    for one in (shared, interface):
        one.cleanup()
    assert not memories(creator.pid)  # the last one out


def test_programs_that_clean_nothing_up_leave_nothing(script: Callable[..., Any]) -> None:
    program = script(
        """
        import atexit, time
        atexit.register(time.sleep, 0.2)  # the last of all: a thread has time to go wrong
        import os, sys, threading
        from multiprocessing import get_context
        from ringspan.compat.memory_interface import *
        kept = []
        def work(state, memory):
            kept.append((SharedInt(state), MemoryInterface(memory), SharedBool()))
            kept[0][2].create_sharedobject()
            kept[0][0].write(os.getpid())
            kept[0][1].write(os.getpid())
        def poll(number):
            while number.read() != 0:
                pass
        if __name__ == "__main__":
            number, memory = SharedInt(), MemoryInterface()
            args = number.create_sharedobject(), memory.create_memorybuf(10**9, 3)
            for method in ("fork", "spawn", "forkserver"):
                process = get_context(method).Process(target=work, args=args)
                process.start()
                process.join()
                print(process.exitcode, number.read() == memory.read() == process.pid)
                print(process.pid)
            # One more, with a thread that never ends, and that nobody waits for.
            memory.write(1)
            memory.write(1)
            threading.Thread(target=poll, args=(number,), daemon=True).start()
    """
    )
    said = program.finish().splitlines()
    assert said[::2] == ["0 True"] * 3
    assert not program.stderr()
    for pid in (program.pid, *map(int, said[1::2])):
        assert not memories(pid)


def test_a_thread_that_sleeps_for_ever_keeps_no_memory(script: Callable[..., Any]) -> None:
    program = script(
        """
        import threading, time
        from ringspan.compat.memory_interface import *
        memory, number, text = MemoryInterface(), SharedInt(), SharedString()
        memory.create_memorybuf()
        number.create_sharedobject()
        text.create_sharedobject(100)
        def sleep(verb, *args):
            threading.Thread(target=verb, args=args, daemon=True).start()
        sleep(memory.blocking_read)
        sleep(number.blocking_changed)
        sleep(text.blocking_wait_for, lambda now: now == "never")
        time.sleep(0.2)
        """
    )
    program.finish()
    assert not program.stderr()
    assert not memories(program.pid)
    for door in Path(os.environ["RINGSPAN_DIR"]).iterdir():
        door.unlink()  # of those who slept to the end; `gc` takes them too, once they are old


def test_threads_of_a_child_go_on_after_its_main_function(script: Callable[..., Any]) -> None:
    program = script(
        """
        import threading, time
        from multiprocessing import get_context
        from ringspan.compat.memory_interface import SharedInt
        def work(memblk):
            number = SharedInt(memblk)
            def later():
                while number.read() == 0:  # until its main function has ended
                    time.sleep(0.01)
                number.write(2)
            threading.Thread(target=later).start()
        if __name__ == "__main__":
            number = SharedInt()
            process = get_context("fork").Process(target=work, args=[number.create_sharedobject()])
            process.start()
            time.sleep(0.2)
            number.write(1)
            process.join()
            print(process.exitcode, number.read())
        """
    )
    assert program.finish() == "0 2\n"
    assert not program.stderr()
    assert not memories(program.pid)
    ringspan.gc()  # the child's door


def test_a_copy_that_came_by_fork_works_and_destroys_nothing(other: Callable[..., Any]) -> None:
    process = other(
        """
        import warnings
        warnings.simplefilter("ignore")  # of a fork beside threads
        number, text, interface = SharedInt(), SharedString(), MemoryInterface()
        number.create_sharedobject(), text.create_sharedobject(9)
        interface.create_memorybuf([0], 3)
        for round in range(3):
            child = os.fork()
            if not child:
                number.write(number.read() + 1)
                text.write("by fork")
                interface.write([round])
                for one in (number, text, interface):
                    one.cleanup()
                sys.exit()
            assert os.waitpid(child, 0)[1] == 0
            say(number.read(), text.read(), interface.read())
        for one in (number, text, interface):
            one.cleanup()
        say("clean")
        """
    )
    for number in range(3):
        process.expect(f"{number + 1} by fork [{number}]")
    process.expect("clean")
    assert not memories(process.pid)
    process.finish()


def test_objects_pickle_as_what_has_loaded_them(new: Callable[..., Any]) -> None:
    number, interface = new("SharedInt"), new("MemoryInterface", [0], 2)
    copy, twin = pickle.loads(pickle.dumps((number, interface)))
    copy.write(3)
    twin.write([3])
    assert (number.read(), interface.read()) == (3, [3])
    copy.cleanup()
    twin.cleanup()
    assert (number.read(), interface.can_write()) == (0 + 3, True)
    assert isinstance(pickle.loads(pickle.dumps(library.SharedInt())), library.SharedInt)


def test_what_was_cleaned_up_cannot_be_loaded(
    new: Callable[..., Any], other: Callable[..., Any]
) -> None:
    number, interface = new("SharedInt"), new("MemoryInterface", [0], 2)
    state, memory = pickle.dumps(number.state), pickle.dumps(interface.state)
    number.cleanup()
    interface.cleanup()
    with pytest.raises(FileNotFoundError):
        library.SharedInt(pickle.loads(state))
    with pytest.raises(FileNotFoundError):
        library.MemoryInterface(pickle.loads(memory))
    load = other("state()", number.state)
    assert load.wait() == 1
    assert "NotFound" in load.stderr()


# ---- distrust ------------------------------------------------------------------------------------


def raw(one: Any) -> memoryview:
    """The bytes of an interface, as any process of this user could write them."""
    return one._here()._bytes  # type: ignore[no-any-return]


@pytest.mark.parametrize("read", [5, 2**64 - 1])
def test_damaged_counters_are_told(read: int, new: Callable[..., Any]) -> None:
    interface = new("MemoryInterface", [0], 2)
    interface.write([1])
    raw(interface)[64:72] = read.to_bytes(8, "little")
    for verb in (interface.read, interface.blocking_read, interface.reset_read):
        with pytest.raises(ringspan.Damaged, match="MemoryInterface /memif-"):
            verb()
    with pytest.raises(ringspan.Damaged):
        interface.write([1])
    assert 0 <= interface.get_read_pointer() < 2
    assert 0 <= interface.get_fullness() <= 100
    interface.is_valid(0)


def test_a_damaged_length_is_told(new: Callable[..., Any]) -> None:
    interface = new("MemoryInterface", [0], 2)
    interface.write([1])
    raw(interface)[128:136] = (2**40).to_bytes(8, "little")
    with pytest.raises(ringspan.Damaged, match="1099511627776 bytes"):
        interface.read()


class Bomb:
    """Makes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.path), "w")


def test_bytes_are_never_unpickled(new: Callable[..., Any], tmp_path: Path) -> None:
    interface = new("MemoryInterface", b"x" * 500, 2, False)
    interface.write_pickle(Bomb(tmp_path / "boom"))
    with pytest.raises(ValueError, match="use_pickle"):
        interface.read_pickle()
    assert interface.read().startswith(b"\x80")
    # A state that says otherwise than the memory is refused.
    for state in ({**interface.state, "use_pickle": True}, {**interface.state, "memlist": [1]}):
        with pytest.raises(ringspan.Mismatch):
            library.MemoryInterface(state)
    assert not (tmp_path / "boom").exists()


def test_a_value_of_another_kind_is_told(new: Callable[..., Any], tmp_path: Path) -> None:
    block, text = new("SharedBytes", 3), new("SharedString", 5)
    evil = ringspan.Value(block.state["memory"].name, create=False, exact=False, pickle=True)
    for value in ("abc", b"abcd", 7, None, Bomb(tmp_path / "boom")):
        evil.blocking_set(value)
        with pytest.raises((ringspan.Damaged, ringspan.CodecError)):
            block.read()
        with pytest.raises((ringspan.Damaged, ringspan.CodecError)):
            block.write(b"a")
    block.write(b"all")
    assert block.read() == b"all"
    evil.close()
    with ringspan.Value(text.state["memory"].name, create=False) as evil:
        for value in (b"abc", "abcdef", 7):
            evil.blocking_set(value)
            with pytest.raises(ringspan.Damaged, match="SharedString /memif-"):
                text.read()
    assert not (tmp_path / "boom").exists()


def test_a_state_of_another_class_is_refused(new: Callable[..., Any]) -> None:
    number, interface = new("SharedInt"), new("MemoryInterface", [0], 2)
    states: list[Any] = [interface.state, interface.state["writepointer"], {}, 3, {"memory": 4}]
    for state in states:
        with pytest.raises(ValueError):
            library.SharedInt(state)
    states = [number.state, {}, 3]
    for state in states:
        with pytest.raises(ValueError):
            library.MemoryInterface(state)
    with pytest.raises(ValueError, match="SharedInt"):
        library.SharedBool(number.state)


def test_no_room_makes_nothing() -> None:
    with pytest.raises(OSError):
        library.MemoryInterface().create_memorybuf(b"x" * (1 << 20), 1 << 30, False)
    with pytest.raises(ValueError):
        library.MemoryInterface().create_memorybuf([0], 0)
    with pytest.raises(ValueError):
        library.MemoryInterface().create_memorybuf(b"", 3, False)
