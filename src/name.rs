//! Names: what a user may call an object, and which file that is.
//!
//! An optional leading `/`, then 1 to 200 bytes of `[A-Za-z0-9._-]`, the first not `.` and the whole
//! not starting with `sem.` (glibc's semaphores). Names map to the same files as `shm_open`, so
//! `ls /dev/shm` shows them. Raw segments take whatever `shm_open` takes.

use crate::error::{Fault, FaultKind};
use std::fmt;

/// Longest name of an object, without the slash.
pub(crate) const MAX_NAME: usize = 200;
/// Longest name of a raw segment: a file name, less room for a temporary suffix.
pub(crate) const MAX_RAW_NAME: usize = 250;

/// A checked name. Two spellings of one object (`x`, `/x`) are equal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Name {
    file: String,
}

impl Name {
    /// Checks the name of an object with our header.
    pub(crate) fn new(name: &str) -> Result<Name, Fault> {
        let file = name.strip_prefix('/').unwrap_or(name);
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let cause = if file.is_empty() {
            "the name is empty".to_owned()
        } else if file.len() > MAX_NAME {
            format!("it is {} bytes long, a name has at most {MAX_NAME}", file.len())
        } else if file.starts_with('.') {
            "a name must not start with a dot".to_owned()
        } else if file.starts_with("sem.") {
            "names that start with `sem.` belong to POSIX semaphores".to_owned()
        } else if let Some(bad) = file.chars().find(|&c| !allowed(c)) {
            let slash = name.len() - file.len();
            let place = slash + file.chars().take_while(|&c| allowed(c)).count() + 1;
            format!(
                "character {bad:?} at place {place}; a name holds ASCII letters, digits, `.`, `_` \
                 and `-` only (and may start with `/`)"
            )
        } else {
            return Ok(Name { file: file.to_owned() });
        };
        Err(Self::refuse(name, &cause))
    }

    /// Checks the name of a raw segment: anything that `shm_open` takes.
    pub(crate) fn raw(name: &str) -> Result<Name, Fault> {
        let file = name.strip_prefix('/').unwrap_or(name);
        let cause = if file.is_empty() || file == "." || file == ".." {
            "the name is empty or a directory"
        } else if file.len() > MAX_RAW_NAME {
            "the name is longer than 250 bytes"
        } else if file.contains(['/', '\0']) {
            "a name holds no `/` (but the first) and no NUL"
        } else {
            return Ok(Name { file: file.to_owned() });
        };
        Err(Self::refuse(name, cause))
    }

    fn refuse(name: &str, cause: &str) -> Fault {
        let shown: String = name.chars().take(60).collect();
        Fault::new(FaultKind::InvalidName, format_args!("name {shown:?}"), cause)
    }

    /// The file name inside the directory of shared memory.
    pub(crate) fn file(&self) -> &str {
        &self.file
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", self.file)
    }
}

#[cfg(all(test, not(ringspan_loom)))]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_are_one_object() {
        assert_eq!(Name::new("/frames").unwrap(), Name::new("frames").unwrap());
        assert_eq!(Name::new("frames").unwrap().to_string(), "/frames");
    }

    #[test]
    fn refuses_what_the_file_system_or_others_own() {
        let long = "x".repeat(201);
        for bad in ["", "/", ".", "..", ".hidden", "a/b", "//a", "sem.x", "a\0b", "a b", "ä", &long]
        {
            let fault = Name::new(bad).unwrap_err();
            assert_eq!(fault.kind(), FaultKind::InvalidName, "{bad:?}");
        }
        assert!(Name::new(&"x".repeat(200)).is_ok());
    }

    #[test]
    fn tells_which_character_at_which_place() {
        let fault = Name::new("/fr\u{e4}mes").unwrap_err();
        assert!(fault.cause().starts_with("character 'ä' at place 4;"), "{fault}");
        let fault = Name::new("a b").unwrap_err();
        assert!(fault.cause().starts_with("character ' ' at place 2;"), "{fault}");
    }

    #[test]
    fn raw_names_are_what_shm_open_takes() {
        for good in ["psm_1", "/.x", "sem.y", "a b", "ä"] {
            assert!(Name::raw(good).is_ok(), "{good:?}");
        }
        for bad in ["", "/", ".", "..", "/..", "a/b", "a\0"] {
            assert!(Name::raw(bad).is_err(), "{bad:?}");
        }
    }
}
