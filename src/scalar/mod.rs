//! Single numbers that processes share and await: [`SharedInt`], [`SharedFloat`], [`SharedBool`].
//!
//! One atomic word, changed by anybody at any time, and a version that is raised after each change, so
//! that waits see a change that was changed back. No lock, and nothing that a crash could leave half done:
//! should a process be killed between the change and the version, whoever notices its death raises the
//! version for it.
//!
//! | file | job |
//! |---|---|
//! | `core` | the words, telling and waiting, for any 64 bits |
//! | `number` | what can be shared: [`Number`] |
//! | `handle` | [`Scalar`] |
//! | `options` | [`ScalarOptions`] |

pub(crate) mod core;
mod handle;
mod number;
mod options;

pub use handle::{Scalar, SharedBool, SharedFloat, SharedInt};
pub use number::{Addable, Number};
pub use options::ScalarOptions;
