//! What a view promises: bytes frozen, garbage an error, and what fails changes nothing.

use proptest::prelude::*;

use super::*;

/// The bytes that both languages must write: name, blank, hex.
const GOLDEN: &str = include_str!("../../tests/golden/view.txt");

fn golden(name: &str) -> Vec<u8> {
    let line = GOLDEN.lines().find_map(|l| l.split_once(' ').filter(|(n, _)| *n == name));
    let (_, hex) = line.unwrap_or_else(|| panic!("no golden bytes named {name}"));
    let pair = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(pair).collect()
}

/// Writes and reads an item in each way there is.
fn holds<T>(name: &str, value: T)
where
    T: WriteItem + for<'b> ReadItem<'b> + Into<ViewItem> + Clone + PartialEq + fmt::Debug,
{
    let bytes = golden(name);
    let mut memory = vec![0xaa; bytes.len() + 3];
    let mut view = View::new(&mut memory).with_position(2).unwrap();
    view.write(&value).unwrap();
    assert_eq!((view.tell(), view.remaining()), (bytes.len() + 2, 1), "{name}");
    view.seek(2).unwrap();
    assert_eq!(view.read::<T>().unwrap(), value, "{name}");
    assert_eq!(view.tell(), bytes.len() + 2, "{name}");
    assert_eq!(view.read_range(2, bytes.len()).unwrap(), bytes, "{name}");
    let item: ViewItem = value.clone().into();
    let row = std::slice::from_ref(&item);
    assert_eq!(view.read_mixed_at(2, &[(item.tag(), 1)]).unwrap(), row, "{name}");
    assert_eq!((memory[1], memory[bytes.len() + 2]), (0xaa, 0xaa), "{name}: only its own bytes");

    let mut again = vec![0; bytes.len()];
    View::new(&mut again).write_mixed(row).unwrap();
    assert_eq!(again, bytes, "{name}");
    for end in 0..bytes.len() {
        let mut short = View::read_only(&bytes[..end]);
        let err = short.read::<T>().unwrap_err();
        let cut = matches!(err, ViewError::OutOfBounds { .. } | ViewError::BadLength { .. });
        assert!(cut && short.tell() == 0, "{name} cut to {end}: {err}");
        let mut room = vec![7; end];
        let err = View::new(&mut room).write(value.clone()).unwrap_err();
        assert_eq!(err, ViewError::OutOfBounds { offset: 0, wanted: bytes.len(), size: end });
        assert_eq!(room, vec![7; end], "{name}: nothing was written");
    }
}

#[test]
fn golden_bytes() {
    holds("bool_false", false);
    holds("bool_true", true);
    holds("i32_m2", -2_i32);
    holds("i32_min", i32::MIN);
    holds("u32_max", u32::MAX);
    holds("i64_m2", -2_i64);
    holds("i64_max", i64::MAX);
    holds("u64_max", u64::MAX);
    holds("f32_1_5", 1.5_f32);
    holds("f64_m1_5", -1.5_f64);
    holds("f64_inf", f64::INFINITY);
    holds("str_empty", String::new());
    holds("str_gruess", "grüß".to_owned());
    holds("bytes_empty", Vec::<u8>::new());
    holds("bytes_0_255", vec![0_u8, 255]);
    let mixed =
        [true.into(), 7_i64.into(), "hi".into(), b"x"[..].into(), 2.5_f64.into(), 1_f32.into()];
    let mut memory = vec![0; golden("mixed_true_7_hi_x_2_5").len()];
    View::new(&mut memory).write_mixed(&mixed).unwrap();
    assert_eq!(memory, golden("mixed_true_7_hi_x_2_5"));
}

#[test]
fn every_tag_has_its_name_and_no_other() {
    for tag in ViewTag::ALL {
        assert_eq!(tag.name().parse(), Ok(*tag));
    }
    for name in ["", "Bool", "i64 ", "int"] {
        assert_eq!(name.parse::<ViewTag>(), Err(ViewError::UnknownTag(name.into())));
    }
}

