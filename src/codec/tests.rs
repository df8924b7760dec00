//! What the codec promises: bytes frozen, everything checked, the same as rmp-serde writes.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::*;

/// The bytes that both languages must write: name, blank, hex.
const GOLDEN: &str = include_str!("../../tests/golden/codec.txt");

fn golden(name: &str) -> Vec<u8> {
    let line = GOLDEN
        .lines()
        .find_map(|l| l.split_once(' ').filter(|(n, _)| *n == name))
        .unwrap_or_else(|| panic!("no golden bytes named {name}"));
    let hex = line.1.trim().as_bytes();
    let digit = |c: u8| char::from(c).to_digit(16).and_then(|d| u8::try_from(d).ok()).unwrap();
    hex.chunks(2).map(|c| digit(c[0]) << 4 | digit(c[1])).collect()
}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Frame {
    id: u64,
    label: String,
    #[serde(with = "serde_bytes")]
    pixels: Vec<u8>,
}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
enum Shape {
    Point,
    Circle(f64),
    Rect { w: f64, h: f64 },
}

#[test]
fn golden_bytes_of_rust_types() {
    let frame = Frame { id: 7, label: "cat".into(), pixels: vec![1, 2, 3] };
    assert_eq!(to_vec(&frame).unwrap(), golden("struct"));
    assert_eq!(from_slice::<Frame>(&golden("struct")).unwrap(), frame);
    assert_eq!(to_vec(&()).unwrap(), golden("none"));
    assert_eq!(to_vec(&true).unwrap(), golden("true"));
    for (name, v) in [("int_0", 0i64), ("int_127", 127), ("int_128", 128), ("int_m1", -1)] {
        assert_eq!(to_vec(&v).unwrap(), golden(name), "{name}");
    }
    assert_eq!(to_vec(&-33i64).unwrap(), golden("int_m33"));
    assert_eq!(to_vec(&i64::MIN).unwrap(), golden("int_min64"));
    assert_eq!(to_vec(&u64::MAX).unwrap(), golden("int_max64"));
    assert_eq!(to_vec(&1.5f64).unwrap(), golden("float"));
    assert_eq!(to_vec("grüß").unwrap(), golden("str"));
    assert_eq!(to_vec(serde_bytes::Bytes::new(b"\0\xff")).unwrap(), golden("bytes"));
    assert_eq!(to_vec(&(1, "a", 2.5, true, (), (1, 2))).unwrap(), golden("tuple_plain"));
    assert_eq!(to_vec(&BTreeMap::from([("a", 1), ("b", 2)])).unwrap(), golden("dict"));
}

#[test]
fn golden_extensions_are_read_as_their_rust_types() {
    fn exact<T: serde::de::DeserializeOwned>(name: &str) -> T {
        from_slice::<Exact<T>>(&golden(name)).unwrap_or_else(|e| panic!("{name}: {e}")).0
    }
    assert_eq!(exact::<(i64, String, (i64, i64))>("tuple_exact"), (1, "a".into(), (2, 3)));
    assert_eq!(exact::<i128>("big_int"), 1 << 64);
    assert_eq!(exact::<i128>("big_int_neg"), -(1 << 63) - 1);
    assert_eq!(exact::<(f64, f64)>("complex"), (1.0, -2.0));
    assert_eq!(exact::<String>("decimal"), "-1.50");
    assert_eq!(exact::<String>("datetime"), "2024-05-06T07:08:09.000010+02:00[Europe/Berlin]");
    assert_eq!(exact::<String>("date"), "2024-05-06");
    assert_eq!(exact::<String>("time"), "07:08:09");
    assert_eq!(exact::<(i64, u32)>("timedelta"), (-1, 999_999));
    assert_eq!(exact::<serde_bytes::ByteBuf>("uuid").len(), 16);
    assert_eq!(exact::<String>("path"), "/tmp/x");
    assert_eq!(exact::<BTreeSet<i64>>("set"), BTreeSet::from([1]));
    assert_eq!(exact::<Vec<String>>("frozenset"), ["a"]);
    assert_eq!(exact::<serde_bytes::ByteBuf>("bytearray").as_slice(), b"ab");
    assert_eq!(exact::<serde_bytes::ByteBuf>("memoryview").as_slice(), b"ab");
    assert_eq!(exact::<Vec<i64>>("deque"), [1, 2]);
    assert_eq!(exact::<(i64, i64, i64)>("range"), (1, 10, 2));
    assert_eq!(exact::<BTreeMap<String, i64>>("counter"), BTreeMap::from([("a".into(), 2)]));
    assert_eq!(exact::<BTreeMap<String, i64>>("ordered_dict"), BTreeMap::from([("z".into(), 1)]));
    assert_eq!(exact::<BTreeMap<String, i64>>("chain_map"), BTreeMap::from([("a".into(), 1)]));
    exact::<()>("ellipsis");
    #[derive(Deserialize, PartialEq, Debug)]
    struct Point {
        x: i64,
        y: i64,
    }
    assert_eq!(exact::<Point>("namedtuple"), Point { x: 1, y: 2 });
    #[derive(Deserialize)]
    struct Array {
        dtype: String,
        shape: Vec<u64>,
        #[serde(with = "serde_bytes")]
        data: Vec<u8>,
    }
    let a: Array = exact("ndarray");
    assert_eq!((a.dtype.as_str(), a.shape.as_slice()), ("<i2", &[2, 1][..]));
    assert_eq!(a.data, [1, 0, 2, 0]);
}

