//! What a scalar is to be like, and how its name is found.

use super::core::Plain;
use super::handle::Scalar;
use super::number::Number;
use crate::error::OpenError;
use crate::layout::FLAG_EPHEMERAL;
use crate::notify::find::How;
use std::marker::PhantomData;

/// What a scalar is to be like; see [`Scalar::options`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScalarOptions<N> {
    options: Plain,
    of: PhantomData<N>,
}

impl<N: Number> Default for ScalarOptions<N> {
    fn default() -> Self {
        ScalarOptions { options: Plain { initial: 0, mode: 0o600, flags: 0 }, of: PhantomData }
    }
}

impl<N: Number> ScalarOptions<N> {
    /// The number that a new one has (default zero, or false). For an opener it has no meaning.
    pub fn initial(mut self, number: N) -> Self {
        self.options.initial = number.to_bits();
        self
    }

    /// Permission bits of the file, whatever the umask (default 0600). Only the owner and root can
    /// attach in any case.
    pub fn mode(mut self, mode: u32) -> Self {
        self.options.mode = mode;
        self
    }

    /// The last one out removes it; when all died, the next opener or [`gc`](crate::gc) does.
    pub fn ephemeral(mut self, ephemeral: bool) -> Self {
        self.options.flags = if ephemeral { FLAG_EPHEMERAL } else { 0 };
        self
    }

    /// Makes a new one.
    ///
    /// # Errors
    ///
    /// [`OpenError::AlreadyExists`] when the name is taken; faults for a bad name, a bad mode or a full
    /// `/dev/shm`.
    pub fn create(self, name: &str) -> Result<Scalar<N>, OpenError> {
        self.options.find(N::KIND, name, How::Create).map(Scalar::of)
    }

    /// Opens one that exists.
    ///
    /// # Errors
    ///
    /// [`OpenError::NotFound`]; faults for another kind of object (a float is not an int), another layout
    /// version, damage, another owner, and [`TooManyAttached`](crate::FaultKind::TooManyAttached) for the
    /// 49th handle.
    pub fn open(self, name: &str) -> Result<Scalar<N>, OpenError> {
        self.options.find(N::KIND, name, How::Open).map(Scalar::of)
    }

    /// Opens it, or makes it when there is none.
    ///
    /// # Errors
    ///
    /// As [`ScalarOptions::create`] and [`ScalarOptions::open`], but for the two about existence.
    pub fn open_or_create(self, name: &str) -> Result<Scalar<N>, OpenError> {
        self.options.find(N::KIND, name, How::OpenOrCreate).map(Scalar::of)
    }
}
