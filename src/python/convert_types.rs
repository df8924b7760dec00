//! The Python types that the codec knows by name, imported once when the first value needs them.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyType};

use crate::codec::ext;
use crate::python::once;

/// How a type that is not one of the plain ones is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Complex,
    Decimal,
    /// `datetime` or `time`; the id tells which.
    Moment(i8),
    Date,
    TimeDelta,
    Uuid,
    /// Which path class, by its id in exact mode.
    Path(i8),
    /// `set` or `frozenset`.
    Set(i8),
    ByteArray,
    MemoryView,
    Deque,
    Range,
    /// `Counter` or `OrderedDict`.
    Mapping(i8),
    ChainMap,
    Ellipsis,
}

/// Types and functions of the standard library.
#[derive(Debug)]
pub(super) struct Types {
    kinds: Vec<(Py<PyType>, Kind)>,
    pub(super) decimal: Py<PyAny>,
    pub(super) datetime: Py<PyAny>,
    pub(super) date: Py<PyAny>,
    pub(super) time: Py<PyAny>,
    pub(super) timedelta: Py<PyAny>,
    pub(super) timezone: Py<PyAny>,
    pub(super) zone_info: Py<PyAny>,
    pub(super) uuid: Py<PyAny>,
    pub(super) path: Py<PyAny>,
    pub(super) pure_posix_path: Py<PyAny>,
    pub(super) pure_windows_path: Py<PyAny>,
    pub(super) deque: Py<PyAny>,
    pub(super) counter: Py<PyAny>,
    pub(super) ordered_dict: Py<PyAny>,
    pub(super) chain_map: Py<PyAny>,
    pub(super) namedtuple: Py<PyAny>,
    pub(super) range: Py<PyAny>,
    pub(super) enumeration: Py<PyAny>,
    pub(super) int_from_bytes: Py<PyAny>,
    pub(super) fsencode: Py<PyAny>,
    pub(super) fsdecode: Py<PyAny>,
    /// Named tuple classes by (name, fields), so that equal ones share a class.
    pub(super) namedtuples: Py<PyDict>,
}

static TYPES: PyOnceLock<Types> = PyOnceLock::new();

impl Types {
    pub(super) fn get(py: Python<'_>) -> PyResult<&'static Types> {
        once::get_or_make(&TYPES, py, || Types::load(py))
    }

    fn load(py: Python<'_>) -> PyResult<Types> {
        let get = |module: &str, name: &str| -> PyResult<Py<PyAny>> {
            Ok(py.import(module)?.getattr(name)?.unbind())
        };
        let mut kinds = Vec::new();
        for (module, name, kind) in [
            ("builtins", "complex", Kind::Complex),
            ("builtins", "set", Kind::Set(ext::SET)),
            ("builtins", "frozenset", Kind::Set(ext::FROZENSET)),
            ("builtins", "bytearray", Kind::ByteArray),
            ("builtins", "memoryview", Kind::MemoryView),
            ("builtins", "range", Kind::Range),
            ("datetime", "datetime", Kind::Moment(ext::DATETIME)),
            ("datetime", "date", Kind::Date),
            ("datetime", "time", Kind::Moment(ext::TIME)),
            ("datetime", "timedelta", Kind::TimeDelta),
            ("decimal", "Decimal", Kind::Decimal),
            ("uuid", "UUID", Kind::Uuid),
            ("pathlib", "PosixPath", Kind::Path(ext::POSIX_PATH)),
            ("pathlib", "WindowsPath", Kind::Path(ext::WINDOWS_PATH)),
            ("pathlib", "PurePosixPath", Kind::Path(ext::PURE_POSIX_PATH)),
            ("pathlib", "PureWindowsPath", Kind::Path(ext::PURE_WINDOWS_PATH)),
            ("collections", "deque", Kind::Deque),
            ("collections", "Counter", Kind::Mapping(ext::COUNTER)),
            ("collections", "OrderedDict", Kind::Mapping(ext::ORDERED_DICT)),
            ("collections", "ChainMap", Kind::ChainMap),
        ] {
            let class = py.import(module)?.getattr(name)?.cast_into::<PyType>()?;
            kinds.push((class.unbind(), kind));
        }
        kinds.push((py.Ellipsis().bind(py).get_type().unbind(), Kind::Ellipsis));
        Ok(Types {
            kinds,
            decimal: get("decimal", "Decimal")?,
            datetime: get("datetime", "datetime")?,
            date: get("datetime", "date")?,
            time: get("datetime", "time")?,
            timedelta: get("datetime", "timedelta")?,
            timezone: get("datetime", "timezone")?,
            zone_info: get("zoneinfo", "ZoneInfo")?,
            uuid: get("uuid", "UUID")?,
            path: get("pathlib", "Path")?,
            pure_posix_path: get("pathlib", "PurePosixPath")?,
            pure_windows_path: get("pathlib", "PureWindowsPath")?,
            deque: get("collections", "deque")?,
            counter: get("collections", "Counter")?,
            ordered_dict: get("collections", "OrderedDict")?,
            chain_map: get("collections", "ChainMap")?,
            namedtuple: get("collections", "namedtuple")?,
            range: get("builtins", "range")?,
            enumeration: get("enum", "Enum")?,
            int_from_bytes: py.import("builtins")?.getattr("int")?.getattr("from_bytes")?.unbind(),
            fsencode: get("os", "fsencode")?,
            fsdecode: get("os", "fsdecode")?,
            namedtuples: PyDict::new(py).unbind(),
        })
    }

    /// The kind of an object whose type is exactly one of the table.
    pub(super) fn exact_kind(&self, obj: &Bound<'_, PyAny>) -> Option<Kind> {
        let class = obj.get_type_ptr();
        self.kinds.iter().find(|(c, _)| c.as_ptr() == class.cast()).map(|(_, kind)| *kind)
    }

    /// The kind of an object whose type inherits from one of the table; the order there puts
    /// `datetime` before `date`.
    pub(super) fn inherited_kind(&self, obj: &Bound<'_, PyAny>) -> PyResult<Option<Kind>> {
        for (class, kind) in &self.kinds {
            if obj.is_instance(class.bind(obj.py()))? {
                return Ok(Some(*kind));
            }
        }
        Ok(None)
    }
}
