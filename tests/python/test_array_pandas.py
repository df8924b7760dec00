"""Series and DataFrame of pandas in shared memory: labels, dtypes, writes, what is not shared."""

from __future__ import annotations

import asyncio
import gc
import pickle
import re
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ringspan
import ringspan.array as shared
from ringspan._arrays.parts import decoded, encoded
from ringspan._ringspan import _Block

pd = pytest.importorskip("pandas")

Run = Callable[[Coroutine[Any, Any, Any]], Any]

ZONED = pd.date_range("2024-03-30", periods=4, freq="D", tz="Europe/Berlin")
COLUMNS = {
    "f8": np.array([1.5, np.nan, -0.0, np.inf]),
    "f4": np.arange(4, dtype="f4"),
    "i8": np.arange(4) - 2,
    "u1": np.arange(4, dtype="u1"),
    "bool": np.array([True, False, True, True]),
    "c16": np.arange(4) * 1j,
    ">i4": np.arange(4, dtype=">i4"),
    "M8[ns]": np.array(["2020", "NaT", "2021", "2022"], "M8[ns]"),
    "M8[s]": np.array(["2020", "NaT", "2021", "2022"], "M8[s]"),
    "m8[us]": np.array([1, 2, "NaT", 4], "m8[us]"),
    "zoned": ZONED,
    "utc": ZONED.tz_convert("UTC"),
    "offset": ZONED.tz_convert("+02:00"),
    "period": pd.period_range("2024-01", periods=4, freq="M"),
    "category": pd.Categorical(["b", None, "a", "b"], categories=["b", "a", "c"]),
    "ordered": pd.Categorical([3, 1, 1, 3], categories=[3, 1], ordered=True),
    "Int64": pd.array([1, None, 3, -4], dtype="Int64"),
    "UInt8": pd.array([1, None, 3, 4], dtype="UInt8"),
    "Float32": pd.array([1.5, None, 3, 4], dtype="Float32"),
    "boolean": pd.array([True, None, False, True], dtype="boolean"),
}
NEW = {  # something else of the same dtype
    "M8[ns]": pd.Timestamp("1999"),
    "M8[s]": pd.Timestamp("1999"),
    "m8[us]": pd.Timedelta(9, "us"),
    "zoned": pd.Timestamp("1999", tz="Europe/Berlin"),
    "utc": pd.Timestamp("1999", tz="UTC"),
    "offset": pd.Timestamp("1999", tz="UTC"),
    "period": pd.Period("1999-07", "M"),
    "category": "c",
    "ordered": 1,
    "bool": False,
    "boolean": True,
}
INDEXES = {
    "range": pd.RangeIndex(1, 9, 2, name="r"),
    "ints": pd.Index([3, 1, 2, 3], name=("a", 1)),
    "floats": pd.Index([1.5, np.nan, 2, 3]),
    "bools": pd.Index([True, False, True, False]),
    "text": pd.Index(["a", "ä", "", "d"], name="text"),
    "objects": pd.Index(["a", 1, None, (2, b"x")], dtype=object),
    "times": pd.date_range("2020", periods=4, freq="W", name="t"),
    "times without a step": pd.DatetimeIndex(["2020", "1999", "NaT", "2021"]),
    "zoned": ZONED,
    "spans": pd.timedelta_range("1s", periods=4, freq="3s"),
    "periods": pd.period_range("2020", periods=4, freq="Y"),
    "categories": pd.CategoricalIndex(["x", "y", "x", None], name="c"),
    "intervals": pd.interval_range(0, 4, closed="left", name="i"),
    "masked": pd.Index([1, None, 3, 4], dtype="Int64"),
    "multi": pd.MultiIndex.from_arrays(
        [["a", "b", "a", None], pd.date_range("2020", periods=4)], names=["x", None]
    ),
}


def series(name: str, obj: Any, **options: Any) -> Any:
    made = shared.from_array(name, obj, **options)
    assert isinstance(made, shared.SharedSeries)
    return made


def frame(name: str, obj: Any, **options: Any) -> Any:
    made = shared.from_array(name, obj, **options)
    assert isinstance(made, shared.SharedDataFrame)
    return made


