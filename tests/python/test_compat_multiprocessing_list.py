"""`ringspan.compat.multiprocessing.ShareableList` has the standard class's bytes, and trusts none.

With RINGSPAN_COMPAT_ORIGINAL=1 the tests run against the standard class.
"""

from __future__ import annotations

import os
import pickle
import random
import struct
from collections.abc import Callable, Iterator
from multiprocessing import shared_memory as standard
from pathlib import Path
from typing import Any

import pytest
import ringspan
from compat_tools import ORIGINAL, only_here, wrong_there

IMPORT = "from {} import ShareableList, SharedMemory".format(
    "multiprocessing.shared_memory" if ORIGINAL else "ringspan.compat.multiprocessing"
)
if ORIGINAL:
    from multiprocessing.shared_memory import ShareableList, SharedMemory
else:
    from ringspan.compat.multiprocessing import ShareableList, SharedMemory

Start = Callable[..., Any]
Make = Callable[..., Any]
ALL = [-(2**63), 2**63 - 1, 0, 2.5, float("inf"), True, False, None, "", "text", b"", b"by\0tes"]


@pytest.fixture
def make(plain: str) -> Iterator[Make]:
    """Makes the list of that name (once), or attaches to it without a sequence."""
    made: list[Any] = []

    def one(sequence: Any = None) -> Any:
        made.append(ShareableList(sequence, name=plain))
        return made[-1]

    yield one
    for item in made:
        item.shm.close()
    if made:
        made[0].shm.unlink()


def same(a: list[Any], b: list[Any]) -> bool:
    return a == b and [type(x) for x in a] == [type(x) for x in b]


# ---- its memory ----------------------------------------------------------------------------------


@only_here
def test_it_has_its_memory_when_it_has_its_name(plain: str) -> None:
    def taken() -> int:
        return Path("/dev/shm", plain).stat().st_blocks * 512

    one = ShareableList([b"x" * 100_000], name=plain)
    assert taken() >= one.shm.size > 100_000
    one.shm.close()
    one.shm.unlink()
    block = SharedMemory(plain, create=True, size=100_000)
    assert taken() == 0, "as the standard class"
    block.close()
    block.unlink()


# ---- what it is ----------------------------------------------------------------------------------


def test_all_types_come_back(make: Make, plain: str) -> None:
    made, there = make(ALL), make()
    assert same(list(made), ALL)
    assert same(list(there), ALL)
    assert len(there) == len(ALL)
    assert repr(there) == f"ShareableList({ALL!r}, name={plain!r})"
    assert made.format == "qqqddxxxxxxx?xxxxxxx?xxxxxx?x8s8s8s8s"
    assert same(list(reversed(made)), ALL[::-1])
    assert "text" in there
    assert "none" not in there


def test_any_iterable(make: Make) -> None:
    assert list(make(range(3))) == [0, 1, 2]


@wrong_there("goes over it twice")
def test_a_generator(make: Make) -> None:
    assert list(make(x * x for x in range(3))) == [0, 1, 4]


def test_items_change_their_type_within_their_room(make: Make) -> None:
    made, there = make([1, "0123456789", b"x"]), make()
    for value in (2.5, "12345678", "é" * 4, b"q", None, True, -1, "", b""):
        made[0] = value
        assert same([there[0], there[1], there[2]], [value, "0123456789", b"x"])
    with pytest.raises(ValueError):
        made[0] = "123456789"
    with pytest.raises(ValueError):
        made[1] = "é" * 9
    made[1] = "x" * 16
    made[1] = "short"
    assert list(there) == [b"", "short", b"x"]
    made[1] = 5
    made[1] = "x" * 16
    assert list(there) == [b"", "x" * 16, b"x"]


@wrong_there("counts characters and cuts bytes")
def test_text_beyond_ascii(make: Make) -> None:
    assert list(make(["ééééé", "日本語の文字", "é" * 8])) == ["ééééé", "日本語の文字", "é" * 8]


