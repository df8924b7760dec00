"""Value: what comes back, who is refused, what an error leaves behind. One process, no race."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import runpy
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ringspan

Run = Callable[[Coroutine[Any, Any, Any]], Any]
CODEC = runpy.run_path(str(Path(__file__).parent / "test_codec.py"))
EVERYTHING, same = CODEC["EVERYTHING"], CODEC["same"]
LARGE = 100 << 10  # from here on copies are made without the interpreter lock


@pytest.fixture
def value(name: str) -> Iterator[ringspan.Value]:
    with ringspan.Value(name) as value:
        yield value


def file_of(value: ringspan.Value) -> Path:
    return Path("/dev/shm", value.name[1:])


def test_it_is_opened_or_made_as_asked(name: str) -> None:
    with pytest.raises(FileNotFoundError, match=name):
        ringspan.Value(name, create=False)
    first = ringspan.Value(name.lstrip("/"), create=True, mode=0o640)
    assert first.name == name
    assert not first.is_ephemeral
    assert file_of(first).stat().st_mode & 0o777 == 0o640
    with pytest.raises(FileExistsError, match=name):
        ringspan.Value(name, create=True)
    for create in (None, False):
        other = ringspan.Value(name, create=create, capacity=1 << 20, ephemeral=True)
        assert not other.is_ephemeral, "the creator's choice"
        first.blocking_set(create)
        assert other.get() is create
    assert first.stat().attached == 2
    first.remove()
    with pytest.raises(ringspan.NotFound, match=name):
        first.remove()
    first.blocking_set("goes on")
    assert other.get() == "goes on"


def test_what_cannot_be_opened(name: str, value: ringspan.Value) -> None:
    for wrong in (ringspan.SharedInt, ringspan.Ring, ringspan.Segment.open):
        with pytest.raises(ringspan.Mismatch, match="value"):
            wrong(name)
    with ringspan.RwLock(f"{name}-lock", size=8), pytest.raises(ringspan.Mismatch, match="lock"):
        ringspan.Value(f"{name}-lock")
    with pytest.raises(ringspan.NoSpace, match=f"{name}-huge"):
        ringspan.Value(f"{name}-huge", capacity=1 << 50)
    for capacity in (1 << 63, (1 << 64) - 1):
        with pytest.raises(ringspan.InvalidOption, match="capacity"):
            ringspan.Value(f"{name}-huge", capacity=capacity)
    for capacity in (-1, 1 << 64):
        with pytest.raises(OverflowError):
            ringspan.Value(f"{name}-huge", capacity=capacity)
    with pytest.raises(ringspan.InvalidOption, match="mode"):
        ringspan.Value(f"{name}-huge", mode=0o777)
    with pytest.raises(ringspan.InvalidName):
        ringspan.Value("/a/b")


def test_an_ephemeral_one_goes_with_the_last_handle(name: str) -> None:
    first = ringspan.Value(name, ephemeral=True)
    second = ringspan.Value(name)
    assert first.is_ephemeral and second.is_ephemeral
    first.blocking_set(1)
    first.close()
    first.close()
    assert second.get() == 1
    watch = aiter(second)
    second.close()
    assert not file_of(second).exists(), "nobody is attached, whatever was made of the handle"
    del watch


def test_nothing_was_set(value: ringspan.Value) -> None:
    for verb in (value.get, value.try_get):
        with pytest.raises(ringspan.Empty, match=value.name):
            verb()
        assert verb(None) is None
        assert verb("default") == "default"
        with pytest.raises(TypeError, match=rf"Value\.{verb.__name__}\(\) takes at most one"):
            verb(1, 2)
    with pytest.raises(ringspan.Empty, match="without default"):
        value.blocking_update(lambda old: old)
    with pytest.raises(TypeError, match=r"Value\.blocking_update\(\) takes at most one"):
        value.blocking_update(lambda old: old, 1, 2)  # type: ignore[call-overload]
    assert value.blocking_compare_and_set(None, 1) is False
    assert value.version == 0
    assert value.blocking_set(None) == 1
    assert value.get("default") is None


@pytest.mark.parametrize("obj", EVERYTHING, ids=lambda v: f"{type(v).__name__}-{repr(v)[:30]}")
def test_every_type_comes_back_as_what_it_was(value: ringspan.Value, obj: Any) -> None:
    value.blocking_set(obj)
    assert same(value.get(), obj)
    value.blocking_set({"deep": [obj]})
    assert same(value.try_get(), {"deep": [obj]})


def test_without_exact_it_is_plain_msgpack(name: str, value: ringspan.Value) -> None:
    with ringspan.Value(name, exact=False) as plain:
        plain.blocking_set({"t": (1, [2])})
        assert same(value.get(), {"t": [1, [2]]})
        plain.blocking_set(bytearray(b"ab"))
        assert same(value.get(), b"ab")
        value.blocking_set((1, bytearray(b"ab")))
        assert same(plain.get(), (1, bytearray(b"ab"))), "the writer decides"


def test_pickles_only_where_asked_for(name: str, value: ringspan.Value) -> None:
    with pytest.raises(TypeError, match="pickle=True"):
        value.blocking_set([Path.cwd])
    with ringspan.Value(name, pickle=True) as trusting:
        trusting.blocking_set([int, len])
        assert trusting.get() == [int, len]
        assert trusting.blocking_update(lambda old: old[:1]) == [int]
        for verb in (value.get, lambda: value.get(None), lambda: value.blocking_wait_for(bool)):
            with pytest.raises(ringspan.CodecError, match=rf"value {name}: .*pickle=True"):
                verb()
        value.blocking_set("mended")
        assert trusting.get() == "mended"


def cyclic() -> list[Any]:
    made: list[Any] = []
    made.append(made)
    return made


@pytest.mark.parametrize(
    ("obj", "error"),
    [
        (object(), TypeError),
        (len, TypeError),
        ([1, {"k": object()}], TypeError),
        ("\ud800", ValueError),
        (cyclic(), ValueError),
    ],
    ids=["object", "function", "inside", "surrogate", "cycle"],
)
def test_what_cannot_travel_leaves_the_old_value(
    value: ringspan.Value, run: Run, obj: Any, error: type[Exception]
) -> None:
    value.blocking_set("old")

    async def update() -> None:
        await value.update(lambda _: obj)

    for verb in (
        lambda: value.blocking_set(obj),
        lambda: value.try_set(obj),
        lambda: value.set(obj),
        lambda: value.blocking_update(lambda _: obj),
        lambda: value.blocking_compare_and_set("old", obj),
        lambda: run(update()),
    ):
        with pytest.raises(error):
            verb()
    assert (value.get(), value.version) == ("old", 1)
    assert value.try_set("the lock is free")


def test_numpy_arrays_are_copies(value: ringspan.Value) -> None:
    for array in (
        np.arange(12, dtype="<i4").reshape(3, 4),
        np.arange(12.0).reshape(3, 4).T,
        np.zeros((0, 3)),
        np.random.default_rng(1).random((300, 400)),
    ):
        value.blocking_set(array)
        got, again = value.get(), value.get()
        assert type(got) is np.ndarray
        assert (got.dtype, got.shape) == (array.dtype, array.shape)
        assert (got == array).all()
        assert got.flags.writeable
        assert not np.shares_memory(got, again)
        got[...] = 7
        assert (again == array).all() and (value.get() == array).all()
    value.blocking_set([np.float32(1.5), {"a": np.arange(3)}])
    number, inner = value.get()
    assert type(number) is np.float32 and inner["a"].tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="truth value"):
        value.blocking_set(np.arange(3))
        value.blocking_compare_and_set(np.arange(3), 1)
    assert value.get().tolist() == [0, 1, 2]
    assert value.try_set("the lock is free")


def test_it_is_written_as_it_is_when_its_turn_comes(value: ringspan.Value, run: Run) -> None:
    array = np.zeros(4)
    setting = value.set(array)
    array[:] = 1

    async def finish() -> None:
        await setting

    run(finish())
    assert value.get().tolist() == [1.0] * 4


@pytest.mark.parametrize("capacity", [0, 1, 4096, 5000, 1 << 20])
def test_sizes_grow_and_shrink(name: str, capacity: int) -> None:
    noise = np.random.default_rng(2).bytes(9 << 20)
    with ringspan.Value(name, capacity=capacity) as value, ringspan.Value(name) as reader:
        sizes = [0, 1, 4095, 4096, 4097, LARGE - 1, LARGE, LARGE + 1, 3 << 20, 5, 9 << 20, 0, 6000]
        for n, size in enumerate(sizes, 1):
            sent = noise[:size]
            assert value.blocking_set(sent) == 4 * n - 3
            assert reader.get() == sent
            assert reader.try_get() == sent
            wrapped = [sent, {"n": n}]
            assert value.blocking_update(lambda _, wrapped=wrapped: wrapped) is wrapped
            assert reader.get() == wrapped
            value.blocking_set(sent)
            assert reader.blocking_compare_and_set(sent, sent)
            # The version counts sets, not changes.
            assert reader.version == 4 * n


def test_setting_tells_the_version(value: ringspan.Value, run: Run) -> None:
    async def sets() -> None:
        assert await value.set("a") == 1
        assert value.blocking_set("b", timeout=5) == 2
        assert value.try_set("c") is True
        assert value.version == 3
        assert await value.set("c") == 4, "also when it is the same"
        assert await value.update(lambda old: old + "d") == "cd"
        assert await value.compare_and_set("cd", "e") is True
        assert await value.compare_and_set("cd", "f") is False
        assert (value.get(), value.version) == ("e", 6)

    run(sets())


def test_update_begins_with_the_default(value: ringspan.Value, run: Run) -> None:
    async def updates() -> None:
        with pytest.raises(ringspan.Empty):
            await value.update(lambda old: old)
        assert await value.update(lambda old: old + 1, 41) == 42
        assert await value.update(lambda old: old + 1, 0) == 43

    run(updates())
    seen = []
    assert value.blocking_update(lambda old: seen.append(old) or value.get() + 1, timeout=5) == 44
    assert seen == [43]


def test_a_function_that_raises_changes_nothing(value: ringspan.Value, run: Run) -> None:
    value.blocking_set([1])

    def spoil(old: list[int]) -> None:
        old.append(2)
        raise LookupError("no")

    async def update() -> None:
        await value.update(spoil)

    for verb in (lambda: value.blocking_update(spoil), lambda: run(update())):
        with pytest.raises(LookupError, match="no"):
            verb()
    assert (value.get(), value.version) == ([1], 1)
    assert value.try_set("the lock is free")

    class Odd:
        def __eq__(self, other: object) -> bool:
            raise LookupError("eq")

    with pytest.raises(LookupError, match="eq"):
        value.blocking_compare_and_set(Odd(), 2)
    assert value.try_set("the lock is free")


def test_nobody_waits_for_himself(value: ringspan.Value, run: Run) -> None:
    value.blocking_set(0)

    async def awaited(verb: Callable[[], Any]) -> Any:
        return await verb()

    def recurse(_: Any) -> None:
        assert value.try_set(9) is False
        for verb in (
            lambda: value.blocking_set(1),
            lambda: value.blocking_update(lambda old: old),
            lambda: value.blocking_compare_and_set(0, 1),
        ):
            with pytest.raises(ringspan.WouldDeadlock, match=value.name) as info:
                verb()
            assert isinstance(info.value, RuntimeError)
        raise LookupError

    def recurse_in_a_loop(_: Any) -> None:
        for verb in (lambda: value.set(1), lambda: value.update(lambda old: old)):
            with pytest.raises(ringspan.WouldDeadlock, match=value.name):
                asyncio.run(awaited(verb))
        raise LookupError

    with pytest.raises(LookupError):
        run(awaited(lambda: value.update(recurse)))
    for f in (recurse, recurse_in_a_loop):
        with pytest.raises(LookupError):
            value.blocking_update(f)
    assert (value.get(), value.version) == (0, 1)
    assert value.try_set("the lock is free")


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.parametrize("options", [{}, {"exact": False}, {"pickle": True}])
def test_an_async_function_is_refused(name: str, options: dict[str, bool]) -> None:
    async def f(old: int) -> int:
        return old + 1

    with ringspan.Value(name, **options) as value:
        value.blocking_set(1)
        with pytest.raises(TypeError, match="coroutine"):
            value.blocking_update(f)
        gc.collect()
        assert value.get() == 1


def test_repr_pickle_and_close(name: str, run: Run) -> None:
    value = ringspan.Value(name, exact=False)
    assert repr(value) == f'<ringspan.Value "{name}">'
    value.blocking_set((1, 2))
    for other in (pickle.loads(pickle.dumps(value)), copy.copy(value), copy.deepcopy(value)):
        assert (other.name, other.get()) == (name, [1, 2])
        other.blocking_set((1, 2))
        assert value.get() == [1, 2], "its options travel with it"
        other.close()
    with value as entered:
        assert entered is value
    assert repr(value) == f'<ringspan.Value "{name}", closed>'
    value.close()
    assert (value.name, value.is_ephemeral) == (name, False)

    async def awaited(verb: Callable[[], Any]) -> None:
        await verb()

    for verb in (
        value.get,
        lambda: value.get(None),
        value.try_get,
        lambda: value.version,
        value.stat,
        lambda: value.try_set(1),
        lambda: value.blocking_set(1),
        lambda: value.blocking_update(len),
        lambda: value.blocking_compare_and_set(1, 2),
        value.blocking_changed,
        lambda: value.blocking_wait_for(bool),
        lambda: aiter(value),
        lambda: run(awaited(lambda: value.set(1))),
        lambda: run(awaited(value.changed)),
        lambda: run(awaited(lambda: value.wait_for(bool))),
    ):
        with pytest.raises(ringspan.HandleClosed, match=name):
            verb()
    again = pickle.loads(pickle.dumps(value))
    assert again.get() == [1, 2]
    again.remove()
    with pytest.raises(ringspan.NotFound, match=name):
        pickle.loads(pickle.dumps(value))
    again.close()


def test_misuse(value: ringspan.Value, run: Run) -> None:
    async def twice() -> None:
        setting = value.set(1)
        assert await setting == 1
        with pytest.raises(RuntimeError, match=r"Value\.set\(\) was awaited already"):
            await setting
        waiting = value.changed()
        task = asyncio.ensure_future(waiting)
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match=r"Value\.changed\(\) was awaited already"):
            await waiting
        value.try_set(2)
        assert await task == 2

    run(twice())
    for verb in (lambda: value.set(3), value.changed, lambda: value.wait_for(bool)):
        with pytest.raises(RuntimeError, match="needs a running asyncio loop"):
            verb().send(None)
    with pytest.warns(RuntimeWarning, match=r"Value\.set\(\) was never awaited"):
        value.set(4)
    assert value.get() == 2
    with pytest.raises(TypeError):
        value.blocking_update(3)  # type: ignore[call-overload]
    with pytest.raises(TypeError):
        value.blocking_wait_for(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        type("Sub", (ringspan.Value,), {})
    assert value.try_set("the lock is free")