@pytest.mark.parametrize("kind", COLUMNS)
def test_a_series_of_every_dtype_is_shared(name: str, kind: str) -> None:
    source = pd.Series(COLUMNS[kind], index=list("wxyz"), name=kind)
    source.attrs["unit"] = {"m": (1, 2)}
    made, other = series(name, source), shared.open(name)
    for one in (made, other):
        pd.testing.assert_series_equal(one.value, source)
        assert one.value.attrs == {"unit": {"m": (1, 2)}}
        assert one.detached() == []
    new = NEW.get(kind, 7)
    made.value.loc["x"] = new
    made.value.iloc[3] = new
    other.value.at["w"] = new
    expected = pd.Series(source.array.copy(), index=source.index, name=kind)
    for label in "xzw":
        expected.loc[label] = new
    for one in (made, other, shared.open(name)):
        pd.testing.assert_series_equal(one.value, expected, check_freq=False)
        assert one.detached() == []
    source.loc["y"] = new
    pd.testing.assert_series_equal(other.value, expected, check_freq=False)


def test_a_frame_of_all_dtypes_is_shared(name: str, child: Any) -> None:
    source = pd.DataFrame(COLUMNS, index=INDEXES["multi"])
    source.attrs["of"] = "everything"
    made, other = frame(name, source), shared.open(name)
    for one in (made, other):
        pd.testing.assert_frame_equal(one.value, source)
        assert one.value.attrs == {"of": "everything"}
    code = """
        import sys, ringspan
        frame = ringspan.array.open(sys.argv[1])
        frame.value.iloc[1, 0] = 42
        frame.value.loc[frame.value["i8"] > 0, "f4"] = -1
        frame.value.iat[2, 2] = 9
        frame.value.iloc[0, 14] = "c"
        assert frame.detached() == []
        print(frame.notify())
        """
    changed = child(code, name)
    changed.expect("1")
    changed.finish()
    expected = source.copy()
    expected.iloc[1, 0] = 42
    expected.loc[expected["i8"] > 0, "f4"] = -1
    expected.iat[2, 2] = 9
    expected.iloc[0, 14] = "c"
    for one in (made, other):
        pd.testing.assert_frame_equal(one.value, expected)


@pytest.mark.parametrize("kind", INDEXES)
def test_every_kind_of_label_is_kept(name: str, kind: str) -> None:
    index = INDEXES[kind]
    by_row = pd.DataFrame(np.arange(8.0).reshape(4, 2), index=index, columns=["a", "b"])
    by_column = by_row.T
    for number, source in enumerate((by_row, by_column, by_row["a"])):
        one = f"{name}-{number}"
        made, other = shared.from_array(one, source), shared.open(one)
        check = pd.testing.assert_series_equal if number == 2 else pd.testing.assert_frame_equal
        for found in (made, other):
            check(found.value, source)
            now = found.value.columns if number == 1 else found.value.index
            pd.testing.assert_index_equal(now, index, exact=True)
            assert getattr(now, "freq", None) == getattr(index, "freq", None)
        made.value.iloc[0] = 99.0
        check(other.value, made.value)


def test_columns_of_one_dtype_are_one_block(name: str) -> None:
    source = pd.DataFrame(np.arange(12.0).reshape(4, 3), columns=["a", "b", "a"])
    made, other = frame(name, source), shared.open(name)
    pd.testing.assert_frame_equal(other.value, source)
    made.value.iloc[:, 2] = 5.0
    made.value.loc[1] = [7.0, 8.0, 9.0]
    made.value.loc[made.value["b"] > 7, "b"] = 0.0
    pd.testing.assert_frame_equal(other.value, made.value)
    assert other.value.iloc[1].tolist() == [7.0, 0.0, 9.0]
    mixed = pd.DataFrame({"a": [1.0, 2], "n": [1, 2], "b": [3.0, 4], "c": [5.0, 6]})
    made, other = frame(f"{name}-mixed", mixed), shared.open(f"{name}-mixed")
    made.value.loc[0, "c"] = 9
    pd.testing.assert_frame_equal(other.value, made.value)


@pytest.mark.parametrize(
    "source",
    [
        pd.DataFrame(),
        pd.DataFrame(index=[1, 2]),
        pd.DataFrame(columns=["a", "b"], dtype="f8"),
        pd.DataFrame({"a": np.zeros(0), "b": np.zeros(0, "i4"), "c": pd.Categorical([])}),
        pd.DataFrame({("a", 1): [1.0], ("a", None): [2]}),
    ],
    ids=["nothing", "rows", "columns", "no rows", "one row"],
)
def test_small_frames(name: str, source: Any) -> None:
    made, other = frame(name, source), shared.open(name)
    for one in (made, other):
        pd.testing.assert_frame_equal(one.value, source)
        assert one.detached() == []
        with one.blocking_write():
            pass


