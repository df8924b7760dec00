//! Models of the lock.