#[test]
fn the_forms_with_an_offset_leave_the_cursor() {
    let mut memory = [0; 32];
    let mut view = View::new(&mut memory).with_position(5).unwrap();
    view.write_at(20, 9_u32).unwrap();
    view.write_mixed_at(24, &[true.into()]).unwrap();
    view.write_range(25, b"raw").unwrap();
    assert_eq!(view.read_at::<u32>(20), Ok(9));
    assert_eq!(view.read_mixed_at(24, &[(ViewTag::Bool, 1)]), Ok(vec![true.into()]));
    assert_eq!(view.read_range(25, 3), Ok(&b"raw"[..]));
    view.zero_range(20, 4).unwrap();
    assert_eq!(view.read_at::<u32>(20), Ok(0));
    assert_eq!(view.read_range(24, 4), Ok(&b"\x01raw"[..]));
    view.zero();
    assert_eq!(view.tell(), 5);
    assert_eq!(memory, [0; 32]);
}

#[test]
fn borrowed_items_lie_in_the_view() {
    let bytes = golden("str_gruess");
    let view = View::read_only(&bytes);
    let text = view.read_at::<&str>(0).unwrap();
    assert_eq!(text, "grüß");
    assert_eq!(text.as_ptr(), bytes[4..].as_ptr());
    assert_eq!(view.read_at::<&[u8]>(0).unwrap(), &bytes[4..]);
}

#[test]
fn garbage_is_an_error_that_says_where() {
    let cases: [(&[u8], ViewTag, ViewError, &str); 5] = [
        (b"\x02", ViewTag::Bool, ViewError::BadBool { offset: 0, found: 2 }, "offset 0 is 2"),
        (
            b"\xff\xff\xff\xffab",
            ViewTag::Str,
            ViewError::BadLength { offset: 0, wanted: 0xffff_ffff, size: 6 },
            "4294967295 bytes",
        ),
        (
            b"\x03\0\0\0ab",
            ViewTag::Bytes,
            ViewError::BadLength { offset: 0, wanted: 3, size: 6 },
            "past the end",
        ),
        (
            b"\x03\0\0\0ab\xff",
            ViewTag::Str,
            ViewError::BadUtf8 { offset: 0, byte: 6 },
            "byte 6 is wrong",
        ),
        (
            b"\x01\0\0",
            ViewTag::Bytes,
            ViewError::OutOfBounds { offset: 0, wanted: 4, size: 3 },
            "3 are left there",
        ),
    ];
    for (bytes, tag, wanted, text) in cases {
        let mut view = View::read_only(bytes);
        let err = view.read_mixed(&[(tag, 1)]).unwrap_err();
        assert_eq!(err, wanted);
        assert!(err.to_string().contains(text), "{err}");
        assert_eq!(view.tell(), 0);
        let borrowed = match tag {
            ViewTag::Str => view.read::<&str>().map(|_| ()),
            ViewTag::Bytes => view.read::<&[u8]>().map(|_| ()),
            _ => continue,
        };
        assert_eq!((borrowed, view.tell()), (Err(wanted), 0));
    }
}

#[test]
fn offsets_and_counts_may_be_anything() {
    let mut memory = [0; 8];
    let mut view = View::new(&mut memory);
    for offset in [9, usize::MAX - 3, usize::MAX] {
        let err = ViewError::OutOfBounds { offset, wanted: 0, size: 8 };
        assert_eq!(view.seek(offset), Err(err));
        assert!(view.read_at::<u32>(offset).is_err());
        assert!(view.read_at::<String>(offset).is_err());
        assert!(view.write_at(offset, 1_u32).is_err());
        assert!(view.read_range(offset, 0).is_err());
        assert!(view.write_range(offset, b"").is_err());
        assert!(view.zero_range(offset, usize::MAX).is_err());
    }
    assert!(view.read_range(1, usize::MAX).is_err());
    for count in [9, 1 << 40, usize::MAX / 8, usize::MAX] {
        assert!(view.read_mixed(&[(ViewTag::Bool, count), (ViewTag::Str, count)]).is_err());
        assert!(view.read_mixed(&[(ViewTag::Bytes, 0), (ViewTag::F64, count)]).is_err());
    }
    assert_eq!(view.read_mixed(&[(ViewTag::Bytes, 0)]), Ok(vec![]));
    view.write_mixed(&[]).unwrap();
    view.seek(8).unwrap();
    assert_eq!((view.tell(), view.remaining()), (8, 0));
    assert_eq!(view.read_range(8, 0), Ok(&b""[..]));
    assert_eq!(memory, [0; 8]);
}