@pytest.mark.parametrize(
    ("item", "error"),
    [([1], KeyError), ((), KeyError), (1j, KeyError), (2**63, struct.error), (object(), KeyError)],
)
def test_items_that_cannot_be(make: Make, item: object, error: type[Exception]) -> None:
    made = make([1, 2.5])
    with pytest.raises(error):
        made[1] = item
    if item != 2**63 or not ORIGINAL:  # there the old item is lost
        assert same(list(made), [1, 2.5])


@pytest.mark.parametrize("item", [[1], 2**63])
def test_a_list_that_cannot_be_leaves_nothing(plain: str, item: object) -> None:
    if ORIGINAL and item == 2**63:
        pytest.xfail("the standard class leaves an empty block")
    with pytest.raises((KeyError, struct.error)):
        ShareableList([1, item], name=plain)
    assert not Path("/dev/shm", plain).exists()


def test_items_too_long_to_write_down(plain: str) -> None:
    with pytest.raises(AssertionError):
        ShareableList(["x" * 10_000_000], name=plain)


def test_places(make: Make) -> None:
    made = make([1, 2, 3])
    assert [made[-1], made[-3], made[2]] == [3, 1, 3]
    for place in (3, 99):
        with pytest.raises(IndexError, match="index out of range"):
            made[place]
        with pytest.raises(IndexError, match="assignment index out of range"):
            made[place] = 1
    for bad in (slice(0, 1), "0", 1.0):
        with pytest.raises(TypeError):
            made[bad]
        with pytest.raises(TypeError):
            made[bad] = 1


@wrong_there("reads its formats as an item")
def test_places_before_the_first(make: Make) -> None:
    made = make([1, 2, 3])
    with pytest.raises(IndexError):
        made[-4]
    with pytest.raises(IndexError):
        made[-4] = 1
    assert list(made) == [1, 2, 3]


def test_pickles_by_name(make: Make) -> None:
    made = make([1, "two"])
    there = pickle.loads(pickle.dumps(made))
    there[0] = 9
    assert (type(there), made[0]) == (ShareableList, 9)
    there.shm.close()


def test_closed(make: Make) -> None:
    made = make([1])
    made.shm.close()
    for use in (len, list, repr, lambda it: it[0], lambda it: it.__setitem__(0, 1)):
        with pytest.raises(TypeError):
            use(made)


def test_names(make: Make, plain: str) -> None:
    with pytest.raises(FileNotFoundError):
        make()
    make([1])
    with pytest.raises(FileExistsError):
        make([2])
    assert list(make()) == [1]
    assert ShareableList[int]


def test_processes_share_a_list(make: Make, plain: str, child: Start) -> None:
    made = make([0, 0.5, "here"])
    there = child(
        f"""
        {IMPORT}
        there = ShareableList(name={plain!r})
        print(list(there))
        there[0], there[2] = 7, "there"
        there.shm.close()
        print("set")
        input()
        """
    )
    there.expect("[0, 0.5, 'here']")
    there.expect("set")
    assert list(made) == [7, 0.5, "there"]


# ---- the standard class's bytes ------------------------------------------------------------------


@only_here
def test_the_bytes_are_those_of_the_standard_class(plain: str) -> None:
    for number, items in enumerate(([], ALL, [1], ["x" * 7, "x" * 8, b"y" * 9], [None] * 50)):
        ours = ShareableList(items, name=f"{plain}-{number}")
        theirs = standard.ShareableList(items, name=f"{plain}-{number}-standard")
        assert ours.shm.size == theirs.shm.size
        assert bytes(ours.shm.buf) == bytes(theirs.shm.buf)
        for one in (ours, theirs):
            one.shm.close()
            one.shm.unlink()


