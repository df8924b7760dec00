//! The ring: single producer, single consumer, messages of any length.

mod raw;
mod raw_consumer;
mod raw_frame;
mod raw_producer;

#[cfg(all(test, not(ringspan_loom)))]
mod kill_tests;
#[cfg(all(test, ringspan_loom))]
mod loom_tests;
#[cfg(all(test, not(ringspan_loom)))]
mod random_tests;
#[cfg(all(test, not(ringspan_loom)))]
mod raw_tests;