def test_a_thousand_columns(name: str) -> None:
    source = pd.DataFrame(
        {f"c{n}": np.arange(3, dtype="i8" if n % 2 else "f8") for n in range(999)}
    )
    made, other = frame(name, source), shared.open(name)
    made.value.loc[1, "c500"] = -1
    assert other.value.loc[1, "c500"] == -1
    assert len(_Block.open(name).meta) < 60_000


def test_labels_may_be_many(name: str) -> None:
    source = pd.Series(np.arange(200_000.0), index=[f"label {n}" for n in range(200_000)])
    made = series(name, source)
    assert len(_Block.open(name).meta) < 1000
    made.value["label 199999"] = 3
    assert shared.open(name).value.iloc[-1] == 3
    with made.blocking_read() as one, made.blocking_read() as two:
        assert one.index.is_(two.index)
        assert one.index.is_(made.value.index)


def test_the_description_is_that_of_the_format_page(name: str) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "format.md").read_text()
    rows = re.findall(
        r"^\| `(\w+)` \| ([a-z, ]+) \|", page.split("### Named arrays")[1], re.MULTILINE
    )
    sources = {"series": pd.Series([1.0]), "dataframe": pd.DataFrame({"a": [1.0], "b": ZONED[:1]})}
    for of, source in sources.items():
        shared.from_array(f"{name}-{of}", source)
        block = _Block.open(f"{name}-{of}")
        found = decoded(block.meta)
        assert set(found) == {key for key, kinds in rows if of in kinds or kinds == "all"}
        assert found["of"] == of
    (place, runs), ((number, data),) = found["blocks"][0], found["single"]
    assert (runs, number, data["t"]) == ([[0, 1]], 1, "zoned")
    (zoned,) = data["at"]
    assert place[1] == bytes.fromhex("93a33c6638920101c2")
    assert zoned[0] % 64 == 0
    nanoseconds = int.from_bytes(bytes(block)[zoned[0] : zoned[0] + 8], "little")
    assert ZONED[0] == pd.Timestamp(nanoseconds, unit=ZONED.unit, tz="UTC")


# ---- what cannot be shared, and what is no longer ----------------------------------------------


def test_text_is_refused_or_copied(name: str) -> None:
    source = pd.DataFrame({"n": [1, 2, 3], "text": ["a", None, "ü"], "any": [1, "x", None]})
    for column in ("text", "any"):
        with pytest.raises(TypeError, match=f"array {name}: column '{column}'.*unshared='copy'"):
            shared.from_array(name, source[["n", column]])
    with pytest.raises(TypeError, match="the data is of dtype"):
        shared.from_array(name, source["text"])
    with pytest.raises(ringspan.InvalidOption, match="unshared"):
        shared.from_array(name, source, unshared="maybe")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="cannot be shared"):
        shared.from_array(name, pd.Series([object()]), unshared="copy")
    with pytest.raises(ringspan.NotFound):
        shared.open(name)
    made, other = frame(name, source, unshared="copy"), shared.open(name)
    pd.testing.assert_frame_equal(other.value, source)
    made.value.loc[0, "text"] = "reaches nobody"
    made.value.loc[0, "n"] = 42
    assert other.value.loc[0].tolist() == [42, "a", 1]
    strings = pd.Series(["a", None], dtype="string")
    series(f"{name}-s", strings, unshared="copy")
    pd.testing.assert_series_equal(shared.open(f"{name}-s").value, strings)


def test_other_dtypes_are_refused(name: str) -> None:
    for data in (pd.arrays.SparseArray([0, 1]), pd.interval_range(0, 2)):
        with pytest.raises(TypeError, match=f"array {name}: column 'a'.*dtype"):
            shared.from_array(name, pd.DataFrame({"a": data}))
    for attrs in ({"a": object()}, {"b": pd.Timestamp("2020")}):
        source = pd.Series([1.0])
        source.attrs.update(attrs)
        with pytest.raises(TypeError, match=f"array {name}: its description"):
            shared.from_array(name, source)
    with pytest.raises(TypeError, match="cannot be shared"):
        shared.from_array(name, pd.Series([1.0], name=frozenset([object()])))
    with pytest.raises(TypeError, match="cannot be shared"):
        shared.from_array(name, pd.Series([1.0], index=[object()]))
    long = pd.Series([1.0])
    long.attrs["long"] = "x" * (1 << 20)
    with pytest.raises(ringspan.InvalidOption, match="1 MiB"):
        shared.from_array(name, long)
    with pytest.raises(ringspan.NotFound):
        shared.open(name)