@only_here
def test_ours_and_the_standard_class_attach_to_each_others_lists(plain: str, child: Start) -> None:
    ours = ShareableList(ALL, name=plain)
    there = child(
        f"""
        from multiprocessing.shared_memory import ShareableList
        from multiprocessing.resource_tracker import unregister
        there = ShareableList(name={plain!r})
        unregister("/{plain}", "shared_memory")
        print(list(there))
        there[3], there[9] = "theirs", None
        print("set")
        input()
        theirs = ShareableList(["theirs", 1, "é"], name="{plain}-2")
        print("made")
        input()
        print(list(theirs))
        for one in (there, theirs):
            one.shm.close()
        theirs.shm.unlink()
        """
    )
    there.expect(repr(ALL))
    there.expect("set")
    assert same(list(ours), [*ALL[:3], "theirs", *ALL[4:9], None, *ALL[10:]])
    there.say()
    there.expect("made")
    theirs = ShareableList(name=f"{plain}-2")
    assert list(theirs) == ["theirs", 1, "é"]
    theirs[0], theirs[1] = 2.5, "ours"
    there.say()
    there.expect("[2.5, 'ours', 'é']")
    assert there.wait() == 0
    for one in (ours, theirs):
        one.shm.close()
    ours.shm.unlink()


# ---- bytes that are no list ----------------------------------------------------------------------


@only_here
@pytest.mark.parametrize(
    ("place", "number"),
    [
        (0, -1),
        (0, 4),
        (0, 2**62),
        (0, -(2**63)),
        (8, 1),
        (16, -8),
        (16, 2**62),
        (24, 0),
        (32, 1 << 40),
    ],
)
def test_numbers_that_lie_are_refused(make: Make, place: int, number: int) -> None:
    made = make([1, "text", 2.5])
    struct.pack_into("q", made.shm.buf, place, number)
    with pytest.raises(ringspan.Damaged, match=made.shm.name) as caught:
        make()
    assert isinstance(caught.value, ValueError)


@only_here
@pytest.mark.parametrize(
    "form", [b"9s", b"9999999s", b"s", b"-1s", b"1q", b"qq", b"", b"P", b"\xff" * 8, b"1000s"]
)
def test_formats_that_lie_are_refused(make: Make, form: bytes) -> None:
    made = make([1, "text", 2.5])
    struct.pack_into("8s", made.shm.buf, 8 * 5 + 24, form)
    for use in (lambda: made[0], lambda: made.format, lambda: list(make())):
        with pytest.raises(ringspan.Damaged, match="item 0"):
            use()
    assert made[1] == "text"
    made[0] = 3
    assert list(made) == [3, "text", 2.5]


@only_here
def test_codes_and_texts_that_lie_are_refused(make: Make) -> None:
    made = make([1, "text", 2.5])
    codes = 8 * 5 + 24 + 24
    for place, code in ((0, 1), (0, 2), (2, 200), (1, 9)):
        before = made.shm.buf[codes + place]
        made.shm.buf[codes + place] = code
        with pytest.raises(ringspan.Damaged, match=f"item {place}"):
            made[place]
        made.shm.buf[codes + place] = before
    made.shm.buf[8 * 5 + 8] = 0xFF
    with pytest.raises(ringspan.Damaged, match="UTF-8"):
        made[1]


@only_here
@pytest.mark.parametrize("size", [1, 7, 8, 15, 17, 100])
def test_blocks_that_are_no_lists(plain: str, size: int) -> None:
    made = SharedMemory(plain, create=True, size=size)
    with pytest.raises(ringspan.Damaged):
        ShareableList(name=plain)
    made.buf[:] = b"\xff" * size
    with pytest.raises(ringspan.Damaged):
        ShareableList(name=plain)
    made.unlink()


@only_here
def test_any_bytes_at_all(make: Make) -> None:
    made = make([1, "text", 2.5, b"bytes", None])
    whole = bytes(made.shm.buf)
    chance = random.Random(int(os.environ.get("RINGSPAN_SEED", "1")))
    refused = 0
    for _ in range(2000):
        damaged = bytearray(whole)
        for _ in range(chance.randrange(1, 4)):
            damaged[chance.randrange(len(whole))] = chance.choice([0, 1, 8, 127, 255])
        made.shm.buf[:] = damaged
        there = None
        try:
            there = ShareableList(name=made.shm.name)
            assert len(list(there)) == len(there)
            there[-1] = None
        except (ringspan.Damaged, IndexError):
            refused += 1
        finally:
            if there is not None:
                there.shm.close()
    assert refused > 500
