//! The architecture, checked in the source text: no module uses one above it, `unsafe` stands only
//! where it was agreed on, and no file grows beyond the wall.

mod source;

use source::{Strings, code_only, is_word, line_of, rust_files};

/// The modules from the bottom up; those of one row may use each other, but not both ways.
const LEVELS: &[&[&str]] = &[
    &["sync"],
    &["sys"],
    &["layout", "name"],
    &["region"],
    &["notify"],
    &["segment", "ring", "rwlock"],
    &["value", "view", "scalar", "block"],
    &["rpc"],
    &["python", "cli"],
];

/// May be used from everywhere and use only each other.
const LEAVES: &[&str] = &["codec", "error"];

/// Where `unsafe` may stand, and why. A trailing slash means the whole folder.
const UNSAFE: &[(&str, &str)] = &[
    ("sys/", "calls into the operating system"),
    ("layout/", "marks the shared structs that checked bytes of a mapping may be cast to"),
    ("region/map.rs", "hands out bounded pieces of a mapping"),
    ("notify/tokio.rs", "AsyncFd::register_with_interest"),
    ("ring/raw.rs", "copies into and out of the shared payload"),
    ("ring/raw_consumer.rs", "lends a published message as a slice"),
    ("ring/raw_producer.rs", "lends the reserved bytes as a slice"),
    ("ring/side.rs", "the one place where a mapping becomes the memory of a ring"),
    ("ring/pair.rs", "the one place where a private mapping becomes the memory of two rings"),
    ("ring/raw_tests.rs", "lends the heap as the memory of a ring"),
    ("ring/loom_tests.rs", "shares the heap between threads as a mapping would be"),
    ("rwlock/loom_tests.rs", "shares the cell under the lock between threads"),
    ("rwlock/guard.rs", "the payload as a slice, while the lock is held"),
    ("rpc/front_tests.rs", "forks"),
    ("python/awaitable.rs", "the memory of a heap type made by hand"),
    ("python/awaitable_slots.rs", "the C slots of that type, am_send among them"),
    ("python/buffer.rs", "the buffer protocol, lending side"),
    ("python/cells.rs", "cells that the interpreter lock guards"),
    ("python/convert_buffer.rs", "the buffer protocol, borrowing side"),
    ("python/segment.rs", "the buffer protocol of a segment, lending side"),
    ("python/block.rs", "the buffer protocol of a block, lending side"),
    ("python/exported.rs", "the buffer protocol, handed on to a block"),
];

/// What only `sync.rs` may name, in code: loom replaces it there.
const FROM_SYNC: &[&str] =
    &["std::sync::atomic", "core::sync::atomic", "std::sync::Mutex", "std::sync::Condvar"];

/// Lines a source file may have.
const WALL: usize = 500;

/// A use of one module by another, with the line it stands in.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Arrow {
    file: String,
    line: usize,
    to: String,
}

fn level(module: &str) -> Option<usize> {
    LEVELS.iter().position(|row| row.contains(&module))
}

fn known(module: &str) -> bool {
    level(module).is_some() || LEAVES.contains(&module)
}

/// The top-level module that a file belongs to; `lib.rs` and `main.rs` belong to none.
fn module_of(file: &str) -> &str {
    let first = file.split('/').next().unwrap_or(file);
    first.strip_suffix(".rs").unwrap_or(first)
}

/// Finds every `crate::x` path, the ones in `use crate::{x, y}` too, and `super::` paths that leave
/// the top-level module. `has_sibling` tells whether a name is a file of the module's own.
fn arrows_in(file: &str, text: &str, has_sibling: impl Fn(&str) -> bool) -> Vec<Arrow> {
    let code = code_only(text, Strings::Blank);
    let mut found = Vec::new();
    for start in ["crate::", "super::"] {
        for (at, _) in code.match_indices(start) {
            if code[..at].chars().next_back().is_some_and(is_word) {
                continue;
            }
            for (offset, name) in heads(&code, at + start.len()) {
                let leaves = start == "crate::" || (known(&name) && !has_sibling(&name));
                if leaves && name != "super" {
                    let line = line_of(&code, offset);
                    found.push(Arrow { file: file.to_owned(), line, to: name });
                }
            }
        }
    }
    found.sort();
    found
}