def test_what_is_replaced_is_no_longer_shared_and_says_so(name: str) -> None:
    source = pd.DataFrame({"a": [1.0, 2], "b": [3, 4], "c": pd.Categorical(["u", "v"])})
    made, other = frame(name, source), shared.open(name)
    made.value["a"] = [8.0, 9.0]
    assert made.detached() == ["a"]
    made.value["c"] = pd.Categorical(["v", "u"], categories=["u", "v"])
    made.value["b"] = made.value["b"].astype("f4")
    assert made.detached() == ["a", "b", "c"]
    pd.testing.assert_frame_equal(other.value, source)
    del made.value["b"]
    assert made.detached() == ["a", "b", "c"]
    numbers = series(f"{name}-s", pd.Series([1.0, 2], name="s"))
    numbers.value.index = ["x", "y"]
    assert numbers.detached() == []


def test_a_guard_writes_back_what_was_replaced(name: str, run: Run) -> None:
    source = pd.DataFrame(
        {
            "a": [1.0, 2],
            "b": [3, 4],
            "c": pd.Categorical(["u", "v"]),
            "n": pd.array([1, None], dtype="Int64"),
            "t": ZONED[:2],
        }
    )
    made, other = frame(name, source), shared.open(name)

    async def use() -> None:
        async with made.write() as df:
            kept = df["a"]  # from here on pandas 3 copies on write
            df.loc[0, "a"] = 10.0
            df["b"] = df["b"] * 2
            df["c"] = pd.Categorical(["v", "u"], categories=["u", "v"])
            df["n"] = pd.array([None, 5], dtype="Int64")
            df["t"] = df["t"] + pd.Timedelta("1D")
            assert other.try_read() is None
            del kept

    run(use())
    expected = source.copy()
    expected.loc[0, "a"] = 10.0
    expected["b"] *= 2
    expected["c"] = pd.Categorical(["v", "u"], categories=["u", "v"])
    expected["n"] = pd.array([None, 5], dtype="Int64")
    expected["t"] += pd.Timedelta("1D")
    for one in (made, other):
        pd.testing.assert_frame_equal(one.value, expected)
        assert one.detached() == []
    numbers = series(f"{name}-s", pd.Series([1, 2, 3]))
    with numbers.blocking_write() as s:
        s[:] = s.to_numpy()[::-1].copy()
        s += 1
    assert shared.open(f"{name}-s").value.tolist() == [4, 3, 2]


def test_a_guard_refuses_what_cannot_be_written_back(name: str) -> None:
    source = pd.DataFrame({"a": [1.0, 2], "b": [3, 4]})
    made, other = frame(name, source), shared.open(name)
    with pytest.raises(BufferError, match="rows or columns"), made.blocking_write() as df:
        df["new"] = 1
    with pytest.raises(BufferError, match="rows or columns"), made.blocking_write() as df:
        df.loc[2] = [1.0, 2]
    with pytest.raises(BufferError, match=r"\['b'\]"), made.blocking_write() as df:
        df["b"] = ["x", "y"]
        df.loc[0, "a"] = 5.0
    numbers = series(f"{name}-s", source["a"])
    with pytest.raises(BufferError, match="labels"), numbers.blocking_write() as s:
        s.loc[7] = 1.0
    assert other.holders() == []
    source.loc[0, "a"] = 5.0
    pd.testing.assert_frame_equal(other.value, source)