#[test]
fn errors_are_io_errors_of_a_fitting_kind() {
    use std::io::{Error, ErrorKind};
    let outside = ViewError::OutOfBounds { offset: 1, wanted: 2, size: 2 };
    assert_eq!(Error::from(outside).kind(), ErrorKind::InvalidInput);
    let garbage = ViewError::BadUtf8 { offset: 0, byte: 4 };
    assert_eq!(Error::from(garbage.clone()).kind(), ErrorKind::InvalidData);
    assert_eq!(Error::from(garbage.clone()).to_string(), garbage.to_string());
}

/// The format a second time, by hand: the bytes of an item behind those of the ones before.
fn model_write(item: &ViewItem, out: &mut Vec<u8>) {
    let body = |body: &[u8], out: &mut Vec<u8>| {
        for shift in [0, 8, 16, 24] {
            out.push(u8::try_from(body.len() >> shift & 0xff).unwrap());
        }
        out.extend(body);
    };
    let number = |bits: u64, bytes: usize, out: &mut Vec<u8>| {
        out.extend((0..bytes).map(|i| u8::try_from(bits >> (8 * i) & 0xff).unwrap()));
    };
    match item {
        ViewItem::Bool(v) => out.push(if *v { 1 } else { 0 }),
        ViewItem::I32(v) => number(u64::from(v.cast_unsigned()), 4, out),
        ViewItem::U32(v) => number(u64::from(*v), 4, out),
        ViewItem::I64(v) => number(v.cast_unsigned(), 8, out),
        ViewItem::U64(v) => number(*v, 8, out),
        ViewItem::F32(v) => number(u64::from(v.to_bits()), 4, out),
        ViewItem::F64(v) => number(v.to_bits(), 8, out),
        ViewItem::Str(v) => body(v.as_bytes(), out),
        ViewItem::Bytes(v) => body(v, out),
    }
}

/// The same bits: NaNs are equal to themselves here.
fn same(a: &[ViewItem], b: &[ViewItem]) -> bool {
    let bits = |items: &[ViewItem]| {
        let mut out = Vec::new();
        items.iter().for_each(|item| model_write(item, &mut out));
        (items.iter().map(ViewItem::tag).collect::<Vec<_>>(), out)
    };
    bits(a) == bits(b)
}

fn item() -> impl Strategy<Value = ViewItem> {
    prop_oneof![
        any::<bool>().prop_map(ViewItem::Bool),
        any::<i32>().prop_map(ViewItem::I32),
        any::<u32>().prop_map(ViewItem::U32),
        any::<i64>().prop_map(ViewItem::I64),
        any::<u64>().prop_map(ViewItem::U64),
        any::<u32>().prop_map(|bits| ViewItem::F32(f32::from_bits(bits))),
        any::<u64>().prop_map(|bits| ViewItem::F64(f64::from_bits(bits))),
        proptest::collection::vec(any::<char>(), 0..6)
            .prop_map(|c| ViewItem::Str(c.iter().collect())),
        proptest::collection::vec(any::<u8>(), 0..20).prop_map(ViewItem::Bytes),
    ]
}