/// The first names after `crate::`: one, or each of a braced group at its own depth.
fn heads(code: &str, at: usize) -> Vec<(usize, String)> {
    let word =
        |from: usize| -> String { code[from..].chars().take_while(|&c| is_word(c)).collect() };
    if !code[at..].starts_with('{') {
        return vec![(at, word(at))];
    }
    let (mut found, mut depth, mut fresh) = (Vec::new(), 0_usize, false);
    for (i, c) in code[at..].char_indices() {
        match c {
            '{' => (depth, fresh) = (depth + 1, true),
            '}' if depth == 1 => break,
            '}' => depth -= 1,
            ',' => fresh = true,
            c if c.is_whitespace() => {}
            _ => {
                if fresh && depth == 1 {
                    found.push((at + i, word(at + i)));
                }
                fresh = false;
            }
        }
    }
    found
}

/// What is wrong with an arrow, if anything.
fn fault(arrow: &Arrow) -> Option<String> {
    let from = module_of(&arrow.file);
    let to = arrow.to.as_str();
    let place = format!("src/{}:{}", arrow.file, arrow.line);
    if from == to || from == "lib" || from == "main" {
        return None;
    }
    if !known(to) {
        return Some(format!("{place}: crate::{to} hides its module: name the module it lives in"));
    }
    if LEAVES.contains(&to) {
        return None;
    }
    if LEAVES.contains(&from) {
        return Some(format!("{place}: {from} is a leaf and must not use {to}"));
    }
    match (level(from), level(to)) {
        (Some(from), Some(to)) if from >= to => None,
        (Some(_), Some(_)) => Some(format!("{place}: {from} must not use {to}, which is above it")),
        _ => Some(format!("{place}: the module {from} has no place in LEVELS")),
    }
}

/// Pairs of one row that use each other.
fn both_ways(arrows: &[Arrow]) -> Vec<String> {
    let uses =
        |from: &str, to: &str| arrows.iter().find(|a| module_of(&a.file) == from && a.to == to);
    let mut found = Vec::new();
    for row in LEVELS {
        for (i, a) in row.iter().enumerate() {
            for b in &row[i + 1..] {
                if let (Some(there), Some(back)) = (uses(a, b), uses(b, a)) {
                    found.push(format!("{a} and {b} use each other: {there:?}, {back:?}"));
                }
            }
        }
    }
    found
}

/// Lines of a file that hold the keyword `unsafe`.
fn unsafe_lines(text: &str) -> Vec<usize> {
    let code = code_only(text, Strings::Blank);
    let bounded = |at: usize| {
        !code[..at].chars().next_back().is_some_and(is_word)
            && !code[at + "unsafe".len()..].chars().next().is_some_and(is_word)
    };
    code.match_indices("unsafe")
        .filter(|&(at, _)| bounded(at))
        .map(|(at, _)| line_of(&code, at))
        .collect()
}

fn may_be_unsafe(file: &str) -> bool {
    UNSAFE
        .iter()
        .any(|(place, _)| *place == file || (place.ends_with('/') && file.starts_with(place)))
}

