//! What a scalar can hold.

use crate::layout::Kind;

mod sealed {
    pub trait Sealed {}
    impl Sealed for i64 {}
    impl Sealed for f64 {}
    impl Sealed for bool {}
}

/// A number that a [`Scalar`](crate::Scalar) can hold: `i64`, `f64`, `bool`.
pub trait Number:
    Copy + PartialEq + Send + Sync + std::fmt::Debug + sealed::Sealed + 'static
{
    /// The kind of object that holds it.
    #[doc(hidden)]
    const KIND: Kind;

    /// As it stands in the word.
    #[doc(hidden)]
    fn to_bits(self) -> u64;

    /// Any word is a number.
    #[doc(hidden)]
    fn from_bits(bits: u64) -> Self;
}

/// A number that can be added to: `i64`, `f64`.
pub trait Addable: Number {
    /// The sum; `None` when it cannot be told.
    #[doc(hidden)]
    fn plus(self, other: Self) -> Option<Self>;
}

impl Number for i64 {
    const KIND: Kind = Kind::Int;

    fn to_bits(self) -> u64 {
        self.cast_unsigned()
    }

    fn from_bits(bits: u64) -> Self {
        bits.cast_signed()
    }
}

impl Addable for i64 {
    fn plus(self, other: Self) -> Option<Self> {
        self.checked_add(other)
    }
}

impl Number for f64 {
    const KIND: Kind = Kind::Float;

    fn to_bits(self) -> u64 {
        f64::to_bits(self)
    }

    fn from_bits(bits: u64) -> Self {
        f64::from_bits(bits)
    }
}

impl Addable for f64 {
    fn plus(self, other: Self) -> Option<Self> {
        Some(self + other)
    }
}

impl Number for bool {
    const KIND: Kind = Kind::Bool;

    fn to_bits(self) -> u64 {
        self.into()
    }

    fn from_bits(bits: u64) -> Self {
        bits != 0
    }
}