#[test]
fn golden_array_record() {
    let meta = ArrayMeta::new(Descr::Item("<i2".into()), vec![2, 1], false).unwrap();
    let mut record = meta.encode().unwrap();
    record.extend_from_slice(&[1, 0, 2, 0]);
    assert_eq!(record, golden("array_record"));
    assert_eq!(ArrayMeta::split(&record).unwrap().0, meta);
}

#[test]
fn every_golden_value_passes_the_scan() {
    for line in GOLDEN.lines().filter(|l| !l.starts_with('#') && !l.is_empty()) {
        let name = line.split(' ').next().unwrap();
        if name != "array_record" {
            read::scan(&golden(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        }
    }
}

#[test]
fn enums_come_back_also_through_exact() {
    for shape in [Shape::Point, Shape::Circle(1.0), Shape::Rect { w: 1.0, h: 2.0 }] {
        let bytes = to_vec(&shape).unwrap();
        assert_eq!(from_slice::<Shape>(&bytes).unwrap(), shape);
        assert_eq!(from_slice::<Exact<Shape>>(&bytes).unwrap().0, shape);
    }
}

#[test]
fn an_extension_in_a_plain_type_says_what_to_do() {
    let err = from_slice::<Vec<i64>>(&golden("set")).unwrap_err().to_string();
    assert!(err.contains("set, extension 10") && err.contains("codec::Exact"), "{err}");
}

#[test]
fn unknown_extensions_are_named() {
    for bytes in [&[0xd4, 99, 0][..], &[0x91, 0xd4, 99, 0]] {
        assert_eq!(from_slice::<Exact<u8>>(bytes).unwrap_err(), CodecError::UnknownExt(99));
    }
    // msgpack's own timestamp is not ours.
    let timestamp = [0xd6, 0xff, 0, 0, 0, 0];
    assert_eq!(from_slice::<u8>(&timestamp).unwrap_err(), CodecError::UnknownExt(-1));
}

#[test]
fn container_extensions_hold_their_container() {
    let int_in_a_set = [0xd4, 10, 7];
    assert_eq!(from_slice::<u8>(&int_in_a_set).unwrap_err(), CodecError::BadExt(10));
    let trailing = [0xd5, 10, 0x90, 0];
    assert_eq!(from_slice::<u8>(&trailing).unwrap_err(), CodecError::Trailing { extra: 1 });
}

fn nested(levels: usize) -> Vec<u8> {
    let mut bytes = vec![0x91; levels];
    bytes.push(0xc0);
    bytes
}

fn nested_exact(levels: usize) -> Vec<u8> {
    let mut bytes = vec![0x90];
    for _ in 1..levels {
        let mut next = Vec::new();
        let start = write::ext_begin(&mut next);
        next.push(0x91);
        next.extend_from_slice(&bytes);
        write::ext_end(&mut next, start, ext::TUPLE).unwrap();
        bytes = next;
    }
    bytes
}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Deep(Vec<Deep>);

#[test]
fn depth_is_bounded_both_ways() {
    from_slice::<serde::de::IgnoredAny>(&nested(MAX_DEPTH)).unwrap();
    for levels in [MAX_DEPTH + 1, 100_000] {
        let deep = nested(levels);
        assert_eq!(from_slice::<serde::de::IgnoredAny>(&deep).unwrap_err(), CodecError::TooDeep);
        assert_eq!(from_slice::<Exact<()>>(&deep).unwrap_err(), CodecError::TooDeep);
    }
    let build = |levels| (1..levels).fold(Deep(vec![]), |inner, _| Deep(vec![inner]));
    let fits = build(MAX_DEPTH);
    let bytes = to_vec(&fits).unwrap();
    assert_eq!(from_slice::<Deep>(&bytes).unwrap(), fits);
    assert_eq!(from_slice::<Exact<Deep>>(&bytes).unwrap().0, fits);
    let mut out = vec![9];
    assert_eq!(to_writer(&mut out, &build(MAX_DEPTH + 1)).unwrap_err(), CodecError::TooDeep);
    assert_eq!(out, [9], "nothing is left behind on an error");
    assert_eq!(from_slice::<Exact<Deep>>(&nested_exact(MAX_DEPTH)).unwrap().0, fits);
    assert_eq!(
        from_slice::<Exact<Deep>>(&nested_exact(MAX_DEPTH + 1)).unwrap_err(),
        CodecError::TooDeep
    );
}

#[test]
fn length_bombs_are_refused() {
    let bombs: &[&[u8]] = &[
        &[0xdd, 0xff, 0xff, 0xff, 0xff],
        &[0xdf, 0xff, 0xff, 0xff, 0xff],
        &[0xdb, 0xff, 0xff, 0xff, 0xff, b'a'],
        &[0xc6, 0xff, 0xff, 0xff, 0xff, 0],
        &[0xc9, 0xff, 0xff, 0xff, 0xff, 10],
        // Each array claims all that follows: together more than there is.
        &[0x93, 0x93, 0x93, 0xc0, 0xc0, 0xc0, 0xc0],
        // An extension that takes the bytes of the items behind it.
        &[0x92, 0xd5, 10, 0x91, 0xc0],
    ];
    for bomb in bombs {
        let err = from_slice::<Exact<u8>>(bomb).unwrap_err();
        assert!(matches!(err, CodecError::Truncated { .. }), "{bomb:x?}: {err}");
    }
}

#[test]
fn what_is_left_behind_the_value_is_an_error() {
    assert_eq!(from_slice::<u8>(&[1, 2]).unwrap_err(), CodecError::Trailing { extra: 1 });
    assert_eq!(from_slice::<u8>(&[]).unwrap_err(), CodecError::Truncated { at: 0 });
    assert_eq!(from_slice::<u8>(&[0xc1]).unwrap_err(), CodecError::BadMarker { at: 0 });
}

#[test]
fn tags_are_checked() {
    for byte in 0..=4 {
        assert_eq!(Tag::from_byte(byte).unwrap().byte(), byte);
    }
    for byte in 5..=255 {
        assert_eq!(Tag::from_byte(byte).unwrap_err(), CodecError::UnknownTag(byte));
    }
    let err = Tag::RAW.expect(Tag::MSGPACK).unwrap_err().to_string();
    assert_eq!(err, "record is tagged raw, not msgpack");
}

#[test]
fn the_extension_table_is_frozen() {
    let named: Vec<String> = ext::ALL.iter().map(|&id| format!("{id} {}", ext::name(id))).collect();
    let format = include_str!("../../docs/format.md");
    for row in &named {
        let (id, name) = row.split_once(' ').unwrap();
        assert!(format.contains(&format!("| {id} | {name} |")), "docs/format.md lacks {row}");
    }
    assert_eq!(named.len(), 27);
}

type Row = (i64, f64, Option<String>, bool);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn ints_are_written_as_rmp_serde_does(v: i64, u: u64, shift in 0u32..64) {
        for v in [v, v >> shift] {
            let mut ours = Vec::new();
            write::int(&mut ours, v);
            prop_assert_eq!(&ours, &to_vec(&v).unwrap());
            prop_assert_eq!(from_slice::<i64>(&ours).unwrap(), v);
        }
        let mut ours = Vec::new();
        write::uint(&mut ours, u >> shift);
        prop_assert_eq!(&ours, &to_vec(&(u >> shift)).unwrap());
    }

    #[test]
    fn strings_and_bytes_are_written_as_rmp_serde_does(n in 0usize..70_000) {
        let text = "a".repeat(n);
        let mut ours = Vec::new();
        write::str(&mut ours, &text).unwrap();
        prop_assert_eq!(&ours, &to_vec(&text).unwrap());
        ours.clear();
        write::bin_head(&mut ours, n).unwrap();
        ours.extend_from_slice(text.as_bytes());
        prop_assert_eq!(&ours, &to_vec(serde_bytes::Bytes::new(text.as_bytes())).unwrap());
    }

    #[test]
    fn extensions_get_the_smallest_head(n in 0usize..70_000) {
        let body = vec![7; n];
        let (mut at_once, mut begun) = (vec![1], vec![1]);
        write::ext(&mut at_once, 33, &body).unwrap();
        let start = write::ext_begin(&mut begun);
        begun.extend_from_slice(&body);
        write::ext_end(&mut begun, start, 33).unwrap();
        prop_assert_eq!(at_once, begun);
    }

    #[test]
    fn garbage_is_an_error_or_a_value(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = from_slice::<Exact<serde::de::IgnoredAny>>(&bytes);
        let _ = from_slice::<Frame>(&bytes);
        let _ = ArrayMeta::split(&bytes);
    }

    #[test]
    fn values_come_back(map: BTreeMap<String, Vec<Row>>) {
        let bytes = to_vec(&map).unwrap();
        let plain: BTreeMap<String, Vec<Row>> = from_slice(&bytes).unwrap();
        prop_assert_eq!(&plain, &map);
        let Exact(exact) = from_slice::<Exact<_>>(&bytes).unwrap();
        prop_assert_eq!(&map, &exact);
    }

    #[test]
    fn a_cut_value_is_never_a_value(map: BTreeMap<String, Vec<i64>>, at: prop::sample::Index) {
        let bytes = to_vec(&map).unwrap();
        let cut = &bytes[..at.index(bytes.len())];
        prop_assert!(from_slice::<BTreeMap<String, Vec<i64>>>(cut).is_err());
    }
}
