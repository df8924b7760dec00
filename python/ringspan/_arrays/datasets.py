"""DataArray and Dataset of xarray in shared memory."""

from __future__ import annotations

from copy import deepcopy
from importlib import import_module
from typing import Any

import numpy as np

from ringspan._arrays import index as labels
from ringspan._arrays.labelled import VERSION, Bound, Labelled, checked, told
from ringspan._arrays.ndarray import NDArray
from ringspan._arrays.parts import Parts, Plan, entry


def xarray() -> Any:
    """The module, imported when it is needed."""
    try:
        return import_module("xarray")
    except ImportError as err:
        text = "this array is one of xarray: pip install 'ringspan[xarray]'"
        raise ImportError(text) from err


def plan_array(plan: Plan, array: Any, copies: bool) -> dict[str, Any]:
    """Plans a DataArray."""
    return {
        "of": "dataarray",
        "version": VERSION,
        "name": array.name,
        "data": _variable(plan, "the data", array.variable, copies),
        "coords": _coords(plan, array),
    }


def plan_dataset(plan: Plan, dataset: Any, copies: bool) -> dict[str, Any]:
    """Plans a Dataset."""
    variables = [
        [name, _variable(plan, f"variable {name!r}", array.variable, copies)]
        for name, array in dataset.data_vars.items()
    ]
    return {
        "of": "dataset",
        "version": VERSION,
        "variables": variables,
        "coords": _coords(plan, dataset),
        "attrs": dict(dataset.attrs),
    }


def _variable(plan: Plan, what: str, variable: Any, copies: bool) -> dict[str, Any]:
    values = variable.values
    spec = {"dims": list(variable.dims), "attrs": dict(variable.attrs)}
    if not values.dtype.hasobject:
        return {**spec, "at": plan.array(what, values)}
    if not copies:
        raise TypeError(
            f"array {plan.name}: {what} is of dtype {values.dtype}: text of any length and objects "
            "live in one process. Convert it (astype('U20')), or allow unshared='copy': then "
            "whoever opens it gets a copy of its own, in which writes reach nobody"
        )
    shape = list(values.shape)
    return {**spec, "items": plan.packed(what, values.ravel().tolist()), "shape": shape}


def _coords(plan: Plan, owner: Any) -> list[Any]:
    """Coordinates as variables; those of a MultiIndex as labels."""
    # xarray does not import it by itself.
    known, found = import_module("xarray.indexes"), []
    done: set[Any] = set()
    for name, coord in owner.coords.items():
        kind = owner.xindexes.get(name)
        if name in done:
            continue
        if isinstance(kind, known.PandasMultiIndex):
            (dim,) = coord.dims
            index = owner.indexes[name]
            done |= {dim, *index.names}
            attrs = [[one, dict(owner.coords[one].attrs)] for one in (dim, *index.names)]
            spec = labels.described(plan, f"the labels of {dim!r}", index)
            found.append([dim, {"multi": spec, "attrs": attrs}])
            continue
        if kind is not None and (type(kind) is not known.PandasIndex or coord.dims != (name,)):
            of = type(kind).__name__
            text = f"array {plan.name}: coordinate {name!r} over {coord.dims!r} has a {of}"
            raise TypeError(f"{text}, which cannot be shared; drop it (drop_indexes)")
        spec = _variable(plan, f"coordinate {name!r}", coord.variable, True)
        if kind is None and coord.dims == (name,):
            spec["bare"] = True
        found.append([name, spec])
    return found


def _built(parts: Parts, spec: Any, writes: bool) -> tuple[Any, NDArray | None]:
    """The variable again, and its place."""
    dims, attrs = entry(spec, "dims", list), deepcopy(entry(spec, "attrs", dict))
    if "at" in spec:
        place = parts.array(spec["at"], writes=writes)
        return xarray().Variable(dims, place, attrs), place
    items = parts.packed(spec.get("items"))
    if not isinstance(items, list):
        raise ValueError("its values are not a list")
    values = np.empty(len(items), object)
    values[:] = items
    return xarray().Variable(dims, values.reshape(entry(spec, "shape", list)), attrs), None


def _dataset(
    parts: Parts, spec: Any, variables: list[Any], attrs: dict[Any, Any], writes: bool
) -> tuple[Any, list[tuple[Any, NDArray]]]:
    """Variables and coordinates as a Dataset, which copies none of them.

    With it the places of all but those that are labels.
    """
    xr = xarray()
    places: list[tuple[Any, NDArray]] = []
    data: dict[Any, Any] = {}
    for name, one in variables:
        data[name], place = _built(parts, one, writes)
        places += [] if place is None else [(name, place)]
    coords: dict[Any, Any] = {}
    multi, bare = [], []
    for name, one in entry(spec, "coords", list):
        if "multi" in one:
            multi.append((name, labels.built(parts, one["multi"]), entry(one, "attrs", list)))
            continue
        is_label = entry(one, "dims", list) == [name]
        coords[name], place = _built(parts, one, writes and not is_label)
        places += [] if place is None or is_label else [(name, place)]
        bare += [name] if one.get("bare") else []
    dataset = xr.Dataset(data, coords=coords, attrs=attrs)
    for dim, index, of_levels in multi:
        dataset = dataset.assign_coords(xr.Coordinates.from_pandas_multiindex(index, dim))
        for level, level_attrs in of_levels:
            dataset.coords[level].attrs.update(level_attrs)
    return (dataset.drop_indexes(bare) if bare else dataset), places


