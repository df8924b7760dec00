//! The fail points in the source and the table in `tests/failpoints.txt` name the same places; the
//! kill harness reads the table and shows that each of them is hit.

mod source;

use std::collections::BTreeMap;
use std::fs;

use source::{Strings, code_only, is_word, line_of, root, rust_files};

/// The names of `failpoint!("area.step")` in code, with the lines they stand in.
fn names_in(text: &str) -> Vec<(String, usize)> {
    let code = code_only(text, Strings::Keep);
    let mut found = Vec::new();
    for (at, call) in code.match_indices("failpoint!") {
        let rest = code[at + call.len()..].trim_start();
        let Some(rest) = rest.strip_prefix('(') else { continue };
        let Some(rest) = rest.trim_start().strip_prefix('"') else { continue };
        let name: String = rest.chars().take_while(|&c| c != '"').collect();
        found.push((name, line_of(&code, at)));
    }
    found
}

/// Reads the table: `name<TAB>what is killed there`, `#` begins a comment line.
fn table(text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut found = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        if line.starts_with('#') || line.is_empty() {
            continue;
        }
        let (name, what) = line
            .split_once('\t')
            .filter(|(_, what)| !what.trim().is_empty())
            .ok_or_else(|| format!("line {}: `{line}` is not name<TAB>what", number + 1))?;
        if found.insert(name.to_owned(), what.to_owned()).is_some() {
            return Err(format!("line {}: {name} stands there twice", number + 1));
        }
    }
    Ok(found)
}

/// `area.step`: two or more words of lower-case letters, digits and `_`.
fn well_formed(name: &str) -> bool {
    let word =
        |part: &str| !part.is_empty() && part.chars().all(|c| is_word(c) && !c.is_uppercase());
    name.contains('.') && name.split('.').all(word)
}

/// What differs between the names in the source and the table.
fn differences(used: &BTreeMap<String, String>, listed: &BTreeMap<String, String>) -> Vec<String> {
    let mut found = Vec::new();
    for (name, place) in used {
        if !well_formed(name) {
            found.push(format!("{place}: `{name}` is not of the form area.step"));
        }
        if !listed.contains_key(name) {
            found.push(format!("{place}: `{name}` is not in tests/failpoints.txt"));
        }
    }
    for name in listed.keys().filter(|name| !used.contains_key(*name)) {
        found.push(format!("tests/failpoints.txt: `{name}` is nowhere in src"));
    }
    found
}

#[test]
fn source_and_table_name_the_same_fail_points() {
    let mut used = BTreeMap::new();
    for (file, text) in rust_files() {
        for (name, line) in names_in(&text) {
            used.entry(name).or_insert_with(|| format!("src/{file}:{line}"));
        }
    }
    let text = fs::read_to_string(root().join("tests/failpoints.txt")).expect("the table exists");
    let faults = differences(&used, &table(&text).expect("the table can be read"));
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn planted_differences_are_found() {
    let text = "failpoint!(\"park.after_waiting\");\n// failpoint!(\"not.this\")\n\
                failpoint! (\n \"Bad\"); macro_rules! failpoint { ($n:literal) => {} }";
    let names = names_in(text);
    assert_eq!(names, [("park.after_waiting".to_owned(), 1), ("Bad".to_owned(), 3)]);
    let used = names.into_iter().map(|(name, line)| (name, line.to_string())).collect();
    let listed = table("# head\nring.gone\tafter the end\n").unwrap();
    assert_eq!(differences(&used, &listed).len(), 4);
    assert!(table("no tab here").is_err() && table("a.b\tx\na.b\ty").is_err());
    assert!(well_formed("door.bind_2") && !well_formed("door") && !well_formed("a..b"));
}
