"""What SnowWalkerJ's `shared_memory` promises, sentence by sentence, seen by real processes.

`RINGSPAN_COMPAT_ORIGINAL=1` runs this file against the original, where somebody has built it (it is
not on PyPI). What its listed bugs break, and what is new, is in ../test_compat_shared_memory*.py.
"""

from __future__ import annotations

import importlib
import inspect
import re
import textwrap
from collections.abc import Callable
from typing import Any

import pytest
from compat_tools import ORIGINAL, exists, only_here, wrong_there

PACKAGE = "shared_memory" if ORIGINAL else "ringspan.compat.shared_memory"
IMPORT = (
    "import shared_memory as shm"
    if ORIGINAL
    else "from ringspan.compat import shared_memory as shm"
)
shm: Any = pytest.importorskip(PACKAGE) if ORIGINAL else importlib.import_module(PACKAGE)

Start = Callable[..., Any]


@pytest.fixture
def pd() -> Any:
    return pytest.importorskip("pandas")


@pytest.fixture
def does(run_python: Start) -> Callable[[str], str]:
    """`does(code)`: what a process says that runs it."""
    return lambda code: str(run_python(f"{IMPORT}\n{textwrap.dedent(code)}").stdout)


# ---- names and signatures ------------------------------------------------------------------------

SIGNATURES = {
    "SharedMemory.create": "name size",
    "SharedMemory.open": "name read_only=False",
    "SharedMemory.size": "self",
    "unlink": "name",
    "create": "name layout",
    "load": "name layout=None",
    "NdArrayLayout": "dtype shape init_value=None",
    "NdArrayLayout.from_data": "array",
    "SeriesLayout": "dtype index init_value=None",
    "SeriesLayout.from_data": "data",
    "DataFrameLayout": "dtypes index init_value=None",
    "DataFrameLayout.from_data": "df",
    "DataArrayLayout": "dims coords dtype shape init_value=None",
    "DataArrayLayout.from_data": "array",
    "PickleLayout": "item",
    "StructLayout": "layout",
    "Layout.size": "self",
    "Layout.dump": "self mem",
    "Layout.load": "mem",
    "Layout.get_layout_cls": "key",
    "ShmMessageQueue.create": "name itemsize count safe_buffer=2",
    "ShmMessageQueue.open": "name safe_buffer=2",
    "ShmMessageQueue.put": "self obj",
    "ShmMessageQueue.get": "self",
    "ShmMessageQueue.empty": "self",
    "MessageQueue.create": "name item_size count safe_buffer=2 serializer=",
    "MessageQueue.load": "name safe_buffer=2 serializer=",
}


@only_here
@pytest.mark.parametrize("of", SIGNATURES)
def test_signatures(of: str) -> None:
    what = shm
    for part in of.split("."):
        what = getattr(what, part)
    parameters = inspect.signature(what).parameters.values()
    shown = [
        one.name if one.default is one.empty else f"{one.name}={one.default}"
        for one in parameters
        if one.kind is not one.KEYWORD_ONLY and one.name != "timeout"
    ]
    assert re.sub(r"(serializer=)\S+", r"\1", " ".join(shown)) == SIGNATURES[of]


def test_signs() -> None:
    kinds = "NdArrayLayout PickleLayout StructLayout SeriesLayout DataFrameLayout DataArrayLayout"
    there = [getattr(shm, kind, None) for kind in kinds.split()]  # the original drops what it lacks
    for kind, sign in zip(there, (b"a", b"p", b"s", b"d", b"D", b"x"), strict=True):
        assert kind is None or (kind.sign == sign and shm.Layout.get_layout_cls(sign) is kind)


# ---- memory --------------------------------------------------------------------------------------


def test_memory(name: str, does: Callable[[str], str]) -> None:
    memory = shm.SharedMemory.create(name, 100)
    view = memoryview(memory)
    assert (memory.size(), view.format, view.ndim, view.nbytes) == (100, "B", 1, 100)
    assert not any(view)
    said = does(f"""
        there = shm.SharedMemory.open({name[1:]!r})
        memoryview(there)[:5] = b"hello"
        print(there.size())
    """)
    assert said == "100\n"
    assert bytes(view[:5]) == b"hello", "the end of a process takes nothing away"
    assert shm.unlink(name) is None
    assert shm.unlink(name) is None, "a missing name is no error"
    assert not exists(name)
    del memory
    assert bytes(view[:5]) == b"hello", "who has it keeps it"