/// One step against view and model.
#[derive(Debug, Clone)]
enum Step {
    Seek(usize),
    Write(Vec<ViewItem>),
    WriteAt(usize, Vec<ViewItem>),
    ReadBack(usize, Vec<ViewTag>),
    Zero(usize, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let items = || proptest::collection::vec(item(), 0..4);
    let tag = proptest::sample::select(ViewTag::ALL);
    prop_oneof![
        (0..110_usize).prop_map(Step::Seek),
        items().prop_map(Step::Write),
        (0..110_usize, items()).prop_map(|(at, items)| Step::WriteAt(at, items)),
        (0..110_usize, proptest::collection::vec(tag, 0..3))
            .prop_map(|(at, tags)| Step::ReadBack(at, tags)),
        (0..110_usize, 0..20_usize).prop_map(|(at, len)| Step::Zero(at, len)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn mixed_schemas_against_a_plain_model(
        items in proptest::collection::vec(item(), 0..12),
        before in 0..9_usize,
        room in 0..400_usize,
        filler: u8,
    ) {
        let mut model = vec![filler; before];
        items.iter().for_each(|item| model_write(item, &mut model));
        let size = before + room;
        let mut memory = vec![filler; size];
        let mut view = View::new(&mut memory).with_position(before).unwrap();
        let written = view.write_mixed(&items);
        prop_assert_eq!(written.is_ok(), model.len() <= size);
        if written.is_err() {
            prop_assert_eq!(view.tell(), before);
            prop_assert_eq!(memory, vec![filler; size]);
            return Ok(());
        }
        prop_assert_eq!(view.tell(), model.len());
        // Rows of equal types as one entry of the schema.
        let mut schema: Vec<(ViewTag, usize)> = Vec::new();
        for item in &items {
            match schema.last_mut() {
                Some((tag, count)) if *tag == item.tag() => *count += 1,
                _ => schema.push((item.tag(), 1)),
            }
        }
        view.seek(before).unwrap();
        let read = view.read_mixed(&schema).unwrap();
        prop_assert!(same(&read, &items));
        prop_assert_eq!(view.tell(), model.len());
        model.resize(size, filler);
        prop_assert_eq!(memory, model);
    }

    #[test]
    fn steps_against_a_plain_model(steps in proptest::collection::vec(step(), 0..40)) {
        const SIZE: usize = 100;
        let (mut model, mut cursor) = (vec![0xee; SIZE], 0_usize);
        let mut memory = vec![0xee; SIZE];
        let mut view = View::new(&mut memory);
        for step in steps {
            match step {
                Step::Seek(to) => {
                    prop_assert_eq!(view.seek(to).is_ok(), to <= SIZE);
                    cursor = if to <= SIZE { to } else { cursor };
                }
                Step::Write(items) | Step::WriteAt(_, items) if items.is_empty() => {
                    view.write_mixed(&items).unwrap();
                }
                Step::Write(ref items) | Step::WriteAt(_, ref items) => {
                    let at = if let Step::WriteAt(at, _) = step { at } else { cursor };
                    let mut bytes = Vec::new();
                    items.iter().for_each(|item| model_write(item, &mut bytes));
                    let fits = at + bytes.len() <= SIZE;
                    let written = match step {
                        Step::WriteAt(..) => view.write_mixed_at(at, items),
                        _ => view.write_mixed(items),
                    };
                    prop_assert_eq!(written.is_ok(), fits);
                    if fits {
                        model.splice(at..at + bytes.len(), bytes.iter().copied());
                        cursor = if let Step::Write(_) = step { at + bytes.len() } else { cursor };
                    }
                }
                Step::ReadBack(at, tags) => {
                    let schema: Vec<_> = tags.iter().map(|&tag| (tag, 1)).collect();
                    if let Ok(items) = view.read_mixed_at(at, &schema) {
                        let mut bytes = Vec::new();
                        items.iter().for_each(|item| model_write(item, &mut bytes));
                        prop_assert_eq!(&bytes[..], &model[at..at + bytes.len()]);
                        prop_assert_eq!(items.iter().map(ViewItem::tag).collect::<Vec<_>>(), tags);
                    }
                }
                Step::Zero(at, len) => {
                    prop_assert_eq!(view.zero_range(at, len).is_ok(), at + len <= SIZE);
                    if at + len <= SIZE {
                        model[at..at + len].fill(0);
                    }
                }
            }
            prop_assert_eq!(view.tell(), cursor);
            prop_assert_eq!(view.read_range(0, SIZE).unwrap(), &model[..]);
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>, at in 0..40_usize, tags in proptest::collection::vec(
        proptest::sample::select(ViewTag::ALL), 0..6))
    {
        let mut view = View::read_only(&bytes);
        let schema: Vec<_> = tags.into_iter().map(|tag| (tag, 1)).collect();
        if view.seek(at).is_ok() && view.read_mixed(&schema).is_err() {
            prop_assert_eq!(view.tell(), at);
        }
        let _ = (view.read_at::<&str>(at), view.read_at::<String>(at), view.read_at::<&[u8]>(at));
    }
}
