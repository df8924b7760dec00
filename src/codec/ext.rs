//! The table of msgpack extension ids. **Frozen**: an id keeps its meaning and its body for ever;
//! new ones are added at the end. The same table, with the bodies in prose, is in
//! `docs/format.md`; all numbers inside the bodies are big-endian, as everywhere in msgpack.

macro_rules! table {
    ($($(#[$doc:meta])* $id:literal $konst:ident $name:literal $body:ident;)*) => {
        $($(#[$doc])* pub const $konst: i8 = $id;)*

        /// The name of an extension id as it stands in messages, "unknown" if not in the table.
        pub const fn name(id: i8) -> &'static str {
            match id { $($id => $name,)* _ => "unknown" }
        }

        /// How the body of an extension id is built; `None` if the id is not in the table.
        pub(crate) const fn body(id: i8) -> Option<Body> {
            match id { $($id => Some(Body::$body),)* _ => None }
        }

        #[cfg(test)]
        pub(crate) const ALL: &[i8] = &[$($id),*];
    };
}

/// How the body of an extension is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Body {
    /// Bytes without msgpack values inside that could nest.
    Flat,
    /// Exactly one msgpack array.
    Array,
    /// Exactly one msgpack map.
    Map,
}

table! {
    /// Integer outside -2^63 ..= 2^64 - 1: two's complement, shortest form.
    1 BIG_INT "big integer" Flat;
    /// Two f64: real, imaginary.
    2 COMPLEX "complex" Flat;
    /// Decimal as ASCII text.
    3 DECIMAL "decimal" Flat;
    /// RFC 9557 text: ISO 8601, then `[Zone/Name]`, `[_fold=1]` where needed.
    4 DATETIME "datetime" Flat;
    /// ISO 8601 date.
    5 DATE "date" Flat;
    /// ISO 8601 time of day, suffixes as in `DATETIME`.
    6 TIME "time" Flat;
    /// i64 seconds (floor), u32 microseconds.
    7 TIMEDELTA "timedelta" Flat;
    /// 16 bytes.
    8 UUID "uuid" Flat;
    /// A file system path: its bytes, UTF-8 where it is text.
    9 PATH "path" Flat;
    /// Array of the items, any order.
    10 SET "set" Array;
    /// Array of the items, any order.
    11 FROZENSET "frozenset" Array;
    /// Array meta, then at once the data.
    12 NDARRAY "ndarray" Flat;
    /// Exact: a tuple.
    32 TUPLE "tuple" Array;
    /// Exact: bytes that can be changed.
    33 BYTEARRAY "bytearray" Flat;
    /// Exact: [maxlen or nil, items ...].
    34 DEQUE "deque" Array;
    /// Exact: [start, stop, step].
    35 RANGE "range" Array;
    /// Exact: [name, field names with blanks between, values ...].
    36 NAMEDTUPLE "namedtuple" Array;
    /// Exact: map.
    37 COUNTER "Counter" Map;
    /// Exact: map in order.
    38 ORDERED_DICT "OrderedDict" Map;
    /// Exact: array of maps, the first one wins.
    39 CHAIN_MAP "ChainMap" Array;
    /// Exact: no body.
    40 ELLIPSIS "Ellipsis" Flat;
    /// Exact: `[element format, [shape], bin]`.
    41 MEMORYVIEW "memoryview" Array;
    /// Exact: as `PATH`.
    42 PURE_POSIX_PATH "PurePosixPath" Flat;
    /// Exact: as `PATH`.
    43 PURE_WINDOWS_PATH "PureWindowsPath" Flat;
    /// Exact: as `PATH`.
    44 POSIX_PATH "PosixPath" Flat;
    /// Exact: as `PATH`.
    45 WINDOWS_PATH "WindowsPath" Flat;
    /// Exact: one element of an array with its type; body as `NDARRAY`, shape [].
    46 NUMPY_SCALAR "numpy scalar" Flat;
}
