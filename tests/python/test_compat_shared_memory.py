"""`ringspan.compat.shared_memory`: memory, layouts, create and load. Arrays and queues are beside.

With RINGSPAN_COMPAT_ORIGINAL=1 the tests run against the original, where somebody has built it (it
is not on PyPI). What it gets wrong is marked `wrong_there`, what only ours can do `only_here`.
"""

from __future__ import annotations

import os
import pickle
import signal
import struct
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import ringspan
from compat_tools import (
    IMPORT_SHM,
    ORIGINAL,
    damaged,
    exists,
    only_here,
    seeded,
    shared_memory,
    wrong_there,
)

shm = shared_memory()

Start = Callable[..., Any]
Run = Callable[[Coroutine[Any, Any, Any]], Any]


class Thing:
    """Nothing that the codec knows."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Thing) and self.value == other.value

    __hash__ = None  # type: ignore[assignment]


# ---- memory --------------------------------------------------------------------------------------


@wrong_there("a view to write through; writing is a crash")
def test_read_only_memory(name: str) -> None:
    memoryview(shm.SharedMemory.create(name, 10))[0] = 7
    there = shm.SharedMemory.open(name, read_only=True)
    view = memoryview(there)
    assert (view.readonly, view[0], there.size()) == (True, 7, 10)
    with pytest.raises(TypeError):
        view[0] = 1
    with pytest.raises((BufferError, TypeError)):
        struct.pack_into("B", there, 0, 1)


def test_a_taken_name(name: str) -> None:
    memoryview(shm.SharedMemory.create(name, 10))[:3] = b"old"
    with pytest.raises(RuntimeError) as caught:
        shm.SharedMemory.create(name, 1000)
    with pytest.raises(RuntimeError):
        shm.create(name, shm.PickleLayout(1))
    assert ORIGINAL or isinstance(caught.value, FileExistsError)
    there = shm.SharedMemory.open(name)
    assert (there.size(), bytes(memoryview(there)[:3])) == (10, b"old")


def test_a_missing_name(name: str) -> None:
    for use in (shm.SharedMemory.open, shm.load, shm.ShmMessageQueue.open):
        with pytest.raises(RuntimeError) as caught:
            use(name)
        assert ORIGINAL or isinstance(caught.value, FileNotFoundError)
    assert shm.unlink(name) is None
    assert shm.unlink("a/b") is None


def test_unlinked_memory_lives_on(name: str) -> None:
    made = shm.SharedMemory.create(name, 10)
    view = memoryview(made)
    assert shm.unlink(name) is None
    assert not exists(name)
    del made
    view[0] = 5
    assert memoryview(shm.SharedMemory.create(name, 20))[0] == 0
    assert view[0] == 5


@pytest.mark.parametrize("end", ["exit", "kill"])
def test_memory_outlives_its_maker(name: str, child: Start, end: str) -> None:
    maker = child(
        f"""
        {IMPORT_SHM}
        memoryview(shm.SharedMemory.create({name!r}, 10))[0] = 9
        print("made")
        input()
        """
    )
    maker.expect("made")
    if end == "kill":
        maker.kill()
    else:
        maker.say()
        assert maker.wait() == 0
    assert memoryview(shm.SharedMemory.open(name))[0] == 9


@only_here
def test_errors_are_those_of_ringspan_too(name: str) -> None:
    with pytest.raises(ringspan.NotFound, match=name) as missing:
        shm.load(name)
    again = pickle.loads(pickle.dumps(missing.value))
    assert type(again) is shm.NotFound
    assert isinstance(again, (FileNotFoundError, RuntimeError))
    for bad in ("", "a/b", "x" * 300):
        with pytest.raises(ringspan.InvalidName) as caught:
            shm.SharedMemory.create(bad, 10)
        assert isinstance(caught.value, RuntimeError)
    with pytest.raises(ringspan.NoSpace) as full:
        shm.SharedMemory.create(name, 1 << 50)
    assert isinstance(full.value, RuntimeError)


@only_here
def test_memory_pickles_by_name(name: str) -> None:
    made = shm.SharedMemory.create(name, 10)
    there = pickle.loads(pickle.dumps(made))
    memoryview(there)[3] = 3
    assert memoryview(made)[3] == 3
    closed = pickle.loads(pickle.dumps(shm.SharedMemory.open(name, read_only=True)))
    assert memoryview(closed).readonly


@only_here
def test_memory_is_awaited(name: str, run: Run, child: Start) -> None:
    made = shm.SharedMemory.create(name, 10)
    seen = made.version
    with pytest.raises(TimeoutError):
        made.blocking_changed(seen, timeout=0.01)
    other = child(
        f"""
        {IMPORT_SHM}
        there = shm.SharedMemory.open({name!r})
        for _ in range(2):
            input()
            memoryview(there)[0] += 1
            there.notify()
        """
    )
    other.say()
    assert made.blocking_changed(seen) == seen + 1

    async def wait() -> int:
        other.say()
        return await made.changed(seen + 1)

    assert run(wait()) == seen + 2
    assert memoryview(made)[0] == 2
    assert other.wait() == 0
    with made:
        pass


# ---- any object ----------------------------------------------------------------------------------

PLAIN = [
    None,
    {"a": [1, (2, 3)], 4: {5}},
    b"",
    bytearray(b"x"),
    "text",
    2**80,
    1.5,
    [True, frozenset({1}), 1j, ...],
]


@pytest.mark.parametrize("value", PLAIN, ids=repr)
def test_objects_that_need_no_pickle(name: str, value: object) -> None:
    made = shm.create(name, shm.PickleLayout(value))
    loaded = shm.load(name)
    for one in (made, loaded, shm.load(name, shm.PickleLayout)):
        assert one == value
        assert type(one) is type(value)
    assert loaded is None or isinstance(value, (bytes, str)) or loaded is not shm.load(name)


def test_any_object(name: str) -> None:
    deep: list[Any] = []
    for _ in range(200):
        deep = [deep]
    around: list[Any] = []
    around.append(around)
    for number, value in enumerate((Thing(5), [Thing(1)], deep, "\ud800", print)):
        assert shm.create(f"{name}-{number}", shm.PickleLayout(value)) == value
        assert shm.load(f"{name}-{number}", shm.PickleLayout) == value
        if not ORIGINAL:
            assert shm.load(f"{name}-{number}", allow_pickle=True) == value
    made = shm.create(f"{name}-around", shm.PickleLayout(around))
    assert made[0] is made


@wrong_there("whoever can write runs code in whoever reads")
def test_a_pickle_is_read_only_if_asked_for(name: str, tmp_path: Path) -> None:
    mark = tmp_path / "ran"

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(mark),)

    layouts = {
        "plain": shm.PickleLayout([Bomb()]),
        "nested": shm.StructLayout({"in": shm.StructLayout({"side": shm.PickleLayout(Bomb())})}),
    }
    for kind, layout in layouts.items():
        block = shm.SharedMemory.create(f"{name}-{kind}", layout.size())
        layout.dump(memoryview(block))
        for asked in (None, shm.StructLayout):
            if kind == "nested" or asked is None:
                with pytest.raises(RuntimeError, match="allow_pickle=True"):
                    shm.load(f"{name}-{kind}", asked)
        assert not mark.exists()
    shm.load(f"{name}-nested", allow_pickle=True)
    assert mark.exists()


# ---- dicts ---------------------------------------------------------------------------------------


def test_dicts_of_layouts(name: str) -> None:
    inner = shm.StructLayout({"x": shm.PickleLayout(1.5), "y": shm.PickleLayout(b"y")})
    layout = shm.StructLayout({"a": shm.PickleLayout([1]), "b": inner})
    wanted = {"a": [1], "b": {"x": 1.5, "y": b"y"}}
    assert shm.create(name, layout) == wanted
    assert shm.load(name) == shm.load(name, shm.StructLayout) == wanted
    assert list(shm.load(name)) == ["a", "b"]


def test_an_empty_dict(name: str) -> None:
    assert shm.create(name, shm.StructLayout({})) == {} == shm.load(name)


@wrong_there("counts characters where it writes bytes")
def test_keys_beyond_ascii(name: str) -> None:
    keys = ["é" * 7, "日本語の文字", "", "a" * 100]
    layout = shm.StructLayout({key: shm.PickleLayout(key) for key in keys})
    shm.create(name, layout)
    assert shm.load(name) == {key: key for key in keys}


# ---- layouts of one's own ------------------------------------------------------------------------


class Number(shm.Layout):  # type: ignore[misc]
    sign = b"N"

    def __init__(self, number: int) -> None:
        self.number = number

    def size(self) -> int:
        return 12

    def dump(self, mem: memoryview) -> None:
        struct.pack_into("<c3xq", mem, 0, self.sign, self.number)

    @classmethod
    def load(cls, mem: memoryview) -> Any:
        return struct.unpack_from("<q", mem, 4)[0]


def test_layouts_of_ones_own(name: str) -> None:
    assert shm.create(name, Number(7)) == 7
    assert shm.load(name) == shm.load(name, Number) == 7
    nested = shm.StructLayout({"n": Number(8), "p": shm.PickleLayout("p")})
    assert shm.create(f"{name}-2", nested) == {"n": 8, "p": "p"} == shm.load(f"{name}-2")
    assert shm.Layout.get_layout_cls(b"N") is Number


def test_wrong_and_unknown_layouts(name: str) -> None:
    shm.create(name, shm.PickleLayout([1, 2]))
    with pytest.raises(TypeError, match="unknown data type"):
        shm.load(name, shm.StructLayout)
    memoryview(shm.SharedMemory.open(name))[0] = 0xFE
    with pytest.raises(KeyError):
        shm.load(name)
    with pytest.raises(TypeError):
        shm.load(name, shm.PickleLayout)


# ---- all or nothing ------------------------------------------------------------------------------


@wrong_there("the name stays behind")
@pytest.mark.parametrize("step", ["size", "dump", "load"])
def test_a_creation_that_fails_leaves_nothing(name: str, step: str) -> None:
    class Failing(Number):
        def fail(self, *_: object) -> Any:
            raise ZeroDivisionError

    setattr(Failing, step, Failing.fail)
    with pytest.raises(ZeroDivisionError):
        shm.create(name, Failing(1))
    assert not exists(name)
    assert shm.create(name, Number(2)) == 2


@wrong_there("a reader sees zeros and halves")
def test_name_and_content_appear_together(name: str, child: Start) -> None:
    reader = child(
        f"""
        {IMPORT_SHM}
        for turn in range(20):
            print("looking")
            while True:
                try:
                    found = shm.load("{name}-%d" % turn)
                except FileNotFoundError:
                    continue
                break
            assert found == {{"a": b"x" * 500_000, "b": [turn] * 1000}}, len(found)
        print("all")
        """
    )
    for turn in range(20):
        reader.expect("looking")
        layouts = {"a": shm.PickleLayout(b"x" * 500_000), "b": shm.PickleLayout([turn] * 1000)}
        shm.create(f"{name}-{turn}", shm.StructLayout(layouts))
    reader.expect("all")
    assert reader.wait() == 0


@only_here
def test_any_bytes_at_all(name: str) -> None:
    layout = shm.StructLayout(
        {
            "one": shm.PickleLayout({"a": [1, 2.5, None]}),
            "deep": shm.StructLayout({"é": shm.StructLayout({}), "n": Number(3)}),
            "two": shm.PickleLayout(Thing(1)),
        }
    )
    block = shm.SharedMemory.create(name, layout.size())
    mem = memoryview(block)
    layout.dump(mem)
    whole = bytes(mem)
    chance = seeded()
    refused = 0
    for _ in range(3000):
        mem[:] = damaged(whole, chance, 3, [0, 1, 2, 4, 64, 115, 127, 255], near=100)
        try:
            shm.load(name)
        except (ringspan.RingspanError, KeyError, struct.error) as err:
            assert not isinstance(err, ringspan.RingspanError) or name in str(err)
            refused += 1
    assert refused > 2000  # the pickle in it is refused at the latest


@only_here
def test_a_struct_that_holds_itself_is_refused(name: str) -> None:
    layout = shm.StructLayout({"a": shm.StructLayout({}), "b": shm.StructLayout({})})
    block = shm.SharedMemory.create(name, layout.size())
    mem = memoryview(block)
    layout.dump(mem)
    for place in (0, 16, 24):
        struct.pack_into("<Q", mem, 24, place)
        with pytest.raises(ringspan.Damaged, match=name):
            shm.load(name)


@only_here
def test_several_threads_load_with_their_own_permission(name: str) -> None:
    shm.create(name, shm.StructLayout({"x": shm.PickleLayout(Thing(1))}))
    failed: list[object] = []

    def work(allowed: bool) -> None:
        for _ in range(200):
            try:
                shm.load(name, allow_pickle=allowed)
                got = True
            except shm.PickleRefused:
                got = False
            if got != allowed:
                failed.append(allowed)

    threads = [threading.Thread(target=work, args=(n % 2 == 0,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


@only_here
def test_ctrl_c_ends_a_wait(name: str, child: Start) -> None:
    shm.SharedMemory.create(name, 10)
    waiting = child(
        f"""
        {IMPORT_SHM}
        there = shm.SharedMemory.open({name!r})
        try:
            print("waiting")
            there.blocking_changed(there.version)
        except KeyboardInterrupt:
            print("interrupted")
        """
    )
    waiting.expect("waiting")
    waiting.kill(signal.SIGINT)
    waiting.expect("interrupted")
    assert waiting.wait() == 0
