//! Reading the crate's own source text: which files there are, and what in them is code.

use std::fs;
use std::path::{Path, PathBuf};

/// The root of the package.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file under `src`, as (path relative to `src` with forward slashes, text).
pub(crate) fn rust_files() -> Vec<(String, String)> {
    let src = root().join("src");
    let mut found = Vec::new();
    let mut folders = vec![src.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("src can be listed") {
            let path: PathBuf = entry.expect("src can be listed").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let name = path.strip_prefix(&src).expect("found under src");
                let name = name.to_str().expect("names in src are ASCII").replace('\\', "/");
                found.push((name, fs::read_to_string(&path).expect("source is UTF-8")));
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no source found under {}", src.display());
    found
}

/// What [`code_only`] leaves standing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strings {
    /// String literals stay as they are.
    #[allow(dead_code, reason = "not every test needs both")]
    Keep,
    /// String literals become blanks, like comments.
    Blank,
}

/// Returns `text` with every comment (and, on request, every string) blanked out. Lines keep their
/// numbers.
pub(crate) fn code_only(text: &str, strings: Strings) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let (end, blank) = token_at(&chars, at);
        let hide = match blank {
            Token::Comment => true,
            Token::Text => strings == Strings::Blank,
            Token::Other => false,
        };
        for &c in &chars[at..end] {
            out.push(if hide && c != '\n' { ' ' } else { c });
        }
        at = end;
    }
    out
}

enum Token {
    Comment,
    Text,
    Other,
}

fn token_at(chars: &[char], at: usize) -> (usize, Token) {
    let next = chars.get(at + 1).copied();
    match chars[at] {
        '/' if next == Some('/') => (until(chars, at, |c| c == '\n'), Token::Comment),
        '/' if next == Some('*') => (block_comment(chars, at), Token::Comment),
        '"' => (quoted(chars, at), Token::Text),
        'r' if matches!(next, Some('"' | '#')) && !word_before(chars, at) => match raw(chars, at) {
            Some(end) => (end, Token::Text),
            None => (at + 1, Token::Other),
        },
        // A character literal, as against a lifetime: '"' must not open a string.
        '\'' if next == Some('\\') => {
            (until(chars, at + 3, |c| c == '\'').min(chars.len() - 1) + 1, Token::Text)
        }
        '\'' if chars.get(at + 2) == Some(&'\'') => (at + 3, Token::Text),
        _ => (at + 1, Token::Other),
    }
}

fn until(chars: &[char], from: usize, stop: impl Fn(char) -> bool) -> usize {
    (from..chars.len()).find(|&i| stop(chars[i])).unwrap_or(chars.len())
}

fn block_comment(chars: &[char], at: usize) -> usize {
    let (mut depth, mut i) = (0_usize, at);
    while i + 1 < chars.len() {
        match (chars[i], chars[i + 1]) {
            ('/', '*') => (depth, i) = (depth + 1, i + 2),
            ('*', '/') => {
                (depth, i) = (depth - 1, i + 2);
                if depth == 0 {
                    return i;
                }
            }
            _ => i += 1,
        }
    }
    chars.len()
}

fn quoted(chars: &[char], at: usize) -> usize {
    let mut i = at + 1;
    while i < chars.len() {
        match chars[i] {
            '\\' => i += 2,
            '"' => return i + 1,
            _ => i += 1,
        }
    }
    chars.len()
}

/// The end of a raw string, or `None` for a raw identifier (`r#type`).
fn raw(chars: &[char], at: usize) -> Option<usize> {
    let open = until(chars, at + 1, |c| c != '#');
    if chars.get(open) != Some(&'"') {
        return None;
    }
    let hashes = open - at - 1;
    let closes = |i: usize| {
        chars[i] == '"'
            && chars.len() - i > hashes
            && chars[i + 1..=i + hashes].iter().all(|&c| c == '#')
    };
    Some((open + 1..chars.len()).find(|&i| closes(i)).map_or(chars.len(), |i| i + 1 + hashes))
}

fn word_before(chars: &[char], at: usize) -> bool {
    // `br"..."` is a raw string too; any other letter before makes it the end of a name.
    at > 0 && is_word(chars[at - 1]) && chars[at - 1] != 'b'
}

/// Whether a character can be part of a Rust name.
pub(crate) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The 1-based number of the line at a byte offset.
pub(crate) fn line_of(text: &str, offset: usize) -> usize {
    text[..offset].matches('\n').count() + 1
}