def test_readers_cannot_write(name: str) -> None:
    columns = {"a": [1.0, 2], "b": [3, 4], "c": pd.Categorical(["u", "v"])}
    source = pd.DataFrame(columns, index=[0, 7])
    made = frame(name, source)
    readonly = shared.open(name, readonly=True)
    with made.blocking_read() as df:
        pd.testing.assert_frame_equal(df, source)
        for column, new in (("a", 1.0), ("b", 1), ("c", "v")):
            for one in (df, readonly.value):
                with pytest.raises(ValueError, match="read-only"):
                    one.loc[0, column] = new
    for take in (readonly.blocking_write, readonly.try_write, readonly.write):
        with pytest.raises(ValueError, match=f"{name}: read-only"):
            take()
    assert made.holders() == []
    pd.testing.assert_frame_equal(made.value, source)
    with pytest.raises(ValueError, match="read-only"):
        made.value.index.to_numpy()[...] = 0


def test_waits_pickles_and_lives_on(name: str, run: Run) -> None:
    source = pd.Series([1.0, 2], name="s")
    made = series(name, source)
    other = pickle.loads(pickle.dumps(made))
    assert isinstance(other, shared.SharedSeries)

    async def wait() -> None:
        waiting = asyncio.ensure_future(other.changed(0))
        await asyncio.sleep(0.01)
        made.value.loc[0] = 9.0
        made.notify()
        assert await asyncio.wait_for(waiting, 10) == 1
        assert other.value.tolist() == [9.0, 2.0]

    run(wait())
    assert name in repr(made)
    made.remove()
    frame(name, source.to_frame())
    with pytest.raises(ringspan.Mismatch, match="dataframe by now, not a series"):
        pickle.loads(pickle.dumps(_Stale(name)))


def test_the_value_keeps_the_memory(name: str) -> None:
    made = series(name, pd.Series([1.0, 2]))
    kept = made.value
    made.close()
    made.remove()
    with pytest.raises(ringspan.HandleClosed, match=name):
        made.notify()
    del made
    gc.collect()
    assert kept.tolist() == [1.0, 2.0]


class _Stale:
    """Pickles as a series of that name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __reduce__(self) -> Any:
        from ringspan._arrays.labelled import _again

        return _again, (shared.SharedSeries, self.name, None, False)


# ---- damage ------------------------------------------------------------------------------------


def twisted(spec: Any, seed: int) -> Any:
    """The same description with one entry changed."""
    random = np.random.default_rng(seed)
    wrong: list[Any] = [None, -1, 1 << 62, "x", b"\x93", [], {}, [0, 1 << 40], True, 7]

    def entries(at: Any) -> list[tuple[Any, Any]]:
        found: list[tuple[Any, Any]] = []
        if isinstance(at, dict | list):
            for key in at if isinstance(at, dict) else range(len(at)):
                found += [(at, key), *entries(at[key])]
        return found

    twist = entries(spec)
    at, key = twist[random.integers(len(twist))]
    at[key] = wrong[random.integers(len(wrong))]
    return spec


@pytest.mark.parametrize("kind", ["frame", "series"])
def test_descriptions_that_lie_do_no_harm(name: str, kind: str) -> None:
    chosen = ("f8", "i8", "zoned", "category", "Int64")
    columns = pd.DataFrame({key: COLUMNS[key] for key in chosen})
    columns["text"] = ["a", "b", "c", "d"]
    source: Any = columns.set_index([INDEXES["text"], INDEXES["zoned"]])
    source = source if kind == "frame" else source["category"]
    shared.from_array(name, source, unshared="copy")
    whole = _Block.open(name)
    refused = 0
    for seed in range(300):
        spec = twisted(decoded(whole.meta), seed)
        liar = f"{name}-{seed}"
        _Block.create(liar, len(whole), meta=encoded("", spec), data=whole)
        try:
            found = shared.open(liar)
        except (ringspan.Damaged, ringspan.Mismatch) as err:
            assert liar in str(err)
            refused += 1
        else:
            repr(found.value)
            found.value.copy()
        ringspan.remove(liar)
    assert refused > 100


def test_bytes_that_are_damaged_do_no_harm(name: str) -> None:
    source = pd.Series(pd.Categorical(["a", "b", "a"]), index=["x", "y", "z"])
    series(name, source)
    path = Path("/dev/shm", name[1:])
    whole = path.read_bytes()
    start, refused = 16384, 0
    for at in range(start, len(whole)):
        for byte in (0, 0x7F, 0xFF):
            with path.open("r+b") as file:
                file.seek(at)
                file.write(bytes([byte]))
            try:
                repr(shared.open(name).value)
            except ringspan.Damaged as err:
                assert name in str(err)
                refused += 1
            with path.open("r+b") as file:
                file.write(whole)
    assert refused > 10