#[test]
fn no_module_uses_one_above_it() {
    let files = rust_files();
    let mut arrows = Vec::new();
    for (file, text) in &files {
        let top = module_of(file);
        let sibling = |name: &str| {
            files.iter().any(|(other, _)| {
                *other == format!("{top}/{name}.rs") || other.starts_with(&format!("{top}/{name}/"))
            })
        };
        arrows.extend(arrows_in(file, text, sibling));
    }
    let mut faults: Vec<String> = arrows.iter().filter_map(fault).collect();
    faults.extend(both_ways(&arrows));
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn every_module_has_a_level() {
    let lost: Vec<String> = rust_files()
        .into_iter()
        .map(|(file, _)| file)
        .filter(|file| !["lib", "main"].contains(&module_of(file)) && !known(module_of(file)))
        .collect();
    assert!(lost.is_empty(), "give these a place in LEVELS or LEAVES: {lost:?}");
}

#[test]
fn unsafe_stands_only_where_agreed() {
    let mut faults = Vec::new();
    for (file, text) in rust_files() {
        let lines = unsafe_lines(&text);
        if !lines.is_empty() && !may_be_unsafe(&file) {
            faults.push(format!("src/{file}: `unsafe` in lines {lines:?}; not in the list UNSAFE"));
        }
        if lines.is_empty() && UNSAFE.iter().any(|(place, _)| *place == file) {
            faults.push(format!("src/{file} has no `unsafe`: take it off the list UNSAFE"));
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// Lines that get atomics or locks past `sync.rs`.
fn around_sync(text: &str) -> Vec<usize> {
    let code = code_only(text, Strings::Blank);
    code.lines()
        .enumerate()
        .filter(|(_, line)| {
            FROM_SYNC.iter().any(|path| line.contains(path))
                || (line.contains("std::sync::{")
                    && line.split(|c: char| !is_word(c)).any(|w| w == "Mutex" || w == "atomic"))
        })
        .map(|(at, _)| at + 1)
        .collect()
}

#[test]
fn atomics_and_locks_come_from_sync() {
    let faults: Vec<String> = rust_files()
        .into_iter()
        .filter(|(file, _)| file != "sync.rs")
        .map(|(file, text)| (file, around_sync(&text)))
        .filter(|(_, lines)| !lines.is_empty())
        .map(|(file, lines)| format!("src/{file}, lines {lines:?}: import it from crate::sync"))
        .collect();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    assert_eq!(around_sync("use std::sync::{Arc, Mutex};"), [1]);
    assert_eq!(around_sync("// std::sync::Mutex\nuse std::sync::atomic::AtomicU64;"), [2]);
    assert_eq!(around_sync("use std::sync::{Arc, MutexGuard};"), [0; 0]);
}

#[test]
fn no_file_passes_the_wall() {
    let long: Vec<String> = rust_files()
        .into_iter()
        .map(|(file, text)| (file, text.lines().count()))
        .filter(|(_, lines)| *lines > WALL)
        .map(|(file, lines)| format!("src/{file} has {lines} lines, the wall is {WALL}"))
        .collect();
    assert!(long.is_empty(), "\n{}", long.join("\n"));
}

fn planted(file: &str, text: &str) -> Vec<String> {
    arrows_in(file, text, |_| false).iter().filter_map(fault).collect()
}

#[test]
fn a_planted_upward_arrow_is_found() {
    assert_eq!(planted("sys/door.rs", "use crate::ring::Ring;").len(), 1);
    assert_eq!(planted("region/mod.rs", "fn f() { crate::notify::wake() }").len(), 1);
    assert_eq!(planted("layout.rs", "use crate::{error::Fault, sync, notify::{a, b}};").len(), 1);
    assert_eq!(planted("notify/park.rs", "use super::super::ring::Ring;").len(), 1);
    assert_eq!(planted("codec/mod.rs", "use crate::sync::AtomicU64;").len(), 1);
    assert_eq!(planted("ring/mod.rs", "use crate::Fault;").len(), 1);
    assert_eq!(planted("thing.rs", "use crate::sync::AtomicU64;").len(), 1);
}

#[test]
fn downward_arrows_and_comments_pass() {
    let text = "// use crate::python::X;\n/* crate::rpc::y */ use crate::{sync::{A, B}, layout};";
    assert_eq!(planted("ring/raw.rs", text), Vec::<String>::new());
    assert_eq!(planted("sys/map.rs", "const S: &str = \"crate::ring\"; use super::file;"), [""; 0]);
    assert_eq!(planted("lib.rs", "pub use crate::ring::Ring;"), [""; 0]);
    let own = arrows_in("python/pop.rs", "use super::ring::Py;", |name| name == "ring");
    assert_eq!(own, []);
}

#[test]
fn siblings_may_not_use_each_other_both_ways() {
    let mut arrows = arrows_in("ring/mod.rs", "use crate::segment::Segment;", |_| false);
    assert_eq!(both_ways(&arrows).len(), 0);
    arrows.extend(arrows_in("segment/mod.rs", "use crate::ring::Ring;", |_| false));
    assert_eq!(both_ways(&arrows).len(), 1);
}

#[test]
fn unsafe_is_seen_as_a_word_of_code_only() {
    assert_eq!(unsafe_lines("fn a() {\n    unsafe { b() }\n}"), [2]);
    assert_eq!(
        unsafe_lines("#![deny(unsafe_code)] // unsafe\nlet s = r#\"unsafe \" x\"#;"),
        [0; 0]
    );
    assert_eq!(unsafe_lines("let q = '\"'; unsafe impl Send for X {} let e = '\\'';"), [1]);
    assert!(may_be_unsafe("sys/linux/door.rs") && !may_be_unsafe("ring/mod.rs"));
}