def test_what_memory_refuses(name: str) -> None:
    with pytest.raises(TypeError):
        shm.SharedMemory()
    for use in (shm.SharedMemory.open, shm.load, shm.ShmMessageQueue.open):
        with pytest.raises(RuntimeError):
            use(name)
    with pytest.raises(RuntimeError):
        shm.SharedMemory.create(name, 0)
    assert not exists(name)
    memoryview(shm.SharedMemory.create(name, 10))[0] = 7
    for again in (
        lambda: shm.SharedMemory.create(name, 20),
        lambda: shm.create(name, shm.PickleLayout(1)),
    ):
        with pytest.raises(RuntimeError):
            again()
    there = shm.SharedMemory.open(name, read_only=True)
    assert (there.size(), memoryview(there)[0]) == (10, 7)


# ---- layouts -------------------------------------------------------------------------------------


def test_arrays(name: str, does: Callable[[str], str]) -> None:
    np = pytest.importorskip("numpy")
    array = shm.create(name, shm.NdArrayLayout("float32", (3, 5)))
    assert (type(array), array.dtype, array.shape) == (np.ndarray, np.float32, (3, 5))
    assert (array.flags.c_contiguous, array.any()) == (True, False)
    said = does(f"""
        array = shm.load({name!r})
        array[1, 2] = 1.5
        print(array.dtype, array.shape, shm.load({name!r}, layout=shm.NdArrayLayout).sum())
    """)
    assert said == "float32 (3, 5) 1.5\n"
    assert array[1, 2] == 1.5
    shm.create(f"{name}-2", shm.NdArrayLayout("int32", (2, 3), init_value=[1, 2, 3]))
    assert shm.load(f"{name}-2").tolist() == [[1, 2, 3]] * 2
    like = shm.create(f"{name}-3", shm.NdArrayLayout.from_data(np.ones((2, 2), "int16")))
    assert (like.dtype, like.tolist()) == (np.int16, [[0, 0], [0, 0]]), "not the values"


def test_series(name: str, pd: Any, does: Callable[[str], str]) -> None:
    series = shm.create(name, shm.SeriesLayout(dtype="float32", index=["a", "b", "c"]))
    assert (type(series), series.tolist()) == (pd.Series, [0, 0, 0])
    does(f"series = shm.load({name!r}); series.loc['b'] = 1.5; series.iloc[2] = 2.5")
    assert series.to_dict() == {"a": 0, "b": 1.5, "c": 2.5}
    copied = shm.create(f"{name}-2", shm.SeriesLayout.from_data(pd.Series([1, 2], index=[5, 6])))
    assert copied.to_dict() == {5: 1, 6: 2}


@wrong_there("needs pandas up to 1.2")
def test_frames(name: str, pd: Any, does: Callable[[str], str]) -> None:
    columns = [("a", "float32"), ("b", "int32")]
    frame = shm.create(name, shm.DataFrameLayout(dtypes=columns, index=["x", "y", "z"]))
    assert (type(frame), [str(one) for one in frame.dtypes]) == (pd.DataFrame, ["float32", "int32"])
    does(f"frame = shm.load({name!r}); frame.loc['y', 'a'] = 1.5; frame.iloc[2, 1] = 7")
    assert frame.to_dict("list") == {"a": [0, 1.5, 0], "b": [0, 0, 7]}
    assert list(frame.index) == ["x", "y", "z"]
    data = pd.DataFrame({"n": [1, 2], "x": [0.5, 1.5]}, index=["p", "q"])
    shm.create(f"{name}-2", shm.DataFrameLayout.from_data(data))
    pd.testing.assert_frame_equal(shm.load(f"{name}-2"), data)
    shm.create(f"{name}-3", shm.DataFrameLayout(columns, [1, 2], init_value=3))
    assert (shm.load(f"{name}-3") == 3).all().all()


def test_data_arrays(name: str, does: Callable[[str], str]) -> None:
    xr = pytest.importorskip("xarray")
    layout = shm.DataArrayLayout(["x"], {"x": [1, 2, 3]}, "float64", (3,))
    array = shm.create(name, layout)
    assert (type(array), array.dims, array.values.tolist()) == (xr.DataArray, ("x",), [0, 0, 0])
    does(f"shm.load({name!r}).loc[2] = 5")
    assert array.sel(x=2) == 5


def test_pickles_and_dicts(name: str, does: Callable[[str], str]) -> None:
    layout = shm.StructLayout(
        {"what": shm.PickleLayout({"n": [1, 2]}), "more": shm.StructLayout({})}
    )
    made = shm.create(name, layout)
    assert made == {"what": {"n": [1, 2]}, "more": {}}
    made["what"]["n"] = "a copy"
    assert does(f"print(shm.load({name!r}))") == "{'what': {'n': [1, 2]}, 'more': {}}\n"
    with pytest.raises(TypeError):
        shm.load(name, shm.PickleLayout)