def _variables(value: Any) -> dict[Any, Any]:
    """All variables by their names; the data of a DataArray by None."""
    if isinstance(value, xarray().DataArray):
        return {**value.coords.variables, None: value.variable}
    return dict(value.variables)


class _BoundVariables(Bound[Any]):
    """`places` by the names of variables; None stands for the data of a DataArray."""

    def __init__(self, value: Any, places: list[tuple[Any, NDArray]], writes: bool) -> None:
        super().__init__(value, writes)
        self._places = places
        self._sizes = dict(value.sizes)
        self._labels = {name: value.coords[name].variable for name in value.xindexes}
        self._told = self._tell()

    def _tell(self) -> dict[Any, Any]:
        """Names, dimensions and attributes: what cannot be written back."""
        value, coords = self.value, set(self.value.coords)
        variables = _variables(value)
        attrs = {name: told(dict(one.attrs)) for name, one in variables.items()}
        return {
            "variables": {name: name in coords for name in variables},
            "dimensions": {name: one.dims for name, one in variables.items()},
            "indexes": set(value.xindexes),
            "attrs": {**attrs, "": told(dict(value.attrs))},
            "name": told(value.name if None in variables else None),
        }

    def _now(self, name: Any, place: NDArray) -> NDArray | None:
        try:
            found = self.value.variable if name is None else self.value[name].variable
        except KeyError:
            return None
        fits = found.shape == place.shape and found.dtype == place.dtype
        return np.asarray(found.data) if fits else None

    def changes(self) -> str | None:
        if dict(self.value.sizes) != self._sizes:
            return "it has another shape now, which cannot be shared"
        now = self._tell()
        # Assignments drop them; they stay as they were.
        kept = {key: one for key, one in now["attrs"].items() if one != told({})}
        now["attrs"] = {**self._told["attrs"], **kept}
        other = [what for what in now if now[what] != self._told[what]]
        if not other and any(
            not self.value.coords[name].variable.equals(one) for name, one in self._labels.items()
        ):
            other = ["labels"]
        return f"it has other {', '.join(other)} now, which cannot be shared" if other else None

    def freeze(self) -> None:
        for one in _variables(self.value).values():
            if isinstance(one.data, np.ndarray):
                one.data.flags.writeable = False

    def pieces(self) -> list[tuple[Any, NDArray | None, NDArray]]:
        return [
            (self.value.name if name is None else name, self._now(name, place), place)
            for name, place in self._places
        ]


class SharedDataArray(Labelled[Any]):
    """A DataArray of xarray whose data lies in named shared memory; `value` is the DataArray.

    What is written by `[...]`, `.loc[...]` and `.values[...]` reaches the other processes.
    """

    __module__ = "ringspan.array"
    _of = "dataarray"

    @classmethod
    def bind(cls, parts: Parts, spec: dict[str, Any], writes: bool) -> Bound[Any]:
        """Builds it over the parts."""
        data = entry(spec, "data", dict)
        taken = set(entry(data, "dims", list))
        for name, one in entry(spec, "coords", list):
            taken |= {name, *(one["multi"]["names"] if "multi" in one else ())}
        key = "data"
        while key in taken:
            key += "_"
        # As a variable of a Dataset: a DataArray would copy its coordinates.
        dataset, places = _dataset(parts, spec, [(key, data)], {}, writes)
        array = dataset[key]
        array.name = spec.get("name")
        places = [(None if name == key else name, place) for name, place in places]
        return checked(_BoundVariables(array, places, writes), xarray())


class SharedDataset(Labelled[Any]):
    """A Dataset of xarray whose data lies in named shared memory; `value` is the Dataset.

    What is written by `ds["a"][...]`, `.loc[...]` and `.values[...]` reaches the other processes;
    `ds["a"] = ...` replaces a variable. See `detached`.
    """

    __module__ = "ringspan.array"
    _of = "dataset"

    @classmethod
    def bind(cls, parts: Parts, spec: dict[str, Any], writes: bool) -> Bound[Any]:
        """Builds it over the parts."""
        variables, attrs = entry(spec, "variables", list), deepcopy(entry(spec, "attrs", dict))
        dataset, places = _dataset(parts, spec, variables, attrs, writes)
        return checked(_BoundVariables(dataset, places, writes), xarray())
