//! What handlers return: a value, or an error that becomes text on its way to the caller.

use crate::rpc::error::{Reason, RemoteError};
use std::any::type_name;
use std::error::Error;
use std::fmt;

/// What a handler returns.
///
/// ```
/// use ringspan::rpc;
///
/// async fn parse(text: String) -> rpc::Answer<i64> {
///     Ok(text.trim().parse()?) // a ParseIntError reaches the caller by its name
/// }
/// # let _ = parse;
/// ```
pub type Answer<T> = Result<T, HandlerError>;

/// Any error that a handler can return. `?` makes it from every `std::error::Error`; the caller gets the
/// name of the type, the message, and the chain of sources.
///
/// It is no `std::error::Error` itself, so that the conversion can be for all of them (as in `anyhow`).
pub struct HandlerError {
    inner: RemoteError,
}

impl HandlerError {
    /// An error of that type, as the caller will see it. Python raises the builtin of the name, if there is
    /// one: `HandlerError::new("ValueError", "negative")` is caught there by `except ValueError`.
    pub fn new(type_name: impl Into<String>, message: impl fmt::Display) -> HandlerError {
        HandlerError {
            inner: RemoteError {
                type_name: type_name.into(),
                message: message.to_string(),
                traceback: String::new(),
                reason: None,
            },
        }
    }

    /// The same with a traceback, or whatever else tells where it came from.
    #[must_use]
    pub fn with_traceback(mut self, traceback: impl Into<String>) -> HandlerError {
        self.inner.traceback = traceback.into();
        self
    }

    pub(crate) fn of(reason: Reason, message: impl fmt::Display) -> HandlerError {
        let mut error = HandlerError::new(reason.type_name(), message);
        error.inner.reason = Some(reason);
        error
    }

    #[cfg(test)]
    pub(crate) fn into_remote(self) -> RemoteError {
        self.inner
    }

    /// As it goes over the wire.
    pub(crate) fn to_body(&self) -> Vec<u8> {
        // Plain strings: it cannot fail.
        crate::codec::to_vec(&self.inner).unwrap_or_default()
    }
}

impl Reason {
    /// The name of the builtin exception that fits.
    fn type_name(self) -> &'static str {
        match self {
            Reason::UnknownMethod => "AttributeError",
            Reason::BadArguments | Reason::NotAStream => "TypeError",
            Reason::Panicked => "Panic",
            Reason::Deadline => "TimeoutError",
            Reason::Cancelled => "CancelledError",
            Reason::Draining => "ConnectionAbortedError",
            Reason::BadResult => "ValueError",
        }
    }
}

/// `std::num::error::ParseIntError` is `ParseIntError`; what is generic stays as it is.
fn short(name: &str) -> &str {
    if name.contains('<') { name } else { name.rsplit("::").next().unwrap_or(name) }
}

impl<E: Error> From<E> for HandlerError {
    fn from(err: E) -> HandlerError {
        let mut traceback = String::new();
        let mut source = err.source();
        // Bounded, for a chain that bites its tail.
        for _ in 0..64 {
            let Some(next) = source else { break };
            traceback.push_str(&format!("caused by: {next}\n"));
            source = next.source();
        }
        HandlerError::new(short(type_name::<E>()), &err).with_traceback(traceback)
    }
}

impl fmt::Debug for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.inner, f)
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.inner, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_keeps_its_type_its_words_and_its_sources() {
        let io = std::io::Error::other("x".parse::<i32>().unwrap_err());
        let remote = HandlerError::from(io).into_remote();
        assert_eq!(remote.type_name, "Error");
        assert_eq!(remote.message, "invalid digit found in string");
        let remote = HandlerError::from("x".parse::<i32>().unwrap_err()).into_remote();
        assert_eq!(remote.type_name, "ParseIntError");
    }

    #[test]
    fn the_body_can_be_read_again() {
        let error = HandlerError::of(Reason::Deadline, "late").with_traceback("line 1");
        let body = error.to_body();
        assert_eq!(crate::codec::from_slice::<RemoteError>(&body), Ok(error.into_remote()));
    }
}