class Pair(shm.Layout):  # type: ignore[misc, name-defined]
    """A layout of one's own: two bytes."""

    sign = b"\xf0"

    def __init__(self, first: int, second: int) -> None:
        self.both = bytes([first, second])

    def size(self) -> int:
        return 3

    def dump(self, mem: memoryview) -> None:
        mem[:3] = self.sign + self.both

    @classmethod
    def load(cls, mem: memoryview) -> tuple[int, int]:
        return mem[1], mem[2]


def test_layouts_of_ones_own(name: str) -> None:
    assert shm.create(name, Pair(3, 4)) == shm.load(name) == shm.load(name, Pair) == (3, 4)
    memoryview(shm.SharedMemory.create(f"{name}-2", 16))[0] = 0xFE
    with pytest.raises(KeyError):
        shm.load(f"{name}-2")


def test_signs_of_ones_own() -> None:
    def new(**members: Any) -> None:
        type("Other", (shm.Layout,), members)

    for taken in (Pair.sign, b"p", b"s"):
        with pytest.raises(ValueError):
            new(sign=taken)
    new()  # without a sign of its own
    if not ORIGINAL:
        for bad in (b"", b"NN", "N", 5):
            with pytest.raises(ValueError, match="one byte"):
                new(sign=bad)
    with pytest.raises(TypeError):
        shm.Layout()


# ---- queues --------------------------------------------------------------------------------------


def test_a_queue(name: str, child: Start) -> None:
    queue = shm.ShmMessageQueue.create(name, itemsize=100, count=8, safe_buffer=2)
    reader = child(f"""
        {IMPORT}
        reader = shm.ShmMessageQueue.open({name!r})
        print(reader.empty())
        while reader.empty():
            pass
        print(reader.get(), flush=True)
        input()
        got = []
        while not reader.empty():
            got.append(reader.get())
        print(got)
    """)
    here = shm.ShmMessageQueue.open(name)
    reader.expect("True")
    queue.put({"frame": 1})
    reader.expect("{'frame': 1}")
    assert here.get() == {"frame": 1}, "each reader gets each item"
    for number in range(20):
        queue.put(number)
    reader.say()
    reader.expect(str(list(range(14, 20))))  # the slow one skips ahead, two slots are kept clear
    assert reader.wait() == 0


# ---- the document --------------------------------------------------------------------------------

SNIPPETS = {
    "a SharedMemory": """
        memory = shm.SharedMemory.create("name", 100)
        same_memory = shm.SharedMemory.open("name")
        """,
    "an ndarray": """
        layout = shm.NdArrayLayout("float32", (3, 5))
        array = shm.create("array", layout)
        same_array = shm.load("array")
        """,
    "a Series": """
        layout = shm.SeriesLayout(dtype="float32", index=["a", "b", "c"])
        series = shm.create("series", layout)
        same_series = shm.load("series")
        """,
    "a DataFrame": """
        layout = shm.DataFrameLayout(
            dtypes=[("a", "float32"), ("b", "int32")], index=["a", "b", "c"]
        )
        frame = shm.create("frame", layout)
        same_frame = shm.load("frame")
        """,
    "a DataArray": """
        import xarray as xr
        template_data = xr.DataArray(
            0, dims=["x", "y"], coords={"x": [1, 2, 3], "y": ["a", "b", "c"]}
        )
        layout = shm.DataArrayLayout.from_data(template_data)
        array = shm.create("array2", layout)
        same_array = shm.load("array2")
        """,
    "unlink": """
        shm.unlink("name")
        """,
}
NEEDS = {
    "an ndarray": "numpy",
    "a Series": "pandas",
    "a DataFrame": "pandas",
    "a DataArray": "xarray",
}


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_the_snippets_of_the_document(snippet: str, name: str, does: Callable[[str], str]) -> None:
    if snippet in NEEDS:
        pytest.importorskip(NEEDS[snippet])
    # The names too, for the sake of other programs on this machine.
    code = re.sub(r'"(name|array2?|series|frame)"', rf'"{name[1:]}-\1"', SNIPPETS[snippet])
    assert does(code) == ""
    made = {"a SharedMemory": "name", "a Series": "series", "a DataFrame": "frame"}.get(snippet)
    assert made is None or exists(f"{name}-{made}")
