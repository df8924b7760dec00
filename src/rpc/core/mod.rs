//! The protocol as two state machines, without I/O: bytes of frames go in, frames go out by a
//! [`Port`](port::Port), and whoever drives them does the rest.

pub(crate) mod client;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
#[cfg(test)]
mod garbage_tests;
pub(crate) mod news;
pub(crate) mod port;
pub(crate) mod session;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
pub(crate) mod timers;
